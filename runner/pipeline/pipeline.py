"""The pipeline: samples in, results out, bounded in flight.

    samples ──► worker 1 … worker N ──► sink
                each: the tasks of one sample, in order of dependency

Long-lived workers pull from one iterator. There are as many workers as there may be requests in flight. A worker takes the next
sample only when it is free, so memory holds one sample per worker, however large the dataset is. While a row waits aside (for
its time, or for other rows), another worker takes its slot; up to a thousand rows may wait so. The sink gets a result in the
loop callback in which the answer was complete. A few workers begin; the others are hired in groups once the endpoint is known
to answer.
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
    """A condition on a sample: if it does not hold, the task is skipped."""

    @property
    def inputs(self) -> Sequence[str]:
        """The aliases of the tasks that it reads."""

    def holds(self, item: Mapping[str, Any]) -> bool:
        """Return whether it holds for a row with the outputs of earlier tasks. Raises RowError."""


class Step(Struct, frozen=True, kw_only=True):
    """A task as a step of the pipeline."""

    task: Task
    #: Its number of samples per item.
    samples: int
    #: The aliases of the tasks that it reads, also in its condition.
    inputs: Sequence[str]
    #: Whether it only judges: it sends nothing, so it runs even while the run ends.
    judges: bool = False
    #: The task is skipped if this does not hold; None: it is skipped if a task that it reads was.
    condition: Condition | None = None
    #: Columns that later tasks read, by name: each is a path into its output, a JSON object.
    columns: Mapping[str, Sequence[str | int]] = {}


class PriorResult(Struct, frozen=True):
    """The result of a unit, as other tasks read it."""

    output: object
    failed: bool
    skipped: bool = False


#: How many workers begin. The others follow once the endpoint has answered, so a wrong key costs no more attempts than these.
_FIRST_WORKERS = 8
#: An endpoint that has not answered after this time is slow, but does not refuse requests.
_LONGEST_CAUTION_S = 2.0
#: How many rows may wait aside, so that memory is bounded. Other rows that wait keep their slot.
_MOST_ASIDE = 1000
#: How many workers begin in one turn of the event loop. In between, the loop opens their connections and takes answers.
_HIRED_AT_ONCE = 32


class Outputs(Struct):
    """The outputs of the tasks of a sample so far, by alias."""

    values: dict[str, Any] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)

    def add(self, step: Step, result: PriorResult) -> None:
        """Add the result of a task: its output is empty if it failed, and null if it was skipped."""
        alias, output = step.task.alias, result.output
        if result.failed:
            self.failed.add(alias)
        if result.skipped:
            self.skipped.add(alias)
        output = "" if output is None and not result.skipped else output
        if step.columns:
            whole: Any = jsontext.decode(output) if isinstance(output, str) and output else None
            self.values |= {name: whole and located(whole, path) for name, path in step.columns.items()}
            output = output if whole is None else whole
        self.values[alias] = output

    def instead_of(self, step: Step, row: Mapping[str, Any]) -> Answer | None:
        """Return the answer of a task that is not to be run, or None. Raises RowError. The first case that fits decides.

        1. Its condition reads a task that failed, so it cannot be evaluated: an error.
        2. Its condition does not hold; or it has none, and a task that it reads was skipped: it is skipped.
        3. A task that it reads has failed: an error.
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
    """The workers whose attempt is on the wire, which a drain lets finish; and whether the endpoint is known to answer."""

    def __init__(self) -> None:
        self.workers: set[asyncio.Task[Any]] = set()
        #: Set by a drain: from then on no attempt begins, and a failed one is not repeated.
        self.closed = False
        #: Set when the endpoint has answered, or the longest caution is over.
        self.known = asyncio.Event()
        self._begun = False

    def watch(self, send: Send) -> Send:
        """Return the same send, which notes its caller in `workers` meanwhile. It raises RunStopped when closed."""

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
        """Let no attempt begin any more."""
        self.closed = True
        self.known.set()

    def _begin(self) -> None:
        self._begun = True
        asyncio.get_running_loop().call_later(_LONGEST_CAUTION_S, self.known.set)


