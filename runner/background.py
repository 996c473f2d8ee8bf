"""The event loop of all evaluations that are started from Python, in one background thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from runner.endpoint.shared import Endpoints
from runner.session import loop_factory

__all__ = ["BACKGROUND", "Background"]

_T = TypeVar("_T")


class Background:
    """A loop that starts with its first coroutine and runs until the program ends."""

    def __init__(self) -> None:
        self._forget()
        # After a fork, the child has the loop, but not the thread that runs it.
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self.endpoints = Endpoints()
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine in the background loop."""
        return asyncio.run_coroutine_threadsafe(work, self._running_loop())

    def call(self, act: Callable[[], object]) -> None:
        """Call a function in the background loop, soon."""
        self._running_loop().call_soon_threadsafe(act)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                loop = loop_factory()()
                threading.Thread(target=loop.run_forever, name="runner", daemon=True).start()
                self._loop = loop
            return self._loop


BACKGROUND = Background()
