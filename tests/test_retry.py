"""The retry layer decides how long to wait, counts what an answer cost, and stops a run whose trouble is not a row's.

The policy is a pure function and is tested with tables and with Hypothesis; the layer around it gets a scripted `send`, a
`sleep` that only writes down, and a `draw` that is no longer random.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.endpoint.pacing.circuit import Circuit, Circuits
from runner.endpoint.pacing.health import Health
from runner.endpoint.pacing.retry import RetryPolicy, retrying
from runner.endpoint.pacing.verdict import Kind
from runner.errors import AttemptError, RunStopped, StorageError
from runner.types import Attempt, ErrorType, Execute, Failure, Response, Send
from tests.plain_requests import request

ANSWER = Response(output="yes")


def failed(
    error_type: ErrorType = ErrorType.SERVER,
    *,
    retry: bool = True,
    retry_after_s: float | None = None,
    stops_run: str | None = None,
) -> AttemptError:
    status = {ErrorType.AUTH: 401, ErrorType.RATE_LIMIT: 429, ErrorType.SERVER: 503}.get(error_type)
    failure = Failure(
        error_type=error_type, message=f"a {error_type.value} error", status_code=status, retry_after_s=retry_after_s
    )
    return AttemptError(failure, retry=retry, stops_run=stops_run)


REQUEST = request(1)
WRONG_KEY = failed(ErrorType.AUTH, retry=False, stops_run="first")
NO_QUOTA = failed(ErrorType.QUOTA, retry=False, stops_run="always")
TOO_FAST = failed(ErrorType.RATE_LIMIT, retry_after_s=30.0)


# --- the policy ---


@pytest.mark.parametrize(
    ("failures", "retry_after_s", "draw", "expected"),
    [
        # The longest back-off doubles with each failure, and the draw takes a share of it.
        (1, None, 1.0, 0.5),
        (2, None, 1.0, 1.0),
        (3, None, 1.0, 2.0),
        (4, None, 0.5, 2.0),
        (1, None, 0.0, 0.0),
        # What was nobody's failure is asked again at once.
        (0, None, 1.0, 0.0),
        (0, 7.0, 0.0, 7.0),
        # No back-off is beyond the cap, also where doubling would be a number of 300 digits.
        (9, None, 1.0, 60.0),
        (999, None, 1.0, 60.0),
        (5000, None, 1.0, 60.0),
        # A server's wish is a lower bound, spread by up to a tenth.
        (1, 7.0, 0.0, 7.0),
        (1, 7.0, 1.0, 7.7),
        # A wish that is shorter than the back-off does not shorten it: `Retry-After: 0` is no invitation to hammer.
        (4, 0.0, 0.5, 2.0),
        (5, 1.0, 1.0, 8.0),
        # A wish of a billion seconds is not granted.
        (1, 1e9, 0.0, 120.0),
        (1, 1e9, 1.0, 132.0),
    ],
)
def test_wait_s(failures: int, retry_after_s: float | None, draw: float, expected: float) -> None:
    assert RetryPolicy(max_attempts=1000).wait_s(failures, retry_after_s, draw) == pytest.approx(expected)


def test_a_row_that_is_asked_beyond_its_attempts_does_not_wait_longer_each_time() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert [policy.wait_s(failures, None, 1.0) for failures in range(1, 7)] == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]


POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    base_s=st.floats(0, 10),
    cap_s=st.floats(0, 600),
    retry_after_cap_s=st.floats(0, 600),
)
DRAWS = st.floats(0, 1, exclude_max=True)
WISHES = st.none() | st.floats(0, 1e12)
FAILURES = st.integers(0, 2000)


@given(POLICIES, FAILURES, WISHES, DRAWS)
def test_a_wait_is_never_negative_and_never_beyond_the_caps(
    policy: RetryPolicy, failures: int, retry_after_s: float | None, draw: float
) -> None:
    wait = policy.wait_s(failures, retry_after_s, draw)
    allowed = policy.cap_s if retry_after_s is None else max(policy.cap_s, 1.1 * policy.retry_after_cap_s)
    assert 0 <= wait <= allowed


@given(POLICIES, FAILURES, st.floats(0, 1e12), DRAWS)
def test_a_servers_wish_is_never_undercut(policy: RetryPolicy, failures: int, retry_after_s: float, draw: float) -> None:
    assert policy.wait_s(failures, retry_after_s, draw) >= min(retry_after_s, policy.retry_after_cap_s)


@given(FAILURES, DRAWS)
def test_the_back_off_never_shrinks_from_one_failure_to_the_next(failures: int, draw: float) -> None:
    policy = RetryPolicy(max_attempts=1000)
    assert policy.wait_s(failures, None, draw) <= policy.wait_s(failures + 1, None, draw)


# --- the layer ---


@dataclass
class Wire:
    """A scripted `send` and a `sleep` that takes no time; each attempt costs what `costs` says."""

    script: Sequence[Response | Exception]
    #: Seconds of each attempt: in the queue, half of them for the endpoint itself, and on the wire.
    costs: Iterator[tuple[float, float]] = field(default_factory=lambda: repeat((0.0, 0.0)))
    reaches_the_wire: bool = True
    #: How often the layer below sends each attempt once more by itself.
    resent: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    now: float = 1000.0
    #: How often a row waited aside.
    asides: int = 0

    async def send(self, attempt: Attempt) -> Response:
        self.attempts.append(attempt)
        attempt.queue_s, attempt.wire_s = next(self.costs)
        attempt.held_s, attempt.resent = attempt.queue_s / 2, self.resent
        if self.reaches_the_wire:
            attempt.sent_at = 1_000_000 + len(self.attempts)
        answer = self.script[len(self.attempts) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @contextmanager
    def aside(self) -> Iterator[None]:
        self.asides += 1
        yield

    def retrying(self, *, max_attempts: int = 5, health: Health | None = None, longest_s: float = 7200.0) -> Execute:
        policy = RetryPolicy(max_attempts=max_attempts, longest_s=longest_s)
        circuits = circuits_of(self.send, health or working(), self.sleep)
        return retrying(policy, circuits, aside=self.aside, sleep=self.sleep, clock=lambda: self.now, draw=lambda: 0.5)


def circuits_of(send: Send, health: Health, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Circuits:
    return Circuits(lambda _task: Circuit(health, send, sleep=sleep))


def working() -> Health:
    """Return a health that knows that the endpoint works for others, whenever it is asked."""
    health = Health([request(98), request(99)])
    for _ in range(100):
        health.known.evidence.answered(None)
    health.known.good_sent_at = math.inf
    return health


async def test_the_first_answer_is_returned_and_nothing_is_slept() -> None:
    wire = Wire([ANSWER])
    outcome = await wire.retrying()(REQUEST)
    assert (outcome.answer, outcome.attempts, wire.slept) == (ANSWER, 1, [])
    assert wire.attempts[0].request is outcome.sent is REQUEST


async def test_what_the_attempts_cost_is_summed() -> None:
    costs = iter([(1.0, 10.0), (2.0, 20.0), (4.0, 40.0)])
    wire = Wire([failed(), failed(retry_after_s=8.0), ANSWER], costs=costs)
    outcome = await wire.retrying()(REQUEST)
    assert outcome.answer is ANSWER
    assert outcome.attempts == 3
    assert [attempt.number for attempt in wire.attempts] == [1, 2, 3]
    assert (outcome.queue_s, outcome.held_s, outcome.wire_s) == (7.0, 3.5, 70.0)
    assert wire.slept == [0.25, pytest.approx(8.4)]
    assert outcome.backoff_s == pytest.approx(sum(wire.slept))
    assert outcome.started_at == 1_000_001
    assert outcome.completed_at > outcome.started_at
    assert 1e15 < outcome.completed_at < 1e16, "microseconds since the epoch"


async def test_what_the_layer_below_sent_again_counts_as_sent() -> None:
    outcome = await Wire([failed(), ANSWER], resent=2).retrying()(REQUEST)
    assert outcome.attempts == 6


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
async def test_the_last_failure_is_the_answer_when_the_attempts_are_used_up(max_attempts: int) -> None:
    errors = [failed() for _ in range(max_attempts)]
    wire = Wire([*errors, ANSWER])
    outcome = await wire.retrying(max_attempts=max_attempts)(REQUEST)
    assert outcome.answer is errors[-1].failure
    assert outcome.attempts == max_attempts == len(wire.attempts)
    assert len(wire.slept) == max_attempts - 1


async def test_what_no_attempt_can_help_is_tried_once() -> None:
    wire = Wire([failed(ErrorType.REQUEST, retry=False), ANSWER])
    outcome = await wire.retrying()(REQUEST)
    assert isinstance(outcome.answer, Failure)
    assert (outcome.attempts, wire.slept) == (1, [])


async def test_a_request_that_never_reached_the_wire_has_no_attempt() -> None:
    wire = Wire([failed(ErrorType.REQUEST, retry=False)], reaches_the_wire=False)
    outcome = await wire.retrying()(REQUEST)
    assert outcome.attempts == 0
    assert outcome.started_at == outcome.completed_at


@pytest.mark.parametrize("record", [StorageError("the disk is full"), RunStopped("draining"), KeyError("a bug")])
async def test_what_is_no_attempts_failure_passes_through(record: Exception) -> None:
    wire = Wire([record, ANSWER])
    with pytest.raises(type(record)):
        await wire.retrying()(REQUEST)
    assert len(wire.attempts) == 1


async def test_a_cancelled_back_off_is_no_answer() -> None:
    wire, asleep = Wire([failed(), ANSWER]), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    execute = retrying(RetryPolicy(max_attempts=5), circuits_of(wire.send, working()), sleep=sleep)
    task = asyncio.create_task(asyncio.wait_for(execute(REQUEST), 30))
    await asleep.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(wire.attempts) == 1


# --- whose fault it is ---


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def later(number: int) -> Attempt:
    """Return an attempt that is sent after everything else."""
    return Attempt(request(number), 1, entered_at=time.monotonic() + 3600)


async def test_a_row_is_asked_again_when_another_that_was_sent_later_is_answered() -> None:
    health, wire = Health(), Wire([failed(), ANSWER])
    circuits = circuits_of(wire.send, health)
    execute = retrying(RetryPolicy(max_attempts=5), circuits, aside=wire.aside, sleep=wire.sleep, clock=lambda: wire.now)
    task = asyncio.ensure_future(execute(REQUEST))
    await turns()
    assert (wire.asides, len(wire.attempts), task.done()) == (2, 1, False), "it has backed off, and waits"
    wire.now += 7
    circuits["answer"].answered(later(2), None)
    outcome = await asyncio.wait_for(task, 20)
    assert (outcome.answer, outcome.attempts) == (ANSWER, 2)
    assert (outcome.queue_s, outcome.held_s) == (7.0, 7.0)


async def test_an_answer_is_noted_with_what_the_row_had_met_before() -> None:
    health = Health(has_fresh=lambda: False)
    await Wire([failed(), ANSWER]).retrying(health=health)(REQUEST)
    assert health.known.is_good
    assert health.known.evidence.share(Kind.BROKEN) == pytest.approx(1 / 3)


async def test_nobody_backs_off_while_all_wait_to_hear_whether_the_endpoint_is_up() -> None:
    health, wire = working(), Wire([failed(), ANSWER, ANSWER])
    for number in range(3):
        health.failed(health.record(), Attempt(request(number), 1), failed())
    outcome = await wire.retrying(health=health)(REQUEST)
    assert (outcome.answer, outcome.attempts, wire.slept) == (ANSWER, 2, [])
    assert [attempt.is_control for attempt in wire.attempts] == [False, True, False]


async def test_a_row_that_has_failed_enough_is_charged_without_a_further_back_off() -> None:
    health, wire = Health(), Wire([failed()])
    circuits = circuits_of(wire.send, health)
    execute = retrying(RetryPolicy(max_attempts=1), circuits, aside=wire.aside, sleep=wire.sleep)
    task = asyncio.ensure_future(execute(REQUEST))
    await turns()
    assert not task.done()
    for number in range(2, 9):
        circuits["answer"].answered(later(number), None)
    outcome = await asyncio.wait_for(task, 20)
    assert isinstance(outcome.answer, Failure)
    assert (outcome.attempts, wire.slept, outcome.backoff_s) == (1, [], 0.0)


async def test_a_row_is_charged_where_no_other_is_left() -> None:
    health = Health(has_fresh=lambda: False)
    outcome = await asyncio.wait_for(Wire([failed()] * 5).retrying(health=health)(REQUEST), 20)
    assert isinstance(outcome.answer, Failure)
    assert outcome.attempts == 5


async def test_429s_count_as_attempts_sent_but_not_as_failures() -> None:
    wire = Wire([TOO_FAST] * 7 + [failed(), ANSWER])
    outcome = await wire.retrying(max_attempts=2)(REQUEST)
    assert (outcome.answer, outcome.attempts) == (ANSWER, 9)
    # It is the gate that waits, for everybody.
    assert wire.slept == [0.25]


async def test_a_row_that_only_fails_is_given_up_after_its_time() -> None:
    wire = Wire([TOO_FAST] * 9, costs=repeat((1000.0, 1.0)))
    outcome = await wire.retrying(longest_s=3.5)(REQUEST)
    assert isinstance(outcome.answer, Failure)
    assert outcome.attempts == 4, "waiting in the queue is no time of the row's own"
    wire = Wire([failed(retry_after_s=2.0)] * 5, costs=repeat((1000.0, 1.0)))
    outcome = await wire.retrying(longest_s=3.5)(REQUEST)
    assert outcome.attempts == len(wire.slept) == 2, "its back-offs are"


# --- the run's trouble ---


async def test_refusals_before_the_first_success_are_not_charged_to_the_row() -> None:
    wire = Wire([WRONG_KEY, WRONG_KEY, ANSWER])
    outcome = await wire.retrying(max_attempts=1, health=Health(has_fresh=lambda: False))(REQUEST)
    assert outcome.answer is ANSWER
    assert outcome.attempts == 3
    assert [attempt.number for attempt in wire.attempts] == [1, 2, 3]
    assert wire.slept == pytest.approx([0.2, 0.2])
    assert outcome.backoff_s == pytest.approx(0.4)


async def test_equal_refusals_before_a_success_stop_the_run() -> None:
    wire = Wire([WRONG_KEY] * 20)
    with pytest.raises(
        RunStopped, match="no request has succeeded, and the last ones all failed in the same way: a auth error"
    ):
        await wire.retrying(health=Health(has_fresh=lambda: False))(REQUEST)
    assert len(wire.attempts) == 16


async def test_they_may_come_from_different_rows() -> None:
    health = Health()
    wires = [Wire([WRONG_KEY] * 9) for _ in range(16)]
    tasks = [wire.retrying(health=health)(request(index)) for index, wire in enumerate(wires)]
    found = asyncio.gather(*tasks, return_exceptions=True)
    await turns()
    assert sum(len(wire.attempts) for wire in wires) == 16, "each waits, for another row may be the first that is answered"
    found.cancel()
    await asyncio.gather(found, return_exceptions=True)


async def test_after_a_success_a_fatal_answer_is_the_rows_own() -> None:
    for _ in range(5):
        wire = Wire([WRONG_KEY, WRONG_KEY, WRONG_KEY, ANSWER])
        outcome = await wire.retrying()(REQUEST)
        assert outcome.answer is WRONG_KEY.failure
        assert outcome.attempts == 3
        assert wire.slept == [0.25, 0.5]


@pytest.mark.parametrize("has_succeeded", [False, True])
async def test_a_used_up_quota_stops_the_run_at_once(has_succeeded: bool) -> None:
    wire = Wire([NO_QUOTA, ANSWER])
    with pytest.raises(RunStopped, match="a quota error"):
        await wire.retrying(health=Health([request(9)] if has_succeeded else ()))(REQUEST)
    assert (len(wire.attempts), wire.slept) == (1, [])


async def test_an_unlucky_start_does_not_stop_the_run() -> None:
    """Only refusals end it; an overloaded server is merely tried again."""
    wire = Wire([failed() for _ in range(9)] + [ANSWER])
    outcome = await wire.retrying(max_attempts=10, health=Health(has_fresh=lambda: False))(REQUEST)
    assert (outcome.answer, outcome.attempts) == (ANSWER, 10)
