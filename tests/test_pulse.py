"""The pulse tells how late the event loop is, and remembers it while its consequences are dealt with."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import pytest

from runner.endpoint.pacing.loop_lag import Pulse


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def beats(pulse: Pulse, clock: Clock, *after: float) -> None:
    for seconds in after:
        clock.now += seconds
        pulse.note()


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
    pulse = Pulse(clock)
    beats(pulse, clock, *after)
    assert pulse.late_s() == pytest.approx(late)


def test_a_beat_that_is_due_counts_already() -> None:
    """What timed out may be looked at before the beat that was late as well."""
    clock = Clock()
    pulse = Pulse(clock)
    beats(pulse, clock, 1.0)
    clock.now += 7.0
    assert pulse.late_s() == 6.0


def test_a_lateness_is_forgotten() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    beats(pulse, clock, 7.0, *[1.0] * 14)
    assert pulse.late_s() == 6.0
    beats(pulse, clock, 1.0, 1.0)
    assert pulse.late_s() == 0.0


async def test_it_beats_until_it_is_cancelled() -> None:
    pulse = Pulse()
    noted = asyncio.Event()
    pulse.note = noted.set  # type: ignore[method-assign]
    task = asyncio.create_task(pulse.beat())
    await asyncio.wait_for(noted.wait(), 20)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


def test_the_worst_of_all_is_never_forgotten() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    beats(pulse, clock, 1.0, 7.0, *([1.0] * 100), 1.5)
    assert pulse.worst_s == 6.0
