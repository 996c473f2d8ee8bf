"""A program that stood still: what came meanwhile is read before a timer throws it away.

A process that was stopped, or whose event loop was blocked, finds its timers due before it has read its sockets. Both come in
one turn of the loop, and then a timer that cancels wins over what has just come. So it lets the loop have some turns first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

__all__ = ["TURNS", "after_reading", "timeout"]

#: Two turns bring what has come to whoever waits for it, plain or through TLS, on both kinds of event loop. More are cheap.
TURNS = 8
#: A time is counted in so many steps. One that took twice as long as it should does not count.
_STEPS = 10


def after_reading(act: Callable[[], object], turns: int = TURNS) -> None:
    """Call `act` once the loop has had some turns in which to read what is there."""
    if turns:
        asyncio.get_running_loop().call_soon(after_reading, act, turns - 1)
    else:
        act()


@asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError where a block takes longer, but for the time in which this program stood still.

    This is for what does not come about by itself meanwhile, such as a connection.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        steps = _Steps(seconds / _STEPS, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            steps.cancel()


class _Steps:
    """Counts steps of a time, and calls `end` after the last one."""

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
        """Let nothing be called any more."""
        self._is_cancelled = True
        self._timer.cancel()
