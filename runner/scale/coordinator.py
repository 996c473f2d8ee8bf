"""The coordinator: which worker has which rows, what each may spend, and when the run is to end.

It knows no file, no process and no clock but the one it is given, and everything it knows may be lost: what is done stands in
the journal. Nothing about it has to be right for every row to have one result; it bounds what is paid twice.

    add, plan_ended     rows that are to be asked, as they become known
    join                a worker is there
    beat                a worker's report, answered by `orders`
    bury                a worker is gone: what it had not done goes to others
    verdict             a worker stopped by itself: for all, or it is set aside

While the endpoint of a task is down for some workers, they stand in a line. The first of them look for it to be back, each for
its turn; whoever has found it so lets all others know.

A row that was in flight when its worker died may be what killed it. Once that may be chance; after twice it is given to a
worker that has nothing else, and after three times to nobody.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice

from runner.pipeline.budget import Budget
from runner.scale.beat import Ended, Lease, Orders, Report, Stop
from runner.scale.ranges import Ranges, ranges_of
from runner.structs import Struct, field, replace

__all__ = ["Coordinator", "Worker"]

#: A worker has rows for so many seconds ahead, by its own speed, and no fewer and no more than so many.
_AHEAD_S = 2.0
_FEWEST, _MOST = 8, 10_000
_FIRST_LEASE = 64
#: Of what is left a worker gets no more than this part of its fair share at once: so all come to their end together.
_PART = 3
#: Only one worker asks while nothing was answered: a wrong key costs no more requests for there being many. An endpoint that
#: has said nothing at all for so long is slow, but refuses nobody.
_CAUTION_S = 2.0
#: A pause that the server wishes is for all workers where it is at least so long; a shorter one is over before all know.
_LONG_PAUSE_S = 5.0
#: A worker that reports nothing for so long is taken for dead.
SILENT_S = 10.0
#: While it starts, it may take longer.
_START_WITHIN_S = 60.0
#: Where another worker was answered within so many seconds, the endpoint works, and it is this worker's own trouble.
_ANSWERED_WITHIN_S = 10.0
#: So many deaths of one worker before it has asked anything, and of all without a result in between, are no accident.
_DEATHS_AT_START, _DEATHS_IN_A_ROW = 3, 5
#: A row in flight at so many deaths of its worker is given out alone, and after so many to nobody.
_ALONE_AFTER, _POISON_AFTER = 2, 3
#: Of so many workers one looks for an endpoint to be back, and for so many seconds: its own way there may be what is broken.
_TO_A_PROBE = 50
_TURN_S = 30.0
#: How much of a worker's speed of before counts against what it did since its last report.
_REMEMBERED = 0.5


class Worker(Struct):
    """What is known of a worker."""

    concurrency: int
    last_beat: float
    report: Report = Report()
    #: The rows that it has, and how many leases it was given.
    rows: list[tuple[int, int]] = field(default_factory=list)
    given: int = 0
    #: Items that it begins in a second; None until it has reported twice.
    per_s: float | None = None
    #: Up to how many tokens and dollars it was told that it may use in all.
    granted: dict[str, float] = field(default_factory=dict)
    answered_at: float = -math.inf
    #: The tasks whose endpoint has answered another worker, until it is told.
    back: list[str] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        """Whether all its rows are done."""
        return self.report.leases == self.given and not self.report.ahead and not self.report.active


def _silence_of(worker: Worker) -> float:
    """Return for how many seconds a worker may say nothing."""
    return SILENT_S if worker.report.segments else _START_WITHIN_S


def _used(report: Report, what: str) -> float:
    return report.used if what == "tokens" else report.spent


def _promised(worker: Worker, what: str) -> float:
    """Return up to how much a worker may come to use."""
    used = _used(worker.report, what)
    return used if worker.is_idle else max(used, worker.granted.get(what, 0.0))


class _Purse(Struct):
    """What all workers may use together, in tokens or dollars; by sums that go on, a report costs the same for any number."""

    what: str
    #: None: any amount.
    left: float | None
    #: By all, also those that are gone.
    used: float = 0.0
    #: Up to how much it may come to by what was granted.
    promised: float = 0.0

    def add(self, worker: Worker) -> None:
        """Take what a worker has used, and may come to use, into the sums."""
        self.used += _used(worker.report, self.what)
        self.promised += _promised(worker, self.what)

    def remove(self, worker: Worker) -> None:
        """Leave it out of them."""
        self.used -= _used(worker.report, self.what)
        self.promised -= _promised(worker, self.what)

    def close(self, worker: Worker) -> None:
        """Take back what a worker that is gone was promised and has not used."""
        self.promised += _used(worker.report, self.what) - _promised(worker, self.what)

    def grant(self, worker: Worker, workers: int) -> float | None:
        """Return up to how much a worker may use in all: its part of half of what is left.

        What is promised to all of them together is never more than there is. A promise stands until its worker has nothing to
        do: only then can others have what it has not used.
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
    """Decides; `stop` is why the run is to end, once it is."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        budget: Budget,
        tokens_left: float | None = None,
        cost_left: float | None = None,
        drain_s: float = 25.0,
    ) -> None:
        """`budget` tells why nothing more may be sent; what is left of its limits may be used by all workers together."""
        self._clock, self._budget, self._drain_s = clock, budget, drain_s
        self._tokens, self._cost = _Purse("tokens", tokens_left), _Purse("cost", cost_left)
        self.workers: dict[int, Worker] = {}
        self.stop: Stop | None = None
        #: Rows that end their worker, by their indexes.
        self.poison: list[int] = []
        #: How many workers died, and how many rows were in flight then: their requests may be paid twice.
        self.died = 0
        self.paid_twice = 0
        self._open, self._last, self._alone = Ranges(), Ranges(), deque[int]()
        self._is_planned = False
        self._gone: list[Report] = []
        self._deaths: Counter[int] = Counter()
        self._deaths_at_start: Counter[int] = Counter()
        self._deaths_in_a_row = 0
        #: Since when a request is known to be in flight.
        self._asked_at: float | None = None
        self._is_known = False
        #: By endpoint.
        self._paused_until: dict[str, float] = {}
        #: By task the workers for which its endpoint is down; each with the time since when it looks for it to be back.
        self._lines: defaultdict[str, dict[int, float | None]] = defaultdict(dict)

    # --- rows ---

    def add(self, ranges: Sequence[tuple[int, int]], tried: Sequence[tuple[int, int]] = ()) -> None:
        """Take in rows that are to be asked; those that were tried in an earlier start come last."""
        self._open.add(ranges)
        self._last.add(tried)

    def plan_ended(self) -> None:
        """Note that there are no more rows."""
        self._is_planned = True

    @property
    def goes_on(self) -> bool:
        """Whether workers are needed."""
        return self.stop is None and not self.is_done

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        nothing_waits = self._is_planned and not self._open.count and not self._last.count and not self._alone
        return nothing_waits and all(not worker.rows for worker in self.workers.values())

    # --- workers ---

    def join(self, slot: int, concurrency: int) -> None:
        """Note that a worker is there."""
        self.workers[slot] = Worker(concurrency, self._clock())

    def beat(self, slot: int, report: Report) -> None:
        """Take in a report."""
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
        if self.stop is None and (reason := self._too_many_errors(report) or self._used_up()) is not None:
            self.stop = Stop(reason, None)

    def silent(self) -> list[int]:
        """Return the workers that have reported nothing for too long."""
        now = self._clock()
        return [slot for slot, worker in self.workers.items() if now - worker.last_beat > _silence_of(worker)]

    def _note_down(self, slot: int, down: Collection[str]) -> None:
        """Note for which tasks a worker's endpoint is down; where it has found one to be back, all who wait are to know."""
        for task in down:
            self._lines[task].setdefault(slot, None)
        for task, line in self._lines.items():
            if slot in line and task not in down and line.pop(slot) is not None:
                for other in line:
                    self.workers[other].back.append(task)
                line.clear()

    def with_news(self) -> Iterator[int]:
        """Yield the workers for which there is something that they wait for."""
        for slot, worker in list(self.workers.items()):
            is_hungry = worker.report.leases == worker.given and not worker.report.ahead
            waits = self._open.count or self._last.count or self._alone
            if worker.back or (is_hungry and (self.is_done or (waits and self._may_ask(slot)))):
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
        """Take a worker's rows that have no result back, of which some were in flight; one that `died` did not mean to.

        `found` is how many answers and errors it has left behind, which may be more than it had reported.
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
        """Decide on a worker that stopped by itself: whether the run goes on without it. `stop` says why if not.

        Where others are answered by an endpoint that is down for it, that is its own trouble.
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
        """Return what a worker is to do now; no new rows where none may be given."""
        worker, now = self.workers[slot], self._clock()
        if self.stop is not None:
            return Orders(stop=self.stop)
        runs = self._rows_for(slot, worker) if may_give else []
        leases = [Lease(runs)] if runs else []
        back, worker.back = worker.back, []
        if leases:
            worker.given += 1
            worker.rows += runs
        return Orders(
            leases=leases,
            closed=self.is_done,
            tokens=self._tokens.grant(worker, len(self.workers)),
            cost=self._cost.grant(worker, len(self.workers)),
            may_probe=[task for task in worker.report.down if self._may_probe(slot, task)],
            back=back,
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
        """Whether a worker may have rows: only one has, while nothing is known of the endpoint."""
        if self._is_known:
            return True
        has_refused = any(worker.report.retries or worker.report.ended for worker in self.workers.values())
        if not has_refused and self._asked_at is not None and self._clock() - self._asked_at >= _CAUTION_S:
            return True
        return all(not worker.given for other, worker in self.workers.items() if other != slot)

    def _may_probe(self, slot: int, task: str) -> bool:
        """Whether it is a worker's turn to look for the endpoint of a task to be back.

        When that is over it stands in no line, and by its next report at the end of it.
        """
        line, most, now = self._lines[task], max(1, len(self.workers) // _TO_A_PROBE), self._clock()
        if slot not in islice(line, most):
            return False
        since = line[slot]
        if since is not None and now - since >= _TURN_S and len(line) > most:
            del line[slot]
            return False
        line[slot] = now if since is None else since
        return True

    def _concurrency_for(self, slot: int) -> Mapping[str, Sequence[int]]:
        """Return how many requests in flight the oldest worker has found best, for the others to keep to."""
        if not self.workers[slot].report.concurrency:  # it is fixed
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
        """Return a sum over all workers, those that are gone too."""
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
        """How late the event loop of a worker was at worst, in seconds."""
        return max((report.loop_lag_s for report in self._reports()), default=0.0)
