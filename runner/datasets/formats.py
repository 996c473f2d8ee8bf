"""File formats: each reader turns a file into rows, one at a time, however large the file.

A reader yields `(number, row)` with the line or row number, from 1, and the row as a dict; where a single row cannot be read
it yields a `BadRow` in its place and goes on, and where rows are passed over, how many. What makes the whole file useless
raises DatasetError, what makes the rest of it so DatasetReadError: nobody knows how many rows are lost.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

from runner import jsontext
from runner.datasets.arrays import elements
from runner.errors import DatasetError, DatasetReadError
from runner.structs import Struct
from runner.types import Blob

__all__ = ["FORMATS", "BadRow", "Row", "Unneeded", "count_rows", "format_of", "read_rows"]

#: A longer line is no row of a dataset but an accident, and reading it whole would cost the memory of it.
LONGEST_LINE = 16 * 1024 * 1024
_BATCH_ROWS = 256
#: Rows with pictures in them are read fewer at a time.
_BATCH_BYTES = 8 * 1024 * 1024
_COMPRESSIONS = {".gz", ".zst"}


class BadRow(Struct, frozen=True):
    """A row that cannot be read, and why."""

    reason: str


#: A row, or a number of them that were passed over unread.
Row: TypeAlias = dict[str, Any] | BadRow | int
Rows: TypeAlias = Iterator[tuple[int, Row]]
#: Returns how many of the next rows nobody needs.
Unneeded: TypeAlias = Callable[[], int]


def format_of(path: Path) -> str:
    """Return the format's name by the file's ending. Raises DatasetError for one that is not known."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
        if suffixes and suffixes[-1] in {".parquet", ".arrow"}:
            raise DatasetError(f"{path}: {suffixes[-1]} files are compressed inside; unpack the file")
    name = suffixes[-1].removeprefix(".") if suffixes else ""
    if name not in FORMATS:
        known = " ".join(f".{known}" for known in FORMATS)
        raise DatasetError(
            f"{path}: the ending {path.suffix or '(none)'} is no dataset format; known are: {known}, text also as .gz or .zst"
        )
    return name


def read_rows(path: Path, unneeded: Unneeded | None = None) -> Rows:
    """Yield the rows of a file. Raises DatasetError where it is no dataset, DatasetReadError where it cannot be read (on).

    `unneeded` is asked before each row; only of JSON lines some can be passed over without being read.
    """
    name = format_of(path)
    try:
        yield from _read_jsonl(path, unneeded) if unneeded is not None and name == "jsonl" else FORMATS[name](path)
    except (OSError, EOFError, ValueError, NotImplementedError, MemoryError, zlib.error) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        # pyarrow and gzip raise OSError for damaged content too, but no system call has failed then.
        raise DatasetReadError(str(path), what, damaged=getattr(error, "errno", None) is None) from error


def count_rows(path: Path) -> int | None:
    """Return the number of rows where the file itself says it, else None."""
    if format_of(path) == "parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    return None


def _open(path: Path) -> IO[bytes] | gzip.GzipFile | io.BufferedReader:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    if path.suffix.lower() == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"), 1 << 16)
    return path.open("rb")


def _lines(file: IO[bytes] | gzip.GzipFile | io.BufferedReader) -> Iterator[bytes]:
    """Yield lines; of an over-long one, no more than fits into memory."""
    while line := file.readline(LONGEST_LINE + 1):
        yield line
        while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE + 1)


def _read_jsonl(path: Path, unneeded: Unneeded | None = None) -> Rows:
    number = left = passed = 0
    with _open(path) as file:
        try:
            for number, text in _texts(file):
                if unneeded is not None and not left:
                    left = unneeded()
                if not left:
                    yield number, _json_row(text)
                    continue
                left, passed = left - 1, passed + 1
                if not left:
                    yield number, passed
                    passed = 0
        except Exception:
            if passed:
                yield number, passed  # so that whoever counts knows how far the file can be read
            raise
        if passed:
            yield number, passed


