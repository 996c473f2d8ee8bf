"""A session: the event loop that sends an evaluation's requests, and the endpoints that are open in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from runner.endpoint.shared import Endpoints

__all__ = ["Session", "loop_factory"]

_T = TypeVar("_T")


class Session:
    """Runs coroutines one after the other, each in a new loop."""

    def __init__(self, endpoints: Endpoints | None = None) -> None:
        self.endpoints = endpoints or Endpoints()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end."""
        with asyncio.Runner(loop_factory=loop_factory()) as loop:
            return loop.run(work)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of event loops: uvloop's if it is installed."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
