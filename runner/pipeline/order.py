"""The order in which rows are asked: which of the rows that were read is next.

    as_is           the row that was read first
    longest_first   the row whose requests have the most tokens, by an estimate: so no long row comes last
    prefix          the next row in the order of the texts: so rows that begin alike follow each other

A dataset may be larger than memory, so the choice is among rows that were read ahead: ten thousand, or fewer if they are large.
That is enough for both orders. If the longest of so many rows always goes first, only short rows are left at the end. If the
texts are gone through from the first to the last, each round takes all rows at hand that begin alike.

No order loses or repeats a row, and the requests of a row do not depend on the order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeAlias

from runner.config.model import Config
from runner.datasets.rows import bytes_of
from runner.errors import DatasetReadError
from runner.pipeline.rehearsal import NoCalls, send_nothing
from runner.pipeline.steps import build_steps
from runner.tasks.request import Foreseen, RequestTask
from runner.types import Item

__all__ = ["Arrange", "as_it_is", "order_of", "ordered_by"]

#: Brings rows into an order. A None says that no row can be read at the moment; it is passed on if no row is at hand.
Arrange: TypeAlias = Callable[[Iterator[Item | None]], Iterator[Item | None]]

#: How many rows are read ahead at most, and about how many bytes they have together, without the last row.
_MOST = 10_000
_MOST_BYTES = 64 * 1024 * 1024
#: How many rows are read before one is yielded: neither the first requests nor the event loop wait for more.
_READ_AT_ONCE = 100


def as_it_is(items: Iterator[Item | None]) -> Iterator[Item | None]:
    """Leave the rows in the order in which they are read."""
    return items


def order_of(config: Config) -> Arrange:
    """Return the function that brings rows into the order of a config."""
    if config.limits.order == "as_is":
        return as_it_is
    steps = build_steps(config, send_nothing, NoCalls())
    # Requests that contain an earlier answer are not known yet.
    tasks = [step.task for step in steps if isinstance(step.task, RequestTask) and not step.inputs]

    def longest(item: Item) -> int:
        return -sum(_foreseen(task, item).tokens for task in tasks)

    def text(item: Item) -> bytes:
        return _foreseen(tasks[0], item).text if tasks else b""

    if config.limits.order == "longest_first":
        return lambda items: chain(_the_first(items), ordered_by(longest, items))
    return lambda items: ordered_by(text, items, in_rounds=True)


def _the_first(items: Iterator[Item | None]) -> Iterator[Item | None]:
    """Yield the items up to the first one that is there.

    The first row is rarely the longest, so the endpoint answers soon. Until then only a few requests are sent.
    """
    for item in items:
        yield item
        if item is not None:
            return


def _foreseen(task: RequestTask, item: Item) -> Foreseen:
    try:
        return Foreseen() if item.failure is not None else task.foreseen(item.row)
    except Exception:  # noqa: BLE001  a bad row: its result says what is wrong when its turn comes
        return Foreseen()


def ordered_by(
    key_of: Callable[[Item], Any], items: Iterator[Item | None], *, in_rounds: bool = False, most: int = _MOST
) -> Iterator[Item | None]:
    """Yield the rows: always the row at hand with the least key, among equal keys the one that was read first.

    With `in_rounds` a row whose key the round has passed already waits for the next round. If `items` raises an error, the
    rows at hand come before it.
    """
    window = _Window(key_of, in_rounds=in_rounds, most=most)
    unreadable: DatasetReadError | None = None
    count = 0
    try:
        for item in items:
            count += 1
            if item is None:
                yield window.take() if window else None
                continue
            window.put(item)
            while window and (window.is_full or count >= _READ_AT_ONCE):
                yield window.take()
                count = 0
    except DatasetReadError as error:
        unreadable = error
    while window:
        yield window.take()
    if unreadable is not None:
        raise unreadable


class _Window:
    """The rows at hand."""

    def __init__(self, key_of: Callable[[Item], Any], *, in_rounds: bool, most: int) -> None:
        self._key_of, self._in_rounds, self._most = key_of, in_rounds, most
        #: For each row: its round, its key, its number, its bytes, and the row itself.
        self._heap: list[tuple[int, Any, int, int, Item]] = []
        self._bytes = self._count = self._round = 0
        self._last: Any = None

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def is_full(self) -> bool:
        """Whether a row must be taken before another one is put in; a single row may have any size."""
        return len(self._heap) >= self._most or (self._bytes > _MOST_BYTES and len(self._heap) > 1)

    def put(self, item: Item) -> None:
        """Add a row."""
        key = self._key_of(item)
        is_late = self._in_rounds and self._last is not None and key < self._last
        size = bytes_of(item.row) + (len(key) if isinstance(key, bytes) else 0)
        heapq.heappush(self._heap, (self._round + is_late, key, self._count, size, item))
        self._bytes += size
        self._count += 1

    def take(self) -> Item:
        """Remove the next row and return it."""
        self._round, self._last, _, size, item = heapq.heappop(self._heap)
        self._bytes -= size
        return item
