"""The loop lag: how late this program's event loop is, so that no row is charged with a timeout that this program caused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["LoopLag"]

_EVERY_S = 1.0
#: A delay is remembered this long, because its effects take time to pass.
_REMEMBERED_S = 15.0


class LoopLag:
    """Beats once a second. A busy loop, a closed laptop or a SIGSTOP makes a beat late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._worst = 0.0
        self._worst_at = self._last
        #: The longest delay so far, in seconds.
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
        """Return the longest delay of the last seconds, including the beat that is due now."""
        now = self._clock()
        due = now - self._last - _EVERY_S
        return max(due, self._worst if now - self._worst_at <= _REMEMBERED_S else 0.0, 0.0)
