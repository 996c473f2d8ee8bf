"""A fair lock: each sender has its own queue, and the queues take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Turns"]


class Turns:
    """A lock that goes to the queues of its waiters in turn."""

    def __init__(self) -> None:
        self.is_taken = False
        #: The lines in the order of their turns; none of them is empty.
        self._lines: dict[object, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def of(self, who: object) -> AsyncIterator[None]:
        """Wait for a turn of `who`, then hold the lock."""
        if self.is_taken:
            await self._wait(who)
        else:
            self.is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, who: object) -> None:
        """Wait in line. The lock stays taken while it is handed over."""
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(who, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Hand the lock to the first of the next line. Skip waiters that were cancelled."""
        while self._lines:
            who = next(iter(self._lines))
            line = self._lines.pop(who)
            turn = line.popleft()
            if line:
                self._lines[who] = line  # after all other lines
            if not turn.done():
                turn.set_result(None)
                return
        self.is_taken = False
