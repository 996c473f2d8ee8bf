"""The ledger: which units of a run have a result, and where in the journal it is.

It reads the journal once, by its index as far as that reaches. For each unit it keeps one byte in memory, and 24 bytes in a
temporary file in dataset order. So any number of results can be read back in that order without being held in memory.
"""

from __future__ import annotations

import re
import tempfile
from array import array
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from runner.errors import RunDirError, StorageError
from runner.storage.files import FILES, FileSystem
from runner.storage.index import ANSWERED, FAILED, FLYING, TRIED, Block, sound_blocks
from runner.storage.item_states import ItemStates, item_states
from runner.storage.journal import Line, read_segment, segments_of
from runner.storage.lines import Record, fingerprint_in, first_open, record_of
from runner.storage.offsets import Place, Places
from runner.storage.reader import Reader
from runner.storage.records import Batch, Close, Control, End, EndHead, Files, Limit, Open, Rescored, Start, Try, tokens_of
from runner.storage.unit_order import Plan
from runner.structs import Struct, field

__all__ = ["Ledger"]

#: The states of units with an answer, with an error, and perhaps in flight.
_ANSWERS = [state for state in range(16) if state & ANSWERED and not state & FAILED]
_ERRORS = [state for state in range(16) if state & FAILED]
_FLIGHTS = [state for state in range(16) if state & FLYING]
#: More units than any run has: a line about a higher slot is damaged, even if its checksum fits.
_MOST_UNITS = 1 << 30
_MORE_SLOTS = 4096
_HAS_RESULT = bytes(state & ANSWERED for state in range(256))
_UNANSWERED = re.compile(b"[^%c]" % ANSWERED)


