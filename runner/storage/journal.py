r"""The journal: every result at once, in checksummed lines that survive a kill and a power loss.

A line is `<crc32 as 8 hex digits> <JSON>\\n`. It is written with one `os.write` in the loop callback in which its answer was
complete, so what was answered is in the journal even after SIGKILL; a thread syncs the file in groups, and only what is
synced is shown as done. Each start of a run writes a segment of its own, `000001.jsonl` and so on, and never touches an
older one. A line counts only if its checksum fits: a torn tail, a hole or a flipped bit costs that line and no other.

Beside it lies an index of what its lines come to (`index`), and a file that holds some room in reserve. When the disk is full
the room is given back: nothing more is begun, but what is on its way, and has to be paid, can still be written. Where it is the
file that may not grow, this goes into another segment. After any other trouble nothing is written or synced any more.
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
from runner.storage.files import FILES, FileSystem
from runner.storage.index import IndexWriter
from runner.storage.records import Close, Control, End, Try

__all__ = ["NOT_SYNCED", "PREFIX_LENGTH", "Journal", "Line", "is_sound", "mend", "read_segment", "segments_of"]

_SYNC_EVERY_S = 0.05
#: How often the journal's name is looked up, to notice that somebody removed or replaced it.
_LOOK_EVERY_S = 0.5
_CRC_DIGITS = 8
#: What stands before the JSON of a line: the checksum and a blank.
PREFIX_LENGTH = _CRC_DIGITS + 1
_BLANK = ord(" ")
#: So little is read at once that it stays in the processor's cache.
_READ_BYTES = 1 << 16
_RESERVE_BYTES = 4 << 20
#: There is no more room: on the disk, for its owner, in this file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MOST_ROWS_NAMED = 20
#: How the reason of such a stop begins, behind the file.
NOT_SYNCED = "cannot be synced to disk"
#: Where a line begins. Inside a JSON string the quotes would be escaped, so no text can pass for it.
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
        """Create the next segment, which nobody else writes.

        `on_synced` is called in the sync thread with the number of lines that are safe.

        `secrets` never reach the file: where a server echoes one, it is replaced. Raises StorageError.
        """
        self._files = files
        self._redactor = Redactor(secrets)
        self._on_synced = on_synced
        self._written = 0
        #: The rows whose results are written but not synced yet.
        self._at_risk: list[str] = []
        #: Set for good when a line could not be written or synced. May be read by any thread.
        self.failure: StorageError | None = None
        #: Set when the disk is full and only what is on its way is still taken.
        self._full: StorageError | None = None
        self._encode = msgspec.json.Encoder().encode
        #: Room on the disk that is given back once it is full.
        self._reserve = directory / f".reserve-{os.uname().nodename}-{os.getpid()}"
        try:
            _reserve(files, self._reserve)
            self.path, self._file, self._named = _create(files, directory)
            #: Its segment, and before it those that have grown as far as they may.
            self.paths = [self.path]
        except OSError as error:
            raise StorageError(f"{directory}: no segment can be created there: {error.strerror}") from error
        self._index = IndexWriter(self.path.with_suffix(".index"), files)
        self._begun = time.monotonic_ns()
        #: Files that have grown as far as they may, synced; they stay open for a sync that is just going on.
        self._grown: list[int] = []
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._sync_in_groups, name="journal-sync", daemon=True)
        self._thread.start()

    @property
    def ran_us(self) -> int:
        """For how long the segment has been open, in microseconds."""
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
        except UnicodeEncodeError:  # a lone surrogate came in by a way that nobody thought of
            payload = jsontext.encode(msgspec.to_builtins(record))
        payload = self._redactor.json(payload)
        line = b"%08x %b\n" % (zlib.crc32(payload), payload)
        self._write(line)
        self._index.note(record, line)
        self._written += 1
        if isinstance(record, End):
            self._at_risk.append(record.item_id)
        if not self._wake.is_set():  # it is cleared before a sync, which takes this line with it; setting costs a lock
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
        """Take note that a line cannot be written: for good, or but for what is on its way. Raises StorageError if for good."""
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
        """Go on in a segment of its own, for this file may not grow any more. Raises StorageError."""
        try:
            self._files.fdatasync(self._file)
            path, file, named = _create(self._files, self.path.parent)
        except OSError as error:
            self.failure = StorageError(f"{self.path}: has no room, and no other segment can take more: {error.strerror}")
            raise self.failure from error
        self._grown.append(self._file)
        self.path, self._file, self._named = path, file, named
        self.paths.append(path)

    def sync(self) -> None:
        """Wait until what is written survives a power loss. Raises StorageError."""
        self._sync()
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Sync what is written and close the file. Raises StorageError if anything could not be kept."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self._sync()  # what was written while the thread's last sync was going on
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
        # After a failed sync the kernel may have dropped the pages: a second one could succeed and prove nothing.
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
        """Notice that the file was removed or replaced: what is written to it then, nobody can find again."""
        path, identity = self._named
        try:
            found = self._files.identity(path)
        except OSError:
            found = None
        if found != identity and self.failure is None:
            self.failure = StorageError(f"{path}: was removed, moved or replaced while the run was writing to it")


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a segment, and where it stands."""

    offset: int
    #: As it stands in the file, with its newline.
    text: bytes
    #: Whether the checksum fits.
    is_sound: bool

    @property
    def length(self) -> int:
        """The number of its bytes."""
        return len(self.text)

    @property
    def payload(self) -> bytes | None:
        """The JSON, or None where the checksum does not fit."""
        return self.text[PREFIX_LENGTH:-1] if self.is_sound else None


