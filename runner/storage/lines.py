"""What a line of the journal says, as far as a scan needs it, and what the first look at a segment or a run tells."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec

from runner.errors import RunDirError, StorageError
from runner.storage.files import FileSystem
from runner.storage.journal import PREFIX_LENGTH, Line, read_segment, segments_of
from runner.storage.records import FORMAT, Close, Control, EndHead, Files, Open, Start, Try
from runner.structs import Struct

__all__ = ["Glance", "Record", "first_open", "glance_at", "record_of"]

Record: TypeAlias = Open | Files | Start | Try | Control | EndHead | Close

_LINE = msgspec.json.Decoder(Record)
_OPEN = b'{"kind":"open",'
#: Where the head of an `end` line ends. Inside a JSON string the quotes would be escaped, so no text can pass for it.
_BEHIND_HEAD = b',"item_id":'
#: Where it stands in a line that has no head, as the first versions of this program wrote them.
_WITHOUT_HEAD = PREFIX_LENGTH + len(b'{"kind":"end"')


def record_of(line: Line) -> Record | None:
    """Return what a line says, of an `end` line only its head; None where it is damaged."""
    if not line.is_sound:
        return None
    end = line.text.find(_BEHIND_HEAD)
    json = line.text[PREFIX_LENGTH:end] + b"}" if end > _WITHOUT_HEAD else line.text[PREFIX_LENGTH:]
    try:
        record: Record = _LINE.decode(json)
    except msgspec.MsgspecError:
        return None
    return record


def first_open(segment: Path, files: FileSystem) -> Open | None:
    """Return a segment's `open` line if it has one.

    Raises RunDirError for a format that this program does not know, and for a segment of which no line can be read: its rows
    would be paid for once more, and somebody may have a copy of it.
    """
    lines = sound = 0
    for line in read_segment(segment, files):
        if line.payload is not None and line.payload.startswith(_OPEN):
            return _opened(line.payload, segment)
        lines += 1
        sound += line.is_sound
    if lines and not sound:
        raise RunDirError(
            f"{segment}: is damaged: none of its {lines} lines ({segment.stat().st_size} bytes) can be read; "
            "put it back from a copy, or move it out of the journal, and what it held is asked again"
        )
    return None


def _opened(payload: bytes, segment: Path) -> Open:
    raw = msgspec.json.decode(payload)
    if raw.get("format") != FORMAT:
        raise RunDirError(f"{segment}: is of format {raw.get('format')}, this program reads format {FORMAT}; update it")
    try:
        return msgspec.convert(raw, Open)
    except msgspec.ValidationError as error:
        raise RunDirError(f"{segment}: its first line is none that this program writes: {error}") from error


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