class Pipeline(Struct, kw_only=True):
    """Runs all tasks of all samples."""

    #: The tasks, in order of dependency.
    steps: Sequence[Step]
    #: The pending samples; None when there is none at the moment.
    samples: Iterator[Sample | None]
    #: How many samples are worked on at the same time at first.
    concurrency: int
    #: Takes each result at once, without waiting. Raises StorageError.
    sink: Callable[[Result], None]
    #: Returns the known result of a unit (item index, sample index, alias), or None.
    known: Callable[[int, int, str], PriorResult | None]
    in_flight: InFlight
    #: Whether anything may be asked; if not, only known answers are judged.
    asks: bool = True
    #: Waits, after a None, until there may be another sample; by default for one turn of the loop.
    idle: Callable[[], Awaitable[None]] = partial(asyncio.sleep, 0)
    #: Returns whether there may be a sample that was not asked yet.
    has_more: Callable[[], bool] = lambda: True
    #: Returns how many are worked on from then on; None: as many as at first.
    wanted: Callable[[], int] | None = None
    #: How many seconds attempts on the wire may take when the run stops in a hurry; None: as long as they need.
    drain_s: float | None = None
    #: Why the run was stopped early, or None.
    stopped: str | None = None
    #: Whether the reason was the endpoint or the clock.
    stopped_in_hurry: bool = False
    #: How many samples are being worked on.
    active: int = 0
    #: How many units needed a request and got none.
    unasked: int = 0
    #: Set when there are no more samples; then `on_exhausted` is called. Samples that were taken may still be asked again.
    exhausted: asyncio.Event = field(default_factory=asyncio.Event)
    on_exhausted: Callable[[], None] = lambda: None
    _workers: set[asyncio.Task[None]] = field(default_factory=set)
    #: How many workers there may be, how many there are without those whose row waits aside, and how many rows wait aside.
    _places: int = 0
    _working: int = 0
    _aside: int = 0
    #: Whether the first workers, `concurrency` of them, are all hired.
    _has_hired: bool = False
    #: The aliases that another task reads; outputs of other tasks are not kept.
    _read: frozenset[str] = frozenset()
    _failure: Exception | None = None

    def __post_init__(self) -> None:
        self._read = frozenset(alias for step in self.steps for alias in step.inputs)

    async def run(self) -> None:
        """Work until there are no samples, or until drained. Raises StorageError if results can no longer be kept."""
        try:
            await self._hire_all()
            while self._workers:
                await asyncio.wait(self._workers)
        finally:
            self.drop()
        if self._failure is not None:
            raise self._failure

    def has_fresh(self) -> bool:
        """Return whether a row that was not asked yet may take the slot of one that waits."""
        return not self.exhausted.is_set() and self._aside < _MOST_ASIDE and self.has_more()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let another worker take this slot while its row waits, for its time or for the results of other rows."""
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
        """Start nothing more; let attempts on the wire finish, or drop them after `within` seconds.

        Rows that wait or back off stay pending. A second call keeps the first reason, and can only end the run sooner.
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
        """Drain, and log it; in a hurry, drop after `drain_s` what is still on the wire. A drain that goes on is not changed.

        The endpoint and the clock are reasons for a hurry. A budget that is used up is not: answers on their way have to be
        paid, and after a drop they would be paid twice.
        """
        if self.stopped is None:
            within = self.drain_s if hurry else None
            how = "without a time limit" if within is None else f"within {within:g} s (limits.drain)"
            _log.warning("the run stops, %d in flight may finish %s: %s", len(self.in_flight.workers), how, reason)
            self.stopped_in_hurry = hurry
            self.drain(reason, within=within)

    def drop(self) -> None:
        """End at once. Attempts on the wire are lost; answers are kept."""
        for worker in self._workers:
            worker.cancel()

    def fail(self, error: Exception) -> None:
        """End at once, because results can no longer be kept; `run` raises the error."""
        self._failure = self._failure or error
        self.drain(str(error))
        self.drop()

    async def _hire_all(self) -> None:
        """Hire the first few workers. Once the endpoint is known to answer, hire the others as fast as the loop keeps up."""
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
        """Hire workers up to the number that is wanted now. If there are too many, they leave after their sample."""
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
                if self._working > self._places:  # the row whose slot this worker took is back
                    return
            if not self.exhausted.is_set():
                self.exhausted.set()
                self.on_exhausted()
            self.in_flight.known.set()
        except RunStopped as stop:
            self.stop(str(stop), hurry=stop.hurry)
        except Exception as error:  # noqa: BLE001  results cannot be kept or rows cannot be read: nothing more may be sent
            self._failure = self._failure or error
            self.drain(str(error) or type(error).__name__)
        finally:
            self._working -= 1

    async def _run_tasks(self, sample: Sample) -> None:
        """Run the tasks of a sample. If the run ends meanwhile, nothing more is asked, but answers are still judged."""
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
        """Run one task and pass its result to the sink. Return the result, and the exception that ends this sample, if any.

        A task that only judges starts again after a cancellation: it computes for seconds at most, and its answer is paid.
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
        """Return whether a task whose inputs are there may be run. Count it as unasked if it needs a request and gets none."""
        if is_ending:
            return step.judges and bool(step.inputs)
        if self.asks or step.judges or self._instead(step, sample, outputs) is not None:
            return True
        self.unasked += 1
        return False

    @staticmethod
    def _instead(step: Step, sample: Sample, outputs: Outputs) -> Answer | None:
        """Return the answer of a task that is not to be run for a sample, or None."""
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
        except Exception as error:  # noqa: BLE001  a fault of this program, or an unforeseen bad row: it costs this row only
            _log.exception("%s: task %s failed unexpectedly", item.place, task.alias)
            failure = Failure(
                error_type=ErrorType.TEMPLATE, message=f"{item.place}: unexpected {type(error).__name__}: {error}"
            )
            return without_request(sample, task.alias, task.task_type, failure)
