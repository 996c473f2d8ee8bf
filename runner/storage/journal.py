r"""The journal: every result at once, in checksummed lines that survive a kill and a power loss.

A line is `<crc32 as 8 hex digits> <JSON>\\n`. It is written with one `os.write` in the loop callback in which its answer was
complete, so every answer is in the journal even after SIGKILL. A thread syncs the file in groups, and only synced lines are
shown as done. Each start of a run writes its own segment, `000001.jsonl` and so on, and never touches an older one. A line
counts only if its checksum fits: a torn tail, a hole or a flipped bit costs that line and no other.

Each segment has an index (`index`), and the journal has a file that reserves some room on the disk. When the disk is full, the
room is given back: nothing more is begun, but results in flight, which have to be paid, can still be written. If only the file
may not grow any more, they go into another segment. After any other failure nothing more is written or synced.
"""

from __future__ import annotations

import errno
import io
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runner import jsontext
from runner.errors import StorageError
from runner.secrets.redaction import Redactor
from runner.storage.files import FILES, FileSystem, opened
from runner.storage.index import IndexWriter
from runner.storage.records import Close, Control, End, Try

__all__ = ["NOT_SYNCED", "PREFIX_LENGTH", "Journal", "Line", "is_sound", "mend", "read_segment", "segment_path", "segments_of"]

_SYNC_EVERY_S = 0.05
#: How often the path of the segment is checked, to notice that it was removed or replaced.
_LOOK_EVERY_S = 0.5
_CRC_DIGITS = 8
#: The length of the checksum and the blank before the JSON of a line.
PREFIX_LENGTH = _CRC_DIGITS + 1
_BLANK = ord(" ")
#: How much is read at once: little enough to stay in the processor's cache.
_READ_BYTES = 1 << 16
_RESERVE_BYTES = 4 << 20
#: Errors that mean no room: on the disk, in the owner's quota, in this file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MOST_ROWS_NAMED = 20
#: The message of a failed sync, after the path. The reason of a stop is searched for it.
NOT_SYNCED = "cannot be synced to disk"
#: The beginning of a line. Inside a JSON string the quotes would be escaped, so no text can look like it.
_BEGINNING = re.compile(rb'[0-9a-f]{8} (?=\{"kind":")')


