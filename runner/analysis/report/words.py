"""The texts of a report, as rows: the same for a page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import Any, NamedTuple

from runner.analysis.pages.scales import shown
from runner.analysis.report.gathering import Gathered
from runner.results.closing import notes, quantiles
from runner.results.costs import said_of_cost

__all__ = [
    "HOW_FIGURES_ARE_MADE",
    "Score",
    "banner",
    "commands",
    "directory",
    "drift",
    "facts",
    "groups",
    "happened",
    "scores",
    "served",
]

_MOST_GROUPS = 200
_MOST_CHANGES = 5

HOW_FIGURES_ARE_MADE = (
    "The unit is the item. The samples of an item are one cluster; so are items with the same value in `analysis.cluster`.",
    "The standard error of a mean is that of a mean of clusters. With one cluster it is unknown, and not shown.",
    "Answers that are right or wrong have Wilson's interval; other values have Student's.",
    "Wilson's interval uses the number of independent answers that would have the same standard error.",
    "If fewer than five clusters have the rarer value, each cluster counts once.",
    "An error has no value. The bounds of a mean are its values if all errors had been wrong, or right.",
    "pass@k is the chance that at least one of k answers is right, pass^k that all are, majority@k that the most frequent is.",
    "The intervals of groups are not adjusted for the number of groups: one of twenty will look odd by chance.",
    "Quantiles are exact to within 1 %. Latencies are those of the answered attempt, without waiting and back-off.",
    "Times over the run leave out the pauses between its starts.",
    "Everything here comes from the journal of the run. The same journal always gives the same bytes of this file.",
)


class Score(NamedTuple):
    """A row of a table of means."""

    label: str
    mean: str
    interval: str
    n: str
    #: Errors and the bounds of the mean that follow from them, or how many items a reducer leaves out.
    more: str = ""


def directory(gathered: Gathered) -> str:
    """Return the last three parts of the run directory: they are the same wherever the results are."""
    return "/".join(gathered.run.path.parts[-3:])


def facts(gathered: Gathered) -> Iterator[tuple[str, str]]:
    """Yield the facts of the run: its status, start, model, endpoint and the like."""
    evaluation, ledger = gathered.evaluation, gathered.ledger
    endpoint = gathered.document.get("endpoint") or {}
    yield "run", directory(gathered)
    yield "status", _status(gathered)
    yield "started", _time(ledger.opens[0].at)
    starts = f" in {len(ledger.starts)} starts" if len(ledger.starts) > 1 else ""
    yield "took", f"{shown(round(ledger.wall_s, 1))} s{starts}"
    models = sorted({model for model, _ in gathered.served if model})
    yield "model", ", ".join(models) or "not named"
    where = endpoint.get("base_url")
    if endpoint.get("replay"):
        where = f"recordings in {endpoint['replay']}"
    yield "endpoint", str(where or "not known: the copy of the config cannot be read")
    if tags := evaluation.get("tags"):
        yield "tags", ", ".join(map(str, tags))


def _status(gathered: Gathered) -> str:
    status, reason = gathered.evaluation.get("status") or "running", gathered.evaluation.get("status_reason")
    if status == "running" and not gathered.run.is_live:
        status = "ended without a final status (killed, or its machine went down)"
    return f"{status}{f': {reason}' if reason else ''}"


def banner(gathered: Gathered) -> str | None:
    """Return the warning that the run has not finished, or None."""
    if gathered.evaluation.get("status") == "completed":
        return None
    return f"This run has not finished ({_status(gathered)}). Everything below covers only its results so far."


def _time(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"


def happened(gathered: Gathered) -> Iterator[tuple[str, str]]:
    """Yield the outcome of the run's requests."""
    totals = gathered.totals
    results, errors = totals["results"], sum(totals["errors"].values())
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in totals["errors"].items())
    skipped = f", of which {totals['skipped']:,} skipped" if totals["skipped"] else ""
    yield "results", f"{results:,} results and {errors:,} errors{f' ({kinds})' if kinds else ''}{skipped}"
    if gathered.ledger.damaged:
        yield "journal", f"{len(gathered.ledger.damaged)} damaged lines are left out"
    if totals["cached"]:
        yield "cached", f"{totals['cached']:,} answers reused, nothing sent for them"
    if (source := gathered.ledger.rescored) is not None:
        yield "rescored", f"its answers come from {source.path}"
    if totals["requests"]:
        yield "requests", " · ".join([f"{totals['requests']:,} answered in {totals['attempts']:,} attempts", *notes(totals)])
        tokens = totals["tokens"]
        yield "tokens", f"{tokens.get('prompt_tokens', 0):,} prompt · {tokens.get('completion_tokens', 0):,} completion"
        yield from (("cost", said) for said in said_of_cost(totals["cost"]))
        if totals["latency_s"]["p50"] is not None:  # it is not measured for batches
            yield "latency", quantiles(totals["latency_s"])
        if totals["ttft_s"]["p50"] is not None:
            yield "first token", quantiles(totals["ttft_s"])
    if totals["slots_full"] is not None:
        full = f"slots full {totals['slots_full']:.0%} · bound by {totals['bound_by']}"
        yield "wall", f"{shown(round(totals['wall_s'], 1))} s · {shown(totals['requests_per_s'] or 0, 3)} requests/s · {full}"


