"""What readers give: rows, what stands for a row that cannot be read, and where a file cannot be read on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from runner.structs import Struct
from runner.types import Blob

__all__ = ["BadRow", "Row", "Rows", "Unneeded", "Unreadable", "bytes_of", "plain", "too_long"]

#: What any value takes beside its text.
_BYTES_OF_A_VALUE = 50


class BadRow(Struct, frozen=True):
    """A row that cannot be read, and why."""

    reason: str


#: A row, or a number of them that were passed over unread.
Row: TypeAlias = dict[str, Any] | BadRow | int
#: Rows, each behind its line or number, from 1.
Rows: TypeAlias = Iterator[tuple[int, Row]]
#: Returns how many of the next rows nobody needs.
Unneeded: TypeAlias = Callable[[], int]


class Unreadable(ValueError):  # noqa: N818  it says what the file is from here on
    """A line from which on nobody can tell what the rows of a file are."""

    def __init__(self, line: int, what: str) -> None:
        """Take the line, from 1, and why it is so."""
        self.line = line
        super().__init__(what)


def too_long(longest: int) -> BadRow:
    """Return what stands for a row that is longer than `longest` bytes."""
    return BadRow(f"longer than {longest >> 20} MiB")


def bytes_of(row: Any) -> int:
    """Return about how much memory the values of a row take, at whatever depth they stand."""
    found, waiting = 0, [row]
    while waiting:
        value = waiting.pop()
        found += _BYTES_OF_A_VALUE
        if isinstance(value, str):
            found += len(value)
        elif isinstance(value, Blob):
            found += len(value.data)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def plain(value: Any) -> Any:
    """Turn what JSON has no word for into what templates can read: bytes become a Blob, dates ISO text, NaN null."""
    if isinstance(value, bytes):
        return Blob(value)
    if isinstance(value, dict):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | Blob):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
