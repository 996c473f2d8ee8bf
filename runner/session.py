"""A session: where an evaluation's requests are sent from, and the endpoints that are open there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from runner.endpoint.shared import Endpoints

__all__ = ["Session", "loop_factory"]

_T = TypeVar("_T")


class Session:
    """Runs what it is given in a loop of its own, one after the other."""

    def __init__(self, endpoints: Endpoints | None = None) -> None:
        self.endpoints = endpoints or Endpoints()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end in a new loop."""
        with asyncio.Runner(loop_factory=loop_factory()) as loop:
            return loop.run(work)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes an event loop: uvloop's where it is installed."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
