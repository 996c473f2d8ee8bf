"""The circuit on a clock of the test's own: who is held back, who is asked, and when."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from runner.endpoint.pacing.circuit import Circuit, Circuits
from runner.endpoint.pacing.health import Health, State
from runner.endpoint.pacing.verdict import FailureRecord, Kind, Verdict
from runner.errors import AttemptError, RunStopped
from runner.types import Attempt, ErrorType, Failure, Response
from tests.histories import SERVER, in_virtual_time
from tests.plain_requests import request

LIMITED = AttemptError(Failure(error_type=ErrorType.RATE_LIMIT, message="429", status_code=429), retry=True)
REFUSED = AttemptError(Failure(error_type=ErrorType.AUTH, message="401", status_code=401), retry=False, stops_run="first")
OTHER = AttemptError(Failure(error_type=ErrorType.REQUEST, message="400", status_code=400), retry=False)


@dataclass
class Endpoint:
    """Answers, or fails with what `error` says at the time; it takes a second."""

    error: Callable[[float], AttemptError | None] = lambda _now: None
    #: When each control request and each row was sent.
    controls: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)

    async def send(self, attempt: Attempt) -> Response:
        now = asyncio.get_running_loop().time()
        (self.controls if attempt.is_control else self.rows).append(now)
        await asyncio.sleep(1)
        attempt.wire_s = 1.0
        if (error := self.error(now)) is not None:
            raise error
        return Response(output="yes")


def circuit(
    endpoint: Endpoint,
    *,
    known: bool = True,
    fresh: bool = True,
    draw: float = 0.9,
    give_up_after: float = 600.0,
    may_probe: Callable[[], bool] = lambda: True,
) -> Circuit:
    clock = asyncio.get_running_loop().time
    health = Health([request(98), request(99)] if known else (), has_fresh=lambda: fresh, clock=clock)
    return Circuit(health, endpoint.send, give_up_after=give_up_after, may_probe=may_probe, clock=clock, draw=lambda: draw)


def fail(circuit: Circuit, rows: int = 4, error: AttemptError = SERVER) -> FailureRecord:
    """Let rows fail at their first attempt; return the record of the last."""
    record = circuit.health.record()
    for index in range(rows):
        record = circuit.health.record()
        circuit.failed(record, Attempt(request(index), 1), error)
    return record


def test_in_doubt_one_control_request_is_sent_and_the_rows_wait_for_it() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        one = circuit(endpoint)
        await asyncio.sleep(3)
        fail(one)
        assert one.health.state is State.DOUBT
        attempts = [Attempt(request(index), 1) for index in range(10, 20)]
        await asyncio.gather(*(one.send(attempt) for attempt in attempts))
        assert endpoint.controls == [3.0]
        assert endpoint.rows == [4.0] * 10
        assert {(attempt.held_s, attempt.entered_at) for attempt in attempts} == {(1.0, 4.0)}

    in_virtual_time(main())


def test_in_an_outage_it_is_asked_again_and_again_with_longer_waits() -> None:
    async def main() -> None:
        endpoint = Endpoint(lambda now: SERVER if now < 100 else None)
        one = circuit(endpoint)
        fail(one)
        await asyncio.gather(*(one.send(Attempt(request(index), 1)) for index in range(10, 20)))
        waits = [later - earlier - 1 for earlier, later in pairwise(endpoint.controls)]
        assert waits == pytest.approx(
            [0, 0, 0, 0, 0, 1, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390625, 17.0859375, 25.62890625, 30], abs=0.001
        )
        assert endpoint.rows == [endpoint.controls[-1] + 1] * 10
        assert one.health.known.outages == 1

    in_virtual_time(main())


def test_an_outage_that_lasts_too_long_stops_the_run() -> None:
    async def main() -> None:
        one = circuit(Endpoint(lambda _now: SERVER), give_up_after=60)
        fail(one)
        with pytest.raises(RunStopped, match=r"down for 60 s \(limits.give_up_after\): 500 Internal Server Error"):
            await one.send(Attempt(request(10), 1))
        assert asyncio.get_running_loop().time() == pytest.approx(62, abs=1)

    in_virtual_time(main())


def test_an_endpoint_that_refuses_what_it_answered_stops_the_run() -> None:
    async def main() -> None:
        endpoint = Endpoint(lambda _now: REFUSED)
        one = circuit(endpoint)
        fail(one, error=REFUSED)
        with pytest.raises(RunStopped, match="the endpoint refuses a request that it answered before: 401"):
            await one.send(Attempt(request(10), 1))
        assert (len(endpoint.controls), endpoint.rows) == (2, [])

    in_virtual_time(main())


def test_a_429_is_no_finding() -> None:
    async def main() -> None:
        endpoint = Endpoint(lambda now: LIMITED if now < 5 else None)
        one = circuit(endpoint)
        fail(one)
        await one.send(Attempt(request(10), 1))
        assert endpoint.rows == [6.0]
        assert one.health.known.outages == 0

    in_virtual_time(main())


def test_a_late_answer_ends_a_doubt_while_the_control_request_is_on_its_way() -> None:
    async def main() -> None:
        endpoint = Endpoint(lambda now: SERVER if now == 0 else None)
        one = circuit(endpoint)
        fail(one)
        first = asyncio.create_task(one.send(Attempt(request(10), 1)))
        await asyncio.sleep(0.5)
        one.answered(Attempt(request(9), 1, entered_at=-1.0), None)
        assert one.health.is_held, "it was sent before the others failed"
        one.answered(Attempt(request(9), 1, entered_at=0.25), None)
        second = asyncio.create_task(one.send(Attempt(request(11), 1)))
        await asyncio.gather(first, second)
        assert endpoint.rows == [0.5, 1.0]

    in_virtual_time(main())


def test_a_late_answer_ends_an_outage_while_all_wait() -> None:
    async def main() -> None:
        endpoint = Endpoint(lambda now: SERVER if now < 100 else None)
        one = circuit(endpoint)
        fail(one)
        waiting = asyncio.create_task(one.send(Attempt(request(10), 1)))
        await asyncio.sleep(100)
        one.answered(Attempt(request(9), 1, entered_at=50.0), None)
        await waiting
        assert 100 <= endpoint.rows[0] <= 100.5, "not when the next control request would have been due"

    in_virtual_time(main())


def test_what_is_on_its_way_is_waited_for_where_all_was_refused_and_nothing_is_known() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        one = circuit(endpoint, known=False)
        one.health.trying = 1
        fail(one, rows=16, error=REFUSED)
        assert one.health.state is State.DOUBT
        waiting = asyncio.create_task(one.send(Attempt(request(20), 1)))
        await asyncio.sleep(30)
        assert (endpoint.rows, waiting.done()) == ([], False)
        one.answered(Attempt(request(9), 1), None)
        await waiting
        assert endpoint.rows == [30.0]

    in_virtual_time(main())


def test_before_anything_was_answered_one_row_after_the_other_is_tried() -> None:
    async def main() -> None:
        endpoint = Endpoint(lambda now: SERVER if now < 2 else None)
        one = circuit(endpoint, known=False)
        fail(one)

        async def row(index: int) -> None:
            attempt = Attempt(request(index), 1)
            try:
                await one.send(attempt)
            except AttemptError as error:
                one.failed(one.health.record(), attempt, error)
            else:
                one.answered(attempt, None)

        await asyncio.gather(*(row(index) for index in range(100)))
        assert endpoint.controls == []
        tried = [at for at in endpoint.rows if at < 3]
        assert len(tried) == pytest.approx(30, abs=2)
        assert min(later - earlier for earlier, later in pairwise(tried)) >= 0.0999
        assert len({at for at in endpoint.rows if at >= 3}) <= 2, "the others are let through at once"

    in_virtual_time(main())


async def outcome(waiting: Awaitable[None]) -> float:
    await waiting
    return asyncio.get_running_loop().time()


def test_a_row_that_waits_hears_of_others_while_there_are_some() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        one = circuit(endpoint)
        record = fail(one, rows=1)
        one.health.verdict(record, 5)
        task = asyncio.create_task(outcome(one.wait_for_update(record)))
        await asyncio.sleep(30)
        assert not task.done()
        one.answered(Attempt(request(9), 1, entered_at=29.0), None)
        assert await task == 30
        again = asyncio.create_task(outcome(one.wait_for_update(record)))
        await asyncio.sleep(30)
        assert not again.done(), "what was heard once is no news"
        one.answered(Attempt(request(8), 1, entered_at=59.0), None)
        assert await again == 60
        assert endpoint.controls == []

    in_virtual_time(main())


@pytest.mark.parametrize("before", [[], [REFUSED, OTHER]])
@pytest.mark.parametrize(
    ("errors", "wakes"), [([SERVER], False), ([REFUSED], False), ([REFUSED, REFUSED], False), ([REFUSED, OTHER], True)]
)
def test_before_anything_was_answered_a_row_that_waits_hears_once_that_others_are_refused_in_other_words(
    before: list[AttemptError], errors: list[AttemptError], wakes: bool
) -> None:
    async def main() -> None:
        one = circuit(Endpoint(), known=False)
        troubles = [fail(one, rows=1, error=error) for error in before or [REFUSED]]
        task = asyncio.create_task(outcome(one.wait_for_update(troubles[-1])))
        await asyncio.sleep(1)
        for error in errors:
            fail(one, rows=1, error=error)
            await asyncio.sleep(1)
        assert task.done() is (wakes and not before)
        one.answered(Attempt(request(9), 1), None)
        await task

    in_virtual_time(main())


def test_where_no_row_is_left_the_last_one_on_its_way_may_still_be_answered() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        one = circuit(endpoint, known=False, fresh=False)
        one.health.trying = 1
        record = fail(one, rows=1)
        one.health.verdict(record, 5)
        task = asyncio.create_task(outcome(one.wait_for_update(record)))
        await asyncio.sleep(30)
        assert not task.done()
        one.health.trying = 0
        fail(one, rows=1)
        assert await task == 30
        assert endpoint.controls == []

    in_virtual_time(main())


@pytest.mark.parametrize("fresh", [False, True])
def test_a_row_that_waits_finds_out_itself_whether_the_endpoint_is_up(fresh: bool) -> None:
    """Others that are left may be held up elsewhere, by another task."""

    async def main() -> None:
        endpoint = Endpoint(lambda now: SERVER if now < 20 else None)
        one = circuit(endpoint, fresh=fresh)
        record = fail(one)
        while one.health.verdict(record, 5) is Verdict.WAIT:
            await one.wait_for_update(record)
        waits = [later - earlier - 1 for earlier, later in pairwise(endpoint.controls)]
        assert waits == pytest.approx([0, 0, 0, 0, 0, 1, 1.5, 2.25, 3.375, 5.0625], abs=0.001)

    in_virtual_time(main())


def test_what_was_answered_in_the_moment_of_a_failure_is_asked_again() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        one = circuit(endpoint, fresh=False)
        one.answered(Attempt(request(1), 1, entered_at=0.0), None)
        record = fail(one, rows=1)
        while one.health.verdict(record, 5) is Verdict.WAIT:
            await one.wait_for_update(record)
        assert endpoint.controls == [0.0, 2.0]

    in_virtual_time(main())


@pytest.mark.parametrize(("draw", "asked"), [(0.5, 1), (0.49, 2)])
def test_where_no_row_is_left_a_control_request_tells_and_at_random_one_more(draw: float, asked: int) -> None:
    async def main() -> None:
        endpoint = Endpoint()
        one = circuit(endpoint, fresh=False, draw=draw)
        record = fail(one, rows=1)
        one.health.verdict(record, 5)
        await one.wait_for_update(record)
        assert endpoint.controls == [0.0, 1.0][:asked]
        assert one.health.known.good_sent_at == endpoint.controls[-1]

    in_virtual_time(main())


def test_rows_that_wait_share_a_control_request_and_it_is_sent_once_a_second() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        one = circuit(endpoint, fresh=False)

        async def row(index: int) -> None:
            await asyncio.sleep(0.01 * index)
            record = one.health.record()
            attempt = Attempt(request(index), 2)
            one.failed(record, attempt, SERVER)
            while one.health.known.good_sent_at <= record.failed_at:
                one.health.verdict(record, 1)
                await one.wait_for_update(record)

        await asyncio.gather(*(row(index) for index in range(200)))
        assert len(endpoint.controls) <= 4
        assert all(later - earlier == pytest.approx(2) for earlier, later in pairwise(endpoint.controls))

    in_virtual_time(main())


def test_who_is_cancelled_leaves_the_line() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        one = circuit(endpoint)
        fail(one)
        tasks = [asyncio.create_task(one.send(Attempt(request(index), 1))) for index in range(3)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()  # it had sent the control request
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, True, False]
        assert endpoint.controls == [0.0, 0.5]

    in_virtual_time(main())


def test_each_task_has_a_circuit_of_its_own() -> None:
    async def main() -> None:
        endpoint = Endpoint()
        circuits = Circuits(lambda _task: circuit(endpoint, give_up_after=5))
        fail(circuits["judge"])
        await circuits["answer"].send(Attempt(request(1), 1))
        assert (endpoint.controls, endpoint.rows) == ([], [0.0])

    in_virtual_time(main())


def test_what_a_control_request_met_counts_once_it_is_answered() -> None:
    async def main() -> None:
        endpoint = Endpoint(lambda now: SERVER if now == 0 else None)
        one = circuit(endpoint)
        for _ in range(100):
            one.answered(Attempt(request(1), 1), None)
        fail(one)
        await one.send(Attempt(request(10), 1))
        share = one.health.known.evidence.share(Kind.BROKEN)
        assert 0.02 < share < 1 / 16, "more than where none has failed"
        assert math.isfinite(share)

    in_virtual_time(main())


@pytest.mark.parametrize("known", [True, False])
def test_who_may_not_look_for_it_waits_for_the_word_of_another(known: bool) -> None:
    async def main() -> None:
        endpoint = Endpoint(error=lambda now: SERVER if now < 50 else None)
        allowed = False
        one = circuit(endpoint, known=known, may_probe=lambda: allowed)
        fail(one)
        sending = asyncio.create_task(one.send(Attempt(request(10), 1)))
        await asyncio.sleep(20)
        controls = len(endpoint.controls)  # only those that found out that it is down
        assert one.health.state is State.OPEN
        await asyncio.sleep(40)
        assert (len(endpoint.controls), endpoint.rows) == (controls, [])
        one.back()
        assert not one.health.is_held
        await sending
        assert (len(endpoint.controls), len(endpoint.rows)) == (controls, 1)
        one.back()  # where it is not down that says nothing
        assert one.health.known.outages == 1
        fail(one)
        allowed = True
        await one.send(Attempt(request(11), 1))

    in_virtual_time(main())


def test_who_may_not_look_for_it_gives_up_too() -> None:
    async def main() -> None:
        endpoint = Endpoint(error=lambda _now: SERVER)
        one = circuit(endpoint, give_up_after=30.0, may_probe=lambda: False)
        fail(one)
        with pytest.raises(RunStopped, match="the endpoint has been down for 30 s"):
            await one.send(Attempt(request(10), 1))

    in_virtual_time(main())
