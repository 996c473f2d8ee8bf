"""Turns: one at a time passes; of several who send, each has its turn, however many of another's wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Turns"]


class Turns:
    """A lock whose waiters stand in a line for each who sends; the lines have their turns one after the other."""

    def __init__(self) -> None:
        self.is_taken = False
        #: The lines in the order of their turns; none of them is empty.
        self._lines: dict[object, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def of(self, who: object) -> AsyncIterator[None]:
        """Hold the lock, after a wait for a turn of `who`."""
        if self.is_taken:
            await self._wait(who)
        self.is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, who: object) -> None:
        """Wait in line; the lock is handed over taken, so that nobody comes between."""
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(who, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Hand the lock to the first of the next line; who gave up meanwhile is passed over."""
        while self._lines:
            who = next(iter(self._lines))
            line = self._lines.pop(who)
            turn = line.popleft()
            if line:
                self._lines[who] = line  # behind all others
            if not turn.done():
                turn.set_result(None)
                return
        self.is_taken = False
