"""The gate before the wire lets attempts pass in the order in which they came, and never faster than the limits allow.

Tokens and pauses are tested on a virtual clock. Requests a second are counted by asyncio-throttle, which reads the real
clock: those tests are short, and only say what must never happen.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from runner.endpoint.pacing.rate_limiter import RateLimiter, TokenBudget, limited
from runner.endpoint.pacing.slots import Slots
from runner.errors import AttemptError
from runner.evaluation import prepare
from runner.types import Attempt, ErrorType, Failure, Response, Usage
from tests.plain_requests import request
from tests.serving import Served, echo


def attempt(index: int = 0, tokens: int = 0) -> Attempt:
    return Attempt(request(index, token_estimate=tokens), 1)


@dataclass
class VirtualTime:
    """A clock that only sleeping moves; it counts how many sleep at once."""

    now: float = 1000.0
    asleep: int = 0
    most_asleep: int = 0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.asleep += 1
        self.most_asleep = max(self.most_asleep, self.asleep)
        until = self.now + seconds
        # Others get their turn before the time passes, so that a second sleeper would be seen.
        for _ in range(5):
            await asyncio.sleep(0)
        # A timer never fires early; it may be late by as little as the clock can tell.
        self.now = max(self.now, until + 1e-6)
        self.asleep -= 1


def gate_on(virtual: VirtualTime, tokens_per_minute: int | None = None) -> RateLimiter:
    tokens = None if tokens_per_minute is None else TokenBudget(tokens_per_minute, clock=virtual.clock)
    return RateLimiter(tokens=tokens, clock=virtual.clock, sleep=virtual.sleep, draw=lambda: 0.0)


# --- tokens a minute ---


def test_the_first_minutes_tokens_are_there_at_once() -> None:
    virtual = VirtualTime()
    budget = TokenBudget(600, clock=virtual.clock)
    assert [budget.reserve(200) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert budget.reserve(200) == pytest.approx(20.0)


def test_a_wait_is_exactly_as_long_as_the_tokens_take_to_come_back() -> None:
    virtual = VirtualTime()
    budget = TokenBudget(600, clock=virtual.clock)
    assert budget.reserve(600) == 0
    wait = budget.reserve(100)
    virtual.now += wait * 0.99
    assert budget.reserve(100) > 0
    virtual.now += wait * 0.011
    assert budget.reserve(100) == 0


def test_unused_minutes_are_not_saved_up() -> None:
    virtual = VirtualTime()
    budget = TokenBudget(600, clock=virtual.clock)
    virtual.now += 3600
    assert budget.reserve(600) == 0
    assert budget.reserve(1) > 0


def test_what_was_estimated_wrong_is_corrected() -> None:
    virtual = VirtualTime()
    budget = TokenBudget(600, clock=virtual.clock)
    assert budget.reserve(600) == 0
    budget.correct(600, 100)
    assert budget.reserve(500) == 0
    budget.correct(500, 1100)
    assert budget.reserve(1) == pytest.approx(60.1)
    # Giving back never fills more than a minute's budget.
    virtual.now += 3600
    budget.correct(10_000, 0)
    assert budget.reserve(600) == 0
    assert budget.reserve(1) > 0


@given(st.integers(60, 10_000), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 10_000)), max_size=40))
def test_no_minute_spends_more_than_the_budget_and_its_refill(capacity: int, wanted: list[tuple[int, int]]) -> None:
    virtual = VirtualTime()
    budget = TokenBudget(capacity, clock=virtual.clock)
    spent: list[tuple[float, int]] = []
    for tokens, used in wanted:
        estimate = min(tokens, capacity)
        while (wait := budget.reserve(estimate)) > 0:
            virtual.now += wait + 1e-6
        used = min(used, estimate)  # noqa: PLW2901  an estimate is an upper one
        budget.correct(estimate, used)
        spent.append((virtual.now, used))
    for start, _ in spent:
        assert sum(tokens for at, tokens in spent if start <= at < start + 60) <= 2 * capacity + 1


async def answering(_attempt: Attempt) -> Response:
    return Response(output="a")


async def test_limits_may_change_and_who_left_is_forgotten() -> None:
    virtual = VirtualTime()
    gate = gate_on(virtual, 600)
    gate.keep(None, 6000)
    await gate.wait(attempt(tokens=5000), "one")
    assert virtual.slept == []
    gate.rate_limited(virtual.now, 1.0, ("one", attempt().request.unit))
    gate.keep(None, None)
    await gate.wait(attempt(1))
    assert not gate.is_open
    gate.forget("one")
    assert gate.is_open


async def test_a_request_larger_than_a_minutes_budget_is_an_error_at_once() -> None:
    virtual = VirtualTime()
    gate = gate_on(virtual, 600)
    with pytest.raises(AttemptError, match=r"needs about 601 tokens, .*limits\.tokens_per_minute: 600") as raised:
        await limited(answering, gate, tokens_per_minute=600)(attempt(tokens=601))
    assert raised.value.failure.error_type is ErrorType.REQUEST
    assert not raised.value.retry
    assert virtual.slept == []
    # It took nothing, also while others stand in line.
    await gate.wait(attempt(tokens=600))
    assert virtual.slept == []


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (Response(output="a", usage=Usage(total_tokens=50)), 950),
        (Response(output="a", usage=Usage(total_tokens=400)), 600),
        (Response(output="a", usage=Usage(prompt_tokens=300, completion_tokens=100)), 600),
        # Where nothing is said, what was used is estimated when the answer is there; a failure used nothing that we know of.
        (Response(output="a" * 40), 990),
        (AttemptError(Failure(error_type=ErrorType.SERVER, message="m"), retry=True), 1000),
    ],
)
async def test_the_budget_follows_the_usage_that_comes_back(answer: Response | AttemptError, left: int) -> None:
    virtual = VirtualTime()
    budget = TokenBudget(1000, clock=virtual.clock)

    async def send(_attempt: Attempt) -> Response:
        if isinstance(answer, AttemptError):
            raise answer
        return answer

    sending = limited(send, RateLimiter(tokens=budget, clock=virtual.clock, sleep=virtual.sleep))
    with suppress(AttemptError):
        await sending(attempt(tokens=300))
    assert budget.reserve(left) == 0
    assert budget.reserve(1) > 0


def test_a_number_that_cannot_be_ends_no_run() -> None:
    virtual = VirtualTime()
    budget = TokenBudget(600, clock=virtual.clock)
    assert budget.reserve(100) == 0
    budget.correct(100, 2**62)
    budget.learn(100, 2**62)
    assert budget.reserve(0) == pytest.approx(600)
    for _ in range(100):
        budget.learn(100, 90)
    assert budget.likely(100) < 110


async def test_estimates_that_prove_too_low_are_raised() -> None:
    """Else all that are on their way at once would use many times what a minute has."""
    virtual, answering = VirtualTime(), asyncio.Event()
    sent: list[Attempt] = []

    async def send(one: Attempt) -> Response:
        sent.append(one)
        if len(sent) > 1:
            await answering.wait()
        return Response(output="a", usage=Usage(prompt_tokens=60, completion_tokens=40))

    async def never(_seconds: float) -> None:
        await asyncio.Event().wait()

    tokens = TokenBudget(1000, clock=virtual.clock)
    sending = limited(send, RateLimiter(tokens=tokens, clock=virtual.clock, sleep=never))
    await sending(attempt(tokens=10))
    others = [asyncio.ensure_future(sending(attempt(index, tokens=10))) for index in range(1, 50)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(sent) == 1 + 9  # 100 are used, and the nine will use the other 900
    answering.set()
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    # One that was thought to take a whole minute's is not shut out for it.
    assert tokens.likely(500) == 1000
    # Those that are too high stay: they are meant to be.
    for _ in range(200):
        tokens.learn(10, 1)
    assert tokens.likely(10) == 10


# --- the line ---


async def pass_all(gate: RateLimiter, count: int, *, tokens: int = 0) -> list[int]:
    """Let so many attempts pass; return them in the order in which they did."""
    passed: list[int] = []

    async def one(index: int) -> None:
        await gate.wait(attempt(index, tokens))
        passed.append(index)

    async with asyncio.TaskGroup() as group:
        for index in range(count):
            group.create_task(one(index))
    return passed


async def test_two_hundred_pass_in_the_order_in_which_they_came() -> None:
    virtual = VirtualTime()
    begun = virtual.now
    assert await pass_all(gate_on(virtual, 6000), 200, tokens=100) == list(range(200))
    # 6,000 tokens at once, the other 14,000 at 100 a second.
    assert virtual.now - begun == pytest.approx(140, rel=0.01)


async def test_only_the_first_in_line_looks_at_the_clock() -> None:
    virtual = VirtualTime()
    await pass_all(gate_on(virtual, 600), 200, tokens=100)
    assert virtual.most_asleep == 1
    # One sleep for each that had to wait: nobody polls.
    assert len(virtual.slept) == 194


async def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    virtual = VirtualTime()
    gate = gate_on(virtual, 600)
    passed: list[str] = []

    async def one(name: str, tokens: int) -> None:
        await gate.wait(attempt(tokens=tokens))
        passed.append(name)

    await asyncio.gather(one("first", 600), one("large", 600), one("small", 1), one("smaller", 0))
    assert passed == ["first", "large", "small", "smaller"]


async def test_whoever_gives_up_leaves_the_line_to_the_others() -> None:
    virtual, asleep = VirtualTime(), asyncio.Event()

    async def never(_seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    tokens = TokenBudget(600, clock=virtual.clock)
    gate = RateLimiter(tokens=tokens, clock=virtual.clock, sleep=never)
    await gate.wait(attempt(tokens=600))
    first = asyncio.create_task(gate.wait(attempt(tokens=1)))
    await asleep.wait()
    second = asyncio.create_task(gate.wait(attempt(tokens=1)))
    virtual.now += 60
    asleep.clear()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 20)
    assert not asleep.is_set()


# --- the pause of a 429 ---


async def test_a_pause_holds_everybody() -> None:
    virtual = VirtualTime()
    gate = gate_on(virtual)
    assert gate.is_open
    gate.rate_limited(virtual.now, 30)
    assert not gate.is_open
    begun = virtual.now
    assert await pass_all(gate, 50) == list(range(50))
    assert virtual.now >= begun + 30
    assert virtual.most_asleep == 1
    assert gate.is_open


@pytest.mark.parametrize(
    ("wishes", "draw", "expected"),
    [
        ([5.0], 0.0, 5.0),
        # Those who were sent away together do not come back together; nobody comes too soon.
        ([5.0], 1.0, 5.5),
        ([5.0], 0.5, 5.25),
        ([5.0, 2.0], 0.0, 5.0),
        ([2.0, 5.0], 0.0, 5.0),
        # A wish beyond two minutes is not granted.
        ([1e9], 0.0, 120.0),
        ([0.0], 1.0, 0.0),
        # Where the server does not say, a second: once, for all that were on the wire together.
        ([None], 0.0, 1.0),
        ([None] * 30, 0.0, 1.0),
        ([None, 3.0], 0.0, 3.0),
        ([3.0, None], 0.0, 3.0),
    ],
)
async def test_the_longest_pause_counts_up_to_two_minutes(wishes: list[float | None], draw: float, expected: float) -> None:
    virtual = VirtualTime()
    gate = RateLimiter(clock=virtual.clock, sleep=virtual.sleep, draw=lambda: draw)
    sent_at = virtual.now - 0.5
    gate.rate_limited(virtual.now, wishes[0])
    for retry_after_s in wishes[1:]:
        gate.rate_limited(sent_at, retry_after_s)
    await gate.wait(attempt())
    assert sum(virtual.slept) == pytest.approx(expected)


async def test_refusals_of_one_episode_make_its_pause_longer_by_one_draw() -> None:
    draws = iter([0.0, *([1.0] * 50)])
    virtual = VirtualTime()
    gate = RateLimiter(clock=virtual.clock, sleep=virtual.sleep, draw=lambda: next(draws))
    sent = [gate.take() for _ in range(20)]
    virtual.now += 1
    begun = virtual.now
    for sent_at in sent:
        gate.rate_limited(sent_at, 1.0)
        gate.slots.give_back()
    await gate.wait(attempt())
    assert virtual.now == pytest.approx(begun + 1.0, abs=0.01)


def test_a_wish_that_does_not_help_is_not_taken_at_its_word_for_ever() -> None:
    virtual = VirtualTime()
    gate = RateLimiter(clock=virtual.clock, sleep=virtual.sleep, draw=lambda: 0.0)
    pauses = []
    for _ in range(2000):
        gate.rate_limited(virtual.now, 0.0)
        pauses.append(gate._closed_until - virtual.now)
        virtual.now = max(virtual.now, gate._closed_until) + 0.1
    assert pauses[:10] == pytest.approx([0] * 10, abs=0.11)
    assert pauses[10:15] == pytest.approx([1, 2, 4, 8, 16], abs=0.11)
    assert pauses[-1] == pytest.approx(60)


async def test_pauses_that_nobody_sets_double_until_there_is_an_answer() -> None:
    virtual = VirtualTime()
    gate = gate_on(virtual)
    pauses = []
    for number in range(10):
        if number == 8:
            gate.answered()
        begun = virtual.now
        gate.rate_limited(virtual.now, None)
        await gate.wait(attempt())
        pauses.append(round(virtual.now - begun))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]


async def test_an_episode_of_429s_takes_slots_away_once() -> None:
    virtual = VirtualTime()
    gate = RateLimiter(slots=Slots(100), clock=virtual.clock, sleep=virtual.sleep)
    sent = [gate.take() for _ in range(100)]
    virtual.now += 1
    for sent_at in sent:
        gate.rate_limited(sent_at, 1.0)
        gate.slots.give_back()
    assert gate.slots.limit == 70
    virtual.now += 2
    sent = [gate.take() for _ in range(70)]
    virtual.now += 1
    for sent_at in sent:
        gate.rate_limited(sent_at, 1.0)
        gate.slots.give_back()
    assert gate.slots.limit == 49
    for _ in range(200):
        gate.answered()
    assert gate.slots.limit > 49


async def test_who_waits_for_a_slot_when_a_pause_begins_waits_for_its_end() -> None:
    virtual = VirtualTime()
    gate = RateLimiter(slots=Slots(1), clock=virtual.clock, sleep=virtual.sleep, draw=lambda: 0.0)
    sent_at = gate.take()
    waiting = asyncio.create_task(gate.wait(attempt()))
    for _ in range(5):
        await asyncio.sleep(0)
    gate.rate_limited(sent_at, 20.0)
    gate.slots.give_back()
    begun = virtual.now
    await asyncio.wait_for(waiting, 20)
    assert virtual.now >= begun + 20


async def test_no_more_than_the_slots_are_on_the_wire() -> None:
    gate, flying, most = RateLimiter(slots=Slots(7)), 0, 0

    async def send(_attempt: Attempt) -> Response:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        for _ in range(3):
            await asyncio.sleep(0)
        flying -= 1
        if _attempt.request.unit.item_index % 3 == 0:
            raise AttemptError(Failure(error_type=ErrorType.SERVER, message="m"), retry=True)
        return Response(output="a")

    sending = limited(send, gate)
    await asyncio.wait_for(asyncio.gather(*(sending(attempt(n)) for n in range(60)), return_exceptions=True), 20)
    assert most == 7
    assert gate.slots.free


async def test_a_pause_that_is_made_longer_while_somebody_waits_holds_on() -> None:
    virtual = VirtualTime()

    async def sleep(seconds: float) -> None:
        if not virtual.slept:
            gate.rate_limited(virtual.now, 50)
        await virtual.sleep(seconds)

    gate = RateLimiter(clock=virtual.clock, sleep=sleep)
    gate.rate_limited(virtual.now, 10)
    begun = virtual.now
    await gate.wait(attempt())
    assert virtual.now >= begun + 50


@pytest.mark.long
async def test_a_pause_that_begins_while_somebody_waits_for_a_place_holds_on() -> None:
    gate = RateLimiter(requests_per_second=1.9)
    await gate.wait(attempt())
    begun = time.monotonic()
    waiting = asyncio.create_task(gate.wait(attempt(1)))
    await asyncio.sleep(0.05)
    gate.rate_limited(begun, 0.8)
    await waiting
    assert time.monotonic() - begun >= 0.8


@pytest.mark.long
async def test_after_a_pause_no_more_pass_at_once_than_at_any_other_time() -> None:
    """Whoever stood in front when the pause began holds no place from before it."""
    gate = RateLimiter(requests_per_second=1.9)
    gate.rate_limited(time.monotonic(), 0.7)
    passed: list[float] = []

    async def one(index: int) -> None:
        await gate.wait(attempt(index))
        passed.append(time.monotonic())

    async with asyncio.TaskGroup() as group:
        for index in range(2):
            group.create_task(one(index))
    assert most_within(passed, 0.4) == 1


@pytest.mark.parametrize(
    ("error_type", "retry_after_s", "pause"),
    [
        (ErrorType.RATE_LIMIT, 20.0, 20.0),
        (ErrorType.RATE_LIMIT, None, 1.0),
        (ErrorType.RATE_LIMIT, 0.0, 0.0),
        # Another trouble is that of one attempt.
        (ErrorType.SERVER, 20.0, 0.0),
    ],
)
async def test_a_429_closes_the_gate_for_all(error_type: ErrorType, retry_after_s: float | None, pause: float) -> None:
    virtual = VirtualTime()
    gate = gate_on(virtual)

    async def send(_attempt: Attempt) -> Response:
        raise AttemptError(Failure(error_type=error_type, message="m", retry_after_s=retry_after_s), retry=True)

    with pytest.raises(AttemptError):
        await limited(send, gate)(attempt())
    begun = virtual.now
    await gate.wait(attempt(1))
    assert virtual.now - begun == pytest.approx(pause, abs=0.001)


async def test_what_is_waited_is_written_down_and_is_no_time_on_the_wire() -> None:
    async def send(one: Attempt) -> Response:
        assert one.queue_s > 0
        return Response(output="a")

    virtual = VirtualTime()
    gate = gate_on(virtual)
    gate.rate_limited(virtual.now, 0.05)
    waiting = attempt()
    await limited(send, gate)(waiting)
    assert waiting.queue_s == pytest.approx(0.05, abs=0.001)
    assert waiting.wire_s == 0

    async def send_now(one: Attempt) -> Response:
        assert one.queue_s == 0
        return Response(output="a")

    await limited(send_now, gate)(attempt())


# --- requests a second, on the real clock ---


def most_within(times: list[float], seconds: float) -> int:
    """Return the largest number of times that lie in any window of so many seconds."""
    return max(sum(start <= at < start + seconds for at in times) for start in times)


@pytest.mark.long
async def test_fifty_a_second_are_never_exceeded() -> None:
    """asyncio-throttle allows a burst of 50, and then never more than 50 in any second."""
    gate = RateLimiter(requests_per_second=50)
    passed: list[float] = []

    async def one(index: int) -> None:
        await gate.wait(attempt(index))
        passed.append(time.monotonic())

    async with asyncio.TaskGroup() as group:
        for index in range(80):
            group.create_task(one(index))
    assert most_within(passed, 0.9) <= 50
    assert passed[-1] - passed[0] >= 0.9


@pytest.mark.parametrize(
    ("per_second", "burst", "period"),
    [(200, 50, 0.25), (10, 2, 0.2), (1, 1, 1.0), (2.5, 1, 0.4), (0.5, 1, 2.0), (100 / 60, 1, 0.6), (1 / 60, 1, 60.0)],
)
async def test_a_rate_is_kept_in_every_quarter_of_a_second(per_second: float, burst: int, period: float) -> None:
    throttler = RateLimiter(requests_per_second=per_second)._throttler
    assert throttler is not None
    assert (throttler.rate_limit, throttler.period) == (burst, pytest.approx(period, rel=0.02))


async def test_a_slow_rate_has_gaps_between_requests() -> None:
    gate = RateLimiter(requests_per_second=100 / 60)
    begun = time.monotonic()
    await gate.wait(attempt())
    await gate.wait(attempt())
    assert time.monotonic() - begun >= 0.55


@pytest.mark.long
def test_requests_a_minute_do_not_come_all_at_once(tmp_path: Path) -> None:
    """1,200 a minute are 20 a second; the 25 rows of this run would otherwise be sent at once."""
    arrived: list[float] = []

    async def noting(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        arrived.append(time.monotonic())
        return await echo(request, body)

    with Served(noting) as server:
        config = tmp_path / "c.yaml"
        config.write_text(
            f"""
name: spread
data: [{", ".join(f"{{n: {n}}}" for n in range(25))}]
endpoint: {{base_url: "{server.url}"}}
tasks:
  - task_type: chat_completion
    configuration: {{model: m, messages: [{{role: user, content: "{{{{item.n}}}}"}}]}}
limits: {{requests_per_minute: 1200}}
output: "{tmp_path / "results"}"
"""
        )
        report = prepare(config, environment={}).run()
    assert (report.results, report.errors) == (25, 0)
    assert arrived[-1] - arrived[0] >= 0.8
