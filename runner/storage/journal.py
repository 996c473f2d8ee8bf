r"""The journal: every result at once, in checksummed lines that survive a kill and a power loss.

A line is `<crc32 as 8 hex digits> <JSON>\\n`. It is written with one `os.write` in the loop callback in which its answer was
complete, so what was answered is in the journal even after SIGKILL; a thread syncs the file in groups, and only what is
synced is shown as done. Each start of a run writes a segment of its own, `000001.jsonl` and so on, and never touches an
older one. A line counts only if its checksum fits: a torn tail, a hole or a flipped bit costs that line and no other.

A file beside it holds some room in reserve. When the disk is full the room is given back: nothing more is begun, but what is
on its way, and has to be paid, can still be written.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runner import jsontext
from runner.errors import StorageError
from runner.storage.records import Close, End, Try

__all__ = ["SHORTEST_SECRET", "Journal", "Line", "read_segment", "segments_of"]

_SYNC_EVERY_S = 0.05
_CRC_DIGITS = 8
_READ_BYTES = 1 << 20
_RESERVE_BYTES = 4 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REDACTED = b"[redacted]"
#: What is shorter is a placeholder for a key, as local servers take any: it must not be cut out of every answer.
SHORTEST_SECRET = 8
#: Where a line begins. Inside a JSON string the quotes would be escaped, so no text can pass for it.
_BEGINNING = re.compile(rb'[0-9a-f]{8} (?=\{"kind":")')


class Journal:
    """One segment, open for appending."""

    def __init__(self, directory: Path, *, secrets: Sequence[str] = (), on_synced: Callable[[int], None] | None = None) -> None:
        """Create the next segment. `on_synced` is called in the sync thread with the number of lines that are safe.

        `secrets` never reach the file: where a server echoes one, it is replaced.
        """
        self._secrets = _escaped(secrets)
        self._on_synced = on_synced
        self._written = 0
        #: Set for good when a line could not be written or synced.
        self._failure: StorageError | None = None
        #: Set when the disk is full and only what is on its way is still taken.
        self._full: StorageError | None = None
        self._reserve = directory / ".reserve"
        self._encode = msgspec.json.Encoder().encode
        number = max((int(path.stem) for path in segments_of(directory)), default=0) + 1
        self.path = directory / f"{number:06}.jsonl"
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            _reserve(self._reserve)
            _sync_directory(directory)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be created: {error.strerror}") from error
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._sync_in_groups, name="journal-sync", daemon=True)
        self._thread.start()

    def append(self, record: msgspec.Struct) -> int:
        """Write one line and return its number, from 1. Raises StorageError.

        The line is safe from a kill when this returns, and from a power loss once `on_synced` has named its number.
        """
        if self._failure is not None:
            raise self._failure
        if self._full is not None and not _is_paid(record):
            raise self._full
        try:
            payload = self._encode(record)
        except UnicodeEncodeError:  # a lone surrogate came in by a way that nobody thought of
            payload = jsontext.encode(msgspec.to_builtins(record))
        for secret in self._secrets:
            if secret in payload:
                payload = payload.replace(secret, _REDACTED)
        self._write(b"%08x %b\n" % (zlib.crc32(payload), payload))
        self._written += 1
        self._wake.set()
        return self._written

    def _write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._file, line) :]
            except OSError as error:
                broken = StorageError(f"{self.path}: cannot be written: {error.strerror}")
                if error.errno not in _FULL or self._full is not None:
                    self._failure = broken
                    raise broken from error
                self._full = broken
                with suppress(OSError):
                    self._reserve.unlink()

    def close(self) -> None:
        """Sync what is written and close the file. Raises StorageError if that fails."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self._sync()  # what was written while the thread's last sync was going on
        os.close(self._file)
        with suppress(OSError):
            self._reserve.unlink()
        if self._failure is not None:
            raise self._failure

    def _sync_in_groups(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(_SYNC_EVERY_S)
            self._wake.clear()
            self._sync()

    def _sync(self) -> None:
        # After a failed sync the kernel may have dropped the pages: a second one could succeed and prove nothing.
        if self._failure is not None:
            return
        written = self._written
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self._failure = StorageError(f"{self.path}: cannot be synced to disk: {error.strerror}")
            return
        if self._on_synced is not None:
            self._on_synced(written)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a segment, and where it stands."""

    offset: int
    length: int
    #: The JSON, or None where the checksum does not fit.
    payload: bytes | None


def segments_of(directory: Path) -> list[Path]:
    """Return a journal's segments in the order in which they were written."""
    return sorted(directory.glob("[0-9]" * 6 + ".jsonl"))


def read_segment(path: Path) -> Iterator[Line]:
    """Yield all lines of a segment, the damaged ones too.

    A last line without its newline was being written when the run was killed, or is being written now: it was never
    acknowledged, and is left out. Where a newline was lost, the line behind it is found all the same.
    """
    offset, rest = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield from _lines_in(line, offset)
                offset += len(line) + 1


def _lines_in(text: bytes, offset: int) -> Iterator[Line]:
    """Yield what stands before a newline: one line, or, where a newline was lost, damage and the line behind it."""
    payload, beginning = payload_of(text), 0
    if payload is None:
        found = ((match.start(), payload_of(text[match.start() :])) for match in _BEGINNING.finditer(text))
        beginning, payload = next((pair for pair in found if pair[1] is not None), (0, None))
        if beginning:
            yield Line(offset, beginning, None)
    yield Line(offset + beginning, len(text) - beginning + 1, payload)


def payload_of(line: bytes) -> bytes | None:
    """Return the JSON of a line, or None where its checksum does not fit."""
    payload = line[_CRC_DIGITS + 1 :]
    try:
        return payload if int(line[:_CRC_DIGITS], 16) == zlib.crc32(payload) else None
    except ValueError:
        return None


def _is_paid(record: msgspec.Struct) -> bool:
    """Whether a line tells what became of a request; everything else can be found out again for nothing."""
    return isinstance(record, Try | Close) or (isinstance(record, End) and record.request is not None)


def _reserve(path: Path) -> None:
    """Take room on the disk that can be given back. Raises OSError where the disk is full already."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(handle, 0, _RESERVE_BYTES)
    except OSError as error:
        if error.errno in _FULL:
            raise
        # Where a file system cannot reserve, there is none.
    finally:
        os.close(handle)


def _escaped(secrets: Sequence[str]) -> list[bytes]:
    """Return secrets as they would stand in a line: in JSON, and in JSON text that is itself a value of JSON."""
    once = [jsontext.encode_str(secret)[1:-1] for secret in secrets if len(secret) >= SHORTEST_SECRET]
    twice = [jsontext.encode_str(secret)[1:-1] for secret in once]
    return [secret.encode() for secret in dict.fromkeys([*twice, *once])]


def _sync_directory(directory: Path) -> None:
    """Make a new name in a directory survive a power loss."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
