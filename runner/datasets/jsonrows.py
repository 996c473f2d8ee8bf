"""Readers of JSON: an object on each line, in an array, or in a list inside an object."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from runner import jsontext
from runner.datasets.files import File
from runner.datasets.json_arrays import elements, lists_in
from runner.datasets.opening import Text, open_text
from runner.datasets.options import ReadingOptions
from runner.datasets.rows import BadRow, Cursor, Rows, check_place, too_long
from runner.errors import DatasetError

__all__ = ["read_json", "read_jsonl"]

#: Makes a row from a text and its number.
_Reading: TypeAlias = Callable[[bytes, Text, int], dict[str, Any] | BadRow]
_CHUNK = 1 << 12
#: The first line of an array that continues on other lines.
_ARRAY_BEGINS = re.compile(rb"\s*+\[\s*+(?:\{.*(?<![\]\s])\s*)?", re.DOTALL)
#: How many bytes of an object are searched for lists that could be the rows.
_MOST_LOOKED_THROUGH = 1 << 26


def read_jsonl(path: File, options: ReadingOptions, cursor: Cursor) -> Rows:
    """Yield the row of each line."""
    text, number = open_text(path, options.encoding), 0
    with text.file as file:
        if cursor.start is not None:
            number, offset, _ = cursor.start.place
            file.seek(offset - 1)
            check_place(cursor.start.place, file.read(2))
            file.seek(offset)
        if file.seekable():
            cursor.place = lambda: (cursor.number, file.tell(), 0)
        yield from _needed(_lines(file, options.longest, number), text, options.longest, cursor, partial(_row_of_line, path))


def _needed(texts: Iterable[tuple[int, bytes | None]], text: Text, longest: int, cursor: Cursor, read: _Reading) -> Rows:
    """Yield the row of each text; None is a text that is too long. Rows that are not needed are passed over unread."""
    number = left = passed = 0
    unneeded = cursor.unneeded
    try:
        for number, line in texts:
            if unneeded is not None and not left:
                left = unneeded()
            if not left:
                yield number, too_long(longest) if line is None else read(line, text, number)
                continue
            left, passed = left - 1, passed + 1
            if not left:
                yield number, passed
                passed = 0
    except Exception:
        if passed:
            yield number, passed  # so that the caller knows how far the file can be read
        raise
    if passed:
        yield number, passed


def read_json(path: File, options: ReadingOptions, cursor: Cursor) -> Rows:
    """Yield the rows of a `.json` file: elements of an array or of the list in `dataset.field`, or lines of JSON lines."""
    text = open_text(path, options.encoding)
    with text.file as file:
        start = _Start(file.read)
        if not start.first:
            return
        if start.first == b"{" and options.field is None:
            if not _is_lines(path, options):
                raise DatasetError(f"{path}: {_about_object(start.read)}")
            yield from read_jsonl(path, options, cursor)
            return
        if start.first not in (b"{", b"["):
            raise DatasetError(
                f"{path}: a .json dataset is an array of objects, but it starts with {start.first.decode('latin-1')!r}"
            )
        if options.field is not None:
            start = _inside(start, options.field, path)
        every = elements(start.read, options.longest, is_all=options.field is None)
        yield from _needed(enumerate(every, 1), text, options.longest, cursor, _row)


def _lines(file: io.BufferedReader, longest: int, number: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines that are not blank, each after its number, and None for a line that is too long.

    `number` is that of the line before. When a line is yielded, the file is at the beginning of the next line.
    """
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            is_blank = line.isspace()
            while len(line) > longest and not line.endswith(b"\n"):
                line = file.readline(longest + 1)
            if not is_blank:
                yield number, None
        elif not line.isspace():
            yield number, line


def _row(line: bytes, text: Text, _number: int = 0) -> dict[str, Any] | BadRow:
    try:
        row = jsontext.decode_strict_utf8(line)
    except jsontext.JsonError as error:
        _, mark, where = str(error).partition("not UTF-8")
        return BadRow(f"not JSON: {text.not_decodable(where) if mark else error}")
    return row if isinstance(row, dict) else BadRow(f"a row is a JSON object, got {type(row).__name__}")


