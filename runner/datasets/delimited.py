"""Reads cells between delimiters: CSV, TSV and the like. A stray quote never swallows rows."""

from __future__ import annotations

import csv
import io
import re

from runner.datasets import quotes
from runner.datasets.cells import typed
from runner.datasets.files import File
from runner.datasets.opening import open_text
from runner.datasets.options import ReadingOptions
from runner.datasets.records import Cells, Records
from runner.datasets.rows import BadRow, Cursor, Rows
from runner.errors import DatasetError
from runner.meant import name_meant

__all__ = ["read_delimited"]

_DELIMITERS = ",;|\t"
#: The line before the header in which Excel names the delimiter.
_DECLARED = re.compile(rb'"?sep=([\t -!#-~])"?\r?\n', re.IGNORECASE)
_LONGEST_DECLARATION = 16


def read_delimited(path: File, options: ReadingOptions, cursor: Cursor, delimiter: str) -> Rows:
    """Yield the rows of a file of cells. `delimiter` is the default of its format."""
    csv.field_size_limit((1 << 31) - 1)  # the limit is that of `Records`
    text = open_text(path, options.encoding)
    declared = _DECLARED.match(text.file.peek(_LONGEST_DECLARATION))
    delimiter = options.delimiter or (declared[1].decode() if declared else delimiter)
    with io.TextIOWrapper(text.file, encoding="utf-8", errors="surrogateescape", newline="") as file:
        records = Records(file, delimiter, options, text.not_decodable())
        every = iter(records)
        if declared:
            next(every)
        number, names = next(every, (0, []))
        if isinstance(names, BadRow):
            raise DatasetError(f"{path}:{number}: the header is {names.reason}")
        names = _without_empty_end(names)
        _check_header(f"{path}:{number}", names, delimiter, options)
        width = len(names)
        records.set_width(width)
        if cursor.start is not None:
            records.go_on_at(cursor.start.place)
        cursor.place = records.place if file.seekable() else None
        for number, cells in every:
            if isinstance(cells, BadRow):
                yield number, cells
            elif len(cells) != width and not quotes.fits(cells, width):
                yield number, BadRow(f"has {len(cells)} cells, the header has {width}")
            else:
                row = dict(zip(names, cells, strict=False))
                yield number, typed(row, options.types) if options.types else row


def _without_empty_end(names: Cells) -> Cells:
    """Return a header without the empty columns at its end, which spreadsheets write."""
    while names and not names[-1]:
        names = names[:-1]
    return names


def _check_header(place: str, names: Cells, delimiter: str, options: ReadingOptions) -> None:
    """Raise DatasetError for a header whose names cannot be the names of columns."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        shown = ", ".join(name or "(an empty name)" for name in twice)
        raise DatasetError(f"{place}: the header names a column twice: {shown}")
    other = next((one for one in _DELIMITERS if one != delimiter and len(names) == 1 and one in names[0]), None)
    if other is not None and options.delimiter is None:
        raise DatasetError(
            f"{place}: the header is one column, {names[0]!r}; set dataset.delimiter: {other!r} if that separates columns,"
            f" {delimiter!r} if it is one column"
        )
    if options.quoting is None and any(quotes.may_hold_rows(name, delimiter) for name in names):
        raise DatasetError(f"{place}: a quote opens in the header and spans several lines; {quotes.WHICH}")
    unknown = [column for column in options.types if names and column not in names]
    if unknown:
        what = f"there is no column `{'`, `'.join(unknown)}`; {name_meant(unknown[0], names)}"
        raise DatasetError(f"{place}: dataset.types: {what}")
