"""The course of a run over time, in constant memory: results, errors and latencies in at most eighty buckets."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

from runner.results.summary import Quantiles
from runner.structs import Struct, field

__all__ = ["Bucket", "Timeline"]

_MOST_BUCKETS = 80
_FIRST_WIDTH_S = 0.125


class Bucket(Struct):
    """The results that ended within one span of time."""

    results: int = 0
    errors: int = 0
    latency: Quantiles = field(default_factory=Quantiles)


class Timeline:
    """Buckets of a run's own time: pauses between its starts are left out."""

    def __init__(self, starts: Sequence[tuple[int, float]]) -> None:
        """Take the time at which each start began, in microseconds since the epoch, and its length in seconds."""
        self._began = [at for at, _ in starts]
        self._lengths = [seconds for _, seconds in starts]
        #: The second of the run's own time at which each start began.
        self.offsets = [sum(self._lengths[:number]) for number in range(len(starts))]
        self.width_s = _FIRST_WIDTH_S
        while sum(self._lengths) > self.width_s * _MOST_BUCKETS:
            self.width_s *= 2
        self._buckets: dict[int, Bucket] = {}

    def add(self, at_us: int, *, latency_s: float | None, is_error: bool) -> None:
        """Count a result that ended at this time."""
        bucket = self._buckets.setdefault(int(self._own_time(at_us) / self.width_s), Bucket())
        bucket.results += 1
        bucket.errors += is_error
        if latency_s is not None:
            bucket.latency.add(latency_s)

    def _own_time(self, at_us: int) -> float:
        number = max(0, bisect.bisect_right(self._began, at_us) - 1)
        if number >= len(self._began):
            return 0.0
        return self.offsets[number] + min(max(0.0, (at_us - self._began[number]) / 1e6), self._lengths[number])

    @property
    def seconds(self) -> float:
        """How long all starts took together."""
        return sum(self._lengths)

    def buckets(self) -> Iterator[tuple[float, Bucket | None]]:
        """Yield the second at which each bucket begins, and the bucket; None if nothing ended in it."""
        for number in range(max(self._buckets, default=-1) + 1):
            yield number * self.width_s, self._buckets.get(number)
