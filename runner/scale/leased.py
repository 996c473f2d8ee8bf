"""The samples of a worker, from the rows of its leases as they come, in the order that the config wants."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from runner.config.model import Config
from runner.datasets import Dataset, SomeRows
from runner.errors import DatasetError, RunStopped
from runner.pipeline.order import order_of
from runner.pipeline.pending import prior_result
from runner.pipeline.pipeline import PriorResult
from runner.scale.beat import Lease
from runner.storage.journal import segment_path
from runner.storage.offsets import Place
from runner.storage.reader import Reader
from runner.types import Item, Sample

__all__ = ["Leased"]


class Leased:
    """An iterator over the samples of leases. Many tasks take from it; it yields None while no sample is at hand."""

    #: A worker does not read the whole journal.
    ledger = None

    def __init__(self, dataset: Dataset, config: Config, repeats: int, on_low: Callable[[], None], *, journal: Path) -> None:
        """`repeats` is the number of samples of an item. `on_low` is called when few rows, or none, are left to begin.

        Results of earlier starts are read from the journal in the directory `journal`, until `release`.
        """
        self._results = Reader(partial(segment_path, journal))
        self._rows, self._repeats, self._on_low = SomeRows(dataset), repeats, on_low
        self._leases: deque[Lease] = deque()
        self._items = order_of(config)(self._read())
        self._samples: deque[Sample] = deque()
        self._known: dict[tuple[int, int, str], Place] = {}
        self._more = asyncio.Event()
        self._is_closed = False
        self._failure: Exception | None = None
        #: How many leases have come, and how many of their items were begun.
        self.leases = 0
        self.begun = 0
        self._given = 0
        #: When this many items are left, the worker asks for more.
        self._low = 0
        self._on_dry: Callable[[], None] = lambda: None

    @property
    def ahead(self) -> int:
        """The number of items that were not begun yet."""
        return self._given - self.begun

    def add(self, lease: Lease) -> None:
        """Add the rows of a lease."""
        self.leases += 1
        self._leases.append(lease)
        self._given += sum(last - first for first, last in lease.runs)
        self._low = self.ahead // 2
        self._known.update(lease.known)
        self._more.set()

    def close(self) -> None:
        """Note that no more leases will come."""
        self._is_closed = True
        self._more.set()

    def release(self) -> None:
        """Close the segments of the journal that results were read from."""
        self._results.close()

    def known(self, item_index: int, sample_index: int, alias: str) -> PriorResult | None:
        """Return the known result of a unit, or None if the unit is pending."""
        place = self._known.get((item_index, sample_index, alias)) if self._known else None
        end = None if place is None else self._results.end(place)
        return None if end is None else prior_result(end)

    async def idle(self) -> None:
        """Wait until there may be another sample."""
        await asyncio.sleep(0)
        if not self.ahead and not self._samples:
            await self._more.wait()

    def has_more(self) -> bool:
        """Return whether a sample is at hand."""
        return self.ahead > 0 or bool(self._samples)

    def when_dry(self, act: Callable[[], None]) -> None:
        """Have `act` called whenever the samples run dry."""
        self._on_dry = act

    def __iter__(self) -> Iterator[Sample | None]:
        """Return this object."""
        return self

    def __next__(self) -> Sample | None:
        """Return a sample, or None. Raises StopIteration if no more will come, DatasetReadError, RunStopped."""
        if not self._samples:
            if not self.ahead:
                if self._is_closed:
                    raise StopIteration
                self._more.clear()
                return None
            if (item := self._next_item()) is None:
                return None
            self.begun += 1
            self._samples.extend(Sample(item, index) for index in range(self._repeats))
            self._say_how_few()
        sample = self._samples.popleft()
        if not self.has_more():
            self._on_dry()
        return sample

    def _next_item(self) -> Item | None:
        """Return the next item, or None if it takes long to reach it."""
        if self._failure is not None:
            raise self._failure
        try:
            return next(self._items)
        except (RunStopped, DatasetError) as error:
            self._failure = error  # raised again at the next call: an iterator that has raised yields nothing more
            raise

    def _read(self) -> Iterator[Item | None]:
        """Yield the items of leases as they come, without an end; None if there is none, or if the next one is far."""
        while True:
            if not self._leases:
                yield None
                continue
            lease = self._leases.popleft()
            yield from self._rows.items(lease.runs, lease.names, lease.bad, lease.marks)

    def _say_how_few(self) -> None:
        if self.ahead in (0, self._low):
            self._on_low()
