"""Timers that do not discard an answer which arrived while the program stood still.

After a process was stopped, or its event loop was blocked, its timers are due before it has read its sockets. Both are handled
in one turn of the loop, and a timer that cancels would win over an answer that is already there. So these timers first give the
loop some turns to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

__all__ = ["TURNS", "after_reading", "timeout"]

#: Two turns are enough to read and deliver data, plain or through TLS, on both kinds of event loop. More are cheap.
TURNS = 8
#: A timeout is counted in this many steps. A step that took twice its time does not count: the program stood still.
_STEPS = 10


def after_reading(act: Callable[[], object], turns: int = TURNS) -> None:
    """Call `act` after the loop has had some turns to read its sockets."""
    if turns:
        asyncio.get_running_loop().call_soon(after_reading, act, turns - 1)
    else:
        act()


@asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError if a block takes longer, not counting the time in which this program stood still.

    It is for work that makes no progress during that time, such as opening a connection.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        steps = _Steps(seconds / _STEPS, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            steps.cancel()


class _Steps:
    """Counts the steps of a timeout, and calls `end` after the last one."""

    def __init__(self, step: float, end: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._step, self._end = step, end
        self._left = _STEPS
        self._is_cancelled = False
        self._begin()

    def _begin(self) -> None:
        self._due = self._loop.time() + self._step
        self._timer = self._loop.call_at(self._due, self._count)

    def _count(self) -> None:
        if self._loop.time() - self._due < self._step:
            self._left -= 1
        if self._left:
            self._begin()
        else:
            after_reading(self._finish)

    def _finish(self) -> None:
        if not self._is_cancelled:
            self._end()

    def cancel(self) -> None:
        """Do not call `end` any more."""
        self._is_cancelled = True
        self._timer.cancel()
