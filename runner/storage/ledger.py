"""The ledger: which units of a run have a result, and where in the journal it stands.

It is made by going through the journal once, by its index as far as that reaches. For each unit it keeps a byte in memory and
24 in a temporary file, in dataset order: so results can be read back in that order without ever being held, however many.
"""

from __future__ import annotations

import os
import re
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from runner.errors import RunDirError, StorageError
from runner.storage.files import FILES, FileSystem
from runner.storage.index import ANSWERED, FAILED, FLYING, TRIED, Block, sound_blocks
from runner.storage.item_states import ItemStates, item_states
from runner.storage.journal import PREFIX_LENGTH, Line, is_sound, read_segment, segments_of
from runner.storage.lines import Record, fingerprint_in, first_open, record_of
from runner.storage.offsets import Place, Places
from runner.storage.records import Batch, Close, Control, End, EndHead, Files, Limit, Open, Rescored, Start, Try, tokens_of
from runner.storage.unit_order import Plan
from runner.structs import Struct, field

__all__ = ["Ledger"]

_STATES = range(16)
#: More than any run has: a line that names one beyond is damaged, whatever its checksum says.
_MOST_UNITS = 1 << 30
_MORE_SLOTS = 4096
_HAS_RESULT = bytes(state & ANSWERED for state in range(256))
_UNANSWERED = re.compile(b"[^%c]" % ANSWERED)


