"""Batched reads: where many streams bring small pieces, they are read in rounds; the loop does not wake up for each piece.

A model server sends every token of every stream in a packet of its own. With hundreds of streams a core would do little else
than wake up. What comes is late by one round at most, and nothing is held up while the streams are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["ReadBatcher"]

_ROUND_S = 0.02
#: So many pieces in a round are a load; fewer are read as they come.
_MANY = 64


class ReadBatcher:
    """Counts the pieces of all streams, and calls those that wait once a round."""

    def __init__(self) -> None:
        """Make it in a running loop."""
        self._loop = asyncio.get_running_loop()
        self._pieces = 0
        self._are_many = False
        self._waiting: list[Callable[[], None]] = []

    def wait(self, read_on: Callable[[], None]) -> bool:
        """Note a piece of a stream. Return whether the stream is to wait with the next one until `read_on` is called."""
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
