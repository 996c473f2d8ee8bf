"""A run in many processes: it gives rows to workers, and replaces workers that die.

plan ──► Coordinator ◄──► workers, each in a process with a segment of its own, here or on another machine
segments ──► Ledger: the results of a dead worker, and at the end those of all workers
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from runner.config.model import Config
from runner.datasets import Dataset, Mark, SomeRows
from runner.endpoint.shared import Endpoints
from runner.errors import DatasetReadError, RunStopped
from runner.logs import logger
from runner.pipeline.beside import going_on_beside
from runner.pipeline.keeper import RunKeeper
from runner.results.progress import Progress, show_progress
from runner.results.views import preload_parquet
from runner.scale.beat import Ended, Job, Lease, Orders, Report, Stop
from runner.scale.coordinator import Coordinator
from runner.scale.launching import Child, Launcher
from runner.scale.planning import Chunk, marks_for, planned
from runner.storage.ledger import Ledger
from runner.structs import Struct, field, replace

__all__ = ["Driving"]

_log = logger(__name__)
_LOOK_EVERY_S = 0.25
#: How much longer than the drain a worker may take to end.
_GRACE_S = 5.0
_MOST_NAMED = 5


class Driving(Struct, kw_only=True):
    """A run with workers."""

    config: Config
    keeper: RunKeeper
    dataset: Dataset
    coordinator: Coordinator
    launcher: Launcher
    #: One job for each worker.
    jobs: list[Job]
    bar: bool | None
    #: The reason to stop that was given before the start.
    drained: str | None = None
    _children: dict[int, Child] = field(default_factory=dict)
    #: The workers that have no CPU yet.
    _starting: set[asyncio.Task[Child]] = field(default_factory=set)
    #: Held while the ledger is used, because it grows when a worker has died.
    _reading: Any = field(default_factory=threading.Lock)
    _burying: int = 0
    _names: dict[int, str] = field(default_factory=dict)
    _bad: dict[int, str] = field(default_factory=dict)
    _marks: list[Mark] = field(default_factory=list)
    _said: set[str] = field(default_factory=set)
    _kill_at: float | None = None
    #: Set once a row was begun: until then the starts of the workers need the cores.
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    _prices: dict[str, Any] | None = None
    _failure: Exception | None = None

    @property
    def progress(self) -> Progress:
        """The progress of the run."""
        return self.keeper.progress

    def activity(self) -> tuple[int, int]:
        """Return how many requests are in flight, and how many samples wait."""
        return self.coordinator.in_flight, self.coordinator.waiting

    def drain(self, reason: str) -> int:
        """Send no more requests. Those in flight have `limits.drain` seconds to finish; return their number."""
        self.drained = reason
        self._stop(Stop(reason, self.config.limits.drain))
        return self.coordinator.in_flight

    def drop(self) -> None:
        """End at once, and drop the requests in flight."""
        before = self.coordinator.stop
        self._stop(Stop("dropped" if before is None else before.reason, 0.0))

    def _stop(self, stop: Stop) -> None:
        self.keeper.stop_survey.set()
        self.coordinator.stop = stop
        self._pass_on_stop()

    def _pass_on_stop(self) -> None:
        """Tell all workers to end. A worker that does not end in time is killed."""
        stop = self.coordinator.stop
        assert stop is not None
        if stop.within is not None:
            self._kill_at = min(self._kill_at or time.monotonic() + 1e9, time.monotonic() + stop.within + _GRACE_S)
        for child in self._children.values():
            child.send(Orders(stop=stop))

    async def work(self, _endpoints: Endpoints) -> str | None:
        """Let workers ask everything that is pending; return why the run stopped early, or None. Raises StorageError."""
        if self.keeper.pending.ledger is None:
            self.keeper.pending.ledger = Ledger.read(self.keeper.run.journal, self.keeper.run.files)
        surveying = self._once_begun(self.keeper.survey())
        async with going_on_beside(surveying, self._all_beside(), self.keeper.stop_survey) as survey:
            try:
                if self.drained is not None:
                    self.drain(self.drained)
                slots = [asyncio.create_task(self._slot(slot)) for slot in range(len(self.jobs))]
                for ended in asyncio.as_completed(slots):
                    await ended
            finally:
                for child in self._children.values():
                    child.kill()
            self._count()
            reason = self._reason()
            if reason is None:
                self._begun.set()
                await asyncio.wait([survey])  # a resume compares the dataset with the survey
        if self._failure is not None:
            raise self._failure
        self.keeper.loop_lag_s = self.coordinator.worst_lag_s
        self.keeper.workers = self._said_of_workers()
        return reason

    def _reason(self) -> str | None:
        stop, poison = self.coordinator.stop, self.coordinator.poison
        if stop is not None:
            return stop.reason
        if poison:
            named = ", ".join(map(self._named, sorted(poison)[:_MOST_NAMED]))
            rows = "1 row kills its worker" if len(poison) == 1 else f"{len(poison)} rows kill their worker"
            return f"{rows}: {named}{', …' if len(poison) > _MOST_NAMED else ''}; remove such rows, or fix the crash"
        if not self.coordinator.is_done:
            return "no worker is left"
        return self.keeper.unread

    def _named(self, index: int) -> str:
        items = SomeRows(self.dataset).items([(index, index + 1)], self._names, self._bad, self._marks)
        item = next(item for item in items if item is not None)
        return f"item {index} ({item.item_id}, {item.place})"

    def _said_of_workers(self) -> str:
        died = self.coordinator.died
        said = f" · {died} died, {self.coordinator.paid_twice} requests may have been paid twice" if died else ""
        return f"{len(self.jobs)}{said}"

    # --- a worker ---

    async def _slot(self, slot: int) -> None:
        """Keep one worker running, and replace it if it dies, until it is not needed any more."""
        while self.coordinator.goes_on:
            try:
                child = await self._started(slot)
            except OSError as error:
                self._give_up(slot, Ended(f"worker {slot} cannot be started: {error.strerror}", own=True))
                return
            if child is None:
                return
            self._children[slot] = child
            self.coordinator.join(slot, self._in_flight_at_first(slot))
            ended = await self._attend(slot, child)
            del self._children[slot]
            code = await child.ended()
            if not await self._goes_on_after(slot, ended, child, code):
                return

    def _in_flight_at_first(self, slot: int) -> int:
        return self.config.limits.model_copy(update=dict(self.jobs[slot].shares[""])).first_in_flight

    async def _started(self, slot: int) -> Child | None:
        """Start a worker; return None if the run ends before a CPU is free for it. Raises OSError."""
        starting = asyncio.ensure_future(self.launcher.start(self.jobs[slot], lambda line: self._said_by(slot, line)))
        self._starting.add(starting)
        await asyncio.wait([starting])
        self._starting.discard(starting)
        return None if starting.cancelled() else starting.result()

    async def _attend(self, slot: int, child: Child) -> Ended | None:
        """Process the reports of a worker; return how it ended, or None if it died."""
        while (report := await child.report()) is not None:
            was_stopped = self.coordinator.stop is not None
            self.coordinator.beat(slot, report)
            self._count()
            if report.begun:
                self._begun.set()
            if report.ended is not None:
                self._note_prices(report)
                return report.ended
            if not was_stopped and self.coordinator.stop is not None:
                self._pass_on_stop()
            self._send(slot)
            self._feed()
        return None

    async def _goes_on_after(self, slot: int, ended: Ended | None, child: Child, code: int) -> bool:
        """Take back the rows of a worker that has ended; return whether another worker replaces it."""
        if self.coordinator.stop is not None or (ended is not None and not ended.reason):
            self.coordinator.bury(slot)
            return False
        left, flying, found = await self._left_by(slot)
        if ended is None:
            self.coordinator.bury(slot, left, flying, died=True, found=found)
            words = f"; the end of its stderr: {' | '.join(child.last_words)}" if child.last_words else ""
            _log.warning("worker %d died (exit code %d); other workers get its %d rows%s", slot, code, len(left), words)
            if (stop := self.coordinator.stop) is not None:
                self._stop(replace(stop, reason=stop.reason + words))
            self._feed()
            return self.coordinator.goes_on
        goes_on = self._give_up(slot, ended)
        self.coordinator.bury(slot, left, flying, found=found)
        self._feed()
        return goes_on and ended.leaving

    def _give_up(self, slot: int, ended: Ended) -> bool:
        goes_on = self.coordinator.verdict(slot, ended)
        if not goes_on:
            self._pass_on_stop()
        elif ended.leaving:
            _log.info("worker %d was told to leave; another worker replaces it", slot)
        else:
            _log.warning("worker %d is set aside, and the other workers go on: %s", slot, ended.reason)
        return goes_on

    async def _left_by(self, slot: int) -> tuple[list[int], set[int], tuple[int, int]]:
        """Return the rows of a worker without a result, those of them in flight, and its numbers of answers and errors.

        They are read from its segments.
        """
        worker = self.coordinator.workers[slot]
        self._burying += 1
        try:
            return await asyncio.to_thread(self._read_what_is_left, list(worker.rows), worker.report.segments)
        finally:
            self._burying -= 1

    def _read_what_is_left(
        self, rows: list[tuple[int, int]], segments: Sequence[int]
    ) -> tuple[list[int], set[int], tuple[int, int]]:
        pending = self.keeper.pending
        ledger = pending.ledger
        assert ledger is not None
        with self._reading:
            before = ledger.succeeded, ledger.failed
            ledger.read_on(segments)
            left = [index for first, last in rows for index in range(first, last) if pending.lacks(index)]
            flying = {index for index in left if any(ledger.is_flying(*unit) for unit in pending.units(index))}
        return left, flying, (ledger.succeeded - before[0], max(0, ledger.failed - before[1]))

    def _said_by(self, slot: int, line: str) -> None:
        """Log a line from the stderr of a worker, once: many workers may write the same."""
        if line not in self._said:
            self._said.add(line)
            _log.warning("worker %d: %s", slot, line)

    def _note_prices(self, report: Report) -> None:
        if report.prices is not None:
            known = self._prices or {}
            self._prices = {**known, **report.prices, "models": {**known.get("models", {}), **report.prices.get("models", {})}}
            self.keeper.prices_used = lambda: self._prices or {}

    # --- orders ---

    def _send(self, slot: int) -> None:
        orders = self.coordinator.orders(slot, may_give=not self._burying)
        self._children[slot].send(replace(orders, leases=list(map(self._dressed, orders.leases))))

    def _feed(self) -> None:
        """Tell the workers that are to know at once: of rows, of their end, of an endpoint that is back, or of a pace."""
        if self.coordinator.stop is None and not self._burying:
            for slot in self.coordinator.with_news():
                if slot in self._children:
                    self._send(slot)

    def _dressed(self, lease: Lease) -> Lease:
        """Return a lease with the names, results and marks that the worker cannot know by itself."""
        pending = self.keeper.pending
        ledger = pending.ledger
        indexes = [index for first, last in lease.runs for index in range(first, last)]
        names = {index: self._names[index] for index in indexes if index in self._names} if self._names else {}
        bad = {index: self._bad[index] for index in indexes if index in self._bad} if self._bad else {}
        marks = marks_for(lease.runs, self._marks)
        if ledger is None or not ledger.items_begun:
            return Lease(lease.runs, names, bad, marks=marks)
        with self._reading:
            return Lease(lease.runs, names, bad, pending.places(indexes), marks)

    # --- in the background ---

    def _all_beside(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield show_progress(self.progress, activity=self.activity, bar=self.bar)
        yield self.keeper.save_status()
        yield self._plan()
        yield self._look()
        yield self._once_begun(asyncio.to_thread(preload_parquet))
        if self.config.limits.max_wall_time is not None:
            yield self._end_after(self.config.limits.max_wall_time)

    async def _once_begun(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait until the workers are at work, then do work that is not urgent."""
        try:
            await self._begun.wait()
            await work
        finally:
            work.close()

    async def _plan(self) -> None:
        """Read the dataset in a thread, and add the rows that are to be asked as they become known."""
        tell = asyncio.get_running_loop().call_soon_threadsafe
        try:
            await asyncio.to_thread(self._read_dataset, tell)
        except DatasetReadError as error:
            self.keeper.cannot_read(error)
            self.coordinator.plan_ended()
        except RunStopped as stop:
            self._stop(Stop(str(stop), None))
        except Exception as error:  # noqa: BLE001  a bug: there is no run without a plan
            self._failure = error
            self._stop(Stop(str(error), 0.0))
        self._feed()

    def _read_dataset(self, tell: Callable[..., object]) -> None:
        seen = 0
        for chunk in planned(self.dataset, self.keeper.pending, self._reading):
            if self.keeper.stop_survey.is_set():
                return
            seen = chunk.seen
            tell(self._take, chunk)
        tell(self._all_seen, seen)

    def _take(self, chunk: Chunk) -> None:
        self._names.update(chunk.names)
        self._bad.update(chunk.bad)
        self._marks += chunk.marks
        self.coordinator.add(chunk.open, chunk.tried)
        self._feed()

    def _all_seen(self, items: int) -> None:
        self.keeper.all_seen(items)
        self.coordinator.plan_ended()
        self._feed()

    async def _look(self) -> None:
        """Check regularly whether a worker is silent or takes too long to end, and kill it."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if not self.coordinator.goes_on:
                for starting in self._starting:
                    starting.cancel()
            late = self._kill_at is not None and time.monotonic() > self._kill_at
            for slot in list(self._children) if late else self.coordinator.silent():
                if slot in self._children:
                    self._children[slot].kill()
            self._feed()

    async def _end_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.coordinator.stop is None:
            remedy = "resume to run for as long again, or raise limits.max_wall_time"
            self._stop(Stop(f"{seconds:g} s of this start have passed; {remedy}", self.config.limits.drain))

    def _count(self) -> None:
        """Copy the sums over all workers to the progress."""
        progress, total = self.progress, self.coordinator.total
        progress.workers = len(self._children), len(self.jobs)
        progress.ok = int(total(lambda report: report.ok))
        progress.errors = int(total(lambda report: report.errors))
        progress.retries = int(total(lambda report: report.retries))
        progress.tokens = int(total(lambda report: report.tokens))
        progress.values = int(total(lambda report: report.values))
        progress.value_sum = total(lambda report: report.value_sum)
        if progress.cost is not None:
            spent = total(lambda report: report.cost)
            progress.cost += spent - progress.cost_of_start
            progress.cost_of_start = spent
        if progress.ok:
            self.keeper.link()
