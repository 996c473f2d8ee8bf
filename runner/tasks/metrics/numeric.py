"""The metric `numeric`: whether the last number of a text is the right one."""

from __future__ import annotations

import math
import re
from typing import Any

from runner.processes.pool import Calls
from runner.tasks.metrics.base import Settings, no_sense
from runner.tasks.metrics.text import as_text, of_text

__all__ = ["last_number", "numeric"]

_NUMBER = re.compile(r"(?:(?<!\w)[-+−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d)\.?)(?:[eE][-+]?\d+)?%?")


@of_text
async def numeric(text: str, references: list[Any], settings: Settings, _calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the text's last number is the reference's, within the tolerance."""
    found = last_number(text)
    right = False
    for one in references:
        wanted = last_number(as_text(one))
        if wanted is None:
            raise no_sense(f"{one!r} is no number")
        allowed = max(settings.tolerance, settings.relative_tolerance * abs(wanted))
        right |= found is not None and abs(found - wanted) <= allowed
    return right, None if found is None else f"{found:.15g}"


def last_number(text: str) -> float | None:
    """Return the last number in a text: `1,234.5`, `-3`, `2e-4`, `12%` (as 12)."""
    numbers = [match[0] for match in _NUMBER.finditer(text) if any(map(str.isdigit, match[0]))]
    if not numbers:
        return None
    number = float(numbers[-1].rstrip("%").replace(",", "").replace("−", "-"))
    return number if math.isfinite(number) else None
