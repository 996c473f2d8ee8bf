"""The pipeline: samples in, results out, bounded in flight.

    samples ──► worker 1 … worker N ──► sink
                each: the tasks of one sample, in order of dependency

Long-lived workers pull from one iterator, as many as there may be requests in flight. A worker takes the next sample only
when it is free, so there is never more in memory than there are workers, however large the dataset; a row that waits aside has
another in its place, up to a thousand. A result is handed to the sink in the same loop callback in which its answer was
complete. A few workers begin; the others are hired in groups once something is known of the endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from runner import jsontext
from runner.errors import AttemptError, NotAsked, RowError, RunStopped, StorageError
from runner.logs import logger
from runner.structs import Struct, field
from runner.tasks.base import Task, without_request
from runner.templates.locators import located
from runner.timers import after_reading
from runner.types import SKIPPED, Answer, Attempt, ErrorType, Failure, Response, Result, Sample, Send

__all__ = ["Condition", "InFlight", "Outputs", "Pipeline", "PriorResult", "Step"]

_log = logger(__name__)


class Condition(Protocol):
    """What has to hold of a sample for a task to be run."""

    @property
    def inputs(self) -> Sequence[str]:
        """The aliases of the tasks that it reads."""

    def holds(self, item: Mapping[str, Any]) -> bool:
        """Whether it holds of a row together with the outputs of the tasks before. Raises RowError."""


class Step(Struct, frozen=True, kw_only=True):
    """A task in its place."""

    task: Task
    #: How often it runs per item.
    samples: int
    #: The aliases of the tasks that it reads, its condition included.
    inputs: Sequence[str]
    #: Whether it only judges: it sends nothing, so that it is done also where the run is to end.
    judges: bool = False
    #: What has to hold of a sample, or it is skipped; None: it is, where a task that it reads was.
    condition: Condition | None = None
    #: What later tasks read of its output, which is an object as JSON, by names of their own.
    columns: Mapping[str, Sequence[str | int]] = {}


class PriorResult(Struct, frozen=True):
    """What an earlier start of the run has found for a unit."""

    output: object
    failed: bool
    skipped: bool = False


#: So many workers begin; the others follow when something is known of the endpoint: a wrong key costs no more attempts.
_FIRST_WORKERS = 8
#: An endpoint that has said nothing for so long is slow, but refuses nobody.
_LONGEST_CAUTION_S = 2.0
#: So many rows may wait aside, so that memory is bounded; who comes later keeps its place.
_MOST_ASIDE = 1000
#: So many workers begin in one turn of the event loop: in between it opens their connections and takes what was answered.
_HIRED_AT_ONCE = 32


class Outputs(Struct):
    """What the tasks of a sample have come to so far, by their aliases."""

    values: dict[str, Any] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)

    def add(self, step: Step, result: PriorResult) -> None:
        """Take what a task has come to: nothing where it failed, and null where it was skipped."""
        alias, output = step.task.alias, result.output
        if result.failed:
            self.failed.add(alias)
        if result.skipped:
            self.skipped.add(alias)
        output = "" if output is None and not result.skipped else output
        if step.columns:
            whole: Any = jsontext.decode(output.encode()) if isinstance(output, str) and output else None
            self.values |= {name: whole and located(whole, path) for name, path in step.columns.items()}
            output = output if whole is None else whole
        self.values[alias] = output

    def instead_of(self, step: Step, row: Mapping[str, Any]) -> Answer | None:
        """Return what becomes of a task that is not to be run, or None. Raises RowError. The first case that fits decides.

        1. Its condition reads a task that failed, so that nobody can say whether it holds.
        2. Its condition does not hold; or it has none, and a task that it reads was skipped.
        3. A task that it reads has failed.
        """
        condition = step.condition
        asked = () if condition is None else condition.inputs
        if self.failed.isdisjoint(asked):
            if condition is None and not self.skipped.isdisjoint(step.inputs):
                return SKIPPED
            if condition is not None and not condition.holds({**row, **self.values}):
                return SKIPPED
        if self.failed and (missing := [alias for alias in step.inputs if alias in self.failed]):
            return Failure(error_type=ErrorType.DEPENDENCY, message=f"its input failed: {', '.join(missing)}")
        return None


class InFlight:
    """The workers whose attempt is on the wire, the only ones that a drain lets finish; and what is known of the endpoint."""

    def __init__(self) -> None:
        self.workers: set[asyncio.Task[Any]] = set()
        #: Set by a drain: no attempt begins any more, and none follows one that failed.
        self.closed = False
        #: Set when the endpoint has given an answer, or has said nothing for too long.
        self.known = asyncio.Event()
        self._begun = False

    def watch(self, send: Send) -> Send:
        """Return the same send, whose callers are known while they wait for the wire. It raises RunStopped when closed."""

        async def send_watched(attempt: Attempt) -> Response:
            worker = asyncio.current_task()
            assert worker is not None
            if self.closed:
                raise RunStopped("draining")
            if not self._begun:
                self._begin()
            self.workers.add(worker)
            try:
                response = await send(attempt)
            except AttemptError as error:
                if self.closed:
                    raise RunStopped("draining") from error
                raise
            finally:
                self.workers.discard(worker)
            self.known.set()
            return response

        return send_watched

    def close(self) -> None:
        """Let nothing begin any more."""
        self.closed = True
        self.known.set()

    def _begin(self) -> None:
        self._begun = True
        asyncio.get_running_loop().call_later(_LONGEST_CAUTION_S, self.known.set)


class Pipeline(Struct, kw_only=True):
    """Runs all tasks of all samples."""

    #: In order of dependency.
    steps: Sequence[Step]
    #: What is still to be done; None where nothing is at hand just now.
    samples: Iterator[Sample | None]
    #: How many samples are worked on at a time, at first.
    concurrency: int
    #: Takes each result at once; it must not wait. Raises StorageError.
    sink: Callable[[Result], None]
    #: What is known already of a unit: (item index, sample index, alias).
    known: Callable[[int, int, str], PriorResult | None]
    in_flight: InFlight
    #: Whether anything may be asked; else only what is known is judged.
    asks: bool = True
    #: Waits, after a None, until there may be another sample; by default other tasks of the loop have their turn.
    idle: Callable[[], Awaitable[None]] = partial(asyncio.sleep, 0)
    #: Whether a sample that was not asked yet may be at hand.
    has_more: Callable[[], bool] = lambda: True
    #: How many are from then on; None where it stays so.
    wanted: Callable[[], int] | None = None
    #: How long what is on the wire may take where the end has to come soon, in seconds; None: as long as it takes.
    drain_s: float | None = None
    #: Why the run was stopped early; None while it was not.
    stopped: str | None = None
    #: Whether that was for the endpoint or the clock.
    stopped_in_hurry: bool = False
    #: Samples being worked on.
    active: int = 0
    #: Units that had to be asked, and were not: nothing is, or not they.
    unasked: int = 0
    #: Set when there are no more samples, and then this is called; those that were taken may still be asked again.
    exhausted: asyncio.Event = field(default_factory=asyncio.Event)
    on_exhausted: Callable[[], None] = lambda: None
    _workers: set[asyncio.Task[None]] = field(default_factory=set)
    #: How many workers there may be, how many there are without those whose rows wait aside, and how many of those there are.
    _places: int = 0
    _working: int = 0
    _aside: int = 0
    #: Whether all are hired that are there at first.
    _has_hired: bool = False
    #: The aliases that another task reads; of the others no output is made.
    _read: frozenset[str] = frozenset()
    _failure: Exception | None = None

    def __post_init__(self) -> None:
        self._read = frozenset(alias for step in self.steps for alias in step.inputs)

    async def run(self) -> None:
        """Work until there are no samples, or until drained. Raises StorageError when results can no longer be kept."""
        try:
            await self._hire_all()
            while self._workers:
                await asyncio.wait(self._workers)
        finally:
            self.drop()
        if self._failure is not None:
            raise self._failure

    def has_fresh(self) -> bool:
        """Whether a row that was not asked yet may take the place of one that waits."""
        return not self.exhausted.is_set() and self._aside < _MOST_ASIDE and self.has_more()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let another worker take this one's place while its row waits, for its time or to hear of others."""
        if not self.has_fresh() or self.stopped is not None:
            yield
            return
        self._aside += 1
        self._working -= 1
        if self._working < self._places:
            self._hire()
        try:
            yield
        finally:
            self._aside -= 1
            self._working += 1

    def drain(self, reason: str, *, within: float | None = None) -> None:
        """Start nothing more; let what is on the wire finish, or drop it after so many seconds.

        Whoever waits or backs off leaves its row pending. Called again it can only end sooner: the first reason stays.
        """
        if within is not None:
            asyncio.get_running_loop().call_later(within, after_reading, self.drop)
        if self.stopped is not None:
            return
        self.stopped = reason
        self.in_flight.close()
        for worker in self._workers - self.in_flight.workers:
            worker.cancel()

    def stop(self, reason: str, *, hurry: bool) -> None:
        """Drain, and say so; in a hurry, drop after `drain_s` what is still on the wire. A run that drains already goes on so.

        There is a hurry where the endpoint is the reason, or the clock. Where only enough was spent there is none: answers on
        their way have to be paid, and dropping them would mean to pay for them twice.
        """
        if self.stopped is None:
            within = self.drain_s if hurry else None
            how = "in their time" if within is None else f"within {within:g} s (limits.drain)"
            _log.warning("the run stops, %d in flight may finish %s: %s", len(self.in_flight.workers), how, reason)
            self.stopped_in_hurry = hurry
            self.drain(reason, within=within)

    def drop(self) -> None:
        """End at once; what is on the wire is lost, what was answered is kept."""
        for worker in self._workers:
            worker.cancel()

    def fail(self, error: Exception) -> None:
        """End at once, for nothing can be kept any more; `run` raises the error."""
        self._failure = self._failure or error
        self.drain(str(error))
        self.drop()

    async def _hire_all(self) -> None:
        """Hire the first few workers, and the others as fast as the loop keeps up with them once the endpoint is known."""
        for number in range(self.concurrency):
            if number == _FIRST_WORKERS:
                await self.in_flight.known.wait()
            elif number % _HIRED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if self.stopped is not None or self.exhausted.is_set():
                return
            self._places += 1
            self._hire()
        self._has_hired = True

    def _hire_more(self, wanted: int) -> None:
        """Have as many workers as are wanted now: who is one too many leaves after its sample."""
        self._places = wanted
        while self._working < wanted and self.stopped is None and not self.exhausted.is_set():
            self._hire()

    def _hire(self) -> None:
        self._working += 1
        worker = asyncio.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        try:
            for sample in self.samples:
                if self.stopped is not None:
                    return
                if sample is None:
                    await self.idle()
                    continue
                self.active += 1
                try:
                    await self._run_tasks(sample)
                finally:
                    self.active -= 1
                if self.wanted is not None and self._has_hired:
                    self._hire_more(self.wanted())
                if self._working > self._places:  # the row is back whose place this worker has taken
                    return
            if not self.exhausted.is_set():
                self.exhausted.set()
                self.on_exhausted()
            self.in_flight.known.set()
        except RunStopped as stop:
            self.stop(str(stop), hurry=stop.hurry)
        except Exception as error:  # noqa: BLE001  results cannot be kept, or rows not be read: nothing more may be sent
            self._failure = self._failure or error
            self.drain(str(error) or type(error).__name__)
        finally:
            self._working -= 1

    async def _run_tasks(self, sample: Sample) -> None:
        """Run the tasks of a sample. Where the run is to end meanwhile, nothing more is asked; what was answered is judged."""
        item = sample.item
        outputs = Outputs()
        pending: set[str] = set()
        asked = False
        ended: BaseException | None = None
        for step in self.steps:
            alias = step.task.alias
            if sample.index >= step.samples:
                continue
            known = self.known(item.index, sample.index, alias)
            if known is None:
                is_ending = ended is not None or self.stopped is not None
                if not pending.isdisjoint(step.inputs) or not self._may_run(step, sample, outputs, is_ending=is_ending):
                    pending.add(alias)
                    continue
                result, stop = await self._settle(step, sample, outputs)
                ended = stop or ended
                if result is None:
                    pending.add(alias)
                    continue
                asked = asked or result.request is not None
                if alias not in self._read:
                    continue
                known = PriorResult(result.output, result.failed, result.skipped)
            outputs.add(step, known)
        if ended is not None:
            raise ended
        if not asked:
            await asyncio.sleep(0)

    async def _settle(self, step: Step, sample: Sample, outputs: Outputs) -> tuple[Result | None, BaseException | None]:
        """Run one task and hand its result over; return it with what ends the work on this sample, as far as there is either.

        What only judges begins anew after a cancellation: it computes for seconds at most, and its answer is paid.
        """
        ended: BaseException | None = None
        result: Result | None = None
        while result is None:
            try:
                result = await self._run_task(step, sample, outputs)
            except NotAsked:
                self.unasked += 1
                return None, ended
            except RunStopped as stop:
                return None, stop
            except asyncio.CancelledError as cancelled:
                ended = cancelled
                if not step.judges:
                    return None, ended
        try:
            self.sink(result)
        except RunStopped as stop:
            ended = ended or stop
        return result, ended

    def _may_run(self, step: Step, sample: Sample, outputs: Outputs, *, is_ending: bool) -> bool:
        """Whether a task that has all it reads may be run; what has to be asked, and is not, is counted."""
        if is_ending:
            return step.judges and bool(step.inputs)
        if self.asks or step.judges or self._instead(step, sample, outputs) is not None:
            return True
        self.unasked += 1
        return False

    @staticmethod
    def _instead(step: Step, sample: Sample, outputs: Outputs) -> Answer | None:
        """Return what becomes of a task that is not to be run for a sample, or None."""
        if sample.item.failure is not None:
            return sample.item.failure
        try:
            return outputs.instead_of(step, sample.item.row)
        except RowError as error:
            return error.failure

    async def _run_task(self, step: Step, sample: Sample, outputs: Outputs) -> Result:
        task, item = step.task, sample.item
        try:
            if (instead := self._instead(step, sample, outputs)) is not None:
                return without_request(sample, task.alias, task.task_type, instead)
            return await task.run(sample, {**item.row, **outputs.values})
        except (NotAsked, RunStopped, StorageError):
            raise
        except Exception as error:  # noqa: BLE001  a fault of this program, or a kind of bad row nobody thought of: it costs this row only
            _log.exception("%s: task %s failed unexpectedly", item.place, task.alias)
            failure = Failure(
                error_type=ErrorType.TEMPLATE, message=f"{item.place}: unexpected {type(error).__name__}: {error}"
            )
            return without_request(sample, task.alias, task.task_type, failure)