class Journal:
    """One segment, open for appending."""

    def __init__(
        self,
        directory: Path,
        *,
        secrets: Sequence[str] = (),
        on_synced: Callable[[int], None] | None = None,
        files: FileSystem = FILES,
    ) -> None:
        """Create the next segment, which only this object writes. Raises StorageError.

        `on_synced` is called in the sync thread with the number of lines that are safe. `secrets` never reach the file: if a
        server echoes one, it is replaced.
        """
        self._files = files
        self._redactor = Redactor(secrets)
        self._on_synced = on_synced
        self._written = 0
        #: The rows whose results are written but not synced yet.
        self._at_risk: list[str] = []
        #: Set for good when a line could not be written or synced. Any thread may read it.
        self.failure: StorageError | None = None
        #: Set when the disk is full. From then on only the results of requests in flight are written.
        self._full: StorageError | None = None
        self._encode = msgspec.json.Encoder().encode
        #: A file that reserves room; it is deleted once the disk is full.
        self._reserve = directory / f".reserve-{os.uname().nodename}-{os.getpid()}"
        try:
            _reserve(files, self._reserve)
            self.path, self._file, self._named = _create(files, directory)
            #: The segments that this object has written; the last one is the current one.
            self.paths = [self.path]
        except OSError as error:
            raise StorageError(f"{directory}: no segment can be created there: {error.strerror}") from error
        self._index = IndexWriter(self.path.with_suffix(".index"), files)
        self._begun = time.monotonic_ns()
        #: The synced files of earlier segments, which may not grow any more. They stay open for a sync that is still going on.
        self._grown: list[int] = []
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._sync_in_groups, name="journal-sync", daemon=True)
        self._thread.start()

    @property
    def ran_us(self) -> int:
        """How long the segment has been open, in microseconds."""
        return (time.monotonic_ns() - self._begun) // 1000

    def append(self, record: msgspec.Struct) -> int:
        """Write one line and return its number, from 1. Raises StorageError.

        The line is safe from a kill when this returns, and from a power loss once `on_synced` has named its number.
        """
        if self.failure is not None:
            raise self.failure
        if self._full is not None and not _is_paid(record):
            raise self._full
        try:
            payload = self._encode(record)
        except UnicodeEncodeError:  # a lone surrogate that was not replaced before
            payload = jsontext.encode(msgspec.to_builtins(record))
        payload = self._redactor.json(payload)
        line = b"%08x %b\n" % (zlib.crc32(payload), payload)
        self._write(line)
        self._index.note(record, line)
        self._written += 1
        if isinstance(record, End):
            self._at_risk.append(record.item_id)
        if not self._wake.is_set():  # a sync that clears it later includes this line; `set` takes a lock, so it is avoided
            self._wake.set()
        return self._written

    def _write(self, line: bytes) -> None:
        left, moved = line, False
        while left:
            try:
                left = left[self._files.write(self._file, left) :]
            except InterruptedError:
                continue
            except OSError as error:
                may_move = error.errno == errno.EFBIG and not moved
                self._note_failure(error, is_last=error.errno not in _FULL or (self._full is not None and not may_move))
                if may_move:
                    self._begin_another()
                    left, moved = line, True

    def _note_failure(self, error: OSError, *, is_last: bool) -> None:
        """Note that a line cannot be written. With `is_last` nothing more can be written, and StorageError is raised."""
        broken = StorageError(f"{self.path}: cannot be written: {error.strerror}")
        if is_last:
            self.failure = broken
            raise broken from error
        if self._full is None:
            self._full = broken
            self._index.close()
            with suppress(OSError):
                self._files.unlink(self._reserve)

    def _begin_another(self) -> None:
        """Go on in a new segment, because this file may not grow any more. Raises StorageError."""
        try:
            self._files.fdatasync(self._file)
            path, file, named = _create(self._files, self.path.parent)
        except OSError as error:
            self.failure = StorageError(f"{self.path}: has no room, and no new segment can be made: {error.strerror}")
            raise self.failure from error
        self._grown.append(self._file)
        self.path, self._file, self._named = path, file, named
        self.paths.append(path)

    def sync(self) -> None:
        """Wait until all written lines survive a power loss. Raises StorageError."""
        self._sync()
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Sync all written lines and close the file. Raises StorageError if a line could not be kept."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self._sync()  # lines that were written during the last sync of the thread
        for file in (self._file, *self._grown):
            self._files.close(file)
        self._index.close()
        with suppress(OSError):
            self._files.unlink(self._reserve)
        if self.failure is not None:
            raise self.failure

    def _sync_in_groups(self) -> None:
        synced = looked = time.monotonic()
        while not self._closing.is_set():
            if self._wake.wait(_LOOK_EVERY_S):
                self._closing.wait(max(0, synced + _SYNC_EVERY_S - time.monotonic()))
                self._wake.clear()
                synced = time.monotonic()
                self._sync()
            if time.monotonic() - looked >= _LOOK_EVERY_S:
                looked = time.monotonic()
                self._look()

    def _sync(self) -> None:
        # After a failed sync the kernel may have dropped the pages, so a second sync could succeed without meaning anything.
        if self.failure is not None:
            return
        written, results = self._written, len(self._at_risk)
        try:
            self._files.fdatasync(self._file)
        except OSError as error:
            lost = _named(self._at_risk)
            self.failure = StorageError(
                f"{self.path}: {NOT_SYNCED}: {error.strerror}; results since the last sync may be lost: {lost}; "
                "a resume keeps those that it can read, and asks the others again"
            )
            return
        del self._at_risk[:results]
        if self._on_synced is not None:
            self._on_synced(written)

    def _look(self) -> None:
        """Notice that the file was removed or replaced: lines that are written to it then cannot be found again."""
        path, identity = self._named
        try:
            found = self._files.identity(path)
        except OSError:
            found = None
        if found != identity and self.failure is None:
            self.failure = StorageError(f"{path}: was removed, moved or replaced while the run was writing to it")


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a segment, and its offset."""

    offset: int
    #: The bytes in the file, with the newline.
    text: bytes
    #: Whether the checksum fits.
    is_sound: bool

    @property
    def length(self) -> int:
        """The number of its bytes."""
        return len(self.text)

    @property
    def payload(self) -> bytes | None:
        """The JSON, or None if the checksum does not fit."""
        return self.text[PREFIX_LENGTH:-1] if self.is_sound else None


def segment_path(directory: Path, number: int) -> Path:
    """Return the path of a segment of a journal, by its number from 1."""
    return directory / f"{number:06}.jsonl"


def segments_of(directory: Path) -> list[Path]:
    """Return the segments of a journal in the order in which they were written. Gaps between their numbers do not matter."""
    found = [path for path in directory.glob("*.jsonl") if path.stem.isascii() and path.stem.isdecimal()]
    return sorted(found, key=lambda path: (int(path.stem), path.name))


def read_segment(path: Path, files: FileSystem = FILES, start: int = 0, end: int | None = None) -> Iterator[Line]:
    """Yield the lines of a segment, also damaged ones, from one offset to another; at both of them a line begins.

    A last line without its newline was being written when the run was killed, or is being written now. It was never
    acknowledged, so it is left out. If a newline was lost, the line after it is still found. Raises StorageError.
    """
    offset = start
    try:
        # A pipe of that name is an error, instead of a wait.
        with opened(files, path, os.O_RDONLY | os.O_NONBLOCK) as handle:
            for text in io.BufferedReader(_Reading(files, handle, start, end), _READ_BYTES):
                if text[-1:] != b"\n" and end is None:
                    return
                if is_sound(text):
                    yield Line(offset, text, True)
                else:
                    yield from _lines_in(text, offset)
                offset += len(text)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


class _Reading(io.RawIOBase):
    """The bytes of an open file from one offset to another or to its end, for a buffered reader."""

    def __init__(self, files: FileSystem, handle: int, start: int, end: int | None) -> None:
        super().__init__()
        self._files, self._handle, self._offset, self._end = files, handle, start, end

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as possible; return the number of bytes, 0 at the end. Raises OSError."""
        most = len(buffer) if self._end is None else min(len(buffer), self._end - self._offset)
        content = self._files.pread(self._handle, most, self._offset) if most else b""
        buffer[: len(content)] = content
        self._offset += len(content)
        return len(content)


