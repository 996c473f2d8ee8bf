"""The coordinator: which worker has which rows, how much each may spend, and when the run is to end.

It uses no file and no process, and only the clock that it is given. All its state may be lost, because the results are in the
journal. Every row gets one result even if the coordinator is wrong; it only bounds how many requests are paid twice.

    add, plan_ended     rows that are to be asked, as they become known
    join                a worker has started
    beat                a worker's report, answered by `orders`
    bury                a worker has ended: its rows without a result go to other workers
    verdict             a worker stopped by itself: the run stops too, or sets it aside

While the endpoint of a task is down for some workers, these workers queue. A few of them probe the endpoint, each for a limited
time. Those with a control request come first: the others have only rows to probe with, and try them quickly, because any row
may be a bad one. When one of them is answered, all others in the queue are told.

A row that was in flight when its worker died may have killed it. Once may be chance. After two deaths the row goes to a worker
that has no other rows, and after three deaths to no worker.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from runner.pipeline.budget import Budget
from runner.scale.beat import Ended, Lease, Orders, Report, Stop
from runner.scale.ranges import Ranges, ranges_of
from runner.structs import Struct, field, replace

__all__ = ["Coordinator", "Worker"]

#: A worker has rows for this many seconds ahead, by its own speed; at least `_FEWEST` and at most `_MOST` rows.
_AHEAD_S = 2.0
_FEWEST, _MOST = 8, 10_000
_FIRST_LEASE = 64
#: A worker gets at most one `_PART`-th of its fair share of the remaining rows at once, so that all workers finish together.
_PART = 3
#: Until there is a result, only one worker asks: then a wrong key costs no more requests with many workers than with one. An
#: endpoint that has neither answered nor refused after this time is only slow, and all workers ask.
_CAUTION_S = 2.0
#: A pause that a server asks for goes to all workers if it is at least this long. A shorter one is over before they know it.
_LONG_PAUSE_S = 5.0
#: After this silence a worker counts as dead.
SILENT_S = 10.0
#: During its start it may be silent for longer.
_START_WITHIN_S = 60.0
#: If another worker was answered within this time, the endpoint works, and only this worker has the trouble.
_ANSWERED_WITHIN_S = 10.0
#: The run stops after this many deaths of one worker with no row in flight, or of all workers without a result in between.
_DEATHS_AT_START, _DEATHS_IN_A_ROW = 3, 5
#: A row that was in flight at this many deaths is given out alone; after `_POISON_AFTER` deaths it is not given out any more.
_ALONE_AFTER, _POISON_AFTER = 2, 3
#: One of this many workers probes an endpoint that is down. After `_TURN_S` another worker does, because only the connection of
#: the first may be broken.
_TO_A_PROBE = 50
_TURN_S = 30.0
#: The weight of the earlier speed of a worker; the rest is the weight of its speed since the previous report.
_REMEMBERED = 0.5


class Worker(Struct):
    """The state of a worker, as the coordinator knows it."""

    concurrency: int
    last_beat: float
    report: Report = Report()
    #: The rows that it has, and the number of its leases.
    rows: list[tuple[int, int]] = field(default_factory=list)
    given: int = 0
    #: How many items it begins per second; None until it has reported twice.
    per_s: float | None = None
    #: How many tokens and dollars it may use in all, by the orders it got.
    granted: dict[str, float] = field(default_factory=dict)
    answered_at: float = -math.inf
    #: The tasks whose endpoint has answered another worker; emptied when this worker is told.
    back: list[str] = field(default_factory=list)
    #: Whether its pace went to the others since it had rows. By endpoint, the paces of others that it has not been told of.
    has_passed_on: bool = False
    faster: dict[str, list[float]] = field(default_factory=dict)

    @property
    def is_idle(self) -> bool:
        """Whether all its rows are done."""
        return self.report.leases == self.given and not self.report.ahead and not self.report.active


def _silence_of(worker: Worker) -> float:
    """Return for how many seconds a worker may be silent."""
    return SILENT_S if worker.report.segments else _START_WITHIN_S


def _used(report: Report, what: str) -> float:
    return report.used if what == "tokens" else report.spent


def _promised(worker: Worker, what: str) -> float:
    """Return how much a worker may use at most."""
    used = _used(worker.report, what)
    return used if worker.is_idle else max(used, worker.granted.get(what, 0.0))


class _Purse(Struct):
    """The tokens or dollars of all workers together. It keeps sums, so a report costs the same for any number of workers."""

    what: str
    #: How much all workers may use together; None: any amount.
    left: float | None
    #: How much all workers have used, also those that have ended.
    used: float = 0.0
    #: How much they may use at most, by the grants so far.
    promised: float = 0.0

    def add(self, worker: Worker) -> None:
        """Add a worker to the sums."""
        self.used += _used(worker.report, self.what)
        self.promised += _promised(worker, self.what)

    def remove(self, worker: Worker) -> None:
        """Subtract a worker from the sums."""
        self.used -= _used(worker.report, self.what)
        self.promised -= _promised(worker, self.what)

    def close(self, worker: Worker) -> None:
        """Take back the part of its promise that a worker has not used before its end."""
        self.promised += _used(worker.report, self.what) - _promised(worker, self.what)

    def grant(self, worker: Worker, workers: int) -> float | None:
        """Return how much a worker may use in all: it gets an equal part of half of the rest.

        All promises together never exceed `left`. A promise stands until its worker is idle: only then can other workers have
        the part that it has not used.
        """
        if self.left is None:
            return None
        used, before = _used(worker.report, self.what), _promised(worker, self.what)
        free = self.left - (self.promised - before) - used
        part = (self.left - self.used) / (2 * workers)
        worker.granted[self.what] = bound = max(before, used + max(0.0, min(part, free)))
        self.promised += _promised(worker, self.what) - before
        return bound


class Coordinator:
    """Decides on rows, allowances and the end of the run. `stop` is set once the run is to end."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        budget: Budget,
        tokens_left: float | None = None,
        cost_left: float | None = None,
        drain_s: float = 25.0,
    ) -> None:
        """`budget` tells why nothing more may be sent; all workers together may use `tokens_left` and `cost_left`."""
        self._clock, self._budget, self._drain_s = clock, budget, drain_s
        self._tokens, self._cost = _Purse("tokens", tokens_left), _Purse("cost", cost_left)
        self.workers: dict[int, Worker] = {}
        self.stop: Stop | None = None
        #: The indexes of rows that kill their worker.
        self.poison: list[int] = []
        #: How many workers died, and how many rows were in flight then. Their requests may be paid twice.
        self.died = 0
        self.paid_twice = 0
        self._open, self._last, self._alone = Ranges(), Ranges(), deque[int]()
        self._is_planned = False
        self._gone: list[Report] = []
        self._deaths: Counter[int] = Counter()
        self._deaths_at_start: Counter[int] = Counter()
        self._deaths_in_a_row = 0
        #: When the first request in flight was reported.
        self._asked_at: float | None = None
        self._is_known = False
        #: The end of the pause of each endpoint.
        self._paused_until: dict[str, float] = {}
        #: By task, the queue of workers for which its endpoint is down, each with the time at which its turn to probe began.
        self._lines: defaultdict[str, dict[int, float | None]] = defaultdict(dict)

    # --- rows ---

    def add(self, ranges: Sequence[tuple[int, int]], tried: Sequence[tuple[int, int]] = ()) -> None:
        """Add rows that are to be asked; rows that were tried in an earlier start come last."""
        self._open.add(ranges)
        self._last.add(tried)

    def plan_ended(self) -> None:
        """Note that no more rows will be added."""
        self._is_planned = True

    @property
    def goes_on(self) -> bool:
        """Whether workers are needed."""
        return self.stop is None and not self.is_done

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self._is_given and all(not worker.rows for worker in self.workers.values())

    @property
    def _is_given(self) -> bool:
        """Whether workers have all rows that are left."""
        return self._is_planned and not self._open.count and not self._last.count and not self._alone

    # --- workers ---

    def join(self, slot: int, concurrency: int) -> None:
        """Add a worker that has started."""
        self.workers[slot] = Worker(concurrency, self._clock())

    def beat(self, slot: int, report: Report) -> None:
        """Process the report of a worker."""
        worker, now = self.workers[slot], self._clock()
        before, seconds = worker.report, now - worker.last_beat
        if before.leases and seconds > 0:
            speed = (report.begun - before.begun) / seconds
            worker.per_s = speed if worker.per_s is None else worker.per_s * _REMEMBERED + speed * (1 - _REMEMBERED)
        if report.ok > before.ok:
            worker.answered_at = now
        if report.ok + report.errors > before.ok + before.errors:
            self._is_known = True
            self._deaths_in_a_row = 0
            self._deaths_at_start[slot] = 0
        if report.in_flight and self._asked_at is None:
            self._asked_at = now
        for endpoint, seconds in report.pauses.items():
            if seconds >= _LONG_PAUSE_S:
                self._paused_until[endpoint] = max(self._paused_until.get(endpoint, 0.0), now + seconds)
        self._tokens.remove(worker)
        self._cost.remove(worker)
        worker.report, worker.last_beat = report, now
        self._tokens.add(worker)
        self._cost.add(worker)
        self._note_down(slot, report.down)
        if worker.is_idle:
            worker.rows.clear()
            self._pass_on(worker)
        if self.stop is None and (reason := self._too_many_errors(report) or self._used_up()) is not None:
            self.stop = Stop(reason, None)

    def _pass_on(self, worker: Worker) -> None:
        """Give the paces of a worker that gets no more rows to those that still have some.

        Workers learn their paces by themselves, so one may be slow because the others use all that the endpoint allows.
        """
        if worker.has_passed_on or not self._is_given:
            return
        worker.has_passed_on = True
        busy = [other for other in self.workers.values() if not other.is_idle]
        for other in busy:
            for endpoint, paces in worker.report.paces.items():
                before = other.faster.get(endpoint, [0.0] * len(paces))
                other.faster[endpoint] = [old + pace / len(busy) for old, pace in zip(before, paces, strict=True)]

    def silent(self) -> list[int]:
        """Return the workers that have reported nothing for too long."""
        now = self._clock()
        return [slot for slot, worker in self.workers.items() if now - worker.last_beat > _silence_of(worker)]

    def _note_down(self, slot: int, down: Collection[str]) -> None:
        """Note for which tasks the endpoint is down for a worker. If its probe was answered, tell all workers in the queue."""
        for task in down:
            self._lines[task].setdefault(slot, None)
        for task, line in self._lines.items():
            if slot in line and task not in down and line.pop(slot) is not None:
                for other in line:
                    self.workers[other].back.append(task)
                line.clear()

    def with_news(self) -> Iterator[int]:
        """Yield the workers that are to be told at once: of rows, the end of the rows, an endpoint that is back, or a pace."""
        for slot, worker in list(self.workers.items()):
            is_hungry = worker.report.leases == worker.given and not worker.report.ahead
            waits = self._open.count or self._last.count or self._alone
            if worker.back or worker.faster or (is_hungry and (self.is_done or (waits and self._may_ask(slot)))):
                yield slot

    def bury(
        self,
        slot: int,
        left: Collection[int] = (),
        flying: Collection[int] = (),
        *,
        died: bool = False,
        found: tuple[int, int] = (0, 0),
    ) -> None:
        """Remove a worker and take back its rows without a result (`left`). It `died` if it ended without a last report.

        `flying` has those rows that were in flight. `found` is the number of answers and errors in its segments, which may be
        more than it had reported.
        """
        worker = self.workers.pop(slot)
        self._tokens.close(worker)
        self._cost.close(worker)
        report = worker.report
        for line in self._lines.values():
            line.pop(slot, None)
        if sum(found) > report.ok + report.errors:
            report = replace(report, ok=found[0], errors=found[1])
            self._deaths_in_a_row = 0
        self._gone.append(report)
        back = []
        for index in sorted(left):
            if died and index in flying:
                self._deaths[index] += 1
            if self._deaths[index] >= _POISON_AFTER:
                self.poison.append(index)
            elif self._deaths[index] >= _ALONE_AFTER:
                self._alone.append(index)
            else:
                back.append(index)
        self._open.put_back(ranges_of(back))
        if died:
            self._count_death(slot, flying)

    def _count_death(self, slot: int, flying: Collection[int]) -> None:
        self.died += 1
        self.paid_twice += len(flying)
        self._deaths_in_a_row += 1
        if not flying:
            self._deaths_at_start[slot] += 1
        if self.stop is None:
            if self._deaths_at_start[slot] >= _DEATHS_AT_START:
                self.stop = Stop(f"worker {slot} died {_DEATHS_AT_START} times before it had asked anything", self._drain_s)
            elif self._deaths_in_a_row >= _DEATHS_IN_A_ROW:
                self.stop = Stop(f"workers died {_DEATHS_IN_A_ROW} times in a row without a result", self._drain_s)

    def verdict(self, slot: int, ended: Ended) -> bool:
        """Return whether the run goes on without a worker that stopped by itself; if not, `stop` says why.

        If other workers are answered by the endpoint that is down for this one, only this worker has the trouble.
        """
        now = self._clock()
        others = [worker for other, worker in self.workers.items() if other != slot]
        if ended.leaving:
            return True
        down = frozenset(self.workers[slot].report.down if slot in self.workers else ())
        fine = [worker for worker in others if not down.intersection(worker.report.down)]
        is_its_own = ended.own or (ended.hurry and any(now - one.answered_at <= _ANSWERED_WITHIN_S for one in fine))
        if is_its_own and others:
            return True
        if self.stop is None:
            self.stop = Stop(str(ended.reason), self._drain_s if ended.hurry else None)
        return False

    # --- orders ---

    def orders(self, slot: int, *, may_give: bool = True) -> Orders:
        """Return the next orders for a worker; without new rows if `may_give` is False."""
        worker, now = self.workers[slot], self._clock()
        if self.stop is not None:
            return Orders(stop=self.stop)
        runs = self._rows_for(slot, worker) if may_give else []
        leases = [Lease(runs)] if runs else []
        back, worker.back = worker.back, []
        faster, worker.faster = worker.faster, {}
        if leases:
            worker.given += 1
            worker.rows += runs
            worker.has_passed_on = False
        return Orders(
            leases=leases,
            closed=self.is_done,
            tokens=self._tokens.grant(worker, len(self.workers)),
            cost=self._cost.grant(worker, len(self.workers)),
            may_probe=[task for task in worker.report.down if self._may_probe(slot, task)],
            back=back,
            faster=faster,
            concurrency=self._concurrency_for(slot),
            pauses={endpoint: until - now for endpoint, until in self._paused_until.items() if until > now},
        )

    def _rows_for(self, slot: int, worker: Worker) -> list[tuple[int, int]]:
        if worker.given > worker.report.leases or not self._may_ask(slot):
            return []
        rows = self._open if self._open.count else self._last
        if not rows.count:
            alone = self._alone.popleft() if self._alone and worker.is_idle else None
            return [] if alone is None else [(alone, alone + 1)]
        if any(self._deaths[first] >= _ALONE_AFTER for first, _ in worker.rows):
            return []
        wanted = max(_FIRST_LEASE, worker.concurrency) if worker.per_s is None else math.ceil(worker.per_s * _AHEAD_S)
        room = min(max(wanted, _FEWEST), _MOST) - worker.report.ahead
        if 2 * room < wanted and worker.report.ahead:
            return []
        fair = max(_FEWEST, rows.count // (_PART * len(self.workers)))
        return rows.take(min(room, fair))

    def _may_ask(self, slot: int) -> bool:
        """Return whether a worker may have rows.

        Until the endpoint has answered, only one worker has rows. While an endpoint is down for all that have, no other worker
        begins: it would only find out the same.
        """
        if self._is_known:
            if self.workers[slot].given:
                return True
            asking = [worker for worker in self.workers.values() if worker.given]
            return not asking or not all(worker.report.down for worker in asking)
        has_refused = any(worker.report.retries or worker.report.ended for worker in self.workers.values())
        if not has_refused and self._asked_at is not None and self._clock() - self._asked_at >= _CAUTION_S:
            return True
        return all(not worker.given for other, worker in self.workers.items() if other != slot)

    def _may_probe(self, slot: int, task: str) -> bool:
        """Return whether it is the turn of a worker to probe the endpoint of a task.

        When its turn is over it leaves the queue, and joins the end of it with its next report.
        """
        line, most, now = self._lines[task], max(1, len(self.workers) // _TO_A_PROBE), self._clock()

        def has_control(one: int) -> bool:
            return self.workers[one].report.down[task]

        waiting = sorted((one for one, since in line.items() if since is None), key=has_control, reverse=True)
        if (since := line.get(slot)) is None:
            if slot in waiting[: max(0, most - len(line) + len(waiting))]:
                line[slot] = now
                return True
            return False
        if waiting and (has_control(waiting[0]), now - since >= _TURN_S) > (has_control(slot), False):
            del line[slot]
            return False
        return True

    def _concurrency_for(self, slot: int) -> Mapping[str, Sequence[int]]:
        """Return the numbers of requests in flight that the oldest worker has found best. The other workers use them."""
        if not self.workers[slot].report.concurrency:  # the number is fixed
            return {}
        oldest = next(one for one, worker in self.workers.items() if worker.report.concurrency)
        return {} if oldest == slot else self.workers[oldest].report.concurrency

    def _too_many_errors(self, report: Report) -> str | None:
        noted = [self._budget.note_outcome(task, one) for task, last in report.outcomes.items() for one in last]
        return next(filter(None, noted), None)

    def _used_up(self) -> str | None:
        return self._budget.used_up(tokens=int(self._tokens.used), cost=self._cost.used)

    # --- counts ---

    def _reports(self) -> Iterator[Report]:
        yield from self._gone
        for worker in self.workers.values():
            yield worker.report

    def total(self, count: Callable[[Report], float]) -> float:
        """Return a sum over all workers, also those that have ended."""
        return sum(map(count, self._reports()))

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return sum(worker.report.in_flight for worker in self.workers.values())

    @property
    def waiting(self) -> int:
        """How many samples wait."""
        return sum(worker.report.waiting for worker in self.workers.values())

    @property
    def worst_lag_s(self) -> float:
        """The longest delay of the event loop of any worker, in seconds."""
        return max((report.loop_lag_s for report in self._reports()), default=0.0)