def scores(metrics: Mapping[str, Any]) -> Iterator[Score]:
    """Yield the mean of each metric, and of each of its reducers."""
    for alias, metric in metrics.items():
        bounds = metric["bounds"]
        errors = f"{metric['errors']:,} errors" if metric["errors"] else ""
        if errors and bounds is not None:
            errors += f"; {bounds[0]:.4f} to {bounds[1]:.4f} if all were wrong or right"
        yield _score(alias, metric, errors)
        for name, reduced in metric.get("reduced", {}).items():
            left_out = f"{reduced['left_out']:,} items have too few answers" if reduced["left_out"] else ""
            yield _score(f"{alias}.{name}", reduced, left_out)


def groups(metric: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Score]]]:
    """Yield each table of groups of a metric."""
    for columns, table in metric.get("groups", {}).items():
        yield columns, [_score(name, group, "") for name, group in list(table.items())[:_MOST_GROUPS]]


def _score(label: str, figures: Mapping[str, Any], more: str) -> Score:
    mean, interval = figures["mean"], figures["ci95"]
    return Score(
        label,
        "–" if mean is None else f"{mean:.4f}",
        "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}",
        f"{figures['n']:,}",
        more,
    )


def served(gathered: Gathered) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield each model and fingerprint that answered, with its number of answers, and the first and the last time."""
    for (model, fingerprint), one in sorted(gathered.served.items(), key=lambda pair: (pair[1].first_at, pair[0])):
        yield model or "–", fingerprint or "–", f"{one.count:,}", _time(one.first_at), _time(one.last_at)


def drift(gathered: Gathered) -> str | None:
    """Return a sentence about when another model or fingerprint began to answer; None if there was only one."""
    later = sorted(one.first_at for one in gathered.served.values())[1:]
    if not later:
        return None
    times = ", ".join(map(_time, later[:_MOST_CHANGES])) + (" and later" if len(later) > _MOST_CHANGES else "")
    return f"The model or its fingerprint changed at {times}: answers before and after may differ because of it."


def commands(gathered: Gathered) -> Iterator[tuple[str, str]]:
    """Yield what can be done with the run, each with its command or code."""
    name, output = gathered.run.path.parent.name, quote(gathered.run.path.parent.parent.name)
    run, config = quote(directory(gathered)), quote(f"{directory(gathered)}/config.yaml")
    if gathered.evaluation.get("status") != "completed":
        yield "resume it", f"python -m runner {config} --output {output} --resume {run}"
    yield "compare it with the run before", f"python -m runner compare {name}~1 {run}"
    yield "judge its answers again, by other metrics", f"python -m runner rescore {run} {config}"
    yield "look at it in pandas", f'runner.load("{directory(gathered)}").wide'