def mend(directory: Path, files: FileSystem) -> Iterator[str]:
    """Make the segments of earlier starts safe to go on from; yield a message for each cut. Raises StorageError.

    A torn tail is cut off. All segments are synced, because a kill leaves lines that are written but not synced, and from now
    on they count as done. Room that killed writers have reserved is given back. The caller must hold the run's lock.
    """
    for left in directory.glob(".reserve-*"):
        with suppress(OSError):
            files.unlink(left)
    for path in segments_of(directory):
        try:
            with opened(files, path, os.O_RDWR) as handle:
                size = files.size(handle)
                whole = _end_of_last_line(handle, size, files)
                if whole < size:
                    files.truncate(handle, whole)
                    yield f"{path}: a torn last line of {size - whole} bytes is cut off at offset {whole}"
                files.fdatasync(handle)
        except OSError as error:
            raise StorageError(f"{path}: cannot be prepared for a resume: {error.strerror}") from error


def _end_of_last_line(handle: int, end: int, files: FileSystem) -> int:
    """Return the offset after the last newline before `end`, 0 if there is none."""
    while end > 0:
        start = max(0, end - _READ_BYTES)
        found = files.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _lines_in(text: bytes, offset: int) -> Iterator[Line]:
    """Yield a damaged line; if a newline was lost, yield the damaged part and the sound line after it."""
    starts = (match.start() for match in _BEGINNING.finditer(text))
    beginning = next((start for start in starts if start and is_sound(text[start:])), 0)
    if beginning:
        yield Line(offset, text[:beginning], False)
    yield Line(offset + beginning, text[beginning:], bool(beginning))


def is_sound(text: bytes) -> bool:
    """Return whether the checksum of a line, which includes its newline, fits."""
    try:
        return text[_CRC_DIGITS] == _BLANK and int(text[:_CRC_DIGITS], 16) == zlib.crc32(text[PREFIX_LENGTH:-1])
    except (ValueError, IndexError):
        return False


def _is_paid(record: msgspec.Struct) -> bool:
    """Return whether a line holds the outcome of a request. All other lines can be made again without a request."""
    return isinstance(record, Try | Control | Close) or (isinstance(record, End) and record.request is not None)


def _reserve(files: FileSystem, path: Path) -> None:
    """Reserve room on the disk. Raises OSError if the disk is full already."""
    with opened(files, path, os.O_WRONLY | os.O_CREAT) as handle:
        try:
            files.allocate(handle, _RESERVE_BYTES)
        except OSError as error:
            if error.errno in _FULL - {errno.EFBIG}:
                files.unlink(path)
                raise
            # If a file system cannot reserve, or no file may be so large, there is no reserve.


def _create(files: FileSystem, directory: Path) -> tuple[Path, int, tuple[Path, tuple[int, int]]]:
    """Create the next segment, whose name survives a power loss; return its path, its handle, and its path with its identity.

    The process that creates the file owns the number. A process that is too late takes the next number. Raises OSError.
    """
    number = max((int(path.stem) for path in segments_of(directory)), default=0) + 1
    path = segment_path(directory, number)
    try:
        handle = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
    except FileExistsError:  # another process was faster
        return _create(files, directory)
    try:
        named = path, files.identity(handle)
        files.sync_directory(path.parent)
    except OSError:
        files.close(handle)
        raise
    return path, handle, named


def _named(rows: Sequence[str]) -> str:
    """Return rows for a message: their number, and the first names."""
    more = f" and {len(rows) - _MOST_ROWS_NAMED} more" if len(rows) > _MOST_ROWS_NAMED else ""
    return f"{len(rows)} rows: {', '.join(rows[:_MOST_ROWS_NAMED])}{more}" if rows else "none"
