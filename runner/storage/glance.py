"""A glance at a run: when it began last, and whether something was answered, without reading all of its journal."""

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
    """What can be told of a run without reading all of its journal."""

    #: When its latest start began, in microseconds since the epoch; where no line says it, when it was written last.
    begun_at: int = 0
    #: Whether there is a line at all: without one there is nothing to go on with.
    is_begun: bool = False
    #: Whether something was answered, or it came to its end. Taken to be so where the journal cannot be read.
    counts: bool = False


def glance_at(journal: Path, files: FileSystem) -> Glance:
    """Look at a journal up to its first answer. Raises nothing: what is wrong with it, whoever reads all of it will say."""
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