def segments_of(directory: Path) -> list[Path]:
    """Return a journal's segments in the order in which they were written: whatever their numbers, each of them counts."""
    found = [path for path in directory.glob("*.jsonl") if path.stem.isascii() and path.stem.isdecimal()]
    return sorted(found, key=lambda path: (int(path.stem), path.name))


def read_segment(path: Path, files: FileSystem = FILES, start: int = 0, end: int | None = None) -> Iterator[Line]:
    """Yield the lines of a segment, the damaged ones too; only those between two offsets at which a line begins.

    A last line without its newline was being written when the run was killed, or is being written now: it was never
    acknowledged, and is left out. Where a newline was lost, the line behind it is found all the same. Raises StorageError.
    """
    offset = start
    try:
        handle = files.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name is an error, and not waited for
        try:
            for text in io.BufferedReader(_Reading(files, handle, start, end), _READ_BYTES):
                if text[-1:] != b"\n" and end is None:
                    return
                if is_sound(text):
                    yield Line(offset, text, True)
                else:
                    yield from _lines_in(text, offset)
                offset += len(text)
        finally:
            files.close(handle)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


class _Reading(io.RawIOBase):
    """The bytes of an open file from one offset to another, or to its end, as a buffered reader wants them."""

    def __init__(self, files: FileSystem, handle: int, start: int, end: int | None) -> None:
        super().__init__()
        self._files, self._handle, self._offset, self._end = files, handle, start, end

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as may be; return the number of bytes, 0 at the end. Raises OSError."""
        most = len(buffer) if self._end is None else min(len(buffer), self._end - self._offset)
        content = self._files.pread(self._handle, most, self._offset) if most else b""
        buffer[: len(content)] = content
        self._offset += len(content)
        return len(content)


def mend(directory: Path, files: FileSystem = FILES) -> Iterator[str]:
    """Make the segments of earlier starts safe to go on from; yield what had to be cut off. Raises StorageError.

    A torn tail is cut. All is synced, for a kill leaves lines that are written but not synced, and from now on they count
    as done. Room that killed writers have reserved is given back. Only for whoever holds the run's lock.
    """
    for left in directory.glob(".reserve-*"):
        with suppress(OSError):
            files.unlink(left)
    for path in segments_of(directory):
        try:
            handle = files.open(path, os.O_RDWR)
            try:
                size = files.size(handle)
                whole = _end_of_last_line(handle, size, files)
                if whole < size:
                    files.truncate(handle, whole)
                    yield f"{path}: a torn last line of {size - whole} bytes is cut off at offset {whole}"
                files.fdatasync(handle)
            finally:
                files.close(handle)
        except OSError as error:
            raise StorageError(f"{path}: cannot be made ready for more: {error.strerror}") from error


def _end_of_last_line(handle: int, end: int, files: FileSystem) -> int:
    """Return the offset behind the last newline before `end`, 0 where there is none."""
    while end > 0:
        start = max(0, end - _READ_BYTES)
        found = files.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _lines_in(text: bytes, offset: int) -> Iterator[Line]:
    """Yield what a damaged line is: damage, or, where a newline was lost, damage and the line behind it."""
    starts = (match.start() for match in _BEGINNING.finditer(text))
    beginning = next((start for start in starts if start and is_sound(text[start:])), 0)
    if beginning:
        yield Line(offset, text[:beginning], False)
    yield Line(offset + beginning, text[beginning:], bool(beginning))


def is_sound(text: bytes) -> bool:
    """Whether a line, with its newline, is one whose checksum fits."""
    try:
        return text[_CRC_DIGITS] == _BLANK and int(text[:_CRC_DIGITS], 16) == zlib.crc32(text[PREFIX_LENGTH:-1])
    except (ValueError, IndexError):
        return False


def _is_paid(record: msgspec.Struct) -> bool:
    """Whether a line tells what became of a request; everything else can be found out again for nothing."""
    return isinstance(record, Try | Control | Close) or (isinstance(record, End) and record.request is not None)


def _reserve(files: FileSystem, path: Path) -> None:
    """Take room on the disk that can be given back. Raises OSError where the disk is full already."""
    handle = files.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        files.allocate(handle, _RESERVE_BYTES)
    except OSError as error:
        if error.errno in _FULL - {errno.EFBIG}:
            files.unlink(path)
            raise
        # Where a file system cannot reserve, or no file may be so large, there is none.
    finally:
        files.close(handle)


def _create(files: FileSystem, directory: Path) -> tuple[Path, int, tuple[Path, tuple[int, int]]]:
    """Make the next segment, whose name survives a power loss; return its path and handle, and what tells it from others.

    Whoever makes the file has the number: of two who begin at the same time one takes the next. Raises OSError.
    """
    number = max((int(path.stem) for path in segments_of(directory)), default=0) + 1
    path = directory / f"{number:06}.jsonl"
    try:
        handle = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
    except FileExistsError:  # somebody was faster
        return _create(files, directory)
    try:
        named = path, files.identity(handle)
        files.sync_directory(path.parent)
    except OSError:
        files.close(handle)
        raise
    return path, handle, named


def _named(rows: Sequence[str]) -> str:
    """Name rows in a message: their number, and the first of them."""
    more = f" and {len(rows) - _MOST_ROWS_NAMED} more" if len(rows) > _MOST_ROWS_NAMED else ""
    return f"{len(rows)} rows: {', '.join(rows[:_MOST_ROWS_NAMED])}{more}" if rows else "none"
