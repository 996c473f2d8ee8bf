"""File formats: each reader turns a file into rows, one at a time, however large the file.

A reader yields `(number, row)` with the line or row number, from 1, and the row as a dict. In place of a row that cannot be
read it yields a `BadRow` and goes on. In place of rows that it passes over it yields their number. It raises DatasetError if
the whole file is useless, and DatasetReadError if the rest of it is: then nobody knows how many rows are lost.

A reader takes a `Cursor`, which says where to begin and which rows are not needed. The reader sets the cursor's `place`, which
returns its place in the file. A reader that sets no `place` always begins at the beginning. A reader may read unneeded rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import PurePath
from typing import NamedTuple

from runner.datasets.arrowrows import count_parquet, read_arrow, read_parquet
from runner.datasets.delimited import read_delimited
from runner.datasets.files import File
from runner.datasets.jsonrows import read_json, read_jsonl
from runner.datasets.opening import COMPRESSIONS
from runner.datasets.options import READING, ReadingOptions
from runner.datasets.rows import Cursor, Rows, Unreadable
from runner.errors import DatasetError, DatasetReadError

__all__ = ["FORMATS", "Format", "count_rows", "format_of", "has_a_row_a_line", "read_rows", "without_meaning"]


class Format(NamedTuple):
    """A format: how its files are read, and other properties of them."""

    read: Callable[[File, ReadingOptions, Cursor], Rows]
    #: The options of `dataset` that apply to it.
    options: frozenset[str] = frozenset()
    #: Whether each line is a row, so that the line ends give the number of rows.
    is_lines: bool = False
    #: Returns the number of rows that a file itself gives.
    rows_in: Callable[[File], int] | None = None
    #: Whether it is compressed inside, so that a packed file is refused.
    is_packed: bool = False


_JSON_LINES = Format(read_jsonl, frozenset({"encoding"}), is_lines=True)
_OF_CELLS = frozenset({"encoding", "delimiter", "quoting", "types"})
#: By the ending of a file. A new format is a reader in a file of its own, and a line here.
FORMATS: Mapping[str, Format] = {
    "jsonl": _JSON_LINES,
    "ndjson": _JSON_LINES,
    "json": Format(read_json, frozenset({"encoding", "field"})),
    "csv": Format(partial(read_delimited, delimiter=","), _OF_CELLS),
    "tsv": Format(partial(read_delimited, delimiter="\t"), _OF_CELLS),
    "parquet": Format(read_parquet, rows_in=count_parquet, is_packed=True),
    "arrow": Format(read_arrow, is_packed=True),
}
_SPREADSHEETS = {"xlsx", "xls", "xlsm", "xlsb", "ods"}


def format_of(path: File) -> str:
    """Return the format's name by the file's ending. Raises DatasetError for one that is not known."""
    endings = [suffix.lower() for suffix in path.suffixes]
    packed = endings.pop() if endings and endings[-1] in COMPRESSIONS else None
    name = endings[-1].removeprefix(".") if endings else ""
    if packed and name in FORMATS and FORMATS[name].is_packed:
        raise DatasetError(f"{path}: .{name} files are compressed inside; unpack the file")
    if name in _SPREADSHEETS:
        as_csv = PurePath(path.name).with_suffix(".csv").name
        code = f"import pandas; pandas.read_excel({path.name!r}).to_csv({as_csv!r}, index=False)"
        raise DatasetError(
            f'{path}: a spreadsheet is not a dataset format; save it as CSV in UTF-8, or run: python -c "{code}"'
        )
    if name not in FORMATS:
        known = " ".join(f".{known}" for known in FORMATS)
        packings = " ".join(COMPRESSIONS)
        raise DatasetError(
            f"{path}: the ending {path.suffix or '(none)'} is not a dataset format; known are: {known},"
            f" text also with {packings}"
        )
    return name


def read_rows(path: File, options: ReadingOptions | None = None, cursor: Cursor | None = None) -> Rows:
    """Yield the rows of a file. Raises DatasetError if it is not a dataset, DatasetReadError if it becomes unreadable."""
    try:
        yield from FORMATS[format_of(path)].read(path, options or ReadingOptions(), cursor or Cursor())
    except (OSError, EOFError, ValueError, NotImplementedError, MemoryError, zlib.error) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        line = error.line if isinstance(error, Unreadable) else None
        # pyarrow and gzip raise OSError for damaged content too, but then without the errno of a failed system call.
        raise DatasetReadError(str(path), what, damaged=getattr(error, "errno", None) is None, line=line) from error


def count_rows(path: File) -> int | None:
    """Return the number of rows if the file itself gives it, else None."""
    rows_in = FORMATS[format_of(path)].rows_in
    return None if rows_in is None else rows_in(path)


def has_a_row_a_line(path: File) -> bool:
    """Return whether each line of the file's own bytes is a row: its format has lines, and it is not packed."""
    return FORMATS[format_of(path)].is_lines and path.suffix.lower().removeprefix(".") in FORMATS


def without_meaning(options: ReadingOptions, formats: Collection[str]) -> Iterator[str]:
    """Yield a line for each option that is set and applies to none of the formats; no formats mean rows in the config."""
    for option in READING:
        if getattr(options, option) not in (None, {}) and not any(option in FORMATS[name].options for name in formats):
            listed = ", ".join(sorted(f".{name}" for name, form in FORMATS.items() if option in form.options))
            found = ", ".join(f".{one}" for one in sorted(formats)) or "rows in the config"
            yield f"dataset.{option}: applies only to {listed}, not to {found}; leave it out"