class Ledger(Struct):
    """The content of the journal of one run."""

    plan: Plan
    _directory: Path
    #: The segments, in the order in which they were first read. The number of a segment is its position here, from 1.
    _segments: list[Path]
    _reader: Reader
    #: The first line of each segment.
    opens: list[Open] = field(default_factory=list)
    closes: list[Close] = field(default_factory=list)
    #: Name, size and SHA-256 of the dataset's files; empty if no start of the run got that far.
    files: list[tuple[str, int, str]] = field(default_factory=list)
    #: Damaged lines, as `file: offset`.
    damaged: list[str] = field(default_factory=list)
    #: How many control requests were sent, and their cost in dollars.
    controls: int = 0
    control_cost: float = 0.0
    #: The request files that were written for batches, by number.
    batches: dict[int, str] = field(default_factory=dict)
    #: For each slot, the number of the last batch with its request; 0: none.
    _batch_of: array[int] = field(default_factory=lambda: array("I"))
    #: The limits of requests in flight that each segment notes, if the run finds the limit itself.
    _limits: dict[int, list[Limit]] = field(default_factory=dict)
    #: The tokens that the answers of each segment used.
    _tokens: dict[int, int] = field(default_factory=dict)
    #: The cost of the answers of each segment in dollars, as far as it is known.
    _costs: dict[int, float] = field(default_factory=dict)
    #: How long each segment had been open when its last result was written, in microseconds.
    _ran_us: dict[int, int] = field(default_factory=dict)
    #: When that was, in microseconds since the epoch: for journals of the first versions, which did not write `ran_us`.
    _last_at: dict[int, int] = field(default_factory=dict)
    #: The segments that have a line, and the one with which the run finished; 0 if it has not.
    _written: set[int] = field(default_factory=set)
    _finished_in: int = 0
    _offsets: dict[tuple[int, str], int] = field(default_factory=dict)
    #: Pairs of sample and task of earlier starts that the plan no longer has; they have no answer.
    _former: set[tuple[int, str]] = field(default_factory=set)
    #: The state of each unit, one byte per slot.
    _states: bytearray = field(default_factory=bytearray)
    _places: Places = field(default_factory=Places)
    _segment_opens: dict[int, Open] = field(default_factory=dict)
    #: The result that was read last: a caller that goes through all results often asks for it again.
    _read: End | None = None
    #: The offset up to which each segment was read.
    _read_to: dict[int, int] = field(default_factory=dict)
    _files: FileSystem = FILES

    @classmethod
    def read(cls, directory: Path, files: FileSystem = FILES, *, tasks: Sequence[tuple[str, int]] | None = None) -> Self:
        """Read a journal for these tasks, by default for those of its latest start. Raises StorageError.

        Raises RunDirError if there is no journal, if it has a newer format, or if it holds a segment of another run.
        """
        segments = segments_of(directory)
        opens = [(segment, first_open(segment, files)) for segment in segments]
        known = list(_of_one_run(directory, opens))
        if not known:
            raise RunDirError(_nothing_to_read(directory, segments, files))
        plan = Plan(known[-1].tasks if tasks is None else tasks)
        numbered: list[Path] = []
        reader = Reader(lambda number: numbered[number - 1], files)
        with _its_own_errors():
            ledger = cls(plan, directory, numbered, reader, _offsets=plan.offsets(), _files=files)
        ledger._former = {pair for opened in known for pair in Plan(opened.tasks).offsets()} - ledger._offsets.keys()
        ledger.read_on()
        return ledger

    def read_on(self, only: Container[int] | None = None) -> None:
        """Read the lines that were written since, in all segments or in those with these numbers. Raises StorageError."""
        self._read = None
        with _its_own_errors():
            for segment in segments_of(self._directory):
                if only is not None and int(segment.stem) not in only:
                    continue
                if segment not in self._segments:
                    self._segments.append(segment)
                self._read_segment(segment)

    @property
    def tokens(self) -> int:
        """The tokens that all answers used."""
        return sum(self._tokens.values())

    @property
    def cost(self) -> float:
        """The cost of all answers in dollars, also of control requests, as far as it is known."""
        return sum(self._costs.values()) + self.control_cost

    @property
    def succeeded(self) -> int:
        """How many units have an answer."""
        return self._count(_ANSWERS)

    @property
    def failed(self) -> int:
        """How many units have an error as their result."""
        return self._count(_ERRORS)

    @property
    def items(self) -> int:
        """How many items have a result."""
        states = self._states.translate(_HAS_RESULT)
        return sum(map(any, zip(*[iter(states)] * self.plan.width, strict=False)))

    @property
    def items_begun(self) -> int:
        """How many items have a result, or come before an item that has one."""
        return -(-len(self._states.rstrip(bytes([0, FLYING, TRIED, FLYING | TRIED]))) // self.plan.width)

    @property
    def in_flight(self) -> int:
        """How many units may have been in flight when the run was killed. They may be paid twice."""
        return self._count(_FLIGHTS)

    @property
    def wall_s(self) -> float:
        """The total seconds of all starts of the run, each up to its last result."""
        return sum(seconds for _, seconds in self.starts)

    @property
    def slot_s(self) -> float:
        """The available slot time in seconds: the duration of each start, or of each of its workers, times its concurrency."""
        return sum(map(self._slot_s, self._segment_opens))

    def _slot_s(self, number: int) -> float:
        if not (limits := self._limits.get(number)):
            return self._ran_s(number) * self._segment_opens[number].concurrency
        last = limits[-1]
        return last.slot_s + max(0.0, self._ran_s(number) - last.ran_us / 1e6) * last.limit

    @property
    def limits(self) -> list[tuple[Open, Sequence[Limit]]]:
        """The limits of requests in flight that each segment notes, with its `open` line; only segments that note some."""
        return [(opened, self._limits[number]) for number, opened in self._segment_opens.items() if number in self._limits]

    @property
    def starts(self) -> list[tuple[int, float]]:
        """When each start of the run began, in microseconds since the epoch, and how many seconds it went on.

        A start with workers goes on as long as one of them does.
        """
        alone = [
            (opened.at, self._ran_s(number)) for number, opened in self._segment_opens.items() if opened.engine is msgspec.UNSET
        ]
        workers = [(opened.at, self._ran_s(number)) for number, opened in self._segment_opens.items() if opened.is_worker]
        return [*alone, *_union(workers)] if workers else alone

    def _ran_s(self, number: int) -> float:
        ran_us = self._ran_us.get(number) or self._last_at.get(number, 0) - self._segment_opens[number].at
        return max(0, ran_us) / 1e6

    @property
    def is_finished(self) -> bool:
        """Whether the latest start that wrote a line finished. Segments of workers do not count as starts."""
        starts = [number for number in self._written if not self._is_of_a_worker(number)]
        return 0 < self._finished_in == max(starts, key=self._rank, default=0)

    def _is_of_a_worker(self, number: int) -> bool:
        opened = self._segment_opens.get(number)
        return opened is not None and opened.is_worker

    def _rank(self, number: int) -> int:
        """Return the number in the name of a segment: later segments have higher numbers."""
        return int(self._segments[number - 1].stem)

    @property
    def rescored(self) -> Rescored | None:
        """The run whose answers it has taken, if it rescores another run."""
        return self.opens[-1].rescored

    def answers_of(self, task: str) -> int:
        """Return how many results of a task are answers."""
        return self._count_of(task, _ANSWERS)

    def errors_of(self, task: str) -> int:
        """Return how many results of a task are errors."""
        return self._count_of(task, _ERRORS)

    def _count_of(self, task: str, states: Iterable[int]) -> int:
        columns = [self._states[place :: self.plan.width] for (_, alias), place in self._offsets.items() if alias == task]
        return sum(column.count(state) for column in columns for state in states)

    def is_done(self, item_index: int, sample_index: int, task: str) -> bool:
        """Return whether a unit has a result."""
        return bool(self._state(item_index, sample_index, task) & ANSWERED)

    def has_failed(self, item_index: int, sample_index: int, task: str) -> bool:
        """Return whether the result of a unit is an error."""
        return bool(self._state(item_index, sample_index, task) & FAILED)

    def was_tried(self, item_index: int, sample_index: int, task: str) -> bool:
        """Return whether an attempt of a unit failed, without a result since."""
        return bool(self._state(item_index, sample_index, task) & TRIED)

    def is_flying(self, item_index: int, sample_index: int, task: str) -> bool:
        """Return whether an attempt of a unit began whose outcome is not known; it may have been paid."""
        return bool(self._state(item_index, sample_index, task) & FLYING)

    def waits_in(self, item_index: int, sample_index: int, task: str) -> int:
        """Return the number of the batch file in which a unit waits for its answer; 0 if it does not wait."""
        slot = self._slot(item_index, sample_index, task)
        return self._batch_of[slot] if slot < len(self._batch_of) and self._states[slot] & FLYING else 0

    @property
    def waiting(self) -> int:
        """How many units wait for answers from batches."""
        return sum(1 for slot, number in enumerate(self._batch_of) if number and self._states[slot] & FLYING)

    def items_standing(self, count: int) -> ItemStates:
        """Return the states of the first `count` items."""
        return item_states(self._states, self.plan.width, count)

    def first_unanswered(self, item_index: int) -> int:
        """Return the index of the first item, from this one on, with a unit that has no answer."""
        width = len(self._offsets)
        start = item_index * width
        found = _UNANSWERED.search(self._states, start)
        return (max(start, len(self._states)) if found is None else found.start()) // width

    def fingerprints(self, first: int, last: int) -> Sequence[int]:
        """Return the fingerprints of the names of items: from `first` to before `last`, up to the first unknown one."""
        width = self.plan.width
        return self._places.fingerprints(first * width, last * width, width)

    def end(self, item_index: int, sample_index: int, task: str) -> End | None:
        """Read the result of one unit back from the journal; None if there is none."""
        read = self._read
        if read is not None and (read.item_index, read.sample_index, read.task) == (item_index, sample_index, task):
            return read
        place = self._places.get(self._slot(item_index, sample_index, task))
        self._read = end = None if place is None else self._reader.end(place)
        return end

    def ends_of_sample(self, item_index: int, sample_index: int) -> list[End]:
        """Read the results of a sample back, in the order of its tasks."""
        aliases = [alias for alias, samples in self.plan.tasks if sample_index < samples]
        return [end for alias in aliases if (end := self.end(item_index, sample_index, alias)) is not None]

    def place(self, item_index: int, sample_index: int, task: str) -> Place | None:
        """Return the place of a unit's result, with the number in the name of its segment; None if there is no result."""
        place = self._places.get(self._slot(item_index, sample_index, task))
        return None if place is None else place._replace(segment=self._rank(place.segment))

    def ends(self) -> Iterator[End]:
        """Yield all results in dataset order."""
        return self._noted(self._reader.ends(self._places))

    def close(self) -> None:
        """Close the temporary file, and the segments that single results were read from."""
        self._places.close()
        self._reader.close()

    def _noted(self, ends: Iterable[End]) -> Iterator[End]:
        for end in ends:
            self._read = end
            yield end

    def _read_segment(self, segment: Path) -> None:
        """Read the rest of a segment: the first time by its index as far as that reaches, then line by line."""
        number = self._segments.index(segment) + 1
        if number not in self._read_to:
            self._read_to[number] = self._tokens[number] = 0
            self._costs[number] = 0.0
            for block in sound_blocks(segment, self.plan, self._files):
                if self._read_to[number] < block.start:
                    self._read_lines(number, read_segment(segment, self._files, self._read_to[number], block.start))
                self._take_block(number, block)
                self._read_to[number] = block.end
        self._read_lines(number, read_segment(segment, self._files, self._read_to[number]))

    def _take_block(self, number: int, block: Block) -> None:
        states = self._states
        self._written.add(number)
        for slot, offset, length, fingerprint, state in block:
            if slot >= len(states):
                self._make_room(slot)
            if not length:
                if states[slot] != ANSWERED:
                    states[slot] = states[slot] & ~FLYING | state
            elif not states[slot] & ANSWERED or self._counts(slot, number, is_answer=not state & FAILED):
                states[slot] = state
                self._places.put(slot, offset, length, number, fingerprint)
        self._note(number, block.tokens, block.ran_us, cost=block.cost)

    def _counts(self, slot: int, number: int, *, is_answer: bool) -> bool:
        """Return whether a result replaces the known one: an answer replaces an error; else the later one counts.

        The later one is in the segment with the higher number. So the order in which segments are read does not matter.
        """
        if is_answer is bool(self._states[slot] & FAILED):
            return is_answer
        there = self._places.get(slot)
        return there is None or self._rank(number) >= self._rank(there.segment)

    def _read_lines(self, number: int, lines: Iterable[Line]) -> None:
        """Read lines. There may be a million of them, so this loop makes few calls."""
        width, offsets, states = self.plan.width, self._offsets, self._states
        tokens = ran_us = last_at = 0
        cost = 0.0
        line: Line | None = None
        for line in lines:
            record = record_of(line)
            if not isinstance(record, _OF_A_UNIT) or (place := offsets.get((record.sample_index, record.task))) is None:
                self._take(number, line, record)
                continue
            slot = record.item_index * width + place
            if not 0 <= slot < len(states):
                if not 0 <= slot < _MOST_UNITS:
                    self._take(number, line, None)
                    continue
                self._make_room(slot)
            if isinstance(record, EndHead):
                is_answer = record.error_type is None
                if not states[slot] & ANSWERED or self._counts(slot, number, is_answer=is_answer):
                    states[slot] = ANSWERED if is_answer else ANSWERED | FAILED
                    self._places.put(slot, line.offset, len(line.text), number, fingerprint_in(line) if is_answer else 0)
                tokens += tokens_of(record)
                cost += record.cost or 0.0
                ran_us = max(ran_us, record.ran_us)
                last_at = max(last_at, record.completed_at)
            elif states[slot] != ANSWERED:
                states[slot] = states[slot] | FLYING if isinstance(record, Start) else states[slot] & ~FLYING | TRIED
        if line is not None:
            self._written.add(number)
            self._read_to[number] = line.offset + line.length
        self._note(number, tokens, ran_us, last_at, cost)

    def _make_room(self, slot: int) -> None:
        self._states.extend(bytes(slot + _MORE_SLOTS - len(self._states)))

    def _note(self, number: int, tokens: int, ran_us: int, last_at: int = 0, cost: float = 0.0) -> None:
        self._tokens[number] += tokens
        self._costs[number] += cost
        self._ran_us[number] = max(ran_us, self._ran_us.get(number, 0))
        self._last_at[number] = max(last_at, self._last_at.get(number, 0))

    def _take(self, number: int, line: Line, record: Record | None) -> None:
        match record:
            case Open():
                if number not in self._segment_opens:  # each segment has it twice
                    self.opens.append(record)
                    self._segment_opens[number] = record
            case Close():
                self.closes.append(record)
                self._finished_in = number if record.reason is None else 0
            case Start() | Try() | EndHead() if (record.sample_index, record.task) in self._former:
                pass
            case Files():
                self.files = record.files
            case Batch():
                self._take_batch(record)
            case Limit():
                self._limits.setdefault(number, []).append(record)
            case Control():
                self.controls += 1
                self.control_cost += record.cost or 0.0
                self._note(number, record.tokens, 0)
            case _:  # damaged, or about a unit that this run does not have
                self.damaged.append(f"{self._segments[number - 1]}: offset {line.offset}")

    def _take_batch(self, batch: Batch) -> None:
        """Note the units of a batch that wait, except those that have an answer."""
        self.batches[batch.number] = batch.file
        width = self.plan.width
        for item_index, sample_index, place in batch.units:
            offset = self._offsets.get((sample_index, batch.tasks[place]))
            slot = -1 if offset is None else item_index * width + offset
            if not 0 <= slot < _MOST_UNITS:
                continue
            if slot >= len(self._states):
                self._make_room(slot)
            if slot >= len(self._batch_of):
                self._batch_of.extend(array("I", bytes(4 * (len(self._states) - len(self._batch_of)))))
            if self._states[slot] != ANSWERED:
                self._states[slot] |= FLYING
                self._batch_of[slot] = batch.number

    def _count(self, states: Iterable[int]) -> int:
        return sum(map(self._states.count, states))

    def _state(self, item_index: int, sample_index: int, task: str) -> int:
        slot = self._slot(item_index, sample_index, task)
        return self._states[slot] if slot < len(self._states) else 0

    def _slot(self, item_index: int, sample_index: int, task: str) -> int:
        return item_index * len(self._offsets) + self._offsets[sample_index, task]


def _union(spans: Iterable[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Yield spans (microseconds since the epoch, seconds) in order; merge those that overlap."""
    current: tuple[int, float] | None = None
    for at, seconds in sorted(spans):
        if current is not None and at <= current[0] + current[1] * 1e6:
            current = current[0], max(current[1], (at - current[0]) / 1e6 + seconds)
            continue
        if current is not None:
            yield current
        current = at, seconds
    if current is not None:
        yield current


_OF_A_UNIT = (EndHead, Start, Try)


def _of_one_run(directory: Path, opens: Sequence[tuple[Path, Open | None]]) -> Iterator[Open]:
    """Yield the `open` lines. Raises RunDirError for a segment of another run or of another config."""
    known = [opened for _, opened in opens if opened is not None]
    named = [opened for opened in known if opened.run_id == directory.parent.name]  # unless the directory was renamed
    before: Open | None = None
    for segment, opened in opens:
        if opened is not None:
            if opened.run_id != (own := (named or known)[0].run_id):
                what = f"belongs to another run, {opened.run_id}, and this is {own}"
                raise RunDirError(f"{segment}: {what}; move it out of the journal")
            if before is not None and (other := _other_paths(before, opened)):
                what = f"belongs to a run that asked something else ({', '.join(other)})"
                raise RunDirError(f"{segment}: {what}; move it out of the journal")
            yield opened
        before = opened


def _other_paths(before: Open, opened: Open) -> list[str]:
    """Return the paths of the config whose value changed from one start to the next without being allowed to."""
    paths = {*before.identity, *opened.identity} - set(opened.changed)
    return sorted(path for path in paths if before.identity.get(path) != opened.identity.get(path))


def _nothing_to_read(directory: Path, segments: Sequence[Path], files: FileSystem) -> str:
    for segment in segments:
        if next(read_segment(segment, files), None) is not None:
            what = f"is damaged: its {segment.stat().st_size} bytes have no readable `open` line, which describes the run"
            return f"{segment}: {what}; put it back from a copy, or move it out of the journal, and its rows are asked again"
    return f"{directory}: there is no journal to read"


@contextmanager
def _its_own_errors() -> Iterator[None]:
    """Turn an OSError of the temporary file into a StorageError. Reading the journal raises StorageError already."""
    try:
        yield
    except OSError as error:
        what = f"the table of the journal's lines, a temporary file in {tempfile.gettempdir()}, cannot be written"
        raise StorageError(f"{what}: {error.strerror}") from error
