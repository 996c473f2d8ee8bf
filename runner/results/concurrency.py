"""What a run with `concurrency: auto` has found: how many requests are best in flight, and how it came there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from runner.storage.records import Limit, Open

__all__ = ["found_in", "said_of_found"]

#: So many moments are told, at most.
_MOST_MOMENTS = 200

#: What each segment of the journal says, by its `open` line.
Kept: TypeAlias = Sequence[tuple[Open, Sequence[Limit]]]
_Round: TypeAlias = tuple[int, float, float]


def found_in(kept: Kept, starts: Sequence[tuple[int, float]]) -> dict[str, Any] | None:
    """Return `totals.concurrency` of evaluation.json; None of a run whose concurrency is fixed.

    `starts` are when each start of the run began, in microseconds since the epoch, and how many seconds it went on. Workers
    each find their own number: here are their sums, and of the median latencies the mean, by their answers.
    """
    if not kept:
        return None
    best = next(filter(None, (_best_of(kept, at) for at, _ in reversed(starts))), None)
    moments = list(_moments(kept, starts))
    every = -(-len(moments) // _MOST_MOMENTS) or 1
    return {
        "best": None if best is None else best[0],
        "answers_per_s": None if best is None else round(best[1], 3),
        "history": moments[::-1][::every][::-1],
    }


def said_of_found(found: Mapping[str, Any]) -> str:
    """Say what was found, in a line."""
    if found["best"] is None:
        return "best not found: so many as were allowed were never in flight for long enough"
    return f"best found: {found['best']}, {found['answers_per_s']:.1f} answers/s"


def _best_of(kept: Kept, began_at: int) -> tuple[int, float] | None:
    """Return what was found best in the start that began then: of each worker what the last one in its place has found."""
    found: dict[object, tuple[int, float]] = {}
    for opened, limits in kept:
        best = next((limit.best for limit in reversed(limits) if limit.best is not None), None)
        if opened.at >= began_at and best is not None:
            found[opened.worker] = best
    return (sum(best for best, _ in found.values()), sum(per_s for _, per_s in found.values())) if found else None


def _moments(kept: Kept, starts: Sequence[tuple[int, float]]) -> Iterator[list[float]]:
    """Yield the seconds that the run had gone on, the limit, the answers a second and the median latency, in order."""
    events = sorted(
        (opened.at + limit.ran_us, number, limit.round)
        for number, (opened, limits) in enumerate(kept)
        for limit in limits
        if limit.round is not None
    )
    ends = [opened.at + limits[-1].ran_us for opened, limits in kept]
    latest: dict[int, _Round] = {}
    for at, number, came_to in events:
        latest = {one: others for one, others in latest.items() if ends[one] >= at} | {number: came_to}
        per_s = sum(rate for _, rate, _ in latest.values())
        p50_s = sum(rate * p50_s for _, rate, p50_s in latest.values()) / per_s
        yield [_seconds_at(at, starts), sum(limit for limit, _, _ in latest.values()), round(per_s, 3), round(p50_s, 4)]


def _seconds_at(at: int, starts: Sequence[tuple[int, float]]) -> float:
    return round(sum(min(max(0.0, (at - began) / 1e6), seconds) for began, seconds in starts), 1)
