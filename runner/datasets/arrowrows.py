"""Readers of Parquet and Arrow files, a batch of rows at a time. Values become those of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner import jsontext
from runner.datasets.files import File
from runner.datasets.first_bytes import check_first_bytes
from runner.datasets.options import ReadingOptions
from runner.datasets.rows import BadRow, Cursor, Rows, plain
from runner.errors import DatasetError

__all__ = ["count_parquet", "read_arrow", "read_parquet", "rows_of_frame"]

_BATCH_ROWS = 256
#: Large rows, such as rows with pictures, are read fewer at a time.
_BATCH_BYTES = 8 * 1024 * 1024


def count_parquet(path: File) -> int:
    """Return the number of rows of a Parquet file, from its footer."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(_source(path)).num_rows)


def _source(path: File) -> Any:
    if not isinstance(path, Path):
        return path.open()
    with path.open("rb") as file:
        check_first_bytes(path, file.read(64))
    return path


def read_parquet(path: File, _options: ReadingOptions, cursor: Cursor) -> Rows:
    """Yield the rows of a Parquet file; the row groups before the start are not read."""
    import pyarrow.parquet as pq

    # Buffered and without read-ahead, so that a row group is decoded in parts and not held whole.
    with pq.ParquetFile(_source(path), buffer_size=1 << 20, pre_buffer=False) as file:
        groups = (file.metadata.row_group(index) for index in range(file.num_row_groups))
        at_once = _rows_at_once(file.metadata.num_rows, sum(group.total_byte_size for group in groups))
        start, first, before = _number_before(cursor), 0, 0
        while first < file.num_row_groups and before + (rows := file.metadata.row_group(first).num_rows) <= start:
            first, before = first + 1, before + rows
        batches = file.iter_batches(batch_size=at_once, row_groups=range(first, file.num_row_groups), use_threads=False)
        cursor.place = lambda: (cursor.number, 0, 0)
        yield from _rows_of_batches(batches, cursor, before)


def _rows_at_once(rows: int, size: int) -> int:
    """Return how many rows of a file of `size` bytes are read at a time."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1)))


def read_arrow(path: File, _options: ReadingOptions, cursor: Cursor) -> Rows:
    """Yield the rows of an Arrow file, in the file or the streaming format."""
    import pyarrow as pa

    # No memory map: if a mapped file is cut or its disk fails, a signal kills the process.
    with pa.OSFile(str(path)) if isinstance(path, Path) else pa.PythonFile(path.open(), mode="r") as source:
        start = source.read(64)
        source.seek(0)
        check_first_bytes(path, start)
        if start.startswith(b"ARROW1"):
            reader = pa.ipc.open_file(source)
            batches: Iterator[Any] = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:  # the streaming format
            batches = iter(pa.ipc.open_stream(source))
        yield from _rows_of_batches(batches, cursor)


def _number_before(cursor: Cursor) -> int:
    """Return the number of the row before the first one to read."""
    return 0 if cursor.start is None else cursor.start.place[0]


def rows_of_frame(frame: Any) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a DataFrame, without its index. Raises DatasetError for a column with values of several types."""
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DatasetError(f"data: {' '.join(map(str, error.args))}") from error
    for batch in table.to_batches():
        yield from _rows_of(batch)


def _rows_of_batches(batches: Iterator[Any], cursor: Cursor, number: int = 0) -> Rows:
    """Yield the rows of batches, a few at a time. Rows that are not needed are not taken out of their batch.

    `number` is the number of the row before them.
    """
    start = _number_before(cursor)
    for batch in batches:
        at = min(batch.num_rows, max(0, start - number))
        number += at
        while at < batch.num_rows:
            passed = 0 if cursor.unneeded is None else min(cursor.unneeded(), batch.num_rows - at)
            if passed:
                at, number = at + passed, number + passed
                yield number, passed
                continue
            for row in _rows_of(batch.slice(at, _BATCH_ROWS)):
                at, number = at + 1, number + 1
                yield number, row


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a batch; one by one if a value is damaged or has no counterpart in Python."""
    names = batch.schema.names
    if len(set(names)) < len(names):
        raise DatasetError(f"two columns have one name: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    try:
        batch.validate(full=True)  # else a wrong offset would be followed, and end the process
        rows = batch.to_pylist(**_of_maps(batch.schema))
    except Exception:  # noqa: BLE001  pyarrow raises many kinds of errors for a value
        for index in range(batch.num_rows):
            yield _one_row(batch, index)
        return
    for row in rows:
        yield jsontext.clean({name: plain(value) for name, value in row.items()})


def _one_row(batch: Any, index: int) -> dict[str, Any] | BadRow:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            one = column.slice(index, 1)
            one.validate(full=True)
            row[name] = plain(one[0].as_py(**_of_maps(batch.schema)))
        except Exception as error:  # noqa: BLE001  as above
            return BadRow(f"column `{name}` ({column.type}): {' '.join(str(error).split())[:200]}")
    cleaned: dict[str, Any] = jsontext.clean(row)
    return cleaned


def _of_maps(schema: Any) -> dict[str, str]:
    """Return the option that turns maps into objects, if there are maps. It refuses doubled keys, and makes reading slower."""
    return {"maps_as_pydicts": "strict"} if any("map<" in str(column) for column in schema.types) else {}
