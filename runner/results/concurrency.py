"""The result of `concurrency: auto`: the best number of requests in flight, and the steps that led to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from runner.storage.records import Limit, Open

__all__ = ["found_in", "said_of_found"]

#: The most moments in the history.
_MOST_MOMENTS = 200

#: The `open` line of each segment of the journal, with the `limit` lines in it.
Kept: TypeAlias = Sequence[tuple[Open, Sequence[Limit]]]
_Round: TypeAlias = tuple[int, float, float]


def found_in(kept: Kept, starts: Sequence[tuple[int, float]]) -> dict[str, Any] | None:
    """Return `totals.concurrency` of evaluation.json; None if the concurrency is fixed.

    `starts` has the time at which each start of the run began, in microseconds since the epoch, and its length in seconds. Each
    worker finds its own number: the result has their sums, and the mean of their median latencies, weighted by answers.
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
    """Return the result as one line."""
    if found["best"] is None:
        return "best not found: the allowed number of requests was never in flight for long enough"
    return f"best found: {found['best']}, {found['answers_per_s']:.1f} answers/s"


def _best_of(kept: Kept, began_at: int) -> tuple[int, float] | None:
    """Return the best limit and its answers a second in one start: the sums of the last values of each worker number."""
    found: dict[object, tuple[int, float]] = {}
    for opened, limits in kept:
        best = next((limit.best for limit in reversed(limits) if limit.best is not None), None)
        if opened.at >= began_at and best is not None:
            found[opened.worker] = best
    return (sum(best for best, _ in found.values()), sum(per_s for _, per_s in found.values())) if found else None


def _moments(kept: Kept, starts: Sequence[tuple[int, float]]) -> Iterator[list[float]]:
    """Yield the seconds of the run so far, the limit, the answers a second and the median latency, in order of time."""
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
