"""The ledger: which units of a run have a result, and where in the journal it stands.

It is made by reading the journal once. For each unit it keeps one bit in memory and sixteen bytes in a temporary file, in
dataset order: so results can be read back in that order without ever being held, however many there are.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from runner.errors import RunDirError, StorageError
from runner.storage.files import FILES, FileSystem
from runner.storage.journal import Line, payload_of, read_segment, segments_of
from runner.storage.records import FORMAT, Close, End, EndHead, Files, Open, Start, Try

__all__ = ["Ledger", "Plan"]

_ENTRY = struct.Struct("<QII")  # offset, length, segment number from 1
_READ_ENTRIES = 4096
_MORE_BITS = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """The order of all units: by item, then sample, then task. A unit's place in it is its slot."""

    #: Each task's alias and how often it runs per item, in the order in which tasks run.
    tasks: Sequence[tuple[str, int]]

    @property
    def width(self) -> int:
        """Units per item."""
        return sum(samples for _, samples in self.tasks)

    def offsets(self) -> dict[tuple[int, str], int]:
        """Return the place of each (sample, task) among an item's units."""
        most = max((samples for _, samples in self.tasks), default=0)
        pairs = [(sample, alias) for sample in range(most) for alias, samples in self.tasks if sample < samples]
        return {pair: place for place, pair in enumerate(pairs)}


