"""Rows of JSON on disk that can be read by number: a file of lines, and a file with the offset of each line."""

from __future__ import annotations

import os
import re
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner import jsontext
from runner.foreign.bodies import has_more_values
from runner.service.refusals import Mistake, Mistakes, mistake

__all__ = [
    "DEEPEST",
    "MOST_VALUES",
    "Columns",
    "Rows",
    "checked_row",
    "checked_rows",
    "depth_of",
    "mistakes_in_files",
    "numbers_in",
    "place_of",
    "write_rows",
]

_OFFSET = struct.Struct("<Q")
_WRITTEN_AT_ONCE = 1 << 20
DEEPEST = 100
_MOST_KEYS = 1000
#: The most values of an item, and of the rest of a request.
MOST_VALUES = 50_000
_MOST_LOOKED_THROUGH = 100_000
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_decode = msgspec.json.Decoder().decode


def place_of(item_id: str) -> tuple[str, int] | None:
    """Split the id of an item into the id of its evaluation or dataset and its number; None if it is not such an id."""
    whole, _, number = item_id.rpartition(".")
    return (whole, int(number)) if _NUMBER.fullmatch(number) else None


def numbers_in(mask: bytes | None, rows: int, start: int | None, *, forward: bool) -> Iterator[int]:
    """Yield the numbers of the rows after another, or before it, in this direction; None: all rows.

    With a mask, a byte for each row, only those that have a 1.
    """
    at = start if start is not None else -1 if forward else rows
    if mask is None:
        yield from range(at + 1, rows) if forward else range(at - 1, -1, -1)
        return
    while (at := mask.find(1, at + 1) if forward else mask.rfind(1, 0, max(0, at))) >= 0:
        yield at


class Columns:
    """The columns of the first rows."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.rows = 0

    @property
    def all_seen(self) -> bool:
        """Whether the columns of every row are known."""
        return self.rows <= _MOST_LOOKED_THROUGH

    def note(self, row: dict[str, Any]) -> None:
        """Add the columns of another row."""
        self.rows += 1
        if self.rows <= _MOST_LOOKED_THROUGH:
            self.names.update(row)


def checked_rows(
    raws: Iterable[bytes | msgspec.Raw], longest: int, wrong: Mistakes
) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """Yield the number, the row and the line of each valid row, and note the mistakes of the others."""
    for number, raw in enumerate(raws):
        found = checked_row(bytes(raw), number, longest)
        if isinstance(found, dict):
            wrong.note(found)
        else:
            yield number, *found


def mistakes_in_files(files: Sequence[Any] | None, rows: int) -> Iterator[Mistake]:
    """Yield a mistake if the number of files differs from the number of rows."""
    if files is not None and len(files) != rows:
        yield mistake(("body", "files"), f"should have {rows} members, one for each item, not {len(files)}")


def checked_row(raw: bytes, number: int, longest: int) -> tuple[dict[str, Any], bytes] | Mistake:
    """Return a row and its line, or its mistake."""
    place = ("body", "data", number)
    if len(raw) > longest:
        return mistake(place, f"has {len(raw)} bytes; {longest} are allowed")
    if has_more_values(raw, MOST_VALUES):
        return mistake(place, f"has more than {MOST_VALUES} values")
    try:
        row = _decode(raw)
        raw.decode()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        return mistake(place, f"cannot be read: {error}", "json_invalid")
    if not isinstance(row, dict):
        return mistake(place, "Input should be a valid dictionary", "dict_type")
    if len(row) > _MOST_KEYS or (raw.count(b"{") + raw.count(b"[") > DEEPEST and depth_of(row) > DEEPEST):
        return mistake(place, f"has more than {_MOST_KEYS} keys or {DEEPEST} levels")
    if b"\n" in raw or b"\r" in raw:  # within strings they are escaped, so these are between values
        raw = raw.replace(b"\n", b" ").replace(b"\r", b" ")
    return row, raw


def depth_of(value: Any) -> int:
    """Return how deep a value is nested; a text has depth 1."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(one, dict | list):
            waiting += [(member, depth + 1) for member in (one.values() if isinstance(one, dict) else one)]
    return deepest


def write_rows(path: Path, lines: Iterable[bytes]) -> int:
    """Write and sync lines and their offsets; return the number of lines. Raises OSError."""
    offsets, offset = array("Q"), 0
    with path.open("wb", buffering=_WRITTEN_AT_ONCE) as file:
        for line in lines:
            offsets.append(offset)
            offset += file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    with path.with_suffix(".offsets").open("wb") as index:
        offsets.append(offset)
        index.write(offsets.tobytes())
        index.flush()
        os.fsync(index.fileno())
    return len(offsets) - 1


class Rows:
    """Rows of a file, by their number."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, numbers: Sequence[int]) -> list[Any]:
        """Return rows. Raises OSError."""
        rows, index = os.open(self._path, os.O_RDONLY), os.open(self._path.with_suffix(".offsets"), os.O_RDONLY)
        try:
            found = []
            for number in numbers:
                start, end = struct.unpack("<QQ", os.pread(index, 2 * _OFFSET.size, number * _OFFSET.size))
                found.append(jsontext.decode(os.pread(rows, end - start - 1, start)))
            return found
        finally:
            os.close(rows)
            os.close(index)
