"""What a report says, as rows of words: the same for a page and for Markdown."""

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
    "The unit is the item. Samples of an item are one cluster; so are items that agree in the column of `analysis.cluster`.",
    "The standard error of a mean is that of a mean of clusters. With one cluster nothing is known of it, and there is none.",
    "The interval of answers that are right or wrong is Wilson's; that of other values is Student's.",
    "Wilson's is taken on the size that independent answers of the same standard error would have.",
    "Where fewer than five clusters say otherwise than the rest, each cluster counts once.",
    "An error is no value. The bounds of a mean say what it would be if all errors had been wrong, or right.",
    "pass@k is the chance that one of k answers is right, pass^k that all are, majority@k that the most frequent one is.",
    "Intervals of groups are not adjusted for how many groups there are: of twenty one will look odd by chance.",
    "Quantiles are known to within 1 %. Latencies are those of the attempt that was answered, without waiting and back-off.",
    "Time is that of the run: pauses between its starts are left out.",
    "The journal of the run is the source of everything here. Made again from the same journal, this file has the same bytes.",
)


class Score(NamedTuple):
    """A mean as it stands in a table."""

    label: str
    mean: str
    interval: str
    n: str
    #: Errors, and the bounds of the mean because of them; or groups' and reducers' remarks.
    more: str = ""


def directory(gathered: Gathered) -> str:
    """Return the run directory as people name it: the same wherever the results lie."""
    return "/".join(gathered.run.path.parts[-3:])


def facts(gathered: Gathered) -> Iterator[tuple[str, str]]:
    """Yield what the run is."""
    evaluation, ledger = gathered.evaluation, gathered.ledger
    endpoint = gathered.document.get("endpoint") or {}
    yield "run", directory(gathered)
    yield "status", _status(gathered)
    yield "started", _time(ledger.opens[0].at)
    starts = f" in {len(ledger.starts)} starts" if len(ledger.starts) > 1 else ""
    yield "took", f"{shown(round(ledger.wall_s, 1))} s{starts}"
    models = sorted({model for model, _ in gathered.served if model})
    yield "model", ", ".join(models) or "none named"
    where = endpoint.get("base_url")
    if endpoint.get("replay"):
        where = f"recordings in {endpoint['replay']}"
    yield "endpoint", str(where or "not known: the copy of the config cannot be read")
    if tags := evaluation.get("tags"):
        yield "tags", ", ".join(map(str, tags))


def _status(gathered: Gathered) -> str:
    reason = gathered.evaluation.get("status_reason")
    return f"{_word_of(gathered)}{f': {reason}' if reason else ''}"


def _word_of(gathered: Gathered) -> str:
    status = str(gathered.evaluation.get("status") or "running")
    if status != "running" or gathered.run.is_live:
        return status
    return "ended without a word (killed, or its machine went down)"


def banner(gathered: Gathered) -> str | None:
    """Return what has to be said before everything else: that not everything was asked yet."""
    if gathered.evaluation.get("status") == "completed":
        return None
    return f"This run has not finished ({_status(gathered)}). Everything below is about what it has so far."


def _time(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"


def happened(gathered: Gathered) -> Iterator[tuple[str, str]]:
    """Yield what became of the run's requests."""
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
        yield "rescored", f"its answers are those of {source.path}"
    if totals["requests"]:
        yield "requests", " · ".join([f"{totals['requests']:,} answered in {totals['attempts']:,} attempts", *notes(totals)])
        tokens = totals["tokens"]
        yield "tokens", f"{tokens.get('prompt_tokens', 0):,} prompt · {tokens.get('completion_tokens', 0):,} completion"
        yield from (("cost", said) for said in said_of_cost(totals["cost"]))
        if totals["latency_s"]["p50"] is not None:  # nobody measures it of batches
            yield "latency", quantiles(totals["latency_s"])
        if totals["ttft_s"]["p50"] is not None:
            yield "first token", quantiles(totals["ttft_s"])
    if totals["slots_full"] is not None:
        full = f"slots full {totals['slots_full']:.0%} · bound by {totals['bound_by']}"
        yield "wall", f"{shown(round(totals['wall_s'], 1))} s · {shown(totals['requests_per_s'] or 0, 3)} requests/s · {full}"


def scores(metrics: Mapping[str, Any]) -> Iterator[Score]:
    """Yield the mean of each metric, and what its samples are reduced to."""
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
    """Yield who has answered: model, fingerprint, how often, first and last."""
    for (model, fingerprint), one in sorted(gathered.served.items(), key=lambda pair: (pair[1].first_at, pair[0])):
        yield model or "–", fingerprint or "–", f"{one.count:,}", _time(one.first_at), _time(one.last_at)


def drift(gathered: Gathered) -> str | None:
    """Return when another model or version began to answer; None where there was only one."""
    later = sorted(one.first_at for one in gathered.served.values())[1:]
    if not later:
        return None
    times = ", ".join(map(_time, later[:_MOST_CHANGES])) + (" and later" if len(later) > _MOST_CHANGES else "")
    return f"Who answers changed at {times}: what was answered before and after may differ because of it."


def commands(gathered: Gathered) -> Iterator[tuple[str, str]]:
    """Yield what can be done with the run, each with its command."""
    name, output = gathered.run.path.parent.name, quote(gathered.run.path.parent.parent.name)
    run, config = quote(directory(gathered)), quote(f"{directory(gathered)}/config.yaml")
    if gathered.evaluation.get("status") != "completed":
        yield "go on with it", f"python -m runner {config} --output {output} --resume {run}"
    yield "hold it against the run before", f"python -m runner compare {name}~1 {run}"
    yield "judge its answers once more, by other metrics", f"python -m runner rescore {run} {config}"
    yield "look at it in pandas", f'runner.load("{directory(gathered)}").wide'
