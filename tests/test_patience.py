"""An attempt must end when its time is over, never before, and never because of the attempt that used its timer before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from runner.endpoint.http.timeouts import AttemptTimer, Timeouts
from runner.errors import AttemptError
from runner.types import ErrorType

LIMITS = Timeouts(first_byte=10, idle=4, total=30)


class Timeless(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer as soon as nothing else is to be done."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.timers = 0
        self.failures: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, *arguments: Any, **more: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.timers += 1
        return super().call_at(*arguments, **more)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def timeless(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in such a loop."""

    def run() -> None:
        loop = Timeless()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(test())
        assert loop.failures == []

    return run


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def ended_after(timer: AttemptTimer, *pauses: float) -> tuple[float, str]:
    """Let data come after each of the pauses, and then none; return when the block was ended, and how."""
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def attempt() -> None:
        with timer:
            for pause in pauses:
                await asyncio.sleep(pause)
                timer.renew()
            await asyncio.Event().wait()

    with pytest.raises(AttemptError) as caught:
        await attempt()
    assert caught.value.failure.error_type is ErrorType.TIMEOUT
    assert caught.value.retry
    return loop.time() - begun, caught.value.failure.message.partition(":")[0]


@pytest.mark.parametrize(
    ("pauses", "expected"),
    [
        ((), (10, "first_byte")),
        ((9,), (13, "idle")),
        ((0.5,), (4.5, "idle")),  # sooner than the timer of the first byte would fire
        ((9, 3, 3), (19, "idle")),
        ((9, 3, 3, 3, 3, 3, 3, 2), (30, "total")),
    ],
)
def test_an_attempt_ends_when_its_time_is_over(pauses: tuple[float, ...], expected: tuple[float, str]) -> None:
    @timeless
    async def test() -> None:
        assert await ended_after(AttemptTimer(LIMITS), *pauses) == expected

    test()


@timeless
async def test_an_attempt_has_all_its_time_whatever_the_one_before_has_left_of_the_timer() -> None:
    timer = AttemptTimer(LIMITS)
    for used in (0.0, 3.0, 9.5):
        with timer:
            await asyncio.sleep(used)
        assert await ended_after(timer) == (10, "first_byte")
        with timer:
            timer.renew()  # the timer stands at the end of the idle time now
        assert await ended_after(timer, 9) == (13, "idle")


@timeless
async def test_a_timer_that_fires_between_two_attempts_ends_neither() -> None:
    timer = AttemptTimer(LIMITS)
    with timer:
        pass
    await asyncio.sleep(50)
    assert await ended_after(timer) == (10, "first_byte")


@timeless
async def test_many_attempts_need_few_timers() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Timeless)
    timer, before = AttemptTimer(LIMITS), loop.timers
    for _ in range(1000):
        with timer:
            timer.renew()
            timer.renew()
    assert loop.timers == before + 2


@timeless
async def test_who_is_cancelled_by_others_is_not_late() -> None:
    timer = AttemptTimer(LIMITS)
    # In time, when the time is over too, and where the attempt before was late.
    for after in (5, LIMITS.first_byte, 5):
        task = asyncio.create_task(ended_after(timer))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(after, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task


@timeless
async def test_who_was_cancelled_before_and_went_on_can_still_be_late() -> None:
    this_task().cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert await ended_after(AttemptTimer(LIMITS)) == (10, "first_byte")
    assert this_task().cancelling() == 1
    this_task().uncancel()


@timeless
async def test_an_error_of_its_own_stays_what_it_is() -> None:
    timer = AttemptTimer(LIMITS)

    async def attempt(pause: float) -> None:
        with timer:
            try:
                await asyncio.sleep(pause)
            finally:
                raise KeyError("its own")

    for pause in (1, LIMITS.total):
        with pytest.raises(KeyError):
            await attempt(pause)
        assert this_task().cancelling() == 0
    assert await ended_after(timer) == (10, "first_byte")


@pytest.mark.parametrize(("pauses", "due"), [((), 10), ((1,), 5), ((4, 4, 4, 4, 4, 4, 4), 30)])
def test_what_comes_in_the_turn_in_which_the_time_is_over_is_in_time(pauses: tuple[float, ...], due: float) -> None:
    @timeless
    async def test() -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        begun = loop.time()
        loop.call_at(begun + due + 0.001, came.set)  # the timer fires first, and then has to wait for what came
        with AttemptTimer(LIMITS) as timer:
            for pause in pauses:
                await asyncio.sleep(pause)
                timer.renew()
            loop.call_at(begun + due - 0.001, loop.__setattr__, "now", begun + due + 1)  # it stands still
            await came.wait()
        assert loop.time() == begun + due + 1

    test()


async def test_data_without_an_end_ends_at_the_total_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.endpoint.http.timeouts._READING_S", 0.05)

    async def attempt() -> None:
        with AttemptTimer(Timeouts(first_byte=1, idle=1, total=0.05)) as timer:
            while True:
                await asyncio.sleep(0)
                timer.renew()

    with pytest.raises(AttemptError, match="total"):
        await attempt()


@timeless
async def test_an_answer_that_is_whole_is_waited_for_only_a_little_longer() -> None:
    loop = asyncio.get_running_loop()
    for is_whole, waited in ((True, 1), (False, 4)):
        begun = loop.time()
        with AttemptTimer(LIMITS) as timer:
            timer.renew(is_whole=is_whole)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.Event().wait()
            assert timer.take_back()
            assert not timer.take_back()
        assert (loop.time() - begun, this_task().cancelling()) == (waited, 0)


@timeless
async def test_what_others_cancelled_is_not_taken_back() -> None:
    async def attempt() -> None:
        with AttemptTimer(LIMITS) as timer:
            try:
                await asyncio.Event().wait()
            finally:
                assert not timer.take_back()

    task = asyncio.create_task(attempt())
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Counting(uvloop.Loop):
    """A loop that counts timers; uvloop counts time in whole milliseconds, so that some fire before their time."""

    timers = 0

    def call_at(self, *arguments: Any, **more: Any) -> Any:  # type: ignore[override]
        self.timers += 1
        return super().call_at(*arguments, **more)


@pytest.mark.parametrize("seconds", [0.0501, 0.0104, 0.0209, 0.1])
def test_a_timer_that_fires_a_little_early_is_not_set_again_and_again(seconds: float) -> None:
    loop = Counting()

    async def test() -> None:
        await ended_after(AttemptTimer(Timeouts(first_byte=seconds, idle=1, total=2)))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(test())
    assert loop.timers <= 2
