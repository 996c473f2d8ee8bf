"""A comparison as text for a terminal, and as Markdown for a comment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from runner.analysis.compare.comparing import Comparison, Flip
from runner.analysis.compare.words import HEAD, figure_lines, heading
from runner.analysis.gates import gate_lines
from runner.analysis.pages.markdown import alert, as_comment, code, table
from runner.printable import printable

__all__ = ["as_markdown", "as_text"]

_MOST_FLIPS, _MOST_FLIPS_IN_MARKDOWN = 50, 200
_LONGEST_OUTPUT = 60


def as_text(comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons as lines."""
    lines: list[str] = []
    for comparison in comparisons:
        lines += [
            *(f"{label:<10} {said}" for label, said in heading(comparison)),
            *_figures(comparison),
            *gate_lines(comparison.decisions),
        ]
        for alias in comparison.metrics:
            lines += _flips(comparison, alias)
        lines.append("")
    return "\n".join(lines).rstrip()


def _figures(comparison: Comparison) -> Iterator[str]:
    yield f"{'figure':<26} {'A':>9} {'B':>9} {'B - A':>9}   {'95 % interval':<20} {'p':>7}   outcome"
    for line in figure_lines(comparison):
        numbers = f"{line.a:>9} {line.b:>9} {line.difference:>9}"
        yield f"{printable(line.label):<26} {numbers}   {line.interval:<20} {line.p:>7}   {line.outcome}".rstrip()


def _flips(comparison: Comparison, alias: str) -> Iterator[str]:
    flips = comparison.flips(alias)
    for flip in flips[:_MOST_FLIPS]:
        yield f"flip       {printable(flip.metric)} {printable(flip.item_id)}: {_change(comparison, flip, _quoted)}"
    if len(flips) > _MOST_FLIPS:
        yield f"           and {len(flips) - _MOST_FLIPS} more in the JSON file and the page"


def _change(comparison: Comparison, flip: Flip, quoted: Callable[[str | None], str]) -> str:
    values, (before, now) = f"{flip.a:g} -> {flip.b:g}", comparison.outputs(flip)
    return values if before is None and now is None else f"{values}, {quoted(before)} -> {quoted(now)}"


def _quoted(text: str | None) -> str:
    return "no answer" if not text else f'"{printable(text)[:_LONGEST_OUTPUT]}"'


# --- Markdown ---


def as_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons as Markdown for a comment."""
    parts: list[str] = []
    for comparison in comparisons:
        if len(comparisons) > 1:
            parts += ["", f"## {code(comparison.a.run.path.name)} and {code(comparison.b.run.path.name)}", ""]
        parts += [*alert(comparison.decisions), *(f"    {label:<10} {said}" for label, said in heading(comparison)), ""]
        parts += table(HEAD, [[code(line.label), *line[1:]] for line in figure_lines(comparison)])
        parts += [*(f"* {one.outcome.value}: {code(one.gate.text)} ({one.reason})" for one in comparison.decisions), ""]
        for alias in comparison.metrics:
            parts += [
                f"* {code(flip.metric)} {code(flip.item_id)}: {_change(comparison, flip, lambda text: code(text or ''))}"
                for flip in comparison.flips(alias)[:_MOST_FLIPS_IN_MARKDOWN]
            ]
    return as_comment(parts)
