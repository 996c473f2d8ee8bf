"""The retry layer decides how long to wait, counts what an answer cost, and stops a run whose trouble is not a row's.

The policy is a pure function and is tested with tables and with Hypothesis; the layer around it gets a scripted `send`, a
`sleep` that only writes down, and a `draw` that is no longer random.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.endpoint.health import Health
from runner.endpoint.retry import RetryPolicy, retrying
from runner.errors import AttemptError, RunStopped, StorageError
from runner.types import Attempt, ErrorType, Execute, Failure, Outcome, Request, Response, Unit

REQUEST = Request(
    unit=Unit("row-1", 0, 0, "answer"),
    path="/chat/completions",
    model="m",
    content=b"{}",
    shown="{}",
    stream=False,
)
ANSWER = Response(output="yes")


def failed(
    error_type: ErrorType = ErrorType.SERVER, *, retry: bool = True, wish: float | None = None, stops_run: str | None = None
) -> AttemptError:
    failure = Failure(error_type=error_type, message=f"a {error_type.value} error", retry_after_s=wish)
    return AttemptError(failure, retry=retry, stops_run=stops_run)


WRONG_KEY = failed(ErrorType.AUTH, retry=False, stops_run="first")
NO_QUOTA = failed(ErrorType.QUOTA, retry=False, stops_run="always")


# --- the policy ---


@pytest.mark.parametrize(
    ("number", "error", "draw", "expected"),
    [
        # The longest back-off doubles with each attempt, and the draw takes a share of it.
        (1, failed(), 1.0, 0.5),
        (2, failed(), 1.0, 1.0),
        (3, failed(), 1.0, 2.0),
        (4, failed(), 0.5, 2.0),
        (1, failed(), 0.0, 0.0),
        # No back-off is beyond the cap, also where doubling would be a number of 300 digits.
        (9, failed(), 1.0, 60.0),
        (999, failed(), 1.0, 60.0),
        # A server's wish is a lower bound, spread by up to a tenth.
        (1, failed(wish=7.0), 0.0, 7.0),
        (1, failed(wish=7.0), 1.0, 7.7),
        (3, failed(ErrorType.RATE_LIMIT, wish=20.0), 0.5, 21.0),
        # A wish that is shorter than the back-off does not shorten it: `Retry-After: 0` is no invitation to hammer.
        (4, failed(wish=0.0), 0.5, 2.0),
        (5, failed(wish=1.0), 1.0, 8.0),
        # A wish of a billion seconds is not granted.
        (1, failed(wish=1e9), 0.0, 120.0),
        (1, failed(wish=1e9), 1.0, 132.0),
        # The last attempt, and what no attempt can help.
        (1000, failed(), 0.5, None),
        (1000, failed(wish=3.0), 0.5, None),
        (1001, failed(), 0.5, None),
        (1, failed(retry=False), 0.5, None),
        (1, failed(retry=False, wish=3.0), 0.5, None),
    ],
)
def test_next_wait(number: int, error: AttemptError, draw: float, expected: float | None) -> None:
    wait = RetryPolicy(max_attempts=1000).next_wait(number, error, draw)
    assert wait == (None if expected is None else pytest.approx(expected))


POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    base_s=st.floats(0, 10),
    cap_s=st.floats(0, 600),
    wish_cap_s=st.floats(0, 600),
)
DRAWS = st.floats(0, 1, exclude_max=True)
WISHES = st.none() | st.floats(0, 1e12)


@given(POLICIES, st.integers(1, 2000), st.booleans(), WISHES, DRAWS)
def test_a_wait_is_never_negative_and_never_beyond_the_caps(
    policy: RetryPolicy, number: int, retry: bool, wish: float | None, draw: float
) -> None:
    wait = policy.next_wait(number, failed(retry=retry, wish=wish), draw)
    assert (wait is None) == (not retry or number >= policy.max_attempts)
    if wait is not None:
        allowed = policy.cap_s if wish is None else max(policy.cap_s, 1.1 * policy.wish_cap_s)
        assert 0 <= wait <= allowed


@given(POLICIES, st.integers(1, 2000), st.floats(0, 1e12), DRAWS)
def test_a_servers_wish_is_never_undercut(policy: RetryPolicy, number: int, wish: float, draw: float) -> None:
    wait = policy.next_wait(number, failed(wish=wish), draw)
    if wait is not None:
        assert wait >= min(wish, policy.wish_cap_s)


@given(st.integers(1, 40), DRAWS)
def test_the_back_off_never_shrinks_from_one_attempt_to_the_next(number: int, draw: float) -> None:
    policy = RetryPolicy(max_attempts=1000)
    sooner, later = (policy.next_wait(n, failed(), draw) for n in (number, number + 1))
    assert sooner is not None
    assert later is not None
    assert sooner <= later


# --- the layer ---


@dataclass
class Wire:
    """A scripted `send` and a `sleep` that takes no time; each attempt costs what `costs` says."""

    script: Sequence[Response | Exception]
    #: Seconds of each attempt: in the queue, on the wire.
    costs: Iterator[tuple[float, float]] = field(default_factory=lambda: repeat((0.0, 0.0)))
    reaches_the_wire: bool = True
    attempts: list[Attempt] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    async def send(self, attempt: Attempt) -> Response:
        self.attempts.append(attempt)
        attempt.queue_s, attempt.wire_s = next(self.costs)
        if self.reaches_the_wire:
            attempt.sent_at = 1_000_000 + len(self.attempts)
        answer = self.script[len(self.attempts) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def retrying(self, *, max_attempts: int = 5, health: Health | None = None) -> Execute:
        policy = RetryPolicy(max_attempts=max_attempts)
        return retrying(self.send, policy, health or Health(), sleep=self.sleep, draw=lambda: 0.5)


async def test_the_first_answer_is_returned_and_nothing_is_slept() -> None:
    wire = Wire([ANSWER])
    outcome = await wire.retrying()(REQUEST)
    assert (outcome.answer, outcome.attempts, wire.slept) == (ANSWER, 1, [])
    assert wire.attempts[0].request is REQUEST


async def test_what_the_attempts_cost_is_summed() -> None:
    costs = iter([(1.0, 10.0), (2.0, 20.0), (4.0, 40.0)])
    wire = Wire([failed(), failed(wish=8.0), ANSWER], costs=costs)
    outcome = await wire.retrying()(REQUEST)
    assert outcome.answer is ANSWER
    assert outcome.attempts == 3
    assert [attempt.number for attempt in wire.attempts] == [1, 2, 3]
    assert (outcome.queue_s, outcome.wire_s) == (7.0, 70.0)
    assert wire.slept == [0.25, pytest.approx(8.4)]
    assert outcome.backoff_s == pytest.approx(sum(wire.slept))
    assert outcome.started_at == 1_000_001
    assert outcome.completed_at > outcome.started_at


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


@pytest.mark.parametrize("trouble", [StorageError("the disk is full"), RunStopped("draining"), KeyError("a bug")])
async def test_what_is_no_attempts_failure_passes_through(trouble: Exception) -> None:
    wire = Wire([trouble, ANSWER])
    with pytest.raises(type(trouble)):
        await wire.retrying()(REQUEST)
    assert len(wire.attempts) == 1


async def test_a_cancelled_back_off_is_no_answer() -> None:
    wire, asleep = Wire([failed(), ANSWER]), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    execute = retrying(wire.send, RetryPolicy(max_attempts=5), Health(), sleep=sleep)
    task = asyncio.create_task(asyncio.wait_for(execute(REQUEST), 30))
    await asleep.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(wire.attempts) == 1


# --- the run's trouble ---


async def test_holds_before_the_first_success_are_not_charged_to_the_row() -> None:
    wire = Wire([WRONG_KEY, WRONG_KEY, ANSWER])
    outcome = await wire.retrying(max_attempts=1)(REQUEST)
    assert outcome.answer is ANSWER
    assert outcome.attempts == 1
    assert [attempt.number for attempt in wire.attempts] == [1, 1, 1]
    assert len(wire.slept) == 2
    assert outcome.backoff_s == pytest.approx(sum(wire.slept))


async def test_three_fatal_answers_before_a_success_stop_the_run() -> None:
    wire = Wire([WRONG_KEY] * 10)
    with pytest.raises(RunStopped, match="nothing succeeded, and the endpoint refuses: a auth error"):
        await wire.retrying()(REQUEST)
    assert len(wire.attempts) == 3


async def test_the_three_may_come_from_different_rows() -> None:
    health = Health()
    wires = [Wire([WRONG_KEY, ANSWER]) for _ in range(3)]
    outcomes = [await wire.retrying(health=health)(REQUEST) for wire in wires[:1]]
    assert isinstance(outcomes[0], Outcome)
    # The first row has succeeded by now, so the same answer is the second row's own fault.
    second = await wires[1].retrying(health=health)(REQUEST)
    assert second.answer is WRONG_KEY.failure

    fresh = Health()
    assert fresh.failed(WRONG_KEY) is not None
    assert fresh.failed(failed()) is None
    assert fresh.failed(WRONG_KEY) is not None
    with pytest.raises(RunStopped):
        fresh.failed(WRONG_KEY)


async def test_after_a_success_a_fatal_answer_is_the_rows_own() -> None:
    health = Health()
    health.succeeded()
    for _ in range(5):
        wire = Wire([WRONG_KEY, ANSWER])
        outcome = await wire.retrying(health=health)(REQUEST)
        assert outcome.answer is WRONG_KEY.failure
        assert outcome.attempts == 1


async def test_a_resumed_run_that_has_results_does_not_stop_at_fatal_answers() -> None:
    health = Health(has_succeeded=True)
    assert [health.failed(WRONG_KEY) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize("has_succeeded", [False, True])
async def test_a_used_up_quota_stops_the_run_at_once(has_succeeded: bool) -> None:
    wire = Wire([NO_QUOTA, ANSWER])
    with pytest.raises(RunStopped, match="a quota error"):
        await wire.retrying(health=Health(has_succeeded=has_succeeded))(REQUEST)
    assert (len(wire.attempts), wire.slept) == (1, [])


async def test_an_unlucky_start_does_not_stop_the_run() -> None:
    """Only fatal answers count towards the three; an overloaded server is merely tried again."""
    wire = Wire([failed() for _ in range(9)] + [ANSWER])
    outcome = await wire.retrying(max_attempts=10)(REQUEST)
    assert (outcome.answer, outcome.attempts) == (ANSWER, 10)
