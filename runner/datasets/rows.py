"""What readers give and take: rows, what stands for one that cannot be read, and the place in a file that a reader is at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from runner.structs import Struct
from runner.types import Blob

__all__ = [
    "BadRow",
    "Cursor",
    "Mark",
    "Place",
    "Row",
    "Rows",
    "Unneeded",
    "Unreadable",
    "bytes_of",
    "check_place",
    "plain",
    "too_long",
]

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
#: Where a row begins in a file: the number of the row or line before it, the bytes before it, and what the reader knows there
#: from those, as a number of its own.
Place: TypeAlias = tuple[int, int, int]


class Mark(Struct, frozen=True, array_like=True):
    """A place between two rows of a dataset, from which it can be read without those before."""

    #: The index of the row that comes next, and in which of the dataset's files it is.
    index: int
    file: int
    place: Place


class Cursor(Struct):
    """How a reader goes through a file: from where, past what; and, between two rows, where it is."""

    #: None where no row is to be passed over.
    unneeded: Unneeded | None = None
    #: Where to begin, in which file; None: at the beginning.
    start: Mark | None = None
    #: Which of the dataset's files it is, and the number of the row or line that was read last.
    file: int = 0
    number: int = 0
    #: Tells the place in the file; None where a reader can only begin at the beginning.
    place: Callable[[], Place | None] | None = None

    def mark(self, index: int) -> Mark | None:
        """Return the place at which the row of an index comes next; None where nobody could begin there."""
        place = None if self.place is None else self.place()
        return None if place is None else Mark(index, self.file, place)


class Unreadable(ValueError):  # noqa: N818  it says what the file is from here on
    """A line from which on nobody can tell what the rows of a file are."""

    def __init__(self, line: int, what: str) -> None:
        """Take the line, from 1, and why it is so."""
        self.line = line
        super().__init__(what)


def check_place(place: Place, around: bytes) -> None:
    """Raise Unreadable where no line begins at a place, so that the file is not the one that had it.

    `around` is the byte before it and the one behind it, if there is one: the last line may have no line end.
    """
    number, offset, _ = place
    if len(around) > 1 and around[:1] not in {b"\n", b"\r"}:
        what = f"no line begins at byte {offset}, but one did when the run was planned; put the file back as it was"
        raise Unreadable(number + 1, what)


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
