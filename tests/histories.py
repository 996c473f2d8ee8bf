"""Histories of an endpoint in virtual time: bad rows, outages and chance, against the real pipeline, retries and circuit.

An hour of back-offs takes a fraction of a second here: the clock of the event loop jumps to the next timer as soon as nobody
has anything to do.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runner.endpoint.pacing.circuit import Circuit, Circuits
from runner.endpoint.pacing.health import Health
from runner.endpoint.pacing.rate_limiter import RateLimiter, limited
from runner.endpoint.pacing.retry import RetryPolicy, retrying
from runner.endpoint.pacing.slots import Slots
from runner.errors import AttemptError
from runner.pipeline.pipeline import InFlight, Pipeline, Step
from runner.types import Attempt, ErrorType, Execute, Failure, Item, Request, Response, Result, Sample, Unit

__all__ = [
    "REFUSED",
    "RESET",
    "SERVER",
    "TIMEOUT",
    "History",
    "Lived",
    "broken_promises",
    "drawn",
    "in_virtual_time",
    "live",
]

T = TypeVar("T")


def _failing(
    kind: ErrorType, status: int | None, words: str, *, retry: bool = True, stops_run: str | None = None
) -> AttemptError:
    return AttemptError(Failure(error_type=kind, message=words, status_code=status), retry=retry, stops_run=stops_run)


SERVER = _failing(ErrorType.SERVER, 500, "500 Internal Server Error")
TIMEOUT = _failing(ErrorType.TIMEOUT, None, "first_byte: no answer began")
RESET = _failing(ErrorType.CONNECT, None, "the connection broke")
REFUSED = _failing(ErrorType.AUTH, 403, "403 Forbidden", retry=False, stops_run="first")


@dataclass(frozen=True)
class History:
    """What an endpoint does over time, and with which rows."""

    rows: int
    concurrency: int = 8
    #: The rows that always fail, and how.
    bad: frozenset[int] = frozenset()
    how: AttemptError = SERVER
    #: Seconds from the start in which everything fails: from, to.
    outages: Sequence[tuple[float, float]] = ()
    #: The share of attempts that fail by chance.
    flaky: float = 0.0
    #: Whether two replicas take turns, of which one is broken.
    turns: bool = False
    answer_s: float = 0.05
    failure_s: float = 0.02
    max_attempts: int = 5
    give_up_after: float = 600.0
    seed: int = 0


@dataclass
class Lived:
    """What came of it."""

    results: dict[int, Result] = field(default_factory=dict)
    stopped: str | None = None
    seconds: float = 0.0
    #: Requests by what became of them: answered, failed, control, and those that failed in an outage.
    requests: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0

    @property
    def answered(self) -> set[int]:
        return {index for index, result in self.results.items() if not result.failed}

    @property
    def charged(self) -> set[int]:
        return {index for index, result in self.results.items() if result.failed}


class _Selector(selectors.SelectSelector):
    """Never waits, for nothing comes from outside: the time passes instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits for ever")
        if timeout > 0:
            self.now += timeout
        return ()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop whose clock jumps."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


def live(history: History, known_good: Sequence[Request] = ()) -> Lived:
    """Live through a history."""
    return in_virtual_time(_live(history, known_good))


async def _live(history: History, known_good: Sequence[Request]) -> Lived:
    loop, lived, draw = asyncio.get_running_loop(), Lived(), random.Random(history.seed)
    at_once = asked = 0

    async def answer(attempt: Attempt) -> Response:
        nonlocal at_once, asked
        at_once += 1
        asked += 1
        lived.most_at_once = max(lived.most_at_once, at_once)
        began = loop.time()
        is_down = any(start <= began < end for start, end in history.outages)
        is_bad = not attempt.is_control and attempt.request.unit.item_index in history.bad
        error = SERVER if is_down else history.how if is_bad else SERVER if draw.random() < history.flaky else None
        if history.turns and asked % 2 and error is None:
            error = SERVER
        try:
            await asyncio.sleep((history.answer_s if error is None else history.failure_s) * draw.uniform(0.5, 1.5))
        finally:
            at_once -= 1
        attempt.sent_at, attempt.wire_s = int(began * 1e6), loop.time() - began
        lived.requests["control"] += attempt.is_control
        lived.requests["failed" if error else "answered"] += 1
        lived.requests["in an outage"] += is_down
        if error is not None:  # a new one each time: an exception that is raised again keeps all that it went through
            raise AttemptError(error.failure, retry=error.retry, stops_run=error.stops_run)
        return Response(output="yes")

    gate = RateLimiter(slots=Slots(history.concurrency), clock=loop.time)
    in_flight = InFlight()

    def circuit_of(_task: str) -> Circuit:
        health = Health(known_good, has_fresh=pipeline.has_fresh, give_up_after=history.give_up_after, clock=loop.time)
        return Circuit(
            health, send, give_up_after=history.give_up_after, on_back=gate.slots.restart, clock=loop.time, draw=draw.random
        )

    circuits = Circuits(circuit_of)
    send = limited(circuits.counting(in_flight.watch(answer)), gate)
    policy = RetryPolicy(max_attempts=history.max_attempts)
    execute = retrying(policy, circuits, aside=lambda: pipeline.aside(), clock=loop.time, draw=draw.random)  # noqa: PLW0108  made below
    pipeline = Pipeline(
        steps=[Step(task=_Ask(execute), samples=1, inputs=())],
        samples=_samples(history.rows),
        concurrency=history.concurrency,
        sink=lambda result: lived.results.__setitem__(result.unit.item_index, result),
        known=lambda *_: None,
        in_flight=in_flight,
        drain_s=1.0,
        on_exhausted=circuits.notify,
    )
    await pipeline.run()
    lived.stopped, lived.seconds = pipeline.stopped, loop.time()
    return lived


