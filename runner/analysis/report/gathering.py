"""All data of a report, gathered from the journal of a run in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from runner.analysis.figures import Figure, Subject, estimate
from runner.analysis.report.rows import Rows
from runner.analysis.report.timeline import Timeline
from runner.analysis.scoring import scoring_of
from runner.results.grouping import Grouping
from runner.results.scores import Mean, Reduction, Scoring
from runner.results.summary import PERCENTILES, Summary
from runner.results.views import document_of, summary_of, totals_of
from runner.storage.ledger import Ledger
from runner.storage.records import End
from runner.storage.rundir import RunDir
from runner.structs import Struct, field
from runner.tasks.base import tasks_of

__all__ = ["Errors", "Gathered", "Served", "gather"]

_MOST_OF_A_KIND = 20
_FEW_SAMPLES = 4
_MEANS = ("error_rate", "skipped", "truncated", "empty", "latency", "tokens")


class Errors(Struct):
    """The errors of one type: their number, and the first of them."""

    count: int = 0
    first: list[End] = field(default_factory=list)


class Served(Struct):
    """The answers of one model with one fingerprint, as reported by the server."""

    count: int = 0
    #: When the first and the last of them came, in microseconds since the epoch.
    first_at: int = 0
    last_at: int = 0


class Gathered(Struct, kw_only=True):
    """A run, read for a report."""

    run: RunDir
    ledger: Ledger
    document: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    scoring: Scoring
    grouping: Grouping
    rows: Rows
    timeline: Timeline
    summary: Summary
    totals: Mapping[str, Any] = field(default_factory=dict)
    errors: dict[str, Errors] = field(default_factory=dict)
    served: dict[tuple[str, str], Served] = field(default_factory=dict)
    #: How many answers have each number of completion tokens.
    tokens: Counter[int] = field(default_factory=Counter)
    #: Shares and means over items, by their names in gates.
    means: dict[str, Mean] = field(default_factory=dict)

    @property
    def is_timed(self) -> bool:
        """Whether times describe the endpoint: answers from recordings have the times of the recording."""
        endpoint = self.document.get("endpoint") or {}
        return endpoint.get("replay") is None and self.summary.requests > 0

    @property
    def figures(self) -> dict[Subject, Figure]:
        """All figures that a gate can name."""
        tasks = tasks_of(self.document).items()  # a metric without any result yet is known, and has no value
        found: dict[Subject, Figure] = {
            (alias, None, None): _own(None, None) for alias, task in tasks if task.get("task_type") == "metric"
        }
        for name, values in self.means.items():
            found[name, None, None] = _own(values.mean().mean, values.interval())
        for name, quantiles in (("latency", self.summary.latency), ("ttft", self.summary.ttft)):
            for stat, share in PERCENTILES.items():
                found[name, None, stat] = estimate(None, quantiles.at(share))
        prompt, completion = (self.summary.tokens[f"{stat}_tokens"] for stat in ("prompt", "completion"))
        for stat, count in {"prompt": prompt, "completion": completion, "total": prompt + completion}.items():
            found["tokens", None, stat] = estimate(None, count)
        found["wall", None, None] = estimate(None, self.ledger.wall_s)
        if (cost := self.totals["cost"]) is not None:
            found["cost", None, None] = estimate(None, None if cost["unpriced"] else cost["total"])
        return found | dict(_of_metrics(self.totals["metrics"]))  # an alias of the user overrides a built-in name


def _of_metrics(metrics: Mapping[str, Any]) -> Iterator[tuple[Subject, Figure]]:
    for alias, metric in metrics.items():
        yield (alias, None, None), _own(metric["mean"], metric["ci95"])
        for name, reduced in metric.get("reduced", {}).items():
            yield (alias, None, name), _own(reduced["mean"], reduced["ci95"])
        tables = metric.get("groups", {})
        for columns, groups in tables.items():
            for name, group in groups.items():
                yield (alias, name if len(tables) == 1 else f"{columns}: {name}", None), _own(group["mean"], group["ci95"])


def _own(value: float | None, interval: Sequence[float] | None) -> Figure:
    both = None if interval is None else (interval[0], interval[1])
    return Figure(a=None, b=value, difference=None, own_b=value, interval_b=both)


def gather(run: RunDir, *, by: Sequence[Sequence[str]], cluster: str | None) -> Gathered:
    """Read a run, even if it goes on, was killed or is damaged. Raises RunDirError, StorageError.

    `by` and `cluster` replace those of its config. The ledger stays open, so that texts can be looked up.
    """
    document = document_of(run)
    scoring = scoring_of(document, by, cluster)
    ledger = Ledger.read(run.journal, run.files)
    samples = dict(ledger.plan.tasks)
    scoring = _with_curves(scoring, samples)
    gathered = Gathered(
        run=run,
        ledger=ledger,
        document=document,
        evaluation=run.read_evaluation(),
        scoring=scoring,
        grouping=Grouping(scoring.by, scoring.cluster),
        rows=Rows(len(scoring.by)),
        timeline=Timeline(ledger.starts),
        summary=summary_of(document, ledger, scoring),
        means={name: Mean(by_column=scoring.cluster is not None) for name in _MEANS},
    )
    for _, of_item in groupby(gathered.summary.fold(ledger.ends(), ledger.plan.width), lambda end: end.item_index):
        item = list(of_item)
        for end in item:
            _add(gathered, end)
        _add_item(gathered, item)
    gathered.totals = totals_of(gathered.summary, ledger)
    return gathered


def _with_curves(scoring: Scoring, samples: Mapping[str, int]) -> Scoring:
    """Return the scoring with more pass@k reducers, for a curve, if items have enough samples."""
    reductions = {alias: _with_curve(reduction, samples.get(alias, 1)) for alias, reduction in scoring.reductions.items()}
    return Scoring(scoring.by, scoring.cluster, reductions)


def _with_curve(reduction: Reduction, samples: int) -> Reduction:
    if samples < _FEW_SAMPLES:
        return reduction
    names = [name for name, _, _ in reduction.of(samples)]
    steps = [1 << power for power in range(samples.bit_length()) if 1 << power < samples] + [samples]
    return Reduction([*names, *(f"pass@{k}" for k in steps if f"pass@{k}" not in names)], reduction.right, reduction.strict)


def _add(gathered: Gathered, end: End) -> None:
    is_request = end.request is not None
    if is_request:
        gathered.timeline.add(end.completed_at, latency_s=end.latency_s, is_error=end.error_type is not None)
    if end.error_type is not None:
        errors = gathered.errors.setdefault(end.error_type, Errors())
        errors.count += 1
        if len(errors.first) < _MOST_OF_A_KIND:
            errors.first.append(end)
        return
    if not is_request:
        return
    if end.completion_tokens is not None:
        gathered.tokens[end.completion_tokens] += 1
    served = gathered.served.setdefault((end.response_model or "", end.system_fingerprint or ""), Served())
    served.first_at = min(served.first_at or end.completed_at, end.completed_at)
    served.last_at = max(served.last_at, end.completed_at)
    served.count += 1


def _add_item(gathered: Gathered, ends: Sequence[End]) -> None:
    groups, cluster = gathered.grouping.of(ends[0])
    gathered.rows.add_item(ends, groups)
    answers = [end for end in ends if end.error_type is None and end.request is not None]
    values = {
        "error_rate": [float(end.error_type is not None) for end in ends],
        "skipped": [float(end.skipped) for end in ends],
        "truncated": [float(end.finish_reason == "length") for end in answers],
        "empty": [float(end.is_empty) for end in answers],
        "latency": [end.latency_s for end in answers if end.latency_s is not None],
        "tokens": [float(end.completion_tokens) for end in answers if end.completion_tokens is not None],
    }
    for name in _MEANS:
        if values[name]:
            gathered.means[name].add(values[name], cluster)
