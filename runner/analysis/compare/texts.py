"""A comparison in words: the lines of a terminal, and the same as Markdown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from runner.analysis.compare.comparing import Comparison, Flip
from runner.analysis.compare.reading import Answers
from runner.analysis.figures import Figure
from runner.analysis.gates import Decision
from runner.analysis.pages.markdown import alert, as_comment, code, plain, table

__all__ = ["as_markdown", "as_text"]

_MOST_FLIPS, _MOST_FLIPS_IN_MARKDOWN = 50, 200
_LONGEST_OUTPUT = 60
_MOST_NAMED = 20
_DAY_S = 86_400
_HEAD = ("figure", "A", "B", "B - A", "95 % interval", "p", "outcome")


def as_text(comparisons: Sequence[Comparison], decisions: Sequence[Sequence[Decision]], alpha: float) -> str:
    """Return the comparisons as lines."""
    lines: list[str] = []
    for comparison, decided in zip(comparisons, decisions, strict=True):
        lines += [*_heading(comparison), *_figures(comparison, alpha), *_gates(decided)]
        for alias in comparison.metrics:
            lines += _flips(comparison.flips(alias), _MOST_FLIPS)
        lines.append("")
    return "\n".join(lines).rstrip()


def _heading(comparison: Comparison) -> Iterator[str]:
    a, b, matching = comparison.a, comparison.b, comparison.matching
    yield f"A          {_name(a)}   {_models(a)}   ({_age(a)})"
    yield f"B          {_name(b)}   {_models(b)}"
    errors = f"errors A {a.errors} B {b.errors}"
    counts = f"only A {len(matching.only_a)}, only B {len(matching.only_b)}, changed rows {len(matching.changed)}"
    yield f"items      {len(matching.common)} of {len({*a.items, *b.items})} compared; {counts}, {errors}"
    for name, items in (("only A", matching.only_a), ("only B", matching.only_b), ("changed", matching.changed)):
        if items:
            more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
            yield f"           {name}: {', '.join(plain(item) for item in items[:_MOST_NAMED])}{more}"
    if comparison.differences:
        yield f"config     differs: {', '.join(comparison.differences)}"
    if comparison.other_tasks:
        yield f"tasks      only one run has: {', '.join(comparison.other_tasks)}"
    for alias in comparison.other_metrics:
        yield f"metric     `{alias}` is another metric in B: its configuration differs"
    if a.served != b.served or len(b.served) > 1:
        yield f"served     A: {_served(a)}; B: {_served(b)}"


def _name(answers: Answers) -> str:
    return f"{answers.run.path.parent.name}/{answers.run.path.name}"


def _models(answers: Answers) -> str:
    return ", ".join(sorted({model for model, _ in answers.served if model})) or "no model named"


def _age(answers: Answers) -> str:
    days = int((time.time() - answers.ledger.opens[0].at / 1e6) / _DAY_S)
    return "baseline, of today" if not days else f"baseline, {days} day{'s' if days > 1 else ''} old"


def _served(answers: Answers) -> str:
    return ", ".join(f"{model or '–'} {fingerprint or '–'} × {n}" for (model, fingerprint), n in answers.served.most_common(5))


class _Line(NamedTuple):
    """A figure in words."""

    label: str
    a: str
    b: str
    difference: str
    interval: str
    p: str
    outcome: str


def _lines(comparison: Comparison, alpha: float) -> Iterator[_Line]:
    for (name, group, stat), figure in comparison.figures.items():
        if figure.difference is None:
            continue
        is_tested = name in comparison.metrics and stat is None
        yield _Line(
            f"{name}{f'[{group}]' if group is not None else ''}{f'.{stat}' if stat else ''}",
            _number(figure.a),
            _number(figure.b),
            _number(figure.difference, signed=True),
            "" if figure.interval is None else f"{figure.interval[0]:+.4f} to {figure.interval[1]:+.4f}",
            f"{figure.p_adjusted:.4f}" if is_tested and figure.p_adjusted is not None else "",
            _outcome(figure, alpha, is_group=group is not None) if is_tested else "",
        )


def _figures(comparison: Comparison, alpha: float) -> Iterator[str]:
    yield f"{'figure':<26} {'A':>9} {'B':>9} {'B - A':>9}   {'95 % interval':<20} {'p':>7}   outcome"
    for line in _lines(comparison, alpha):
        numbers = f"{line.a:>9} {line.b:>9} {line.difference:>9}"
        yield f"{plain(line.label):<26} {numbers}   {line.interval:<20} {line.p:>7}   {line.outcome}".rstrip()


def _outcome(figure: Figure, alpha: float, *, is_group: bool) -> str:
    won, lost = (figure.lower, figure.higher) if figure.less_is_better else (figure.higher, figure.lower)
    counted = f"{won} won, {lost} lost of {figure.pairs}" if figure.is_paired else "unpaired: no item in common"
    detectable = "" if figure.detectable is None else f"; detectable {figure.detectable:.3f}"
    return f"{figure.outcome(alpha)} ({counted}{detectable}){' exploratory' if is_group else ''}"


def _number(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    if abs(value) >= 1000:  # noqa: PLR2004  decimals say nothing there
        return f"{value:+,.0f}" if signed else f"{value:,.0f}"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def _gates(decided: Sequence[Decision]) -> Iterator[str]:
    for decision in decided:
        yield f"gate       {decision.gate.text:<34} {decision.outcome.value:<12} ({decision.reason})"


def _flips(flips: Sequence[Flip], most: int) -> Iterator[str]:
    for flip in flips[:most]:
        yield f"flip       {plain(flip.metric)} {plain(flip.item_id)}: {_change(flip)}"
    if len(flips) > most:
        yield f"           and {len(flips) - most} more in the JSON file"


def _change(flip: Flip) -> str:
    values = f"{flip.a:g} -> {flip.b:g}"
    if flip.output_a is None and flip.output_b is None:
        return values
    return f"{values}, {_quoted(flip.output_a)} -> {_quoted(flip.output_b)}"


def _quoted(text: str | None) -> str:
    return "no answer" if not text else f'"{plain(text)[:_LONGEST_OUTPUT]}"'


# --- Markdown ---


def as_markdown(comparisons: Sequence[Comparison], decisions: Sequence[Sequence[Decision]], alpha: float) -> str:
    """Return the comparisons as Markdown for a comment."""
    parts: list[str] = []
    for comparison, decided in zip(comparisons, decisions, strict=True):
        parts += [*alert(decided), *(f"    {line}" for line in _heading(comparison)), ""]
        parts += table(_HEAD, [[code(line.label), *line[1:]] for line in _lines(comparison, alpha)])
        parts += [*(f"* {one.outcome.value}: {code(one.gate.text)} ({one.reason})" for one in decided), ""]
        for alias in comparison.metrics:
            parts += [
                f"* {code(flip.metric)} {code(flip.item_id)}: {_markdown_change(flip)}"
                for flip in comparison.flips(alias)[:_MOST_FLIPS_IN_MARKDOWN]
            ]
    return as_comment(parts)


def _markdown_change(flip: Flip) -> str:
    outputs = (
        ""
        if flip.output_a is None and flip.output_b is None
        else f", {code(flip.output_a or '')} to {code(flip.output_b or '')}"
    )
    return f"{flip.a:g} to {flip.b:g}{outputs}"
