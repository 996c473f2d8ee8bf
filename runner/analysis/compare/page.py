"""A comparison as one self-contained HTML file: both answers side by side, with the words that differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from runner.analysis.compare.comparing import Comparison, Flip
from runner.analysis.compare.reading import Answers
from runner.analysis.compare.words import HEAD, figure_lines, heading
from runner.analysis.pages.answers import item_fields, task_fields
from runner.analysis.pages.characters import legal
from runner.analysis.pages.plots import Interval, Plot, forest
from runner.analysis.pages.rendering import render
from runner.analysis.pages.tables import Table, packed_table
from runner.storage.records import End

__all__ = ["as_html"]

_MOST_WITHOUT_SCRIPT = 50
_FLIPS_IN_A_BLOCK = 50
_MOST_SAMPLES = 8

_HOW_TO_READ = (
    "Each item counts once, with the mean of its samples.",
    "Only items with a value in both runs are pairs. Items in only one run and items whose row changed are left out.",
    "better, worse: chance alone gives such a difference less often than --alpha, after Holm's adjustment for all metrics.",
    "cannot tell: the difference may well be chance.",
    "detectable: the true difference that this many items show four times in five.",
    "If each item was answered once, right or wrong: Bonett and Price's interval, and p by McNemar's exact test.",
    "Otherwise: Student's interval, and p by sign flips if these can be counted, else by Student's t.",
    "Groups are exploratory: their p-values are adjusted within each table (Benjamini and Hochberg).",
)


def as_html(comparisons: Sequence[Comparison]) -> str:
    """Return the page. Raises StorageError."""
    found = [(place, flip) for place, one in enumerate(comparisons) for alias in one.metrics for flip in one.flips(alias)]
    values: dict[str, Any] = {
        "title": f"{comparisons[0].b.run.path.parent.name}: {' · '.join(_name(one) for one in comparisons)}",
        "comparisons": [
            {
                "name": _name(one),
                "heading": list(heading(one)),
                "decisions": one.decisions,
                "plots": list(_plots(one)),
                "lines": list(figure_lines(one)),
                "flips": list(_without_script(one)),
            }
            for one in comparisons
        ],
        "head": HEAD,
        "flips": _flips(comparisons, found),
        "how": _HOW_TO_READ,
    }
    scripts = ["pages/common.js", "compare/flips.js"] if found else []  # without a table no script is needed
    return render("compare/compare.html.j2", values, scripts=scripts)


def _name(comparison: Comparison) -> str:
    return f"{comparison.a.run.path.name} and {comparison.b.run.path.name}"


def _plots(comparison: Comparison) -> Iterator[Plot]:
    """Yield a plot of the differences of all metrics and of their groups, if any has an interval."""
    known = [
        Interval(alias if group is None else f"{alias}[{group}]", figure.difference, *figure.interval, figure.pairs)
        for (alias, group, stat), figure in comparison.figures.items()
        if alias in comparison.metrics and stat is None and figure.interval is not None
    ]
    if known:
        ends = [end for row in known for end in (row.low, row.high) if end is not None]
        caption = "B - A of each metric with its 95 % interval; the dashed line is no difference"
        yield Plot(forest(known, said=caption, low=min(0.0, *ends), high=max(0.0, *ends), reference=0.0), caption)


def _without_script(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    flips = (flip for alias in comparison.metrics for flip in comparison.flips(alias))
    for flip in islice(flips, _MOST_WITHOUT_SCRIPT):
        before, now = comparison.outputs(flip)
        yield flip.item_id, flip.metric, f"{flip.a:g}", f"{flip.b:g}", before or "–", now or "–"


# --- the table ---


def _flips(comparisons: Sequence[Comparison], found: Sequence[tuple[int, Flip]]) -> Table:
    numbers = range(len(found))
    metrics = list(dict.fromkeys(flip.metric for _, flip in found))
    columns = {
        "pairs": [_name(one) for one in comparisons],
        "metrics": [legal(metric) for metric in metrics],
        "pair": [place for place, _ in found],
        "metric": [metrics.index(flip.metric) for _, flip in found],
        "id": [legal(flip.item_id) for _, flip in found],
        "a": [round(flip.a, 6) for _, flip in found],
        "b": [round(flip.b, 6) for _, flip in found],
        "won": [(flip.b > flip.a) is not comparisons[place].is_less_better(flip.metric) for place, flip in found],
    }

    def texts_of(number: int) -> dict[str, Any]:
        place, flip = found[number]
        return _texts(comparisons[place], flip)

    return packed_table(numbers, columns, wanted=numbers, texts_of=texts_of, in_a_block=_FLIPS_IN_A_BLOCK)


def _texts(comparison: Comparison, flip: Flip) -> dict[str, Any]:
    a, b = (_ends(answers, flip.item_id) for answers in (comparison.a, comparison.b))
    return {"item": item_fields(b[0]) if b else [], "a": [*map(task_fields, a)], "b": [*map(task_fields, b)]}


def _ends(answers: Answers, item_id: str) -> list[End]:
    item_index = answers.items[item_id].item_index
    return [end for sample in range(_MOST_SAMPLES) for end in answers.ledger.ends_of_sample(item_index, sample)]
