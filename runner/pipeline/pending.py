"""What is still to be done: the samples of the dataset, less what an earlier start of the run has finished."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence

from runner.datasets import Items
from runner.pipeline.pipeline import PriorResult
from runner.pipeline.read_ahead import read_ahead
from runner.storage.ledger import Ledger
from runner.storage.unit_order import Plan
from runner.structs import Struct
from runner.types import Item, Sample

__all__ = ["Pending"]

_SKIPPED_IN_ONE_GO = 500


class Pending(Struct, kw_only=True):
    """The samples that still lack a result: the dataset, less what the journal has."""

    dataset: Items
    #: Each task's alias and how often it runs per item.
    tasks: Sequence[tuple[str, int]]
    ledger: Ledger | None
    #: The tasks of which units that ended as errors are asked again.
    retried: frozenset[str] = frozenset()
    #: Items seen so far; once all are taken, the size of the dataset.
    items: int = 0
    #: Whether all items were seen.
    exhausted: bool = False
    _ahead: Generator[Item | int | asyncio.Event, None, None] | None = None

    def close(self) -> None:
        """Let the thread end that reads ahead, where there is one."""
        if self._ahead is not None:
            self._ahead.close()

    @property
    def width(self) -> int:
        """How many results each item has."""
        return Plan(self.tasks).width

    @property
    def expected(self) -> int | None:
        """How many results there are to be; None until all items were seen."""
        return self.items * self.width if self.exhausted else None

    def __iter__(self) -> Iterator[Sample | asyncio.Event | None]:
        """Yield the samples; now and then None, so that a long way through what is done blocks nobody, or an event to wait for.

        Those that have failed in an earlier start come last: they may be the ones that it stopped at.
        """
        found = self.dataset.passing_over(self.ledger)
        if (elsewhere := self.dataset.elsewhere) is not None:
            self._ahead = read_ahead(found, elsewhere)
        repeats = range(max(samples for _, samples in self.tasks))
        skipped = 0
        tried: list[Sample] = []
        for item in self._ahead or found:
            if isinstance(item, asyncio.Event):
                yield item
            elif isinstance(item, int):
                self.items += item
                skipped += item
            else:
                self.items += 1
                for index in repeats:
                    if self._was_tried(item, index):
                        tried.append(Sample(item, index))
                    elif self._is_open(item, index):
                        yield Sample(item, index)
                    else:
                        skipped += 1
            if skipped >= _SKIPPED_IN_ONE_GO:
                skipped = 0
                yield None
        self.exhausted = True
        yield from tried

    def known(self, item_index: int, sample_index: int, alias: str) -> PriorResult | None:
        """Return what is known of a unit, or None where it is to be asked."""
        if self.ledger is None or not self._is_settled(item_index, sample_index, alias):
            return None
        end = self.ledger.end(item_index, sample_index, alias)
        if end is None:
            return None
        return PriorResult(end.read_back, end.error_type is not None, end.skipped)

    def _is_open(self, item: Item, sample_index: int) -> bool:
        return self.ledger is None or any(
            sample_index < samples and not self._is_settled(item.index, sample_index, alias) for alias, samples in self.tasks
        )

    def _was_tried(self, item: Item, sample_index: int) -> bool:
        return self.ledger is not None and any(
            sample_index < samples and self.ledger.was_tried(item.index, sample_index, alias) for alias, samples in self.tasks
        )

    def _is_settled(self, item_index: int, sample_index: int, alias: str) -> bool:
        assert self.ledger is not None
        if not self.ledger.is_done(item_index, sample_index, alias):
            return False
        return not (alias in self.retried and self.ledger.has_failed(item_index, sample_index, alias))
