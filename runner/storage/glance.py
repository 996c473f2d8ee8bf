"""A glance at a run: when its latest start began, and whether it has an answer, without reading all of its journal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runner.errors import RunDirError, StorageError
from runner.storage.files import FileSystem
from runner.storage.journal import read_segment, segments_of
from runner.storage.lines import Record, first_open, record_of
from runner.storage.records import Close, EndHead
from runner.structs import Struct

__all__ = ["Glance", "glance_at"]


class Glance(Struct, frozen=True):
    """Facts about a run that do not need all of its journal."""

    #: When its latest start began, in microseconds since the epoch; if no line says so, when the journal was last written.
    begun_at: int = 0
    #: Whether the journal has a line; without one there is nothing to go on with.
    is_begun: bool = False
    #: Whether the run has an answer or finished. Also true if the journal cannot be read.
    counts: bool = False


def glance_at(journal: Path, files: FileSystem) -> Glance:
    """Read a journal up to its first answer. It raises no error for damage: reading all of the journal reports that later."""
    segments = segments_of(journal)
    is_begun = False
    record: Record | None = None
    try:
        opens = [opened for segment in segments if (opened := first_open(segment, files)) is not None]
        begun_at = opens[-1].at if opens else _written_at(segments)
        for segment in segments:
            for line in read_segment(segment, files):
                is_begun = True
                record = record_of(line)
                if isinstance(record, EndHead) and record.error_type is None:
                    return Glance(begun_at, is_begun=True, counts=True)
    except (RunDirError, StorageError):
        return Glance(_written_at(segments), is_begun=True, counts=True)
    return Glance(begun_at, is_begun, counts=isinstance(record, Close) and record.reason is None)


def _written_at(segments: Sequence[Path]) -> int:
    times = []
    for segment in segments:
        with suppress(OSError):
            times.append(segment.stat().st_mtime_ns // 1000)
    return max(times, default=0)
