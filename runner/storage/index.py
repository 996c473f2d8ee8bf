"""The index of a segment: what each stretch of it comes to, so that a resume need not read a million lines one by one.

Beside `000001.jsonl` lies `000001.index`. A block of it covers a stretch of whole lines that tell of units, and holds for each
unit what is known at the end of the stretch. It is a help and never the truth: a block counts only if its own checksum fits
and that of the bytes which it covers, and what no block covers is read line by line. So nothing of it is ever synced, and
where it cannot be written the run goes on without it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.errors import StorageError
from runner.fingerprint import fingerprint_of
from runner.storage.files import FileSystem, write_all
from runner.storage.records import End, Open, Start, Try, tokens_of
from runner.storage.unit_order import Plan
from runner.structs import Struct

__all__ = ["ANSWERED", "FAILED", "FLYING", "TRIED", "Block", "Entry", "IndexWriter", "sound_blocks"]

#: What is known of a unit, as bits of a byte; 0 is nothing. TRIED is one that failed and has no result since.
ANSWERED = 1
FAILED = 2
FLYING = 4
TRIED = 8

#: Bytes of a stretch, and units at most: little work at once while a run goes on, few blocks for a resume.
_STRETCH_BYTES = 1 << 19
_MOST_UNITS = 500
#: What a block means: the layout below, the states, how a name becomes a fingerprint. One of another version does not count.
_VERSION = 3
#: So little is read at once that it stays in the processor's cache.
_READ_BYTES = 1 << 16
#: The checksums of what follows in the block, of the stretch, and of the plan; the stretch's beginning and end; the number of
#: entries; tokens used; for how long the segment had been open when the last result was written; what was paid, in dollars.
_HEAD = struct.Struct("<IIIQQIQQd")
_CHECKSUM = struct.Struct("<I")
_ENTRY = struct.Struct("<QQIQB")

_OF_A_UNIT = (End, Start, Try)
_NOTHING = (0, 0, 0, 0)

#: A unit's slot; where its result's line stands, and how long it is, 0 where the stretch has none; its item's fingerprint, 0
#: where nobody needs it; its state.
Entry = tuple[int, int, int, int, int]


class Block(Struct, frozen=True):
    """What a stretch of a segment comes to."""

    #: Where the stretch begins and ends in the segment.
    start: int
    end: int
    #: What its answers have used.
    tokens: int
    #: For how long the segment had been open when its last result was written, in microseconds; 0 where there is none.
    ran_us: int
    #: What its answers have cost, in dollars, as far as that is known.
    cost: float
    _entries: bytes

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries in the order of their slots."""
        return _ENTRY.iter_unpack(self._entries)


