"""The Parquet files: views of the journal, which can be made again at any time.

Both are written in dataset order, in one pass and in bounded memory. A file gets its name when it is complete: it is written
under a temporary name, synced, read back and counted, and only then renamed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from runner.errors import StorageError
from runner.storage.arrow_arrays import column_of
from runner.storage.columns import ERRORS_SCHEMA, REPEATING, RESULTS_SCHEMA
from runner.storage.files import FILES, FileSystem, OutputFile
from runner.storage.records import End
from runner.structs import astuple

__all__ = ["can_be_read", "write_views"]

# Arrow's own pool keeps its memory; with the pool of the system, a run of many rows has a lower peak.
pa.set_memory_pool(pa.system_memory_pool())

_BATCH_ROWS = 500
_BATCH_BYTES = 2 << 20
#: Memory holds a page of each column, and its compressed copy. With Arrow's default of a megabyte that is more than the rows.
_PAGE_BYTES = 1 << 16
#: The bytes of a row group, by the number of groups before it. Each group costs some memory until the footer is written, and
#: each waiting batch until its row group is written.
_ROW_GROUP_BYTES = ((0, 4 << 20), (64, 8 << 20), (320, 16 << 20))


def write_views(ends: Iterable[End], directory: Path, run_id: str, files: FileSystem = FILES) -> tuple[int, int]:
    """Write results.parquet and errors.parquet; return the number of rows of each. Raises StorageError."""
    pa.default_memory_pool().release_unused()  # the run's memory, such as a million names, is not needed any more
    try:
        with (
            _View(directory / "results.parquet", RESULTS_SCHEMA, run_id, files) as results,
            _View(directory / "errors.parquet", ERRORS_SCHEMA, run_id, files) as errors,
        ):
            for end in ends:
                (results if end.error_type is None else errors).add(end)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{directory}: the Parquet files cannot be written: {error}; `export` makes them later") from error
    return results.rows, errors.rows


def can_be_read(directory: Path, results: int, errors: int) -> bool:
    """Return whether both Parquet files are there, are whole, and have these numbers of rows. All pages are read."""
    wanted = {"results.parquet": (RESULTS_SCHEMA, results), "errors.parquet": (ERRORS_SCHEMA, errors)}
    try:
        return all(_rows_in(directory / name, schema) == rows for name, (schema, rows) in wanted.items())
    except (OSError, pa.ArrowException):
        return False


def _rows_in(path: Path, schema: Any) -> int | None:
    """Return the number of rows of a file; None if it has other columns. Raises OSError, ArrowException."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if not file.schema_arrow.equals(schema):
            return None
        return sum(int(batch.num_rows) for batch in file.iter_batches(_BATCH_ROWS))


class _View:
    """A Parquet file that is being written; it gets its name when the block ends without an error."""

    def __init__(self, path: Path, schema: Any, run_id: str, files: FileSystem) -> None:
        self.rows = 0
        self._path, self._schema, self._run_id, self._files = path, schema, run_id, files
        # Always the same name, because only one process at a time makes views. The file of a killed process is overwritten.
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._pending: list[End] = []
        self._pending_bytes = 0
        self._batches: list[pa.RecordBatch] = []
        self._batches_bytes = 0
        self._groups = 0

    def __enter__(self) -> Self:
        self._file = OutputFile(self._files, self._temporary)
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            data_page_size=_PAGE_BYTES,
            write_page_checksum=True,
            use_dictionary=[name for name in self._schema.names if name in REPEATING],
            # The least and the greatest text of a row group are of no use.
            write_statistics=[field.name for field in self._schema if field.type != pa.string()],
        )
        return self

    def add(self, end: End) -> None:
        self._pending.append(end)
        self._pending_bytes += len(end.item) + len(end.request or "") + 2 * len(end.response or "")
        if len(self._pending) >= _BATCH_ROWS or self._pending_bytes >= _BATCH_BYTES:
            self._make_batch()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None and self._pending:
                self._make_batch()
            if error is None and self._batches:
                self._write_row_group()
            self._writer.close()
            if error is None:
                self._publish()
        finally:
            self._file.close()
            self._files.unlink(self._temporary)

    def _make_batch(self) -> None:
        # All rows become columns at once: looking up each value by itself would take longer than writing it.
        values = dict(zip(End.__struct_fields__, zip(*map(astuple, self._pending), strict=True), strict=True))
        values["run_id"] = (self._run_id,) * len(self._pending)
        batch = pa.record_batch([column_of(values[field.name], field.type) for field in self._schema], schema=self._schema)
        self.rows += len(self._pending)
        self._pending, self._pending_bytes = [], 0
        self._batches.append(batch)
        self._batches_bytes += batch.nbytes
        if self._batches_bytes >= max(size for groups, size in _ROW_GROUP_BYTES if groups <= self._groups):
            self._write_row_group()

    def _write_row_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._batches, self._schema))
        self._batches, self._batches_bytes = [], 0
        self._groups += 1

    def _publish(self) -> None:
        self._file.sync()
        found = pq.read_metadata(self._temporary).num_rows
        if found != self.rows:
            raise OSError(f"{self._path.name}: {self.rows} rows were written, but {found} can be read back")
        if self._path.is_dir():  # not made by this program, so it must not be deleted
            self._files.rename(self._path, self._path.with_name(f"{self._path.name}.aside"))
        self._files.rename(self._temporary, self._path)
        self._files.sync_directory(self._path.parent)