def _row_of_line(path: File, line: bytes, text: Text, number: int) -> dict[str, Any] | BadRow:
    """Return the row of a line. A bad first line gets a hint, because the file may have another format.

    Raises DatasetError if it is the first line of an array, because some lines of an array can be rows.
    """
    row = _row(line, text)
    if number > 1 or not isinstance(row, BadRow):
        return row
    if _ARRAY_BEGINS.fullmatch(line):
        raise DatasetError(f"{path}:{number}: an array of rows begins here, not one row per line; end the file's name in .json")
    return BadRow(row.reason + _hint(line.strip()))


def _hint(line: bytes) -> str:
    if line.startswith(b"["):
        return "; a file that is one array is named .json"
    if line == b"{":
        return "; each row is an object on one line, as `jq -c` writes it"
    if line.startswith((b"{'", b"{ '")):
        return "; JSON has double quotes, as json.dumps writes them"
    return "; remove the comma after each row" if line.endswith(b"},") else ""


class _Start:
    """A file from its first character on that is not white space. The file need not be seekable."""

    def __init__(self, read: Callable[[int], bytes], start: bytes = b"") -> None:
        self._read = read
        self._start = start.lstrip()
        while not self._start and (more := read(_CHUNK)):
            self._start = more.lstrip()
        #: The first byte of the JSON; empty if there is none.
        self.first = self._start[:1]

    def read(self, size: int) -> bytes:
        """Return the next bytes, no more than asked for."""
        if not self._start:
            return self._read(size)
        start, self._start = self._start[:size], self._start[size:]
        return start


def _is_lines(path: File, options: ReadingOptions) -> bool:
    """Return whether a file that begins with an object is JSON lines.

    It is if the first line is an object and another line follows. A single object counts as a row if none of its values is a
    list of rows, and it is not a table as pandas writes it.
    """
    with open_text(path, options.encoding).file as file:
        lines = [line for _, line in islice(_lines(file, options.longest), 2)]
    try:
        first = None if lines[0] is None else jsontext.decode_strict_utf8(lines[0])
    except jsontext.JsonError:
        return False
    if not isinstance(first, dict) or len(lines) > 1:
        return isinstance(first, dict)
    return not any(map(_are_rows, first.values())) and not _is_table(first)


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(member, dict) for member in value)


def _is_table(value: dict[str, Any]) -> bool:
    """Return whether an object is a table that pandas' `to_json` has written: by columns, its default, or split."""
    return value.keys() == {"columns", "index", "data"} or all(map(_is_numbered, value.values()))


def _is_numbered(column: object) -> bool:
    return isinstance(column, dict) and bool(column) and list(column) == [str(number) for number in range(len(column))]


def _about_object(read: Callable[[int], bytes]) -> str:
    """Return a message that says what to do with a file that is one object."""
    keys = list(dict.fromkeys(key for key, _ in lists_in(read, _MOST_LOOKED_THROUGH)))
    if keys:
        which = f"set dataset.field: {keys[0]}" if len(keys) == 1 else f"set dataset.field to one of: {', '.join(keys)}"
        return f"is one object, and its rows may be in a list inside: {which}; if each line is a row, each must be an object"
    return (
        "is one object without a list of rows; write an array of objects, or one object on each line"
        " (with pandas: to_json(path, orient='records', lines=True))"
    )


def _inside(start: _Start, key: str, path: File) -> _Start:
    """Return the list of an object's key."""
    if start.first != b"{":
        raise DatasetError(f"{path}: is an array and has no key {key!r}; leave out dataset.field")
    there = []
    for found, rest in lists_in(start.read):
        if found == key:
            return _Start(start.read, rest)
        there.append(found)
    raise DatasetError(f"{path}: dataset.field: there is no list {key!r}; lists are: {', '.join(there) or 'none'}")
