"""File formats: each reader turns a file into rows, one at a time, however large the file.

A reader yields `(number, row)` with the line or row number, from 1, and the row as a dict; where a single row cannot be read
it yields a `BadRow` in its place and goes on, and where rows are passed over, how many. What makes the whole file useless
raises DatasetError, what makes the rest of it so DatasetReadError: nobody knows how many rows are lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from runner.datasets.arrowrows import count_parquet, read_arrow, read_parquet
from runner.datasets.delimited import read_delimited
from runner.datasets.jsonrows import read_json, read_jsonl
from runner.datasets.opening import COMPRESSIONS
from runner.datasets.options import ReadingOptions
from runner.datasets.rows import Rows, Unneeded, Unreadable
from runner.errors import DatasetError, DatasetReadError

__all__ = ["FORMATS", "count_rows", "format_of", "read_rows"]

#: Readers by ending.
FORMATS: Mapping[str, Callable[[Path, ReadingOptions], Rows]] = {
    "jsonl": read_jsonl,
    "ndjson": read_jsonl,
    "json": read_json,
    "csv": partial(read_delimited, delimiter=","),
    "tsv": partial(read_delimited, delimiter="\t"),
    "parquet": read_parquet,
    "arrow": read_arrow,
}
_COMPRESSED_INSIDE = {"parquet", "arrow"}
#: Some of their rows can be passed over without being read.
_PASSING_OVER = {"jsonl": read_jsonl, "ndjson": read_jsonl, "json": read_json}
_SPREADSHEETS = {"xlsx", "xls", "xlsm", "xlsb", "ods"}


def format_of(path: Path) -> str:
    """Return the format's name by the file's ending. Raises DatasetError for one that is not known."""
    endings = [suffix.lower() for suffix in path.suffixes]
    packed = endings.pop() if endings and endings[-1] in COMPRESSIONS else None
    name = endings[-1].removeprefix(".") if endings else ""
    if packed and name in _COMPRESSED_INSIDE:
        raise DatasetError(f"{path}: .{name} files are compressed inside; unpack the file")
    if name in _SPREADSHEETS:
        code = f"import pandas; pandas.read_excel({path.name!r}).to_csv({path.with_suffix('.csv').name!r}, index=False)"
        raise DatasetError(f'{path}: a spreadsheet is no dataset format; save it as CSV in UTF-8, or run: python -c "{code}"')
    if name not in FORMATS:
        known = " ".join(f".{known}" for known in FORMATS)
        packings = " ".join(COMPRESSIONS)
        raise DatasetError(
            f"{path}: the ending {path.suffix or '(none)'} is no dataset format; known are: {known}, text also with {packings}"
        )
    return name


def read_rows(path: Path, options: ReadingOptions | None = None, unneeded: Unneeded | None = None) -> Rows:
    """Yield the rows of a file. Raises DatasetError where it is no dataset, DatasetReadError where it cannot be read (on).

    `unneeded` is asked before each row; only of JSON lines some can be passed over without being read.
    """
    options, name = options or ReadingOptions(), format_of(path)
    try:
        if unneeded is not None and name in _PASSING_OVER:
            yield from _PASSING_OVER[name](path, options, unneeded)
        else:
            yield from FORMATS[name](path, options)
    except (OSError, EOFError, ValueError, NotImplementedError, MemoryError, zlib.error) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        line = error.line if isinstance(error, Unreadable) else None
        # pyarrow and gzip raise OSError for damaged content too, but no system call has failed then.
        raise DatasetReadError(str(path), what, damaged=getattr(error, "errno", None) is None, line=line) from error


def count_rows(path: Path) -> int | None:
    """Return the number of rows where the file itself says it, else None."""
    return count_parquet(path) if format_of(path) == "parquet" else None
