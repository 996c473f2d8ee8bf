"""The metric `numeric`: whether the last number of a text is the right one."""

from __future__ import annotations

import math
import re
from typing import Any

from runner.processes.pool import Calls
from runner.tasks.metrics.base import Settings, no_sense
from runner.tasks.metrics.text import as_text, of_text

__all__ = ["last_number", "numeric"]

#: Each alternative needs a digit before an `e`: that of a hash is none of a number. Linear in any text.
_NUMBER = re.compile(r"(?:(?<!\w)[-+−])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?%?")


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
    last: re.Match[str] | None = None
    for last in _NUMBER.finditer(text):  # noqa: B007  the last one is meant
        pass
    if last is None:
        return None
    number = float(last[0].rstrip("%").replace(",", "").replace("−", "-"))
    return number if math.isfinite(number) else None
