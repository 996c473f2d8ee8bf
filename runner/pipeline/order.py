"""The order in which rows are asked: of those that were read already, which one is next.

    as_is           the one that was read first
    longest_first   the one whose requests have the most tokens, by what is known before: so none of the long ones comes last
    prefix          the one that comes next in the order of texts: so rows that begin alike follow each other

A dataset may be larger than memory, so the choice is among rows that were read ahead: ten thousand of them, or fewer where they
are large. That is enough for both. Who takes the longest of so many has at the end the shortest of all rows left. Who goes
through the texts from the first to the last takes with each round all rows that begin alike and are there.

Rows are neither lost nor doubled, whatever the order; and what is asked of a row does not depend on it.
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

#: Brings rows into an order; a None among them says that nothing is at hand just now, and is passed on where nothing is.
Arrange: TypeAlias = Callable[[Iterator[Item | None]], Iterator[Item | None]]

#: So many rows are read ahead, and together no more than about so many bytes, beside the last one.
_MOST = 10_000
_MOST_BYTES = 64 * 1024 * 1024
#: So many are read before somebody has one: the first requests wait for no more, nor does the loop.
_READ_AT_ONCE = 100


def as_it_is(items: Iterator[Item | None]) -> Iterator[Item | None]:
    """Leave rows in the order in which they are read."""
    return items


def order_of(config: Config) -> Arrange:
    """Return what brings rows into the order that a config wants."""
    if config.limits.order == "as_is":
        return as_it_is
    steps = build_steps(config, send_nothing, NoCalls())
    # What reads answers is not known yet.
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

    It is hardly the longest, so that something is known of the endpoint soon: before that, only a few requests are sent.
    """
    for item in items:
        yield item
        if item is not None:
            return


def _foreseen(task: RequestTask, item: Item) -> Foreseen:
    try:
        return Foreseen() if item.failure is not None else task.foreseen(item.row)
    except Exception:  # noqa: BLE001  a bad row: its own result says what is wrong with it when its turn comes
        return Foreseen()


def ordered_by(
    key_of: Callable[[Item], Any], items: Iterator[Item | None], *, in_rounds: bool = False, most: int = _MOST
) -> Iterator[Item | None]:
    """Yield the rows, of those at hand the one with the least key first; of equal keys the one that was read first.

    In rounds, a row that comes too late for its place waits for the next round. Where `items` cannot be read on, those at
    hand come before the error.
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
        #: Of each row its round, its key, its number, its bytes, and itself.
        self._heap: list[tuple[int, Any, int, int, Item]] = []
        self._bytes = self._count = self._round = 0
        self._last: Any = None

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def is_full(self) -> bool:
        """Whether a row has to go before another one comes; a single one may be as large as it likes."""
        return len(self._heap) >= self._most or (self._bytes > _MOST_BYTES and len(self._heap) > 1)

    def put(self, item: Item) -> None:
        """Take a row in."""
        key = self._key_of(item)
        is_late = self._in_rounds and self._last is not None and key < self._last
        size = bytes_of(item.row) + (len(key) if isinstance(key, bytes) else 0)
        heapq.heappush(self._heap, (self._round + is_late, key, self._count, size, item))
        self._bytes += size
        self._count += 1

    def take(self) -> Item:
        """Give the next one away."""
        self._round, self._last, _, size, item = heapq.heappop(self._heap)
        self._bytes -= size
        return item
