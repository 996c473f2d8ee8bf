"""The loop lag: how late this program's event loop is, so that a timeout of our own stall is charged to no row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["LoopLag"]

_EVERY_S = 1.0
#: So long a lateness is remembered: what it made late is still being dealt with.
_REMEMBERED_S = 15.0


class LoopLag:
    """Beats once a second while the loop has its turn; a laptop's lid or a SIGSTOP makes it late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._worst = 0.0
        self._worst_at = self._last
        #: The worst lateness of all, in seconds.
        self.worst_s = 0.0

    async def watch(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            self.note()

    def note(self) -> None:
        """Take one beat."""
        now = self._clock()
        late = now - self._last - _EVERY_S
        self.worst_s = max(self.worst_s, late)
        if late >= self._worst or now - self._worst_at > _REMEMBERED_S:
            self._worst, self._worst_at = late, now
        self._last = now

    def late_s(self) -> float:
        """Return the worst lateness of the last seconds, the beat that is due now included."""
        now = self._clock()
        due = now - self._last - _EVERY_S
        return max(due, self._worst if now - self._worst_at <= _REMEMBERED_S else 0.0, 0.0)
