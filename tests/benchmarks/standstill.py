"""How often and how long the machine stood still: a virtual one gets no core at times, and no program can keep a rate then."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

__all__ = ["Standstill"]

_LOOK_EVERY_S = 0.005
#: At 200 requests a second five of them crowd when they are held up for so long.
_LONG_S = 0.025


class Standstill:
    """Watches during a `with` block, in a thread that only sleeps."""

    def __init__(self) -> None:
        self._gaps: list[float] = []
        self._done = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def __str__(self) -> str:
        """Say how often, how long in all and how long at most."""
        worst = max(self._gaps, default=0.0)
        return f"{len(self._gaps)} times for more than {_LONG_S:g} s, {sum(self._gaps):.1f} s in all, {worst:.3f} s at most"

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._done.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            if now - last > _LONG_S:
                self._gaps.append(now - last)
            last = now
