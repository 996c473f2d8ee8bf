"""The index of a segment: a summary of each stretch of lines, so that a resume need not read a million lines one by one.

`000001.jsonl` has the index `000001.index`. A block of it covers a stretch of whole lines about units, and holds the state of
each of these units at the end of the stretch. The index only saves time and is never the truth: a block counts only if its own
checksum and that of the bytes it covers fit, and lines without a block are read one by one. So the index is never synced, and
if it cannot be written, the run goes on without it.
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
from runner.storage.files import FileSystem, opened, write_all
from runner.storage.records import End, Open, Start, Try, tokens_of
from runner.storage.unit_order import Plan
from runner.structs import Struct

__all__ = ["ANSWERED", "FAILED", "FLYING", "TRIED", "Block", "Entry", "IndexWriter", "sound_blocks"]

#: The state of a unit, as bits of a byte; 0: nothing is known. TRIED: an attempt failed, and there is no result since.
ANSWERED = 1
FAILED = 2
FLYING = 4
TRIED = 8

#: The most bytes and units of a stretch: little work at once while a run goes on, and few blocks for a resume.
_STRETCH_BYTES = 1 << 19
_MOST_UNITS = 500
#: The version of the layout below, the states and the fingerprints. A block of another version does not count.
_VERSION = 3
#: How much is read at once: little enough to stay in the processor's cache.
_READ_BYTES = 1 << 16
#: The checksums of the rest of the block, of the stretch, and of the plan; the beginning and the end of the stretch; the number
#: of entries; the tokens used; how long the segment had been open when the last result was written; the cost in dollars.
_HEAD = struct.Struct("<IIIQQIQQd")
_CHECKSUM = struct.Struct("<I")
_ENTRY = struct.Struct("<QQIQB")

_OF_A_UNIT = (End, Start, Try)
_NOTHING = (0, 0, 0, 0)

#: The slot of a unit; the offset and the length of its result's line, 0 if the stretch has no result; the fingerprint of its
#: item, 0 if it is not needed; the state of the unit.
Entry = tuple[int, int, int, int, int]


class Block(Struct, frozen=True):
    """The summary of a stretch of a segment."""

    #: The offsets in the segment at which the stretch begins and ends.
    start: int
    end: int
    #: The tokens that its answers used.
    tokens: int
    #: How long the segment had been open when its last result was written, in microseconds; 0 without a result.
    ran_us: int
    #: The cost of its answers in dollars, as far as it is known.
    cost: float
    _entries: bytes

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries in the order of their slots."""
        return _ENTRY.iter_unpack(self._entries)


class IndexWriter:
    """Writes the index of a segment while the segment is written. No method raises, because a run does not need the index."""

    def __init__(self, path: Path, files: FileSystem) -> None:
        self._path, self._files = path, files
        self._handle: int | None = None
        self._is_closed = False
        self._offsets: Mapping[tuple[int, str], int] = {}
        self._plan = 0
        #: The offsets at which the stretch began, and at which the next line begins.
        self._start = self._end = 0
        #: The entries at the end of the stretch, by slot; the tuples leave the slot out.
        self._units: dict[int, tuple[int, int, int, int]] = {}
        self._checksum = self._tokens = self._ran_us = 0
        self._cost = 0.0

    def note(self, record: msgspec.Struct, line: bytes) -> None:
        """Note a line that was written, and its record."""
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
            if is_answer or self._units.get(slot, _NOTHING)[3] != ANSWERED:  # an answer stays one, as when lines are read
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
        """Write nothing more. The last lines have no block, but they are few."""
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
        """Write the block of the stretch that ends at this offset."""
        if self._is_closed or not self._units:
            return
        counts = len(self._units), self._tokens, self._ran_us, self._cost
        try:
            entries = b"".join([_ENTRY.pack(slot, *known) for slot, known in sorted(self._units.items())])
            block = _HEAD.pack(0, self._checksum, self._plan, self._start, end, *counts)[_CHECKSUM.size :] + entries
        except struct.error:
            return  # a number is too large, such as a server's count of tokens: without a block the lines are read
        try:
            if self._handle is None:
                self._handle = self._files.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            write_all(self._files, self._handle, _CHECKSUM.pack(zlib.crc32(block)) + block)
        except OSError:
            self.close()


def sound_blocks(segment: Path, plan: Plan, files: FileSystem) -> Iterator[Block]:
    """Yield the blocks of a segment's index in the order of their stretches, up to the first one that does not fit.

    A missing or unreadable index has no blocks. Raises StorageError if the segment cannot be read.
    """
    expected, position = _checksum_of(plan), 0
    for block, checksum, its_plan in _blocks_in(segment.with_suffix(".index"), files):
        is_next = its_plan == expected and position <= block.start < block.end
        if not is_next or checksum != _checksum_between(segment, block.start, block.end, files):
            return
        yield block
        position = block.end


def _blocks_in(path: Path, files: FileSystem) -> Iterator[tuple[Block, int, int]]:
    """Yield the undamaged blocks, each with the checksums of its stretch and of its plan."""
    position = 0
    with suppress(OSError), opened(files, path, os.O_RDONLY) as handle:
        while len(head := files.pread(handle, _HEAD.size, position)) == _HEAD.size:
            own, stretch, plan, start, end, count, tokens, ran_us, cost = _HEAD.unpack(head)
            length = count * _ENTRY.size
            if length > files.size(handle) - position - _HEAD.size:  # the block may be damaged, so its numbers may be wrong
                return
            entries = files.pread(handle, length, position + _HEAD.size)
            if own != zlib.crc32(entries, zlib.crc32(head[_CHECKSUM.size :])):
                return
            yield Block(start, end, tokens, ran_us, cost, entries), stretch, plan
            position += _HEAD.size + length


def _checksum_between(segment: Path, start: int, end: int, files: FileSystem) -> int | None:
    """Return the checksum of a stretch; None if the file ends before it does. Raises StorageError."""
    checksum = 0
    try:
        with opened(files, segment, os.O_RDONLY) as handle:
            while start < end:
                content = files.pread(handle, min(_READ_BYTES, end - start), start)
                if not content:
                    return None
                checksum = zlib.crc32(content, checksum)
                start += len(content)
    except OSError as error:
        raise StorageError(f"{segment}: cannot be read: {error.strerror}") from error
    return checksum


def _checksum_of(plan: Plan) -> int:
    """Return the checksum of a plan of units and of the version of blocks."""
    return zlib.crc32(msgspec.json.encode([_VERSION, *map(list, plan.tasks)]))
