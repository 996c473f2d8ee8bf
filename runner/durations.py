"""Durations as people write them: `30d`, `12h`."""

from __future__ import annotations

import re

__all__ = ["seconds_in"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(rf"([1-9][0-9]{{0,5}})([{''.join(_SECONDS)}])")


def seconds_in(text: str) -> int:
    """Return a duration in seconds. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a duration; write it as 30d, 12h, 90m, 2w or 45s")
    return int(found[1]) * _SECONDS[found[2]]
