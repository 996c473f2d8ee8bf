"""Reading ahead: a thread reads the items, which may come over a network, so that the event loop only waits for an event."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

from runner.datasets.rows import bytes_of
from runner.types import Item

__all__ = ["read_ahead"]

_T = TypeVar("_T", bound=Item | int)

#: How many items are read ahead at most, and about how many bytes they have together.
_MOST = 256
_MOST_BYTES = 8 * 1024 * 1024
#: How long the end waits for the thread, which checks `stop` ten times a second.
_LONGEST_END_S = 5.0


def read_ahead(items: Iterator[_T], stop: threading.Event) -> Generator[_T | asyncio.Event, None, None]:
    """Yield the items that a thread takes from `items`; if none is there yet, an event that is set once there is one.

    Raises the errors of `items`. The generator must be closed; then `stop` is set for a while, so that the thread ends.
    """
    shelf = _Shelf[_T](asyncio.get_running_loop())
    thread = threading.Thread(target=shelf.fill, args=(items,), name="rows", daemon=True)
    thread.start()
    try:
        while not shelf.is_empty_for_good:
            yield shelf.take()
    finally:
        stop.set()
        shelf.close()
        thread.join(_LONGEST_END_S)
        stop.clear()
    if shelf.failure is not None:
        raise shelf.failure


class _Shelf(Generic[_T]):
    """The items between the thread and the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.failure: Exception | None = None
        self._loop = loop
        #: Guards all attributes below; the thread waits on it for room.
        self._lock = threading.Condition()
        self._items = deque[tuple[_T, int]]()
        self._bytes = 0
        self._is_done = self._is_closed = self._is_awaited = False
        self._there = asyncio.Event()

    def fill(self, items: Iterator[_T]) -> None:
        """Put all items on the shelf, as there is room. The thread runs this."""
        try:
            for item in items:
                if not self._put(item, 0 if isinstance(item, int) else bytes_of(item.row)):
                    return
        except Exception as error:  # noqa: BLE001  it is raised where the items are taken
            self.failure = error
        with self._lock:
            self._is_done = True
            self._wake()

    def _put(self, item: _T, size: int) -> bool:
        with self._lock:
            while not self._is_closed and (len(self._items) >= _MOST or self._bytes >= _MOST_BYTES):
                self._lock.wait()
            self._items.append((item, size))
            self._bytes += size
            self._wake()
            return not self._is_closed

    def _wake(self) -> None:
        if self._is_awaited and not self._is_closed:
            self._is_awaited = False
            self._loop.call_soon_threadsafe(self._there.set)

    @property
    def is_empty_for_good(self) -> bool:
        """Whether no item is left and none will come."""
        with self._lock:
            return self._is_done and not self._items

    def take(self) -> _T | asyncio.Event:
        """Return the next item, or an event to wait for."""
        with self._lock:
            if not self._items:
                if not self._is_done:
                    self._is_awaited = True
                    self._there.clear()
                return self._there
            item, size = self._items.popleft()
            self._bytes -= size
            if len(self._items) <= _MOST // 2 and self._bytes <= _MOST_BYTES // 2:
                self._lock.notify()
            return item

    def close(self) -> None:
        """Let the thread end."""
        with self._lock:
            self._is_closed = True
            self._lock.notify()
