"""The pace of an endpoint that limits the rate: what is allowed is used, little is refused, nobody comes back too soon.

The endpoints and the clock are virtual: a run of half a minute takes a second, and comes out the same each time.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest

from runner.endpoint.pacing.pace import Pace
from runner.endpoint.pacing.rate_limiter import RateLimiter, limited
from runner.endpoint.pacing.slots import Slots
from runner.errors import AttemptError
from runner.types import Attempt, ErrorType, Failure, Response, Unit
from tests.histories import in_virtual_time
from tests.plain_requests import request
from tests.variations import some

RATE = 200.0
CONCURRENCY = 64


@dataclass
class Limiter:
    """An endpoint that allows `rate` a second: a bucket of so many tokens, fixed windows of a second, or a sliding one."""

    kind: str
    bucket: float = 0.0
    #: What it says, as Retry-After, in seconds.
    retry_after_s: float | None = 1.0
    #: How long a 429 takes.
    refusal_s: float = 0.001
    rate: float = RATE
    #: How long the first request is held up, and all that are sent meanwhile.
    first_s: float = 0.0
    #: What is refused of everything, for one that does not look at the rate.
    share: float = 0.1
    arrivals: list[float] = field(default_factory=list)
    answered: int = 0
    refused: int = 0
    too_soon: int = 0
    _tokens: float = field(init=False)
    _at: float = 0.0
    _window: deque[float] = field(default_factory=deque)
    _not_before: dict[Unit, float] = field(default_factory=dict)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        self._tokens = self.bucket

    def _allows(self, now: float) -> bool:
        match self.kind:
            case "bucket":
                self._tokens = min(self.bucket, self._tokens + (now - self._at) * self.rate)
                self._at = now
                if self._tokens < 1:
                    return False
                self._tokens -= 1
                return True
            case "fixed":
                while self._window and int(self._window[0] + 0.37) != int(now + 0.37):
                    self._window.popleft()
            case "sliding":
                while self._window and self._window[0] <= now - 1:
                    self._window.popleft()
            case "random":
                return self._random.random() >= self.share
        if len(self._window) >= self.rate:
            return False
        self._window.append(now)
        return True

    async def send(self, attempt: Attempt) -> Response:
        loop, unit = asyncio.get_running_loop(), attempt.request.unit
        await asyncio.sleep(self._random.expovariate(1000))  # the way there
        await asyncio.sleep(max(0.0, self.first_s - loop.time()))
        now = loop.time()
        self.arrivals.append(now)
        self.too_soon += now < self._not_before.get(unit, 0.0)
        if self._allows(now):
            await asyncio.sleep(self._random.uniform(0.05, 0.1))
            self.answered += 1
            return Response(output="yes")
        self.refused += 1
        self._not_before[unit] = now + (self.retry_after_s or 0.0)
        await asyncio.sleep(self.refusal_s)
        raise AttemptError(
            Failure(error_type=ErrorType.RATE_LIMIT, message="429", retry_after_s=self.retry_after_s), retry=True
        )

    @property
    def refused_share(self) -> float:
        return self.refused / len(self.arrivals)

    @property
    def used_share(self) -> float:
        """What was answered of all that would have been."""
        return self.answered / (self.arrivals[-1] - self.arrivals[0]) / self.rate


async def ask(
    limiter: Limiter,
    rows: int,
    *,
    concurrency: int = CONCURRENCY,
    poison: int | None = None,
    made: Callable[[RateLimiter], object] = lambda _: None,
) -> RateLimiter:
    """Let workers ask for all rows until they are answered. A row of poison gets nothing but 429."""
    loop = asyncio.get_running_loop()
    unfinished = rows
    gate = RateLimiter(slots=Slots(concurrency), clock=loop.time, draw=random.Random(1).random, left=lambda: unfinished)
    made(gate)
    wire = asyncio.Lock()
    indexes = iter(range(rows))

    async def send(attempt: Attempt) -> Response:
        async with wire:  # a request costs this program time
            await asyncio.sleep(0.0002)
        if attempt.request.unit.item_index == poison:
            limiter.arrivals.append(loop.time())
            raise AttemptError(Failure(error_type=ErrorType.RATE_LIMIT, message="429", retry_after_s=0.0), retry=True)
        return await limiter.send(attempt)

    sending = limited(send, gate)

    async def work() -> None:
        nonlocal unfinished
        for index in indexes:
            for number in count(1) if index != poison else range(1, 15):
                try:
                    await sending(Attempt(request(index), number))
                except AttemptError:
                    continue
                break
            unfinished -= 1

    async with asyncio.TaskGroup() as workers:
        for worker in range(concurrency):
            workers.create_task(work())
            if worker == 7:  # the first few go ahead
                await asyncio.sleep(0.08)
    return gate


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "bucket", "retry_after_s", "used"),
    some(
        [
            # The first pause alone costs four in a hundred of these 25 seconds where a bucket holds next to nothing.
            ("bucket", 20, None, 0.94),
            ("fixed", 0, 1.0, 0.95),
            ("sliding", 0, 1.0, 0.95),
            ("bucket", 10, 1.0, 0.94),
            ("bucket", 50, 1.0, 0.94),
            ("bucket", 200, 1.0, 0.95),
            ("sliding", 0, None, 0.95),
        ],
        3,
    ),
)
def test_what_an_endpoint_allows_is_used_and_little_is_refused(
    kind: str, bucket: float, retry_after_s: float | None, used: float
) -> None:
    limiter = Limiter(kind, bucket, retry_after_s=retry_after_s)

    async def run() -> None:
        await ask(limiter, 5000)

    in_virtual_time(run())
    assert limiter.answered == 5000
    assert limiter.refused_share <= 0.03
    assert limiter.used_share >= used
    assert limiter.too_soon == 0


@pytest.mark.parametrize("kind", some(["sliding", "fixed"], 1))
def test_a_wish_that_is_too_short_does_not_lead_to_a_storm(kind: str) -> None:
    limiter = Limiter(kind, retry_after_s=0.05)

    async def run() -> None:
        await ask(limiter, 3000)

    in_virtual_time(run())
    assert limiter.refused_share <= 0.03
    assert limiter.used_share >= 0.8


@pytest.mark.long
def test_refusals_that_take_as_long_as_answers_are_not_many_more() -> None:
    for bucket in some([200, 10], 1):
        limiter = Limiter("bucket", bucket, refusal_s=0.05)

        async def run(limiter: Limiter = limiter) -> None:
            await ask(limiter, 5000)

        in_virtual_time(run())
        assert limiter.refused_share <= 0.03
        assert limiter.used_share >= 0.94


@pytest.mark.long
@pytest.mark.parametrize(("kind", "bucket"), some([("bucket", 10), ("fixed", 0)], 1))
def test_a_limit_that_is_raised_is_found_out(kind: str, bucket: float) -> None:
    limiter = Limiter(kind, bucket)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        asking = asyncio.create_task(ask(limiter, 9000))
        await asyncio.sleep(10)
        limiter.rate = 2 * RATE
        await asking
        last = [at for at in limiter.arrivals if loop.time() - 6 < at <= loop.time() - 1]
        assert len(last) / 5 >= 1.6 * RATE

    in_virtual_time(run())
    assert limiter.refused_share <= 0.03


def test_the_pace_of_a_client_that_has_ended_is_added() -> None:
    """Of two clients one has nearly all that the endpoint allows. When it ends, the other one need not find that out."""

    async def run(*, rises: bool) -> float:
        limiter, gates = Limiter("bucket", 5, rate=20.0), list[RateLimiter]()
        loop = asyncio.get_running_loop()
        asking = asyncio.create_task(ask(limiter, 900, concurrency=16, made=gates.append))
        await asyncio.sleep(25)
        limiter.rate, began = RATE, loop.time()
        if rises:
            before = gates[0].learnt_per_second
            gates[0].rise(RATE - 20)
            assert gates[0].learnt_per_second == pytest.approx(before + RATE - 20)
        await asking
        return loop.time() - began

    assert in_virtual_time(run(rises=True)) < 0.3 * in_virtual_time(run(rises=False))


def test_without_a_pace_of_its_own_nothing_is_added() -> None:
    gate = RateLimiter(requests_per_second=5)
    gate.rise(100)
    assert gate.per_second == pytest.approx(5, rel=0.02)
    assert not gate.learnt_per_second


@pytest.mark.long
def test_a_slow_start_is_not_taken_for_a_slow_endpoint() -> None:
    """What is answered before the first 429 is little where connections take long: it must not be the pace of the whole run."""
    limiter = Limiter("bucket", 20, first_s=0.8)

    async def run() -> None:
        await ask(limiter, 5000)

    in_virtual_time(run())
    assert limiter.refused_share <= 0.03
    assert limiter.used_share >= 0.9  # the first request and the first pause alone cost seven in a hundred


@pytest.mark.long
def test_nobody_is_refused_at_the_end_and_waited_for_alone() -> None:
    for rows in some([2120, 2200, *range(2080, 2260, 20)], 2):  # so many rows end where the pace would be too much again
        limiter = Limiter("bucket", 20)

        async def run(limiter: Limiter = limiter, rows: int = rows) -> None:
            await ask(limiter, rows)

        in_virtual_time(run())
        assert limiter.arrivals[-1] - limiter.arrivals[-20] < 0.2


@pytest.mark.parametrize("share", some([0.1, 0.02, 0.2], 1))
def test_an_endpoint_that_refuses_whatever_the_rate_is_not_asked_ever_more_slowly(share: float) -> None:
    """An overloaded server among several says 429 to its share of the requests: no pace makes that less."""
    limiter = Limiter("random", share=share)
    seconds = 0.0

    async def run() -> None:
        nonlocal seconds
        await ask(limiter, 3000)
        seconds = asyncio.get_running_loop().time()

    in_virtual_time(run())
    assert limiter.answered == 3000
    assert limiter.too_soon == 0
    assert seconds < 45  # at least 3 to 16 s, by the rows that wait for their own second


@pytest.mark.long
def test_a_limit_that_is_lowered_is_found_out() -> None:
    limiter = Limiter("bucket", 20)

    async def run() -> None:
        asking = asyncio.create_task(ask(limiter, 4000))
        await asyncio.sleep(10)
        before = limiter.refused
        limiter.rate = RATE / 2
        await asking
        assert limiter.refused - before <= 0.05 * 2000

    in_virtual_time(run())
    assert limiter.answered == 4000


def test_an_endpoint_that_never_says_429_is_not_slowed() -> None:
    limiter = Limiter("bucket", 1e9, rate=1e9)

    async def run() -> None:
        gate = await ask(limiter, 2000)
        assert gate.is_open

    in_virtual_time(run())
    assert limiter.arrivals[-1] < 2000 * 0.1 / CONCURRENCY + 0.5


def test_a_row_that_alone_gets_429_slows_nobody_for_long() -> None:
    limiter = Limiter("bucket", 1e9, rate=1e9)

    async def run() -> None:
        await ask(limiter, 2000, concurrency=8, poison=500)

    in_virtual_time(run())
    assert limiter.answered == 1999
    assert limiter.arrivals[-1] < 1.5 * 2000 * 0.075 / 8


def test_after_the_first_pause_a_429_holds_its_own_row_only() -> None:
    pace = Pace()
    pace.passed(0.0)
    for number in range(30):
        pace.answered(0.0, 0.1 + number / 100)
    assert pace.refused(0.3, 0.4)
    pace.pause(0.4, 1.4, 1.0)
    assert pace.wait_s(1.4) == 0.0
    assert pace.is_learnt
    # Nothing is let through yet: everybody pauses again …
    assert pace.refused(1.5, 1.51)
    # … and not when others are answered,
    pace.answered(1.5, 1.55)
    assert not pace.refused(1.52, 1.56)
    # but when one is refused after the other.
    assert [pace.refused(1.57, 1.58) for _ in range(5)][-1]


def test_a_pace_is_faster_with_each_answer() -> None:
    pace = Pace()
    pace.passed(0.0)
    for number in range(30):
        pace.answered(0.0, 0.1 + number / 100)
    pace.pause(0.4, 1.4, 1.0)
    pace.wait_s(1.4)
    rates = []
    for _ in range(2000):
        pace.answered(1.5, 1.5)
        rate = pace.per_second(1.5)
        assert rate is not None
        rates.append(rate)
    assert rates == sorted(rates)
    assert rates[-1] > 4 * rates[0]
