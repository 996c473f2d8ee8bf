"""The texts of a comparison: the same for a terminal, for Markdown and for a page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from runner.analysis.compare.comparing import Comparison
from runner.analysis.compare.reading import Answers
from runner.analysis.figures import Figure, label_of
from runner.printable import printable

__all__ = ["HEAD", "FigureLine", "figure_lines", "heading"]

HEAD = ("figure", "A", "B", "B - A", "95 % interval", "p", "outcome")
_MOST_NAMED = 20
_DAY_S = 86_400


def heading(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield what is compared, and what differs apart from the answers, each with a label."""
    a, b, matching = comparison.a, comparison.b, comparison.matching
    yield "A", f"{_name(a)}   {_models(a)}   ({_age(a)})"
    yield "B", f"{_name(b)}   {_models(b)}"
    for name, one in (("A", a), ("B", b)):
        if not one.run.is_completed:
            yield "", f"{name} has not finished: everything here covers only its results so far"
    errors = f"errors A {a.errors} B {b.errors}"
    counts = f"only A {len(matching.only_a)}, only B {len(matching.only_b)}, changed rows {len(matching.changed)}"
    yield "items", f"{len(matching.common)} of {len({*a.items, *b.items})} compared; {counts}, {errors}"
    for name, items in (("only A", matching.only_a), ("only B", matching.only_b), ("changed", matching.changed)):
        if items:
            more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
            yield "", f"{name}: {', '.join(printable(item) for item in items[:_MOST_NAMED])}{more}"
    if comparison.differences:
        yield "config", f"differs: {', '.join(comparison.differences)}"
    if comparison.other_tasks:
        yield "tasks", f"only in one run: {', '.join(comparison.other_tasks)}"
    for alias in comparison.other_metrics:
        yield "metric", f"`{alias}` has another configuration in B"
    if a.served != b.served or len(b.served) > 1:
        yield "served", f"A: {_served(a)}; B: {_served(b)}"


def _name(answers: Answers) -> str:
    return f"{answers.run.path.parent.name}/{answers.run.path.name}"


def _models(answers: Answers) -> str:
    return ", ".join(sorted({model for model, _ in answers.served if model})) or "no model named"


def _age(answers: Answers) -> str:
    days = int((time.time() - answers.ledger.opens[0].at / 1e6) / _DAY_S)
    return "baseline, from today" if not days else f"baseline, {days} day{'s' if days > 1 else ''} old"


def _served(answers: Answers) -> str:
    said = ", ".join(f"{model or '–'} {fingerprint or '–'} × {n}" for (model, fingerprint), n in answers.served.most_common(5))
    return said or "no answers"


class FigureLine(NamedTuple):
    """A figure as texts, a row of the table."""

    label: str
    a: str
    b: str
    difference: str
    interval: str
    p: str
    outcome: str


def figure_lines(comparison: Comparison) -> Iterator[FigureLine]:
    """Yield every figure that both runs have."""
    for (name, group, stat), figure in comparison.figures.items():
        if figure.difference is None:
            continue
        is_tested = name in comparison.metrics and stat is None
        is_count = name == "tokens" and stat is not None  # the mean of an answer has no stat
        yield FigureLine(
            label_of((name, group, stat)),
            _number(figure.a, is_count=is_count),
            _number(figure.b, is_count=is_count),
            _number(figure.difference, signed=True, is_count=is_count),
            "" if figure.interval is None else " to ".join(_number(end, signed=True) for end in figure.interval),
            _p(figure.p_adjusted) if is_tested else "",
            _outcome(figure, comparison.alpha, is_group=group is not None) if is_tested else "",
        )


def _outcome(figure: Figure, alpha: float, *, is_group: bool) -> str:
    won, lost = (figure.lower, figure.higher) if figure.less_is_better else (figure.higher, figure.lower)
    counted = f"{won} won, {lost} lost of {figure.pairs}" if figure.is_paired else "unpaired: no item in common"
    detectable = "" if figure.detectable is None else f"; detectable {figure.detectable:.3f}"
    return f"{figure.outcome(alpha)} ({counted}{detectable}{_missing(figure)}){' exploratory' if is_group else ''}"


def _missing(figure: Figure) -> str:
    if figure.bounds is None:
        return ""
    return f"; {figure.bounds[0]:+.4f} to {figure.bounds[1]:+.4f} if all values that B lacks were 0 or 1"


def _p(p: float | None) -> str:
    return "" if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"  # noqa: PLR2004  as shown


def _number(value: float | None, *, signed: bool = False, is_count: bool = False) -> str:
    if value is None:
        return "–"
    if is_count or abs(value) >= 1000:  # noqa: PLR2004  decimals do not matter there
        return f"{value:+,.0f}" if signed else f"{value:,.0f}"
    form = ".2g" if 1e-12 < abs(value) < 1e-3 else ".4f"  # noqa: PLR2004  four decimals show too little; below is rounding
    return f"{value:{'+' if signed else ''}{form}}"
