"""Batched reads: if many streams bring small chunks, they are read in rounds, and the loop does not wake up for each chunk.

A model server sends every token of every stream in its own packet. With hundreds of streams a core would spend most of its time
waking up. A chunk is late by at most one round, and with few streams nothing is delayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["ReadBatcher"]

_ROUND_S = 0.02
#: From this many chunks in a round, reads are batched. Fewer are read as they come.
_MANY = 64


class ReadBatcher:
    """Counts the chunks of all streams, and wakes the waiting streams once a round."""

    def __init__(self) -> None:
        """Make it in a running loop."""
        self._loop = asyncio.get_running_loop()
        self._pieces = 0
        self._are_many = False
        self._waiting: list[Callable[[], None]] = []

    def wait(self, read_on: Callable[[], None]) -> bool:
        """Note a chunk of a stream. Return whether the stream must wait for `read_on` before it reads the next one."""
        if not self._pieces:
            self._loop.call_later(_ROUND_S, self._end_of_round)
        self._pieces += 1
        if self._are_many:
            self._waiting.append(read_on)
        return self._are_many

    def _end_of_round(self) -> None:
        self._are_many = self._pieces >= _MANY
        self._pieces = 0
        waiting, self._waiting = self._waiting, []
        for read_on in waiting:
            read_on()
