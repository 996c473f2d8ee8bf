"""A report as one self-contained HTML file: it loads nothing, and only its table of items needs a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.analysis.gates import Decision
from runner.analysis.pages.plots import Interval, Line, Plot, forest, histogram, lines
from runner.analysis.pages.rendering import render
from runner.analysis.pages.scales import bins_of, shown
from runner.analysis.report.gathering import Gathered
from runner.analysis.report.items import items_of
from runner.analysis.report.words import (
    HOW_FIGURES_ARE_MADE,
    banner,
    commands,
    directory,
    drift,
    facts,
    groups,
    happened,
    scores,
    served,
)
from runner.results.closing import doubts
from runner.results.judges_said import said_of_judges

__all__ = ["as_html"]

#: A shorter run has no plots over time: its start and end would be most of them.
_SHORTEST_S = 10
_MOST_DRAWN = 60
#: If the largest value is more than this many times the smallest, the scale is logarithmic.
_WIDE = 8


def as_html(gathered: Gathered, decisions: Sequence[Decision], *, items: str = "auto") -> str:
    """Return the page; `items` decides which rows have their texts: auto, all or none. Raises StorageError."""
    metrics = gathered.totals["metrics"]
    values: dict[str, Any] = {
        "title": str(gathered.evaluation.get("name") or gathered.run.path.parent.name),
        "description": gathered.evaluation.get("description"),
        "banner": banner(gathered),
        "facts": list(facts(gathered)),
        "scores": list(scores(metrics)),
        "decisions": decisions,
        "happened": list(happened(gathered)),
        "doubts": list(doubts(gathered.totals)),
        "score_plots": list(_score_plots(metrics)),
        "judges": list(said_of_judges(gathered.totals["judges"])),
        "tables_of_judges": list(_tables_of_judges(gathered.totals["judges"])),
        "errors": sorted(gathered.errors.items(), key=lambda pair: (-pair[1].count, pair[0])),
        "time_plots": list(_time_plots(gathered)),
        "served": list(served(gathered)),
        "drift": drift(gathered),
        "items": items_of(gathered, items),
        "all_rows": len(gathered.rows),
        "pandas": f'runner.load("{directory(gathered)}").wide',
        "commands": list(commands(gathered)),
        "files": [(name, f"{size:,}", digest) for name, size, digest in gathered.ledger.files],
        "config": _config_of(gathered),
        "how": HOW_FIGURES_ARE_MADE,
    }
    return render("report/report.html.j2", values, scripts=["pages/common.js", "report/browser.js"])


def _config_of(gathered: Gathered) -> str:
    try:
        return gathered.run.config.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}"


# --- judges ---


def _tables_of_judges(judges: Mapping[str, Any] | None) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """Yield captions, heads and rows of tables: answers without a verdict by length, and people's labels against verdicts."""
    for alias, judge in ({} if judges is None else judges["by_task"]).items():
        if judge["no_verdict"]:
            thirds = judge["no_verdict_by_length"]["thirds"]
            rows = [
                (f"up to {one['longest']:,} characters", f"{one['n']:,}", shown(one["share"], 2)) for one in thirds if one["n"]
            ]
            yield f"{alias}: answers without a verdict, by the length of the judged text", ("third", "answers", "share"), rows
        if (agreement := judge.get("agreement")) is not None:
            confusion = agreement["confusion"]
            verdicts = sorted({verdict for row in confusion.values() for verdict in row})
            rows = [(label, *(f"{row.get(verdict, 0):,}" for verdict in verdicts)) for label, row in confusion.items()]
            yield f"{alias}: {agreement['with']} in the rows, verdicts in the columns", (agreement["with"], *verdicts), rows


# --- scores ---


def _score_plots(metrics: Mapping[str, Any]) -> Iterator[Plot]:
    alike = {alias: metric for alias, metric in metrics.items() if metric["mean"] is not None}
    if alike and all(0 <= metric["mean"] <= 1 for metric in alike.values()):
        yield _forest("Means of the metrics with their 95 % intervals", [_interval(*one) for one in alike.items()])
    for alias, metric in metrics.items():
        yield from _curve(alias, metric)
        for columns, rows in groups(metric):
            table = metric["groups"][columns]
            drawn = [_interval(name, figures) for name, figures in list(table.items())[:_MOST_DRAWN]]
            more = f", the first {_MOST_DRAWN} of {len(table)} groups" if len(table) > _MOST_DRAWN else ""
            caption = f"{alias} by {columns} with 95 % intervals{more}; the dashed line is the mean of all"
            head = ["group", "mean", "95 % interval", "n"]
            yield _forest(caption, drawn, metric["mean"], head, [row[:4] for row in rows])