def _texts(file: IO[bytes] | gzip.GzipFile | io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, each behind its number."""
    for number, line in enumerate(_lines(file), 1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text and not text.isspace():
            yield number, text


def _json_row(text: bytes) -> dict[str, Any] | BadRow:
    if len(text) > LONGEST_LINE:
        return _too_long()
    try:
        row = jsontext.decode_strict_utf8(text)
    except jsontext.JsonError as error:
        return BadRow(f"not JSON: {error}")
    return row if isinstance(row, dict) else _no_object(row)


def _too_long() -> BadRow:
    return BadRow(f"longer than {LONGEST_LINE >> 20} MiB")


def _read_json(path: Path) -> Rows:
    with _open(path) as opened:
        file = _WithoutBom(opened)
        if file.first != b"[":
            first = file.first.decode("latin-1")
            raise DatasetError(f"{path}: a .json dataset is one array of objects, but it starts with {first!r}; is it .jsonl?")
        for number, text in enumerate(elements(file.read, LONGEST_LINE), 1):
            yield number, _too_long() if text is None else _json_row(text)


class _WithoutBom:
    """A file read from its start without a byte-order mark and white space; it need not be seekable."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile | io.BufferedReader) -> None:
        self._file = file
        self._start = file.read(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()
        while not self._start and (more := file.read(1 << 12)):
            self._start = more.lstrip()
        #: The first byte of the JSON; empty where there is none.
        self.first = self._start[:1]

    def read(self, size: int) -> bytes:
        """Return the next bytes, no more than asked for."""
        if not self._start:
            return self._file.read(size)
        start, self._start = self._start[:size], self._start[size:]
        return start


def _no_object(row: object) -> BadRow:
    return BadRow(f"a row is a JSON object, got {type(row).__name__}")


def _read_csv(path: Path, delimiter: str = ",") -> Rows:
    csv.field_size_limit(LONGEST_LINE)
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _ShortLines(text)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            names = next(reader, None)
        except csv.Error as error:
            raise DatasetError(f"{path}:1: the header is not CSV: {error}") from error
        if names is None:
            return
        if not all(map(_is_utf8, names)):
            raise DatasetError(f"{path}:1: the header is not UTF-8")
        if len(set(names)) < len(names):
            raise DatasetError(
                f"{path}:1: the header names a column twice: {', '.join(n for n in names if names.count(n) > 1)}"
            )
        while True:
            number = lines.number + 1
            lines.begin_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, BadRow(f"not CSV: {error}")
                continue
            if cells:
                yield number, _csv_row(names, cells)


class _ShortLines:
    """The lines of a file, for a reader of CSV; a row that is too long raises csv.Error and is passed over."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        #: Lines so far.
        self.number = 0
        self._file = file
        self._row = 0

    def begin_row(self) -> None:
        """Count the length from here: a row may have many lines."""
        self._row = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._row += len(line)
        if self._row <= LONGEST_LINE:
            return line
        while len(line) > LONGEST_LINE and not line.endswith(("\n", "\r")):
            line = self._file.readline(LONGEST_LINE + 1)
        raise csv.Error(f"longer than {LONGEST_LINE >> 20} MiB")


def _csv_row(names: list[str], cells: list[str]) -> dict[str, Any] | BadRow:
    if len(cells) != len(names):
        return BadRow(f"has {len(cells)} cells, the header has {len(names)}")
    return dict(zip(names, cells, strict=True)) if all(map(_is_utf8, cells)) else BadRow("not UTF-8")


def _is_utf8(cell: str) -> bool:
    """Whether no byte of a cell had to be escaped when it was decoded."""
    return cell.isascii() or not any("\udc80" <= character <= "\udcff" for character in cell)


def _read_tsv(path: Path) -> Rows:
    return _read_csv(path, delimiter="\t")


def _read_parquet(path: Path) -> Rows:
    import pyarrow.parquet as pq

    # Buffered and without read-ahead: a row group is decoded piece by piece instead of being held whole.
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        groups = (file.metadata.row_group(index) for index in range(file.num_row_groups))
        at_once = _rows_at_once(file.metadata.num_rows, sum(group.total_byte_size for group in groups))
        yield from _rows_of_batches(file.iter_batches(batch_size=at_once, use_threads=False))


def _rows_at_once(rows: int, size: int) -> int:
    """Return how many rows of a file of `size` bytes are read at a time."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1)))


def _read_arrow(path: Path) -> Rows:
    import pyarrow as pa

    # No memory map: where a mapped file is cut or its disk fails, the process is killed by a signal.
    with pa.OSFile(str(path)) as source:
        magic = source.read(6)
        source.seek(0)
        if magic == b"ARROW1":
            reader = pa.ipc.open_file(source)
            batches: Iterator[Any] = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:  # the streaming form
            batches = iter(pa.ipc.open_stream(source))
        yield from _rows_of_batches(batches)


def _rows_of_batches(batches: Iterator[Any]) -> Rows:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in _rows_of(batch.slice(start, _BATCH_ROWS)):
                number += 1
                yield number, row


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a few; where a value is damaged or has no counterpart in Python, they are read one by one."""
    names = batch.schema.names
    if len(set(names)) < len(names):
        raise DatasetError(f"two columns have one name: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    try:
        batch.validate(full=True)  # else an offset that leads nowhere is followed, and ends the process
        rows = batch.to_pylist()
    except Exception:  # noqa: BLE001  what pyarrow raises for a value is of many kinds
        for index in range(batch.num_rows):
            yield _one_row(batch, index)
        return
    for row in rows:
        yield jsontext.clean({name: _plain(value) for name, value in row.items()})


def _one_row(batch: Any, index: int) -> dict[str, Any] | BadRow:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            one = column.slice(index, 1)
            one.validate(full=True)
            row[name] = _plain(one[0].as_py())
        except Exception as error:  # noqa: BLE001  as above
            return BadRow(f"column `{name}` ({column.type}): {' '.join(str(error).split())[:200]}")
    cleaned: dict[str, Any] = jsontext.clean(row)
    return cleaned


def _plain(value: Any) -> Any:
    """Turn what JSON has no word for into what templates can read: bytes become a Blob, dates ISO text."""
    if isinstance(value, bytes):
        return Blob(value)
    if isinstance(value, dict):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


#: Readers by ending.
FORMATS: dict[str, Callable[[Path], Rows]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}
