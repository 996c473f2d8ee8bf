"""The types of readers: rows, bad rows, and the place in a file that a reader is at."""

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

#: The memory of any value, in addition to its text.
_BYTES_OF_A_VALUE = 50


class BadRow(Struct, frozen=True):
    """A row that cannot be read, and why."""

    reason: str


#: A row, or a number of them that were passed over unread.
Row: TypeAlias = dict[str, Any] | BadRow | int
#: Rows, each after its line or row number, from 1.
Rows: TypeAlias = Iterator[tuple[int, Row]]
#: Returns how many of the next rows are not needed.
Unneeded: TypeAlias = Callable[[], int]
#: Where a row begins in a file: the number of the row or line before it, the number of bytes before it, and the reader's state
#: there, as a number.
Place: TypeAlias = tuple[int, int, int]


class Mark(Struct, frozen=True, array_like=True):
    """A place between two rows of a dataset, from which it can be read without the rows before."""

    #: The index of the next row, and of the dataset's file that has it.
    index: int
    file: int
    place: Place


class Cursor(Struct):
    """Where a reader begins in a file, which rows it may pass over, and, between two rows, where it is."""

    #: None if no row is to be passed over.
    unneeded: Unneeded | None = None
    #: Where to begin, and in which file; None: at the beginning.
    start: Mark | None = None
    #: The index of the dataset's file, and the number of the row or line that was read last.
    file: int = 0
    number: int = 0
    #: Returns the place in the file; None if the reader can begin only at the beginning.
    place: Callable[[], Place | None] | None = None

    def mark(self, index: int) -> Mark | None:
        """Return the mark before the row of an index, which comes next; None if no reader could begin there."""
        place = None if self.place is None else self.place()
        return None if place is None else Mark(index, self.file, place)


class Unreadable(ValueError):  # noqa: N818  it says what the rest of the file is
    """From this line on it is not clear what the rows of a file are."""

    def __init__(self, line: int, what: str) -> None:
        """Take the line, from 1, and the reason."""
        self.line = line
        super().__init__(what)


def check_place(place: Place, around: bytes) -> None:
    """Raise Unreadable if no line begins at a place, which means that the file has changed.

    `around` is the byte before the place and the byte after it, if there is one: the last line may have no line end.
    """
    number, offset, _ = place
    if len(around) > 1 and around[:1] not in {b"\n", b"\r"}:
        what = f"no line begins at byte {offset}, but one did when the run was planned; put the file back as it was"
        raise Unreadable(number + 1, what)


def too_long(longest: int) -> BadRow:
    """Return the bad row for a row that is longer than `longest` bytes."""
    return BadRow(f"longer than {longest >> 20} MiB")


def bytes_of(row: Any) -> int:
    """Return about how much memory the values of a row take, nested values included."""
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
    """Convert values that JSON cannot express into values for templates: bytes to a Blob, dates to ISO text, NaN to null."""
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