@dataclass(slots=True)
class Ledger:
    """What the journal of one run says."""

    plan: Plan
    #: The first line of each segment.
    opens: list[Open] = field(default_factory=list)
    closes: list[Close] = field(default_factory=list)
    #: Name, size and SHA-256 of the dataset's files; empty where no start of the run got that far.
    files: list[tuple[str, int, str]] = field(default_factory=list)
    #: Lines whose checksum did not fit, as `file: offset`.
    damaged: list[str] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    #: What all answers together have used, as far as the server said.
    tokens: int = 0
    #: Items of which at least one result is there, or that come before such a one.
    items_begun: int = 0
    #: When each segment's last result was written, in microseconds since the epoch.
    _last_at: dict[int, int] = field(default_factory=dict)
    _offsets: dict[tuple[int, str], int] = field(default_factory=dict)
    _flying: set[int] = field(default_factory=set)
    _done: bytearray = field(default_factory=bytearray)
    _failed: bytearray = field(default_factory=bytearray)
    _segment_opens: dict[int, Open] = field(default_factory=dict)
    _segments: list[Path] = field(default_factory=list)
    _table: int = -1
    _files: FileSystem = FILES

    @classmethod
    def read(cls, directory: Path, files: FileSystem = FILES) -> Ledger:
        """Read a journal. Raises RunDirError if there is none, or one of a newer format; StorageError."""
        segments = segments_of(directory)
        opens = [opened for segment in segments if (opened := _first_open(segment, files)) is not None]
        if not opens:
            raise RunDirError(f"{directory}: there is no journal to read")
        plan = Plan(opens[0].tasks)
        try:
            ledger = cls(plan, _offsets=plan.offsets(), _segments=segments, _table=_temporary_file(), _files=files)
            for number, segment in enumerate(segments, 1):
                for line in read_segment(segment, files):
                    ledger._take(number, line)
        except OSError as error:
            what = f"the journal's index, a temporary file in {tempfile.gettempdir()}, cannot be written"
            raise StorageError(f"{what}: {error.strerror}") from error
        return ledger

    @property
    def in_flight(self) -> int:
        """Units whose answer may have been on its way when the run was killed, and which may be paid twice."""
        return len(self._flying)

    @property
    def wall_s(self) -> float:
        """Seconds that all starts of the run took together, each up to its last result."""
        return sum(seconds for seconds, _ in self._spans())

    @property
    def slot_s(self) -> float:
        """The same, each times its concurrency: the time that slots could have been full."""
        return sum(seconds * concurrency for seconds, concurrency in self._spans())

    def _spans(self) -> Iterator[tuple[float, int]]:
        for number, opened in self._segment_opens.items():
            if number in self._last_at:
                yield max(0, self._last_at[number] - opened.at) / 1e6, opened.concurrency

    def is_done(self, item_index: int, sample_index: int, task: str) -> bool:
        """Whether a unit has a result."""
        return self._bit(self._done, self._slot(item_index, sample_index, task))

    def has_failed(self, item_index: int, sample_index: int, task: str) -> bool:
        """Whether a unit's result is an error."""
        return self._bit(self._failed, self._slot(item_index, sample_index, task))

    def end(self, item_index: int, sample_index: int, task: str) -> End | None:
        """Read one unit's result back from the journal."""
        slot = self._slot(item_index, sample_index, task)
        entry = os.pread(self._table, _ENTRY.size, slot * _ENTRY.size)
        found = list(self._ends(entry))
        return found[0] if found else None

    def ends(self) -> Iterator[End]:
        """Yield all results in dataset order."""
        position = 0
        while chunk := os.pread(self._table, _ENTRY.size * _READ_ENTRIES, position):
            position += len(chunk)
            yield from self._ends(chunk)

    def close(self) -> None:
        """Give the temporary file back."""
        os.close(self._table)

    def _ends(self, entries: bytes) -> Iterator[End]:
        opened: dict[int, int] = {}
        try:
            for offset, length, number in _ENTRY.iter_unpack(entries):
                if not number:
                    continue
                if number not in opened:
                    opened[number] = self._files.open(self._segments[number - 1], os.O_RDONLY)
                payload = payload_of(self._files.pread(opened[number], length - 1, offset))
                if payload is not None:
                    yield _END.decode(payload)
        except OSError as error:
            raise StorageError(f"{self._segments[0].parent}: cannot be read: {error.strerror}") from error
        finally:
            for handle in opened.values():
                self._files.close(handle)

    def _take(self, number: int, line: Line) -> None:
        record = _record_of(line)
        if isinstance(record, EndHead | Start | Try) and (record.sample_index, record.task) not in self._offsets:
            record = None  # not a unit of this run
        match record:
            case EndHead():
                self._take_end(record, line, number)
            case Start():
                self._flying.add(self._slot(record.item_index, record.sample_index, record.task))
            case Try():
                self._flying.discard(self._slot(record.item_index, record.sample_index, record.task))
            case Open():
                if number not in self._segment_opens:  # it stands twice
                    self.opens.append(record)
                    self._segment_opens[number] = record
            case Close():
                self.closes.append(record)
            case Files():
                self.files = record.files
            case None:
                self.damaged.append(f"{self._segments[number - 1]}: offset {line.offset}")

    def _take_end(self, end: EndHead, line: Line, number: int) -> None:
        slot = self._slot(end.item_index, end.sample_index, end.task)
        self._flying.discard(slot)
        if self._bit(self._done, slot):
            self._count(self._bit(self._failed, slot), -1)
        self._count(end.error_type is not None, 1)
        self.tokens += end.total_tokens or 0
        self._set(self._done, slot, True)
        self._set(self._failed, slot, end.error_type is not None)
        os.pwrite(self._table, _ENTRY.pack(line.offset, line.length, number), slot * _ENTRY.size)
        self._last_at[number] = max(self._last_at.get(number, 0), end.completed_at)
        self.items_begun = max(self.items_begun, end.item_index + 1)

    def _count(self, failed: bool, by: int) -> None:
        if failed:
            self.failed += by
        else:
            self.succeeded += by

    def _slot(self, item_index: int, sample_index: int, task: str) -> int:
        return item_index * self.plan.width + self._offsets[sample_index, task]

    @staticmethod
    def _bit(bits: bytearray, slot: int) -> bool:
        return slot >> 3 < len(bits) and bool(bits[slot >> 3] >> (slot & 7) & 1)

    @staticmethod
    def _set(bits: bytearray, slot: int, value: bool) -> None:
        if slot >> 3 >= len(bits):
            bits.extend(bytes((slot >> 3) + _MORE_BITS - len(bits)))
        mask = 1 << (slot & 7)
        bits[slot >> 3] = bits[slot >> 3] | mask if value else bits[slot >> 3] & ~mask


_LINE = msgspec.json.Decoder(Open | Files | Start | Try | EndHead | Close)
_END = msgspec.json.Decoder(End)
_OPEN = b'{"kind":"open",'


def _record_of(line: Line) -> Open | Files | Start | Try | EndHead | Close | None:
    try:
        return None if line.payload is None else _LINE.decode(line.payload)
    except msgspec.MsgspecError:
        return None


def _first_open(segment: Path, files: FileSystem) -> Open | None:
    """Return a segment's `open` line if it has one. Raises RunDirError for a format that this program does not know."""
    for line in read_segment(segment, files):
        if line.payload is not None and line.payload.startswith(_OPEN):
            raw = msgspec.json.decode(line.payload)
            if raw.get("format") != FORMAT:
                raise RunDirError(f"{segment}: is of format {raw.get('format')}, this program reads format {FORMAT}; update it")
            return msgspec.convert(raw, Open)
    return None


def _temporary_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
