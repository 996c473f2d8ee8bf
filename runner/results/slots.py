"""Where the time of a run's slots went: as many requests as `limits.concurrency` allows could have been in flight all the time.

endpoint     on the wire, or waiting for an endpoint that is down or has not answered yet
rate limit   waiting for a turn within the limits, those of the endpoint too
back-off     waiting to try again
rows         slots that never had a sample: there were fewer than slots
tail         slots that had their last sample, while others still worked on theirs
client       what is left: this program
replay       all of it, if the run is answered from recordings
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

from runner.storage.records import End
from runner.structs import Struct, field

__all__ = ["SlotTimes"]

#: The most slots that are considered for the tail.
_MOST_SLOTS = 1024


class SlotTimes(Struct):
    """The times of all requests, in seconds, and when the slots had their last samples."""

    #: Whether recordings answer instead of an endpoint.
    replays: bool = False
    answered: int = 0
    wire_s: float = 0.0
    queue_s: float = 0.0
    held_s: float = 0.0
    backoff_s: float = 0.0
    #: Samples that have sent a request.
    samples: int = 0
    #: When the latest of them ended, in microseconds since the epoch: a heap.
    _latest: list[int] = field(default_factory=list)

    def add_sample(self, ends: Sequence[End]) -> None:
        """Count the results of a sample."""
        ended = -1
        for end in ends:
            if end.request is None or end.cached:
                continue
            self.answered += end.error_type is None
            self.wire_s += end.wire_s
            self.queue_s += end.queue_s
            self.held_s += end.held_s
            self.backoff_s += end.backoff_s
            ended = max(ended, end.completed_at)
        if ended >= 0:
            self.samples += 1
            keep = heapq.heappush if len(self._latest) < _MOST_SLOTS else heapq.heappushpop
            keep(self._latest, ended)

    def full(self, slot_s: float) -> float | None:
        """Return the share of the slots' time that requests were on the wire. `slot_s` is the time of all slots together."""
        return min(1.0, self.wire_s / slot_s) if slot_s > 0 and self.answered else None

    def bound_by(self, *, slot_s: float, wall_s: float) -> str | None:
        """Return what took most of the slots' time in a run of `wall_s` seconds; None if nothing was answered."""
        if slot_s <= 0 or not self.answered:
            return None
        if self.replays:
            return "replay"
        shares = self._shares(slot_s, slots=max(1, round(slot_s / wall_s)) if wall_s > 0 else 1)
        return max(shares, key=lambda name: shares[name])

    def _shares(self, slot_s: float, *, slots: int) -> Mapping[str, float]:
        wanted = {
            "endpoint": self.wire_s + self.held_s,
            "rate limit": self.queue_s - self.held_s,
            "back-off": self.backoff_s,
            "rows": slot_s * (1 - self.samples / slots),
            "tail": self._tail_s(slots),
            "client": math.inf,
        }
        shares, left = {}, 1.0
        for name, seconds in wanted.items():
            shares[name] = min(left, max(0.0, seconds / slot_s))
            left -= shares[name]
        return shares

    def _tail_s(self, slots: int) -> float:
        """Return the seconds that slots had nothing more to do, summed over the slots."""
        latest = heapq.nlargest(slots, self._latest)
        return sum(latest[0] - at for at in latest) / 1e6 if latest else 0.0
