"""The table: rows, medians, Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["MissingError", "Row", "markdown", "middle", "spread"]


class MissingError(Exception):
    """Something that a measurement needs is not there; the text says what, and how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement, as text."""

    #: What was measured, with its unit.
    measure: str
    runner: str = "–"
    reference: str = "–"
    ratio: str = "–"
    #: None where it was not measured.
    reached: bool | None = None
    #: What else a reader should know: what was skipped and why, what lies behind the figure.
    note: str = ""
    #: By which name it is asked for, and what is to be reached; the command fills them in.
    name: str = ""
    target: str = ""


def middle(values: Iterable[float]) -> float:
    """Return the median."""
    return median(values)


def spread(values: Sequence[float], form: str = ".3g") -> str:
    """Return the median, and, of several values, the smallest and the largest."""
    text = format(middle(values), form)
    return text if len(values) == 1 else f"{text} ({min(values):{form}}–{max(values):{form}})"


def markdown(rows: Sequence[Row]) -> str:
    """Return the table, and below it the notes."""
    lines = ["| | measure | runner | reference | ratio | target | reached |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        reached = {None: "not measured", True: "yes", False: "**no**"}[row.reached]
        cells = (row.name, row.measure, row.runner, row.reference, row.ratio, row.target, reached)
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"* {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", *notes] if notes else lines)
