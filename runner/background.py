"""One event loop in a thread of its own, for all evaluations that Python code starts: what they share, they share there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from runner.endpoint.shared import Endpoints
from runner.session import new_event_loop

__all__ = ["BACKGROUND", "Background"]

_T = TypeVar("_T")


class Background:
    """Runs coroutines in a loop that begins with the first and ends with the program."""

    def __init__(self) -> None:
        self.endpoints = Endpoints()
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self._running_loop())

    def call(self, act: Callable[[], object]) -> None:
        """Call a function there, soon."""
        self._running_loop().call_soon_threadsafe(act)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = new_event_loop()()
                threading.Thread(target=self._loop.run_forever, name="runner", daemon=True).start()
            return self._loop


BACKGROUND = Background()
