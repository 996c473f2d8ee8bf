"""The slowest answers of a run, and when it would have ended without them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from runner.storage.records import End
from runner.structs import Struct, field

__all__ = ["Stragglers"]

_MOST = 10
_WIRE_S, _COMPLETED_AT = attrgetter("wire_s"), attrgetter("completed_at")


class Stragglers(Struct):
    """Finds the slowest answers among samples in any order, in constant memory."""

    #: The slowest, and those that came last, each with its sort key, its item and sample; the slowest also with their names.
    _slowest: list[tuple[float, tuple[int, int], str, str]] = field(default_factory=list)
    _last: list[tuple[int, tuple[int, int]]] = field(default_factory=list)

    def add_sample(self, ends: Sequence[End]) -> None:
        """Look at the results of a sample."""
        slowest = max(ends, key=_WIRE_S)
        place = slowest.item_index, slowest.sample_index
        # One more than the slowest: if those came last, the next one shows when the run would have ended.
        _keep(self._last, (max(map(_COMPLETED_AT, ends)), place), _MOST + 1)
        if slowest.wire_s and not slowest.cached:
            _keep(self._slowest, (slowest.wire_s, place, slowest.item_id, slowest.task), _MOST)

    def report(self, wall_s: float) -> dict[str, Any] | None:
        """Return the slowest, each with the seconds on the wire of all its attempts, and the length of the run without them.

        Without them it is shorter by the time between the last result and the last of the others. None if nothing was sent.
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
    keep = heapq.heappush if len(heap) < most else heapq.heappushpop
    keep(heap, one)
