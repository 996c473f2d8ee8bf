"""The interface that gives samples to the pipeline and keeps its results, in a whole run or in one of its workers.

A worker keeps a segment of the journal and nothing else. The base class does what that needs; `RunKeeper` does more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from threading import Event
from typing import Any, Protocol

from runner.pipeline.pipeline import PriorResult
from runner.results.progress import Progress
from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.records import end_of
from runner.storage.rundir import RunDir
from runner.structs import Struct, field
from runner.types import CostOf, Result, Sample

__all__ = ["Keeper", "Keeping", "Source"]


class Source(Protocol):
    """The samples of a run or worker, and the results of earlier starts."""

    @property
    def ledger(self) -> Ledger | None:
        """The ledger that holds the results, if there is one here."""

    def known(self, item_index: int, sample_index: int, alias: str) -> PriorResult | None:
        """Return the known result of a unit, or None if the unit is pending."""

    def idle(self) -> Awaitable[None]:
        """Wait, after a None, until there may be another sample."""

    def has_more(self) -> bool:
        """Return whether there may be a sample that was not asked yet."""

    def when_dry(self, act: Callable[[], None]) -> None:
        """Have `act` called whenever the samples run dry."""


class Keeper(Struct, kw_only=True):
    """Keeps results in a segment of the journal."""

    progress: Progress = field(default_factory=Progress)
    #: Returns the cost of an answer in dollars; None if no prices are set.
    cost_of: CostOf | None = None
    #: The longest delay of the event loop, in seconds.
    loop_lag_s: float | None = None
    #: Set to end the survey of the dataset.
    stop_survey: Event = field(default_factory=Event)
    _journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """The journal, to which attempts and results are written, while it is open."""
        assert self._journal is not None
        return self._journal

    def _synced(self, lines: int) -> None:
        self.progress.synced_lines = lines

    def keep(self, result: Result, endpoint: str | None) -> None:
        """Write a result to the journal. Raises StorageError."""
        paid, cost = result.paid, None
        if self.cost_of is not None and paid is not None and result.request is not None:
            cost = self.cost_of(result.request, paid)
        end = end_of(result, endpoint, ran_us=self.journal.ran_us, cost=cost)
        self.progress.note(end, self.journal.append(end))


class Keeping(Protocol):
    """Gives samples, and keeps results: a `Keeper` of either kind."""

    progress: Progress
    cost_of: CostOf | None
    loop_lag_s: float | None
    stop_survey: Event

    @property
    def run(self) -> RunDir:
        """The run that the results belong to."""

    @property
    def journal(self) -> Journal:
        """The journal, to which attempts and results are written."""

    @property
    def asks(self) -> bool:
        """Whether anything is asked; if not, only known answers are judged."""

    @property
    def makes_views(self) -> bool:
        """Whether the Parquet files are made here at the end."""

    @property
    def unread(self) -> str | None:
        """Why the dataset could not be read to its end, or None."""

    @property
    def pending(self) -> Source:
        """The samples, and the results that are known already."""

    def samples(self) -> Iterator[Sample | None]:
        """Yield the samples; None when there is none at the moment."""

    def close_samples(self) -> None:
        """Release the source of the samples."""

    def missing(self, unasked: int) -> str | None:
        """Return why results are missing, or None. `unasked` units needed a request and got none."""

    def keep(self, result: Result, endpoint: str | None) -> None:
        """Write a result to the journal. Raises StorageError."""

    async def survey(self) -> None:
        """Find the total and the identity of the dataset."""

    def beside(self) -> Iterable[Coroutine[Any, Any, None]]:
        """Return what else runs beside the requests, until it is cancelled."""
