"""The metric `numeric`: whether the number that a text means is the right one."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from runner.jsontext import as_text
from runner.processes.pool import Calls
from runner.reading.numbers import Number, number, written
from runner.tasks.metrics.base import Settings, invalid_reference
from runner.tasks.metrics.text import of_text

__all__ = ["numeric"]

#: A share up to this only allows for the rounding of decimals. Whole numbers and fractions are not rounded.
_ROUNDING = 1e-9


@of_text
async def numeric(text: str, references: list[Any], settings: Settings, _calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the text's number is the reference's, within the tolerance."""
    found = number(text, percent=settings.percent, which=settings.which)
    right = False
    for one in references:
        wanted = _wanted(one, settings)
        right |= found is not None and _is_near(found, wanted, settings)
    return right, None if found is None else written(found)


def _wanted(reference: Any, settings: Settings) -> Number:
    """Return the number of a reference; a JSON number is taken as it is. Raises RowError."""
    if isinstance(reference, int | float) and not isinstance(reference, bool):
        wanted: Number | None = reference if _is_finite(reference) else None
    else:
        wanted = number(as_text(reference), percent=settings.percent)
    if wanted is None:
        raise invalid_reference(f"{reference!r} is not a number")
    return wanted


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _is_near(found: Number, wanted: Number, settings: Settings) -> bool:
    if found == wanted:
        return True
    share = settings.relative_tolerance
    if isinstance(found, float) or isinstance(wanted, float):
        difference: float | Fraction = abs(float(found) - float(wanted))
    else:
        difference = abs(Fraction(found) - wanted)
        share = share if share > _ROUNDING else 0.0
    return difference <= max(settings.tolerance, share * abs(float(wanted)))