class IndexWriter:
    """Writes the index of one segment while the segment is written. No method raises: without an index a run goes on."""

    def __init__(self, path: Path, files: FileSystem) -> None:
        self._path, self._files = path, files
        self._handle: int | None = None
        self._is_closed = False
        self._offsets: Mapping[tuple[int, str], int] = {}
        self._plan = 0
        #: Where the stretch begins, and where the next line will.
        self._start = self._end = 0
        #: What is known at the end of the stretch, by slot: an entry without it.
        self._units: dict[int, tuple[int, int, int, int]] = {}
        self._checksum = self._tokens = self._ran_us = 0
        self._cost = 0.0

    def note(self, record: msgspec.Struct, line: bytes) -> None:
        """Take in a line that was written, and what it says."""
        offset, self._end = self._end, self._end + len(line)
        if isinstance(record, Open):
            plan = Plan(record.tasks)
            self._offsets, self._plan = plan.offsets(), _checksum_of(plan)
        if not isinstance(record, _OF_A_UNIT) or (place := self._offsets.get((record.sample_index, record.task))) is None:
            self._finish(offset)
            self._begin()
            return
        self._checksum = zlib.crc32(line, self._checksum)
        slot = record.item_index * len(self._offsets) + place
        if isinstance(record, End):
            self._tokens += tokens_of(record)
            self._cost += record.cost or 0.0
            self._ran_us = max(self._ran_us, record.ran_us)
            is_answer = record.error_type is None
            if is_answer or self._units.get(slot, _NOTHING)[3] != ANSWERED:  # an answer stays one, as for whoever reads lines
                name = fingerprint_of(record.item_id) if is_answer else 0
                self._units[slot] = (offset, len(line), name, ANSWERED if is_answer else ANSWERED | FAILED)
        elif (known := self._units.get(slot, _NOTHING))[3] != ANSWERED:
            where, length, name, state = known
            state = state | FLYING if isinstance(record, Start) else state & ~FLYING | TRIED
            self._units[slot] = where, length, name, state
        if self._end - self._start >= _STRETCH_BYTES or len(self._units) >= _MOST_UNITS:
            self._finish(self._end)
            self._begin()

    def close(self) -> None:
        """Write nothing more. The last lines have no block: they are few."""
        self._is_closed = True
        if self._handle is not None:
            self._files.close(self._handle)
            self._handle = None

    def _begin(self) -> None:
        """Begin a stretch at the next line."""
        self._start, self._units = self._end, {}
        self._checksum = self._tokens = self._ran_us = 0
        self._cost = 0.0

    def _finish(self, end: int) -> None:
        """Write the block of the stretch that ends there."""
        if self._is_closed or not self._units:
            return
        counts = len(self._units), self._tokens, self._ran_us, self._cost
        try:
            entries = b"".join([_ENTRY.pack(slot, *known) for slot, known in sorted(self._units.items())])
            block = _HEAD.pack(0, self._checksum, self._plan, self._start, end, *counts)[_CHECKSUM.size :] + entries
        except struct.error:
            return  # a number is too large, as a server's count of tokens may be: without a block its line is read
        try:
            if self._handle is None:
                self._handle = self._files.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            write_all(self._files, self._handle, _CHECKSUM.pack(zlib.crc32(block)) + block)
        except OSError:
            self.close()


def sound_blocks(segment: Path, plan: Plan, files: FileSystem) -> Iterator[Block]:
    """Yield the blocks of a segment's index in the order of their stretches, up to the first that does not fit.

    An index that is not there, or cannot be read, has no blocks. Raises StorageError where the segment cannot be read.
    """
    expected, position = _checksum_of(plan), 0
    for block, checksum, its_plan in _blocks_in(segment.with_suffix(".index"), files):
        is_next = its_plan == expected and position <= block.start < block.end
        if not is_next or checksum != _checksum_between(segment, block.start, block.end, files):
            return
        yield block
        position = block.end


def _blocks_in(path: Path, files: FileSystem) -> Iterator[tuple[Block, int, int]]:
    """Yield the blocks that are as they were written, each with the checksums of its stretch and of its plan."""
    position = 0
    with suppress(OSError):
        handle = files.open(path, os.O_RDONLY)
        try:
            while len(head := files.pread(handle, _HEAD.size, position)) == _HEAD.size:
                own, stretch, plan, start, end, count, tokens, ran_us, cost = _HEAD.unpack(head)
                length = count * _ENTRY.size
                if length > files.size(handle) - position - _HEAD.size:  # it may be noise, and no number in it be true
                    return
                entries = files.pread(handle, length, position + _HEAD.size)
                if own != zlib.crc32(entries, zlib.crc32(head[_CHECKSUM.size :])):
                    return
                yield Block(start, end, tokens, ran_us, cost, entries), stretch, plan
                position += _HEAD.size + length
        finally:
            files.close(handle)


def _checksum_between(segment: Path, start: int, end: int, files: FileSystem) -> int | None:
    """Return the checksum of a stretch; None where the file ends before. Raises StorageError."""
    checksum = 0
    try:
        handle = files.open(segment, os.O_RDONLY)
        try:
            while start < end:
                content = files.pread(handle, min(_READ_BYTES, end - start), start)
                if not content:
                    return None
                checksum = zlib.crc32(content, checksum)
                start += len(content)
        finally:
            files.close(handle)
    except OSError as error:
        raise StorageError(f"{segment}: cannot be read: {error.strerror}") from error
    return checksum


def _checksum_of(plan: Plan) -> int:
    """Return what tells one plan of units from another, and blocks of one version from those of another."""
    return zlib.crc32(msgspec.json.encode([_VERSION, *map(list, plan.tasks)]))