class Ledger(Struct):
    """What the journal of one run says."""

    plan: Plan
    #: The first line of each segment.
    opens: list[Open] = field(default_factory=list)
    closes: list[Close] = field(default_factory=list)
    #: Name, size and SHA-256 of the dataset's files; empty where no start of the run got that far.
    files: list[tuple[str, int, str]] = field(default_factory=list)
    #: Lines whose checksum did not fit, as `file: offset`.
    damaged: list[str] = field(default_factory=list)
    #: How many control requests were sent, and what they have cost, in dollars.
    controls: int = 0
    control_cost: float = 0.0
    #: The files of requests that were written for batches, by their numbers.
    batches: dict[int, str] = field(default_factory=dict)
    #: By slot, in which of them a request went last; 0 is none.
    _batch_of: array[int] = field(default_factory=lambda: array("I"))
    #: What each segment says of how many may be in flight, where that is found while the run goes on.
    _limits: dict[int, list[Limit]] = field(default_factory=dict)
    #: What each segment's answers have used.
    _tokens: dict[int, int] = field(default_factory=dict)
    #: What they have cost, in dollars, as far as that is known.
    _costs: dict[int, float] = field(default_factory=dict)
    #: For how long each segment had been open when its last result was written, in microseconds.
    _ran_us: dict[int, int] = field(default_factory=dict)
    #: When that was, in microseconds since the epoch. Only the first versions of this program did not write the time before.
    _last_at: dict[int, int] = field(default_factory=dict)
    #: The segments that have a line, and the one with which the run finished; 0 where it has not.
    _written: set[int] = field(default_factory=set)
    _finished_in: int = 0
    _offsets: dict[tuple[int, str], int] = field(default_factory=dict)
    #: Samples and tasks of earlier starts that the plan no longer has: nothing of them was answered.
    _former: set[tuple[int, str]] = field(default_factory=set)
    #: A byte per unit, by slot.
    _states: bytearray = field(default_factory=bytearray)
    _places: Places = field(default_factory=Places)
    _segment_opens: dict[int, Open] = field(default_factory=dict)
    #: The result that was read last: who goes through all of them often asks for it once more.
    _read: End | None = None
    #: The segments that single results were read from, by their numbers.
    _opened: dict[int, int] = field(default_factory=dict)
    _directory: Path = Path()
    #: In the order in which they were first read: a segment's number here is its place in this list, from 1.
    _segments: list[Path] = field(default_factory=list)
    #: How far each was read.
    _read_to: dict[int, int] = field(default_factory=dict)
    _files: FileSystem = FILES

    @classmethod
    def read(cls, directory: Path, files: FileSystem = FILES, *, tasks: Sequence[tuple[str, int]] | None = None) -> Self:
        """Read a journal, as one of these tasks; by default as one of those of its latest start.

        Raises RunDirError if there is none, one of a newer format, or one that holds a segment of another run; StorageError.
        """
        segments = segments_of(directory)
        opens = [(segment, first_open(segment, files)) for segment in segments]
        known = list(_of_one_run(directory, opens))
        if not known:
            raise RunDirError(_nothing_to_read(directory, segments, files))
        plan = Plan(known[-1].tasks if tasks is None else tasks)
        with _its_own_errors():
            ledger = cls(plan, _offsets=plan.offsets(), _directory=directory, _files=files)
        ledger._former = {pair for opened in known for pair in Plan(opened.tasks).offsets()} - ledger._offsets.keys()
        ledger.read_on()
        return ledger

    def read_on(self, only: Path | None = None) -> None:
        """Read what was written since, of all segments or of one. Raises StorageError."""
        self._read = None
        with _its_own_errors():
            for segment in segments_of(self._directory) if only is None else [only]:
                if segment not in self._segments:
                    self._segments.append(segment)
                self._read_segment(segment)

    @property
    def tokens(self) -> int:
        """What all answers together have used."""
        return sum(self._tokens.values())

    @property
    def cost(self) -> float:
        """What all answers together have cost, in dollars, as far as that is known; those of control requests too."""
        return sum(self._costs.values()) + self.control_cost

    @property
    def succeeded(self) -> int:
        """Units whose result is an answer."""
        return self._count(state for state in _STATES if state & ANSWERED and not state & FAILED)

    @property
    def failed(self) -> int:
        """Units whose result is an error."""
        return self._count(state for state in _STATES if state & FAILED)

    @property
    def items(self) -> int:
        """Items of which a result is there."""
        states = self._states.translate(_HAS_RESULT)
        return sum(map(any, zip(*[iter(states)] * self.plan.width, strict=False)))

    @property
    def items_begun(self) -> int:
        """Items of which at least one result is there, or that come before such a one."""
        return -(-len(self._states.rstrip(bytes([0, FLYING, TRIED, FLYING | TRIED]))) // self.plan.width)

    @property
    def in_flight(self) -> int:
        """Units whose answer may have been on its way when the run was killed, and which may be paid twice."""
        return self._count(state for state in _STATES if state & FLYING)

    @property
    def wall_s(self) -> float:
        """Seconds that all starts of the run took together, each up to its last result."""
        return sum(seconds for _, seconds in self.starts)

    @property
    def slot_s(self) -> float:
        """The time that slots could have been full: that of each start, or of each of its workers, times its concurrency."""
        return sum(map(self._slot_s, self._segment_opens))

    def _slot_s(self, number: int) -> float:
        if not (limits := self._limits.get(number)):
            return self._ran_s(number) * self._segment_opens[number].concurrency
        last = limits[-1]
        return last.slot_s + max(0.0, self._ran_s(number) - last.ran_us / 1e6) * last.limit

    @property
    def limits(self) -> list[tuple[Open, Sequence[Limit]]]:
        """What each segment says of how many may be in flight, where that is found; by its `open` line."""
        return [(opened, self._limits[number]) for number, opened in self._segment_opens.items() if number in self._limits]

    @property
    def starts(self) -> list[tuple[int, float]]:
        """When each start of the run began, in microseconds since the epoch, and for how many seconds it went on.

        A start with workers went on while at least one of them did.
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
        """Whether the latest start that wrote anything came to its end; what its workers write is a part of it."""
        starts = [number for number in self._written if not self._is_of_a_worker(number)]
        return 0 < self._finished_in == max(starts, key=self._rank, default=0)

    def _is_of_a_worker(self, number: int) -> bool:
        opened = self._segment_opens.get(number)
        return opened is not None and opened.is_worker

    def _rank(self, number: int) -> int:
        """Return the number that a segment has by its name, which is higher the later it was begun."""
        return int(self._segments[number - 1].stem)

    @property
    def rescored(self) -> Rescored | None:
        """Whose answers it has taken, if it rescores another run."""
        return self.opens[-1].rescored

    def answers_of(self, task: str) -> int:
        """Return how many results of a task are answers."""
        return self._count_of(task, lambda state: bool(state & ANSWERED) and not state & FAILED)

    def errors_of(self, task: str) -> int:
        """Return how many results of a task are errors."""
        return self._count_of(task, lambda state: bool(state & FAILED))

    def _count_of(self, task: str, wanted: Callable[[int], bool]) -> int:
        columns = [self._states[place :: self.plan.width] for (_, alias), place in self._offsets.items() if alias == task]
        return sum(column.count(state) for column in columns for state in _STATES if wanted(state))

    def is_done(self, item_index: int, sample_index: int, task: str) -> bool:
        """Whether a unit has a result."""
        return bool(self._state(item_index, sample_index, task) & ANSWERED)

    def has_failed(self, item_index: int, sample_index: int, task: str) -> bool:
        """Whether a unit's result is an error."""
        return bool(self._state(item_index, sample_index, task) & FAILED)

    def was_tried(self, item_index: int, sample_index: int, task: str) -> bool:
        """Whether a unit has failed, and has no result since."""
        return bool(self._state(item_index, sample_index, task) & TRIED)

    def is_flying(self, item_index: int, sample_index: int, task: str) -> bool:
        """Whether an attempt of a unit was begun of which nothing more is known, and which may have been paid."""
        return bool(self._state(item_index, sample_index, task) & FLYING)

    def waits_in(self, item_index: int, sample_index: int, task: str) -> int:
        """Return the number of the batch file in which a unit waits for its answer; 0 where it does not."""
        slot = self._slot(item_index, sample_index, task)
        return self._batch_of[slot] if slot < len(self._batch_of) and self._states[slot] & FLYING else 0

    @property
    def waiting(self) -> int:
        """Units that wait for the answers of batches."""
        return sum(1 for slot, number in enumerate(self._batch_of) if number and self._states[slot] & FLYING)

    def items_standing(self, count: int) -> ItemStates:
        """Return how the first so many items stand."""
        return item_states(self._states, self.plan.width, count)

    def first_unanswered(self, item_index: int) -> int:
        """Return the index of the first item, from this one on, of which a unit has no answer."""
        width = len(self._offsets)
        start = item_index * width
        found = _UNANSWERED.search(self._states, start)
        return (max(start, len(self._states)) if found is None else found.start()) // width

    def fingerprints(self, first: int, last: int) -> Sequence[int]:
        """Return the fingerprints of the names of items with results: of `first` and those behind it, up to one without."""
        width = self.plan.width
        return self._places.fingerprints(first * width, last * width, width)

    def end(self, item_index: int, sample_index: int, task: str) -> End | None:
        """Read one unit's result back from the journal."""
        read = self._read
        if read is not None and (read.item_index, read.sample_index, read.task) == (item_index, sample_index, task):
            return read
        place = self._places.get(self._slot(item_index, sample_index, task))
        return None if place is None else next(self._ends([place], self._opened), None)

    def ends(self) -> Iterator[End]:
        """Yield all results in dataset order."""
        return self._ends(self._places)

    def close(self) -> None:
        """Give the temporary file back, and the segments that single results were read from."""
        self._places.close()
        while self._opened:
            self._files.close(self._opened.popitem()[1])

    def _ends(self, places: Iterable[Place], stay_open: dict[int, int] | None = None) -> Iterator[End]:
        """Yield results by their places. The segments that this opens are closed, or noted by their numbers and stay open."""
        opened: dict[int, int] = {} if stay_open is None else stay_open
        try:
            for offset, length, number, _ in places:
                if number not in opened:
                    opened[number] = self._files.open(self._segments[number - 1], os.O_RDONLY)
                text = self._files.pread(opened[number], length, offset)
                if is_sound(text):
                    self._read = end = self._end_in(text, number, offset)
                    yield end
        except OSError as error:
            raise StorageError(f"{self._directory}: cannot be read: {error.strerror}") from error
        finally:
            if stay_open is None:
                for handle in opened.values():
                    self._files.close(handle)

    def _end_in(self, text: bytes, number: int, offset: int) -> End:
        try:
            return _END.decode(memoryview(text)[PREFIX_LENGTH:-1])
        except msgspec.MsgspecError as error:
            what = f"its checksum fits, but it is no result: {error}; take this line out"
            raise StorageError(f"{self._segments[number - 1]}: offset {offset}: {what}") from error

    def _read_segment(self, segment: Path) -> None:
        """Take in a segment from where it was read to: by its index as far as that goes, the rest by its lines."""
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
        """Whether a result takes the place of the one that is there: an answer that of an error, then what was written later.

        Who wrote later is told by the numbers of the segments. So it does not matter in which order they are read.
        """
        if is_answer is bool(self._states[slot] & FAILED):
            return is_answer
        there = self._places.get(slot)
        return there is None or self._rank(number) >= self._rank(there.segment)

    def _read_lines(self, number: int, lines: Iterable[Line]) -> None:
        """Take in lines: of a million of them, so it calls as little as it can."""
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
                if number not in self._segment_opens:  # it stands twice
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
            case _:  # damaged, or of a unit that is not of this run
                self.damaged.append(f"{self._segments[number - 1]}: offset {line.offset}")

    def _take_batch(self, batch: Batch) -> None:
        """Note which units wait, as far as they have no answer."""
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
    """Yield spans, of microseconds since the epoch and seconds, in order; those that overlap as one."""
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
_END = msgspec.json.Decoder(End)


def _of_one_run(directory: Path, opens: Sequence[tuple[Path, Open | None]]) -> Iterator[Open]:
    """Yield the `open` lines. Raises RunDirError for a segment of another run, or of one that asked something else."""
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
    """Return what of the config became another value from one start to the next, and was not allowed to."""
    paths = {*before.identity, *opened.identity} - set(opened.changed)
    return sorted(path for path in paths if before.identity.get(path) != opened.identity.get(path))


def _nothing_to_read(directory: Path, segments: Sequence[Path], files: FileSystem) -> str:
    for segment in segments:
        if next(read_segment(segment, files), None) is not None:
            what = f"is damaged: of its {segment.stat().st_size} bytes the line that says what the run is cannot be read"
            return f"{segment}: {what}; put it back from a copy, or move it out of the journal, and its rows are asked again"
    return f"{directory}: there is no journal to read"


@contextmanager
def _its_own_errors() -> Iterator[None]:
    """Turn an OSError into a StorageError; reading the journal raises those by itself."""
    try:
        yield
    except OSError as error:
        what = f"the table of the journal's lines, a temporary file in {tempfile.gettempdir()}, cannot be written"
        raise StorageError(f"{what}: {error.strerror}") from error
