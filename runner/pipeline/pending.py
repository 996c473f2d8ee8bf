"""What is still to be done: the samples of the dataset, less what an earlier start of the run has finished."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence

from runner.datasets import Items
from runner.pipeline.order import Arrange, as_it_is
from runner.pipeline.pipeline import PriorResult
from runner.pipeline.read_ahead import read_ahead
from runner.storage.ledger import Ledger
from runner.storage.records import End
from runner.storage.unit_order import Plan, units_of
from runner.structs import Struct, field
from runner.types import Item, Sample

__all__ = ["Pending", "prior_result"]

_SKIPPED_IN_ONE_GO = 500


class Pending(Struct, kw_only=True):
    """The samples that still lack a result: the dataset, less what the journal has."""

    dataset: Items
    #: Each task's alias and how often it runs per item.
    tasks: Sequence[tuple[str, int]]
    ledger: Ledger | None
    #: The tasks of which units that ended as errors are asked again.
    retried: frozenset[str] = frozenset()
    #: Brings the items into the order in which they are asked.
    arrange: Arrange = as_it_is
    #: Items seen so far; once all are taken, the size of the dataset.
    items: int = 0
    #: Whether all items were seen.
    exhausted: bool = False
    _ahead: Generator[Item | int | asyncio.Event, None, None] | None = None
    #: Set once there is another row, where it is read ahead and was not there yet.
    _there: asyncio.Event | None = None
    _waiting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def idle(self) -> None:
        """Wait, after a None, until there may be another sample."""
        if (there := self._there) is None:
            await asyncio.sleep(0)
            return
        async with self._waiting:  # only one: what comes next is for one of them
            await there.wait()

    def close(self) -> None:
        """Let the thread end that reads ahead, where there is one."""
        if self._ahead is not None:
            self._ahead.close()

    @property
    def _repeats(self) -> range:
        return range(max(samples for _, samples in self.tasks))

    @property
    def width(self) -> int:
        """How many results each item has."""
        return Plan(self.tasks).width

    @property
    def expected(self) -> int | None:
        """How many results there are to be; None until all items were seen."""
        return self.items * self.width if self.exhausted else None

    def __iter__(self) -> Iterator[Sample | None]:
        """Yield the samples; None where the next row is on its way, and now and then on a long way through what is done.

        Those that have failed in an earlier start come last: they may be the ones that it stopped at.
        """
        tried: list[Sample] = []
        repeats = self._repeats
        for item in self.arrange(self._open_items()):
            if item is None:
                yield None
                continue
            for index in repeats:
                if self.was_tried(item.index, index):
                    tried.append(Sample(item, index))
                elif self.is_open(item.index, index):
                    yield Sample(item, index)
        yield from tried

    def _open_items(self) -> Iterator[Item | None]:
        """Yield the items of which a sample lacks a result; None as `__iter__` does."""
        found = self.dataset.passing_over(self.ledger)
        if (elsewhere := self.dataset.elsewhere) is not None:
            self._ahead = read_ahead(found, elsewhere)
        skipped, repeats = 0, self._repeats
        for item in self._ahead or found:
            self._there = item if isinstance(item, asyncio.Event) else None
            if isinstance(item, asyncio.Event):
                yield None
            elif isinstance(item, int):
                self.items += item
                skipped += item
            else:
                self.items += 1
                if self.ledger is None or any(self.is_open(item.index, index) for index in repeats):
                    yield item
                else:
                    skipped += 1
            if skipped >= _SKIPPED_IN_ONE_GO:
                skipped = 0
                yield None
        self.exhausted = True

    def known(self, item_index: int, sample_index: int, alias: str) -> PriorResult | None:
        """Return what is known of a unit, or None where it is to be asked."""
        end = self.end(item_index, sample_index, alias)
        return None if end is None else prior_result(end)

    def end(self, item_index: int, sample_index: int, alias: str) -> End | None:
        """Return the result of a unit, or None where it is to be asked."""
        if self.ledger is None or not self._is_settled(item_index, sample_index, alias):
            return None
        return self.ledger.end(item_index, sample_index, alias)

    def units(self, item_index: int) -> Iterator[tuple[int, int, str]]:
        """Yield the units of an item: its index, the sample's, and the task."""
        return units_of(self.tasks, item_index)

    def is_open(self, item_index: int, sample_index: int) -> bool:
        """Whether a sample of an item lacks a result."""
        return self.ledger is None or any(
            sample_index < samples and not self._is_settled(item_index, sample_index, alias) for alias, samples in self.tasks
        )

    def open_of(self, items: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Return the indexes of those items that lack a result, and of those that lack one because they have failed before."""
        if self.ledger is None:
            return items, []
        repeats = range(max(samples for _, samples in self.tasks))
        tried = [index for index in items if any(self.was_tried(index, sample) for sample in repeats)]
        others = sorted(set(items).difference(tried))
        return [index for index in others if any(self.is_open(index, sample) for sample in repeats)], tried

    def was_tried(self, item_index: int, sample_index: int) -> bool:
        """Whether a sample of an item has failed in an earlier start, and has no result since."""
        return self.ledger is not None and any(
            sample_index < samples and self.ledger.was_tried(item_index, sample_index, alias) for alias, samples in self.tasks
        )

    def _is_settled(self, item_index: int, sample_index: int, alias: str) -> bool:
        assert self.ledger is not None
        if not self.ledger.is_done(item_index, sample_index, alias):
            return False
        return not (alias in self.retried and self.ledger.has_failed(item_index, sample_index, alias))


def prior_result(end: End) -> PriorResult:
    """Return what a result is for the tasks that read it."""
    return PriorResult(end.read_back, end.error_type is not None, end.skipped)
