"""The circuit opens when what fails is the endpoint, probes it one at a time, and lets everybody on when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from runner.endpoint.circuit import Circuit, guarded
from runner.errors import AttemptError, RunStopped
from runner.types import Attempt, ErrorType, Failure, Request, Response, Unit


def unit(index: int) -> Unit:
    return Unit(f"row-{index}", index, 0, "answer")


def attempt(index: int = 0) -> Attempt:
    return Attempt(Request(unit=unit(index), path="/x", model="m", content=b"{}", shown="{}", stream=False), 1)


def failed(error_type: ErrorType = ErrorType.SERVER, *, retry: bool = True, once: bool = False) -> AttemptError:
    return AttemptError(Failure(error_type=error_type, message="503 no"), retry=retry, once=once)


@dataclass
class VirtualTime:
    """A clock that only sleeping moves."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        for _ in range(5):
            await asyncio.sleep(0)
        self.now += seconds

    def circuit(self, give_up_after: float = 600.0) -> Circuit:
        return Circuit(give_up_after=give_up_after, clock=self.clock, sleep=self.sleep)


def opened(virtual: VirtualTime, give_up_after: float = 600.0) -> Circuit:
    circuit = virtual.circuit(give_up_after)
    fail(circuit, virtual)
    assert circuit.is_open
    return circuit


def fail(circuit: Circuit, virtual: VirtualTime) -> None:
    """Let twenty rows fail within a second."""
    for index in range(20):
        virtual.now += 0.05
        circuit.failed(unit(index), "503 no")


# --- when it opens ---


@pytest.mark.parametrize(
    ("exhausted", "sent_later_is_answered", "opens"),
    [(True, True, False), (True, False, True), (False, True, True)],
)
def test_when_no_new_rows_are_left_those_that_fail_may_all_be_bad(
    *, exhausted: bool, sent_later_is_answered: bool, opens: bool
) -> None:
    virtual = VirtualTime()
    circuit = Circuit(clock=virtual.clock, all_taken=lambda: exhausted)
    for index in range(30):
        circuit.failed(unit(index), "503 no", 1000 + index)
        circuit.answered(0.1, 500)
    if sent_later_is_answered:
        circuit.answered(0.1, 2000)
    for turn in range(2):
        for index in range(30):
            virtual.now += 0.1
            circuit.failed(unit(index), "503 no", 3000 + 100 * turn + index)
    assert circuit.is_open is opens


@pytest.mark.parametrize(
    ("rows", "events", "opens_after"),
    [
        # Twenty in a row.
        (20, "f" * 40, 20),
        (4, "f" * 40, 20),
        # Of three rows: they may all be bad ones.
        (3, "f" * 400, None),
        (1, "f" * 400, None),
        # An answer begins the row anew.
        (20, ("f" * 19 + "a") * 4, None),
        (20, "f" * 19 + "a" + "f" * 20, 40),
        # Half of a hundred, and nine of ten of them.
        (20, "fa" * 100, None),
        (20, "fffffffff" + "fffffffffa" * 9 + "f", None),
        (20, "a" * 10 + ("f" * 9 + "a") * 30, None),
        (20, "a" + "f" * 19 + ("a" + "f" * 19) * 30, 100),
        # Whatever came before the last hundred is forgotten.
        (20, "a" * 1000 + ("f" * 19 + "a") * 5, 1000 + 94),
    ],
)
def test_it_opens(rows: int, events: str, opens_after: int | None) -> None:
    virtual = VirtualTime()
    circuit, units = virtual.circuit(), count()
    found = None
    for number, event in enumerate(events, 1):
        virtual.now += 0.05
        if event == "a":
            circuit.answered(0.2)
        else:
            circuit.failed(unit(next(units) % rows), "503")
        if circuit.is_open:
            found = number
            break
    assert found == opens_after
    assert circuit.outages == (opens_after is not None)


@pytest.mark.parametrize(
    ("answers", "opens_after_s"),
    [
        # Of an endpoint that nobody knows.
        ([], 0.5),
        # Twice what an answer takes …
        ([0.1] * 100, 0.2),
        ([0.4] * 100, 0.8),
        # … but no longer than a second, however slow it is.
        ([30.0] * 100, 1.0),
    ],
)
def test_failures_that_are_quicker_than_answers_wait_for_one(answers: list[float], opens_after_s: float) -> None:
    virtual = VirtualTime()
    circuit = virtual.circuit()
    for seconds in answers:
        circuit.answered(seconds)
    began, failures = virtual.now, 0
    while not circuit.is_open:
        virtual.now += 0.005
        circuit.failed(unit(failures), "503")
        failures += 1
    assert virtual.now - began == pytest.approx(opens_after_s, abs=0.011)


