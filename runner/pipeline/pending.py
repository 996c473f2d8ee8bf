"""The pending samples: those of the dataset, without those that an earlier start of the run has finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from runner.datasets import Items
from runner.pipeline.order import Arrange, as_it_is
from runner.pipeline.pipeline import PriorResult
from runner.pipeline.read_ahead import read_ahead
from runner.storage.ledger import Ledger
from runner.storage.offsets import Place
from runner.storage.records import End
from runner.storage.unit_order import Plan, units_of
from runner.structs import Struct, field
from runner.types import Item, Sample

__all__ = ["Pending", "prior_result"]

_SKIPPED_IN_ONE_GO = 500


class Pending(Struct, kw_only=True):
    """The samples that still lack a result: those of the dataset, without those in the journal."""

    dataset: Items
    #: The alias of each task and its number of samples.
    tasks: Sequence[tuple[str, int]]
    ledger: Ledger | None
    #: The tasks whose errors are asked again.
    retried: frozenset[str] = frozenset()
    #: Brings the items into the order in which they are asked.
    arrange: Arrange = as_it_is
    #: Items seen so far; at the end, the size of the dataset.
    items: int = 0
    #: Whether all items were seen.
    exhausted: bool = False
    _ahead: Generator[Item | int | asyncio.Event, None, None] | None = None
    #: Set once the next row, which the thread was still reading, is there; None if nothing is waited for.
    _there: asyncio.Event | None = None
    _waiting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def idle(self) -> None:
        """Wait, after a None, until there may be another sample."""
        if (there := self._there) is None:
            await asyncio.sleep(0)
            return
        async with self._waiting:  # one worker at a time: the next row is for only one of them
            await there.wait()

    def has_more(self) -> bool:
        """Return True: iteration ends when all samples are taken."""
        return True

    def when_dry(self, act: Callable[[], None]) -> None:
        """Do nothing: here samples do not run dry before all are taken."""

    def close(self) -> None:
        """End the thread that reads ahead, if there is one."""
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
        """How many results the run will have; None until all items were seen."""
        return self.items * self.width if self.exhausted else None

    def __iter__(self) -> Iterator[Sample | None]:
        """Yield the samples; None while the next row is still being read, and now and then among many finished rows.

        Samples that failed in an earlier start come last, because they may have stopped it.
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
        """Yield the items with a sample that lacks a result; None as in `__iter__`."""
        found = self.dataset.passing_over(self.ledger)
        if (elsewhere := self.dataset.elsewhere) is not None:
            self._ahead = read_ahead(found, elsewhere)
        skipped = 0
        for item in self._ahead or found:
            self._there = item if isinstance(item, asyncio.Event) else None
            if isinstance(item, asyncio.Event):
                yield None
            elif isinstance(item, int):
                self.items += item
                skipped += item
            else:
                self.items += 1
                if self.lacks(item.index):
                    yield item
                else:
                    skipped += 1
            if skipped >= _SKIPPED_IN_ONE_GO:
                skipped = 0
                yield None
        self.exhausted = True

    def known(self, item_index: int, sample_index: int, alias: str) -> PriorResult | None:
        """Return the known result of a unit, or None if the unit is pending."""
        if self.ledger is None or not self._is_settled(item_index, sample_index, alias):
            return None
        end = self.ledger.end(item_index, sample_index, alias)
        return None if end is None else prior_result(end)

    def places(self, item_indexes: Iterable[int]) -> list[tuple[tuple[int, int, str], Place]]:
        """Return each unit of these items that is not pending, with the place of its result in the journal."""
        if self.ledger is None:
            return []
        units = [unit for index in item_indexes for unit in self.units(index) if self._is_settled(*unit)]
        return [(unit, place) for unit in units if (place := self.ledger.place(*unit)) is not None]

    def units(self, item_index: int) -> Iterator[tuple[int, int, str]]:
        """Yield the units of an item, each as item index, sample index and alias."""
        return units_of(self.tasks, item_index)

    def is_open(self, item_index: int, sample_index: int) -> bool:
        """Return whether a sample of an item lacks a result."""
        return self.ledger is None or any(
            sample_index < samples and not self._is_settled(item_index, sample_index, alias) for alias, samples in self.tasks
        )

    def lacks(self, item_index: int) -> bool:
        """Return whether a sample of an item lacks a result."""
        return self.ledger is None or any(self.is_open(item_index, index) for index in self._repeats)

    def open_of(self, items: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Return the indexes of items that lack a result: the untried ones, and those that failed in an earlier start."""
        if self.ledger is None:
            return items, []
        tried = [index for index in items if any(self.was_tried(index, sample) for sample in self._repeats)]
        others = sorted(set(items).difference(tried))
        return list(filter(self.lacks, others)), tried

    def was_tried(self, item_index: int, sample_index: int) -> bool:
        """Return whether a sample of an item failed in an earlier start and has no result since."""
        return self.ledger is not None and any(
            sample_index < samples and self.ledger.was_tried(item_index, sample_index, alias) for alias, samples in self.tasks
        )

    def _is_settled(self, item_index: int, sample_index: int, alias: str) -> bool:
        assert self.ledger is not None
        if not self.ledger.is_done(item_index, sample_index, alias):
            return False
        return not (alias in self.retried and self.ledger.has_failed(item_index, sample_index, alias))


def prior_result(end: End) -> PriorResult:
    """Return a result in the form in which other tasks read it."""
    return PriorResult(end.read_back, end.error_type is not None, end.skipped)
