"""The slowest answers of a run, and when it would have ended without them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from runner.storage.records import End
from runner.structs import Struct, field

__all__ = ["Stragglers"]

_MOST = 10


class Stragglers(Struct):
    """Finds them among items that come in any order, in constant memory."""

    #: The slowest, and those that came last: of each what it is ordered by, its item and sample, and what it is called.
    _slowest: list[tuple[float, tuple[int, int], str, str]] = field(default_factory=list)
    _last: list[tuple[int, tuple[int, int]]] = field(default_factory=list)

    def add_item(self, ends: Sequence[End]) -> None:
        """Look at the results of an item."""
        last: dict[int, int] = {}
        slowest: dict[int, End] = {}
        for end in ends:
            sample = end.sample_index
            if sample not in slowest or end.wire_s > slowest[sample].wire_s:
                slowest[sample] = end
            last[sample] = max(end.completed_at, last.get(sample, 0))
        for sample, one in slowest.items():
            place = (one.item_index, sample)
            # One more than the slowest: if they came last, it is the next one that tells when the run would have ended.
            _keep(self._last, (last[sample], place), _MOST + 1)
            if one.wire_s and not one.cached:
                _keep(self._slowest, (one.wire_s, place, one.item_id, one.task), _MOST)

    def report(self, wall_s: float) -> dict[str, Any] | None:
        """Return the slowest, each with the seconds on the wire of all its attempts, and the seconds of a run without them.

        That is how much earlier the last of the other results came; None where nothing was sent.
        """
        if not self._slowest or not self._last:
            return None
        slowest = sorted(self._slowest, reverse=True)
        places = {place for _, place, *_ in slowest}
        others = [at for at, place in self._last if place not in places]
        saved_s = (max(at for at, _ in self._last) - max(others)) / 1e6 if others else 0.0
        rows = [
            {"item_id": item_id, "task": task, "sample_index": sample, "wire_s": round(wire_s, 3)}
            for wire_s, (_, sample), item_id, task in slowest
        ]
        return {"rows": rows, "wall_s_without": round(max(0.0, wall_s - saved_s), 3)}


def _keep(heap: list[Any], one: Any, most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, one)
    elif one > heap[0]:
        heapq.heapreplace(heap, one)
