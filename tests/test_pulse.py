"""The loop lag tells how late the event loop is, and remembers it while its consequences are dealt with."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import pytest

from runner.endpoint.pacing.loop_lag import LoopLag


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def beats(loop_lag: LoopLag, clock: Clock, *after: float) -> None:
    for seconds in after:
        clock.now += seconds
        loop_lag.note()


@pytest.mark.parametrize(
    ("after", "late"),
    [
        ((), 0.0),
        ((1.0, 1.0), 0.0),
        ((1.0, 1.25), 0.25),
        # Seven seconds of silence are six too many.
        ((1.0, 7.0), 6.0),
        ((7.0, 1.0, 1.0), 6.0),
        # The worst counts, not the newest.
        ((7.0, 3.0), 6.0),
        ((3.0, 7.0), 6.0),
        # A beat that comes early is not late.
        ((0.5,), 0.0),
    ],
)
def test_late_s(after: tuple[float, ...], late: float) -> None:
    clock = Clock()
    loop_lag = LoopLag(clock)
    beats(loop_lag, clock, *after)
    assert loop_lag.late_s() == pytest.approx(late)


def test_a_beat_that_is_due_counts_already() -> None:
    """What timed out may be looked at before the beat that was late as well."""
    clock = Clock()
    loop_lag = LoopLag(clock)
    beats(loop_lag, clock, 1.0)
    clock.now += 7.0
    assert loop_lag.late_s() == 6.0


def test_a_lateness_is_forgotten() -> None:
    clock = Clock()
    loop_lag = LoopLag(clock)
    beats(loop_lag, clock, 7.0, *[1.0] * 14)
    assert loop_lag.late_s() == 6.0
    beats(loop_lag, clock, 1.0, 1.0)
    assert loop_lag.late_s() == 0.0


async def test_it_beats_until_it_is_cancelled() -> None:
    loop_lag = LoopLag()
    noted = asyncio.Event()
    loop_lag.note = noted.set  # type: ignore[method-assign]
    task = asyncio.create_task(loop_lag.watch())
    await asyncio.wait_for(noted.wait(), 20)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


def test_the_worst_of_all_is_never_forgotten() -> None:
    clock = Clock()
    loop_lag = LoopLag(clock)
    beats(loop_lag, clock, 1.0, 7.0, *([1.0] * 100), 1.5)
    assert loop_lag.worst_s == 6.0