@pytest.mark.parametrize(
    ("error", "is_outage"),
    [
        (failed(ErrorType.SERVER), True),
        (failed(ErrorType.CONNECT), True),
        (failed(ErrorType.TIMEOUT), True),
        (failed(ErrorType.INVALID_RESPONSE), True),
        # An answer that came whole and is of no use came from an endpoint that is up.
        (failed(ErrorType.INVALID_RESPONSE, once=True), False),
        (failed(ErrorType.RATE_LIMIT), False),
        (failed(ErrorType.REQUEST, retry=False), False),
        (failed(ErrorType.AUTH, retry=False), False),
        (failed(ErrorType.SERVER, retry=False), False),
    ],
    ids=lambda value: value.failure.error_type.value if isinstance(value, AttemptError) else str(value),
)
async def test_what_an_outage_looks_like(error: AttemptError, is_outage: bool) -> None:
    virtual = VirtualTime()
    circuit = virtual.circuit()

    async def send(_attempt: Attempt) -> Response:
        virtual.now += 0.05
        raise error

    sending = guarded(send, circuit)
    for index in range(20):
        with pytest.raises(AttemptError):
            await sending(attempt(index))
    assert circuit.is_open == is_outage


# --- while it is open ---


async def test_the_waits_between_probes_grow_to_half_a_minute() -> None:
    virtual = VirtualTime()
    circuit = opened(virtual)
    waited = []
    for _ in range(12):
        before = virtual.now
        assert await circuit.enter()
        circuit.failed(unit(0), "503")
        circuit.probe_failed()
        circuit.leave()
        waited.append(virtual.now - before)
    assert waited[:5] == pytest.approx([1.0, 1.5, 2.25, 3.375, 5.0625])
    assert waited[-3:] == [30.0, 30.0, 30.0]


async def test_one_probe_at_a_time_and_all_go_on_when_it_is_answered() -> None:
    virtual = VirtualTime()
    circuit = opened(virtual)
    closed = asyncio.Event()
    circuit.on_close = closed.set
    sent: list[int] = []
    answers: Iterator[bool] = iter([False, False, True])
    flying = most_flying = 0

    async def send(one: Attempt) -> Response:
        nonlocal flying, most_flying
        sent.append(one.request.unit.item_index)
        if closed.is_set():
            return Response(output="yes")
        flying += 1
        most_flying = max(most_flying, flying)
        for _ in range(10):
            await asyncio.sleep(0)
        flying -= 1
        if next(answers):
            return Response(output="yes")
        raise failed()

    sending = guarded(send, circuit)
    found = await asyncio.wait_for(asyncio.gather(*(sending(attempt(n)) for n in range(10)), return_exceptions=True), 20)
    assert sent == list(range(10)), "the order of arrival"
    assert most_flying == 1
    assert [isinstance(one, AttemptError) for one in found] == [True, True] + [False] * 8
    assert sum(virtual.slept) == pytest.approx(1.0 + 1.5 + 2.25)
    assert not circuit.is_open
    assert closed.is_set()


@pytest.mark.parametrize("error", [failed(ErrorType.RATE_LIMIT), failed(ErrorType.REQUEST, retry=False)])
async def test_a_refusal_is_an_answer_too(error: AttemptError) -> None:
    circuit = opened(VirtualTime())

    async def send(attempt: Attempt) -> Response:
        attempt.sent_at = 1
        raise error

    with pytest.raises(AttemptError):
        await guarded(send, circuit)(attempt())
    assert not circuit.is_open


async def test_an_answer_from_before_the_outage_lets_all_go_on() -> None:
    virtual = VirtualTime()
    circuit = virtual.circuit()
    slow = asyncio.Event()

    async def send(one: Attempt) -> Response:
        if one.request.unit.item_index == 0:
            await slow.wait()
        return Response(output="yes")

    sending = guarded(send, circuit)
    first = asyncio.ensure_future(sending(attempt(0)))
    await asyncio.sleep(0)
    fail(circuit, virtual)
    slow.set()
    await first
    await sending(attempt(1))
    assert virtual.slept == []