def _samples(rows: int) -> Iterator[Sample]:
    for index in range(rows):
        yield Sample(Item(item_id=f"row-{index}", index=index, row={}, place=f"rows:{index}"), 0)


@dataclass
class _Ask:
    """A task that asks for a row by its number."""

    execute: Execute
    alias: str = "answer"
    task_type: str = "chat_completion"
    model: str | None = "m"

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        unit = Unit(sample.item.item_id, sample.item.index, 0, self.alias)
        request = Request(unit=unit, path="/chat/completions", model="m", content=b"{}", shown="{}", stream=False)
        outcome = await self.execute(request)
        return Result(unit=unit, task_type=self.task_type, outcome=outcome, item=sample.item, request=request)


def drawn(seed: int) -> History:
    """Return a history by chance: bad rows up to a half in any order, outages, chance failures, slow and quick endpoints."""
    draw = random.Random(seed)
    rows = draw.choice([5, 20, 60, 150, 300])
    count = int(rows * draw.choice([0, 0.01, 0.05, 0.12, 0.33, 0.5]))
    first = draw.choice([0, rows - count, (rows - count) // 2])
    bad = draw.sample(range(rows), count) if draw.random() < 0.4 else range(first, first + count)
    answer_s = draw.choice([0.01, 0.05, 0.5, 5.0])
    max_attempts = draw.choice([3, 5, 5, 7])
    outages, now = [], 0.0
    for _ in range(draw.choice([0, 0, 1, 2, 3])):
        now += draw.expovariate(1 / (10 * answer_s + 1))
        length = draw.choice([0.1, 1, 8, 60]) * draw.uniform(0.5, 1.5)
        outages.append((now, now + length))
        now += length
    return History(
        rows=rows,
        concurrency=draw.choice([1, 2, 3, 8, 32, 64, 256]),
        bad=frozenset(bad),
        how=draw.choice([SERVER, TIMEOUT, RESET, REFUSED]),
        outages=outages,
        flaky=draw.choice([0, 0, 0, 0.02, 0.1, 0.3, 0.5]) if max_attempts >= 5 else 0.0,
        answer_s=answer_s,
        failure_s=draw.choice([0.005, 0.02, 0.5, 5.0]),
        max_attempts=max_attempts,
        seed=seed,
    )


def broken_promises(history: History, lived: Lived) -> list[str]:
    """Return what is not as it should be: every good row a result, every bad row an error, the run not stopped."""
    found = []
    if lived.stopped is not None and not _begins_with_refusals(history):
        found.append(f"stopped: {lived.stopped}")
    if burned := lived.charged - history.bad:
        found.append(f"good rows are charged: {sorted(burned)}")
    if lived.stopped is None and (missing := set(range(history.rows)) - set(lived.results)):
        found.append(f"rows have no result: {sorted(missing)}")
    if spared := lived.answered & history.bad:
        found.append(f"bad rows are answered: {sorted(spared)}")
    if lived.most_at_once > history.concurrency:
        found.append(f"{lived.most_at_once} requests at once, {history.concurrency} are allowed")
    return found


def _begins_with_refusals(history: History) -> bool:
    """Whether the first rows are refused alike, or not let in: before anything was answered sixteen of them end a run."""
    block = next((index for index in range(history.rows) if index not in history.bad), history.rows)
    return block >= 12 and history.how in {RESET, REFUSED}
