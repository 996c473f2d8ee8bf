"""Ids that contain their time: of runs, and of the objects of a service."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

__all__ = ["created_at", "new_ulid"]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_DIGITS, _DIGITS, _BITS = 10, 26, 5
_RANDOM_BITS = 80
#: The last id, so that two ids of one millisecond still sort in the order in which they were made.
_last = 0


def new_ulid() -> str:
    """Return a ULID: 26 characters, the first ten of which are the time. It sorts after all earlier ones of this process."""
    global _last  # noqa: PLW0603  the order holds for the whole process
    _last = max(time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS - 1), _last + 1)
    return "".join(_ALPHABET[_last >> _BITS * place & 31] for place in reversed(range(_DIGITS)))


def created_at(run_id: str) -> datetime:
    """Return when a run began, from its id: `20261121T021500Z-4f2a`, or `eval_` and a ULID. Raises ValueError."""
    ulid = run_id.rpartition("_")[2]
    if len(ulid) == _DIGITS and set(ulid) <= set(_ALPHABET):
        milliseconds = 0
        for digit in ulid[:_TIME_DIGITS]:
            milliseconds = milliseconds << _BITS | _ALPHABET.index(digit)
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    return datetime.strptime(run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
