"""The recent progress of running evaluations: a sample every two seconds, for the last fifteen minutes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from runner.results.progress import Progress
from runner.structs import Struct, field

__all__ = ["Goes", "Sample", "Watch"]

EVERY_S = 2.0
_SAMPLES = 450
#: How many samples a rate is averaged over.
_FOR_A_RATE = 5


class Goes(Protocol):
    """A running evaluation."""

    @property
    def progress(self) -> Progress:
        """Its progress."""

    def activity(self) -> tuple[int, int]:
        """Return the number of requests in flight, and the number of samples that wait."""


class Sample(Struct, frozen=True):
    """The state of an evaluation at a moment of `time.monotonic`."""

    at: float
    done: int
    in_flight: int
    waiting: int
    retries: int
    tokens: int
    #: The median and the 90th percentile of the latency of the last answers, in seconds; None before the first answer.
    p50: float | None
    p90: float | None


class Watch(Struct):
    """Samples of evaluations that run, by id."""

    #: Returns the evaluations that run now, by id.
    going: Callable[[], Mapping[str, Goes]]
    _samples: dict[str, deque[Sample]] = field(default_factory=dict)

    def of(self, evaluation_id: str) -> Sequence[Sample]:
        """Return the samples of an evaluation, the latest last."""
        return tuple(self._samples.get(evaluation_id, ()))

    def rates(self, evaluation_id: str) -> Iterator[tuple[float, float]]:
        """Yield pairs of a moment and the results per second at it."""
        samples = self.of(evaluation_id)
        for place in range(1, len(samples)):
            before, now = samples[max(0, place - _FOR_A_RATE)], samples[place]
            yield now.at, (now.done - before.done) / max(now.at - before.at, 1e-9)

    async def watch(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Take a sample of each running evaluation, and forget the samples of the others."""
        going = self.going()
        self._samples = {one: samples for one, samples in self._samples.items() if one in going}
        for one, run in going.items():
            self._samples.setdefault(one, deque(maxlen=_SAMPLES)).append(_sample(run))


def _sample(run: Goes) -> Sample:
    progress = run.progress
    in_flight, waiting = run.activity()
    latencies = sorted(progress.latencies)
    p50, p90 = ((latencies[int(share * (len(latencies) - 1))] if latencies else None) for share in (0.5, 0.9))
    return Sample(time.monotonic(), progress.done, in_flight, waiting, progress.retries, progress.tokens, p50, p90)
