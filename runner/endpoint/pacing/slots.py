"""Slots: how many attempts may be on the wire at once; fewer after an endpoint has refused some as too many.

This works as TCP's congestion control does. A sign of too much takes a share of the slots away at once, and answers give it
back one by one. After an outage the slots start few and double with every round of answers until they are as many as before.
Instead, an `AutoLimit` may say how many there are.
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
        #: Below this there is one slot more with each answer, above it with each round of answers.
        self._known_good = float(most)
        #: The `AutoLimit` that says how many slots there are, if there is one.
        self.auto: AutoLimit | None = None
        #: How many attempts are on the wire.
        self.taken = 0
        self._freed = asyncio.Event()

    @property
    def limit(self) -> int:
        """How many attempts may be on the wire now: at least one."""
        return int(self._room)

    @property
    def free(self) -> bool:
        """Whether a slot is free."""
        return self.taken < int(self._room)

    def follow(self, auto: AutoLimit) -> None:
        """Have as many slots as `auto` says, from now on."""
        self.auto = auto
        self._follow(auto)

    def keep_to(self, limit: int | None) -> None:
        """Have as many slots as another worker has found best; None: find it here."""
        if self.auto is not None:
            self.auto.keep_to(limit)
            self._follow(self.auto)

    def _follow(self, auto: AutoLimit) -> None:
        self._room = float(auto.limit)
        self._freed.set()

    def widen(self, most: int) -> None:
        """Raise the upper bound; a lower one changes nothing."""
        if (more := most - self._most) > 0:
            self._most += more
            if self.auto is not None:
                self.auto.widen(most)
                return
            self._room += more
            self._known_good += more
            self._freed.set()

    async def room(self) -> None:
        """Wait until a slot is free. Only one caller may wait at a time."""
        while not self.free:
            self._freed.clear()
            await self._freed.wait()

    def take(self) -> None:
        """Take a slot: an attempt goes on the wire."""
        self.taken += 1

    def give_back(self) -> None:
        """Give a slot back."""
        self.taken -= 1
        self._freed.set()

    def grow(self, now: float = 0.0, latency_s: float = 0.0) -> None:
        """Note an answer that came at `now`."""
        if self.auto is not None:
            self.auto.answered(now, latency_s)
            self._follow(self.auto)
        elif self._room < self._most:
            self._room = min(float(self._most), self._room + (1.0 if self._room < self._known_good else 1.0 / self._room))
            self._freed.set()

    def fail(self) -> None:
        """Note a failure of the endpoint. Its attempt still has its slot."""
        if self.auto is not None:
            self.auto.failed(self.taken)
            self._follow(self.auto)

    def shrink(self, pause_s: float = 0.0) -> None:
        """Note that the endpoint had too much at once, and that nothing is sent for `pause_s` seconds."""
        if self.auto is not None:
            self.auto.refused(self.taken, pause_s)
            self._follow(self.auto)
            return
        self._room = max(1.0, min(self._room, float(self.taken)) * _SHARE_KEPT)
        self._known_good = self._room

    def restart(self) -> None:
        """Begin with few slots after an outage."""
        if self.auto is not None:
            self.auto.restart()
            self._follow(self.auto)
            return
        self._known_good = max(self._known_good, self._room)  # it may not have come back since the last outage
        self._room = min(self._room, _AFTER_AN_OUTAGE)
