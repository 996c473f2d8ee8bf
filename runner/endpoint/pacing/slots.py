"""Slots: how many attempts may be on the wire at once, fewer after an endpoint said that it is too much.

As in TCP's congestion control: a sign of too much takes a share away at once, answers give it back one by one; after an
outage the room starts small and doubles with every round of answers until it is where it was. Or an `AutoLimit` says how many.
"""

from __future__ import annotations

import asyncio

from runner.endpoint.pacing.auto import AutoLimit

__all__ = ["Slots"]

_SHARE_KEPT = 0.7
_AFTER_AN_OUTAGE = 8.0


class Slots:
    """Counts the attempts on the wire against a limit that changes."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._room = float(most)
        #: Below this the room grows by one with each answer, above it with each round of them.
        self._known_good = float(most)
        self._auto: AutoLimit | None = None
        self._taken = 0
        self._freed = asyncio.Event()

    @property
    def limit(self) -> int:
        """How many may be on the wire now: at least one."""
        return int(self._room)

    @property
    def taken(self) -> int:
        """How many are on the wire."""
        return self._taken

    @property
    def free(self) -> bool:
        """Whether there is room for another."""
        return self._taken < int(self._room)

    @property
    def auto(self) -> AutoLimit | None:
        """What says how many, where that is found while the answers come."""
        return self._auto

    def follow(self, auto: AutoLimit) -> None:
        """Let as many be on the wire as this says, from now on."""
        self._auto = auto
        self._follow(auto)

    def keep_to(self, limit: int | None) -> None:
        """Let as many be on the wire as another worker has found best; None: find it here."""
        if self._auto is not None:
            self._auto.keep_to(limit)
            self._follow(self._auto)

    def _follow(self, auto: AutoLimit) -> None:
        self._room = float(auto.limit)
        self._freed.set()

    def widen(self, most: int) -> None:
        """Let more be on the wire at once, where that is more than before."""
        if (more := most - self._most) > 0:
            self._most += more
            if self._auto is not None:
                self._auto.widen(most)
                return
            self._room += more
            self._known_good += more
            self._freed.set()

    async def room(self) -> None:
        """Wait until there is room for another. Only one at a time may wait."""
        while not self.free:
            self._freed.clear()
            await self._freed.wait()

    def take(self) -> None:
        """Take a slot: an attempt goes on the wire."""
        self._taken += 1

    def give_back(self) -> None:
        """Give a slot back."""
        self._taken -= 1
        self._freed.set()

    def grow(self, now: float = 0.0, latency_s: float = 0.0) -> None:
        """Note an answer that came now."""
        if self._auto is not None:
            self._auto.answered(now, latency_s)
            self._follow(self._auto)
        elif self._room < self._most:
            self._room = min(float(self._most), self._room + (1.0 if self._room < self._known_good else 1.0 / self._room))
            self._freed.set()

    def fail(self) -> None:
        """Note that the endpoint has failed, to an attempt that has its slot yet."""
        if self._auto is not None:
            self._auto.failed(self._taken)
            self._follow(self._auto)

    def shrink(self, pause_s: float = 0.0) -> None:
        """Note that the endpoint had too much at once, and that nothing is sent for so many seconds."""
        if self._auto is not None:
            self._auto.refused(self._taken, pause_s)
            self._follow(self._auto)
            return
        self._room = max(1.0, min(self._room, float(self._taken)) * _SHARE_KEPT)
        self._known_good = self._room

    def restart(self) -> None:
        """Begin small after an outage."""
        if self._auto is not None:
            self._auto.restart()
            self._follow(self._auto)
            return
        self._known_good = max(self._known_good, self._room)  # it may not be back there since the last outage
        self._room = min(self._room, _AFTER_AN_OUTAGE)
