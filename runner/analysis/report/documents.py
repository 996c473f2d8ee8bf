"""A report as Markdown for a comment, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from runner.analysis.gates import Decision
from runner.analysis.pages.markdown import alert, as_comment, code, table
from runner.analysis.report.gathering import Gathered
from runner.analysis.report.words import banner, directory, drift, facts, groups, happened, scores, served
from runner.printable import printable
from runner.results.closing import doubts
from runner.results.judges_said import said_of_judges

__all__ = ["as_json", "as_markdown"]

_MOST_ERRORS = 5
_LONGEST_MESSAGE = 300


def as_markdown(gathered: Gathered, decisions: Sequence[Decision]) -> str:
    """Return the report as Markdown for a comment."""
    return as_comment(list(_markdown(gathered, decisions)))


def _markdown(gathered: Gathered, decisions: Sequence[Decision]) -> Iterator[str]:
    yield from alert(decisions)
    yield f"## {code(str(gathered.evaluation.get('name') or gathered.run.path.parent.name))}"
    yield ""
    if (said := banner(gathered)) is not None:
        yield f"**{_cell(said)}**"
        yield ""
    yield from table(["", ""], [(name, _cell(value)) for name, value in (*facts(gathered), *happened(gathered))])
    yield from (f"* {_cell(doubt)}" for doubt in doubts(gathered.totals))
    yield from (f"* {one.outcome.value}: {code(one.gate.text)} ({_cell(one.reason)})" for one in decisions)
    yield ""
    metrics = gathered.totals["metrics"]
    head = ["metric", "mean", "95 % interval", "n", "errors and bounds"]
    if metrics:
        yield from table(head, [(code(score.label), *score[1:]) for score in scores(metrics)])
    for alias, metric in metrics.items():
        for columns, rows in groups(metric):
            yield f"{code(alias)} by {code(columns)}"
            yield ""
            yield from table(["group", *head[1:4]], [(code(row.label), *row[1:4]) for row in rows])
    if judges := list(said_of_judges(gathered.totals["judges"])):
        yield from table(["judge", ""], [(code(label) if label else "", _cell(said)) for label, said in judges])
    for kind, errors in sorted(gathered.errors.items(), key=lambda pair: -pair[1].count):
        yield f"{errors.count:,} errors {code(kind)}"
        yield ""
        yield from (
            f"* {code(end.item_id)}: {code(end.message or '', _LONGEST_MESSAGE)}" for end in errors.first[:_MOST_ERRORS]
        )
        yield ""
    if (changed := drift(gathered)) is not None:
        yield changed
        yield ""
        yield from table(["model", "fingerprint", "answers", "first", "last"], [[*map(_cell, row)] for row in served(gathered)])


def _cell(text: str) -> str:
    """Return a text, parts of which may be untrusted, escaped for a cell of a Markdown table."""
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("@", "@\u200b")


def _file(name: str, size: int, content: str) -> dict[str, Any]:
    """Return a file of the dataset; an object in a store is known by its ETag or the like, and not by its SHA-256."""
    return {"name": name, "bytes": size, "content" if ":" in content else "sha256": content}


def as_json(gathered: Gathered, decisions: Sequence[Decision]) -> str:
    """Return all figures of the report as JSON."""
    timeline = gathered.timeline
    found: dict[str, Any] = {
        "run": directory(gathered),
        "name": gathered.evaluation.get("name"),
        "status": gathered.evaluation.get("status"),
        "status_reason": gathered.evaluation.get("status_reason"),
        "totals": gathered.totals,
        "shares": {
            name: {"mean": mean.mean, "stderr": mean.stderr, "ci95": values.interval(), "n": mean.n}
            for name, values, mean in ((name, values, values.mean()) for name, values in gathered.means.items())
        },
        "gates": [decision.document for decision in decisions],
        "errors": {
            kind: {
                "count": errors.count,
                "first": [
                    {"item_id": end.item_id, "task": end.task, "message": end.message, "status_code": end.status_code}
                    for end in errors.first
                ],
            }
            for kind, errors in sorted(gathered.errors.items())
        },
        "served": [
            dict(zip(("model", "system_fingerprint", "answers", "first", "last"), row, strict=True)) for row in served(gathered)
        ],
        "histograms": {
            "latency_s": gathered.summary.latency.counts(),
            "ttft_s": gathered.summary.ttft.counts(),
            "completion_tokens": sorted(gathered.tokens.items()),
        },
        "over_time": [
            {"second": at, "ended": one.results, "errors": one.errors, "p50": one.latency.at(0.5), "p99": one.latency.at(0.99)}
            for at, one in timeline.buckets()
            if one is not None
        ],
        "files": [_file(*known) for known in gathered.ledger.files],
    }
    return json.dumps(found, indent=1, ensure_ascii=True) + "\n"
