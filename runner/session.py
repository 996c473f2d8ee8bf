"""What evaluations share that run at the same time: an event loop, and in it the endpoints that they name alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from runner.endpoint.shared import Endpoints

__all__ = ["Session", "new_event_loop"]

_T = TypeVar("_T")


class Session:
    """An event loop for one evaluation alone."""

    def __init__(self) -> None:
        self.endpoints = Endpoints()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end in the loop."""
        with asyncio.Runner(loop_factory=new_event_loop()) as loop:
            return loop.run(work)


def new_event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes an event loop: uvloop's where it is installed."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