def _interval(label: str, figures: Mapping[str, Any]) -> Interval:
    low, high = figures["ci95"] or (None, None)
    return Interval(label, figures["mean"], low, high, figures["n"])


def _forest(
    caption: str,
    rows: Sequence[Interval],
    reference: float | None = None,
    head: Sequence[str] = (),
    numbers: Sequence[Sequence[str]] = (),
) -> Plot:
    ends = [end for row in rows for end in (row.low, row.mean, row.high) if end is not None]
    is_share = all(0 <= end <= 1 for end in ends)
    low, high = (0.0, 1.0) if is_share else (min(ends), max(ends))
    return Plot(forest(rows, said=caption, low=low, high=high, reference=reference), caption, head, numbers)


def _curve(alias: str, metric: Mapping[str, Any]) -> Iterator[Plot]:
    """Yield a plot of pass@k over k, if there are more than two points."""
    found = {name: reduced for name, reduced in metric.get("reduced", {}).items() if name.startswith("pass@")}
    by_k = sorted((int(name.removeprefix("pass@")), reduced) for name, reduced in found.items() if reduced["mean"] is not None)
    if len(by_k) > 2:  # noqa: PLR2004  two points are not a curve
        line = Line(alias, [(float(k), reduced["mean"]) for k, reduced in by_k])
        caption = f"{alias}: the chance that one of k answers is right (pass@k)"
        rows = [(str(k), shown(reduced["mean"])) for k, reduced in by_k]
        yield Plot(lines([line], said=caption, unit="pass@k", unit_below="k"), caption, ["k", "pass@k"], rows)


# --- time and tokens ---


def _time_plots(gathered: Gathered) -> Iterator[Plot]:
    summary = gathered.summary
    if gathered.is_timed:
        for name, quantiles in (("Latency", summary.latency), ("Time to the first token", summary.ttft)):
            if counts := quantiles.counts():
                yield _histogram(f"{name} of answers", counts, "s")
    if gathered.tokens:
        yield _histogram("Completion tokens of answers", sorted(gathered.tokens.items()), "tokens")
    if gathered.is_timed and gathered.timeline.seconds >= _SHORTEST_S:
        yield from _over_time(gathered)


def _histogram(caption: str, counts: Sequence[tuple[float, int]], unit: str) -> Plot:
    bins = bins_of(counts)
    is_log = 0 < bins[0][0] < bins[-1][1] / _WIDE and bins[0][1] - bins[0][0] != 1
    rows = [(f"{shown(low, 3)} to {shown(high, 3)}", f"{count:,}") for low, high, count in bins if count]
    return Plot(histogram(bins, said=caption, unit=unit, is_log=is_log), caption, [unit, "answers"], rows)


def _over_time(gathered: Gathered) -> Iterator[Plot]:
    timeline = gathered.timeline
    width, pauses = timeline.width_s, timeline.offsets[1:]
    buckets = list(timeline.buckets())
    rate = [(at, None if one is None else one.results / width) for at, one in buckets]
    caption = f"Requests that ended per second, over the time of the run (in steps of {shown(width)} s)"
    yield Plot(lines([Line("rate", rate)], said=caption, unit="per s", pauses=pauses), caption)
    quantiles = [
        Line(name, [(at, None if one is None else one.latency.at(share)) for at, one in buckets])
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]
    if any(value is not None for line in quantiles for _, value in line.points):
        caption = "Latency of the requests that ended, over the time of the run"
        head = ["second", "ended", "errors", "p50", "p99"]
        rows = [
            (shown(at), f"{one.results:,}", f"{one.errors:,}", shown(one.latency.at(0.5), 3), shown(one.latency.at(0.99), 3))
            for at, one in buckets
            if one is not None
        ]
        yield Plot(lines(quantiles, said=caption, unit="s", pauses=pauses), caption, head, rows)
    if any(one is not None and one.errors for _, one in buckets):
        errors = [(at, None if one is None else float(one.errors)) for at, one in buckets]
        caption = "Errors over the time of the run"
        yield Plot(lines([Line("errors", errors)], said=caption, unit="errors", pauses=pauses), caption)