@pytest.mark.parametrize("trouble", [asyncio.CancelledError(), RunStopped("draining"), KeyError("a bug")])
async def test_a_probe_that_comes_to_nothing_leaves_the_line_to_the_next(trouble: BaseException) -> None:
    circuit = opened(VirtualTime())
    troubles = [trouble]

    async def send(_attempt: Attempt) -> Response:
        if troubles:
            raise troubles.pop()
        return Response(output="yes")

    sending = guarded(send, circuit)
    with pytest.raises(type(trouble)):
        await sending(attempt(0))
    assert circuit.is_open
    await asyncio.wait_for(sending(attempt(1)), 20)
    assert not circuit.is_open


async def test_who_is_cancelled_while_it_waits_for_a_probe_leaves_the_line() -> None:
    asleep = asyncio.Event()
    virtual = VirtualTime()

    async def never(_seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    circuit = opened(virtual)
    circuit._sleep = never
    first = asyncio.create_task(circuit.enter())
    await asleep.wait()
    second = asyncio.create_task(circuit.enter())
    virtual.now += 1
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.wait_for(second, 20)


async def test_an_outage_after_an_outage_is_probed_soon_again() -> None:
    virtual = VirtualTime()
    circuit = opened(virtual)
    for _ in range(5):
        await circuit.enter()
        circuit.failed(unit(0), "503")
        circuit.probe_failed()
        circuit.leave()
    circuit.answered(0.2)
    assert not circuit.is_open
    fail(circuit, virtual)
    assert (circuit.is_open, circuit.outages) == (True, 2)
    before = virtual.now
    await circuit.enter()
    assert virtual.now - before == pytest.approx(1.0)


async def test_what_failed_in_an_outage_does_not_open_it_again() -> None:
    virtual = VirtualTime()
    circuit = opened(virtual)
    for index in range(100):
        circuit.failed(unit(index), "503")
    circuit.answered(0.2)
    for index in range(15):
        virtual.now += 0.1
        circuit.failed(unit(index), "503")
    assert not circuit.is_open


# --- giving up ---


async def test_it_gives_up_when_the_outage_has_lasted_too_long() -> None:
    virtual = VirtualTime()
    began = virtual.now
    circuit = opened(virtual, give_up_after=20)
    probes = 0

    async def send(_attempt: Attempt) -> Response:
        nonlocal probes
        probes += 1
        raise failed()

    sending = guarded(send, circuit)

    async def until_it_gives_up() -> None:
        while True:
            with pytest.raises(AttemptError):
                await sending(attempt())

    with pytest.raises(RunStopped, match=r"down for 20 s \(limits\.give_up_after\): 503 no"):
        await until_it_gives_up()
    assert virtual.now - began == pytest.approx(20.05)  # from the first failure
    assert probes == 5
    # Whoever stands in line hears the same.
    with pytest.raises(RunStopped):
        await sending(attempt(1))


async def test_the_time_counts_from_the_first_failure() -> None:
    virtual = VirtualTime()
    circuit = virtual.circuit(give_up_after=20)
    circuit.failed(unit(0), "503")
    virtual.now += 19.5
    for index in range(19):
        circuit.failed(unit(index), "503")
    with pytest.raises(RunStopped):
        await circuit.enter()
    assert virtual.slept == [pytest.approx(0.5)]


async def test_an_answer_begins_the_time_anew() -> None:
    virtual = VirtualTime()
    circuit = virtual.circuit(give_up_after=20)
    circuit.failed(unit(0), "503")
    virtual.now += 100
    circuit.answered(0.2)
    fail(circuit, virtual)
    assert await circuit.enter()


async def test_what_is_waited_for_the_endpoint_to_be_back_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    virtual = VirtualTime()
    circuit = opened(virtual)
    monkeypatch.setattr("runner.endpoint.circuit.time.perf_counter", virtual.clock)

    async def send(one: Attempt) -> Response:
        assert one.queue_s == one.held_s
        return Response(output="yes")

    waiting, at_once = attempt(0), attempt(1)
    await guarded(send, circuit)(waiting)
    await guarded(send, circuit)(at_once)
    assert waiting.held_s == pytest.approx(1.0)
    assert at_once.held_s == 0
