"""Writes to the journal how many requests may be in flight, if the run finds that limit itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runner.endpoint.pacing.auto import AutoLimit
from runner.storage.journal import Journal
from runner.storage.records import Limit

__all__ = ["keep_limit"]

_LOOK_EVERY_S = 0.25
#: The pause between two lines: this long at first, later this share of the time so far. So even a long run has some hundreds.
_FIRST_EVERY_S = 0.5
_LATER_SHARE = 0.02


async def keep_limit(autos: Sequence[AutoLimit], journal: Journal) -> None:
    """Write the limit of all servers together now and then, and a last time when this is cancelled."""
    loop = asyncio.get_running_loop()
    began = looked = loop.time()
    slot_s, kept_s = 0.0, 0.0
    kept: tuple[int, float, float] | None = None

    def keep() -> None:
        nonlocal kept
        latest = _latest(autos)
        journal.append(
            Limit(
                ran_us=journal.ran_us,
                limit=sum(auto.limit for auto in autos),
                slot_s=round(slot_s, 3),
                round=None if latest == kept else latest,
                best=_best(autos),
            )
        )
        kept = latest

    try:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = loop.time()
            slot_s += (now - looked) * sum(auto.limit for auto in autos)
            looked = now
            if now - began - kept_s >= max(_FIRST_EVERY_S, _LATER_SHARE * kept_s):
                kept_s = now - began
                keep()
    finally:
        slot_s += (loop.time() - looked) * sum(auto.limit for auto in autos)
        keep()


def _latest(autos: Sequence[AutoLimit]) -> tuple[int, float, float] | None:
    """Return the limit and the answers per second of the latest rounds, and the mean of their median latencies in seconds."""
    rounds = [auto.latest for auto in autos if auto.latest is not None]
    if not rounds:
        return None
    per_s = sum(one.answers_per_s for one in rounds)
    p50_s = sum(one.answers_per_s * one.p50_s for one in rounds) / per_s
    return sum(one.limit for one in rounds), round(per_s, 3), round(p50_s, 4)


def _best(autos: Sequence[AutoLimit]) -> tuple[int, float] | None:
    found = [auto.found for auto in autos if auto.found is not None]
    return (sum(one.limit for one in found), round(sum(one.answers_per_s for one in found), 3)) if found else None
