"""The interface that gives samples to the pipeline and keeps its results, in a whole run or in one of its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Protocol

from runner.pipeline.pipeline import PriorResult
from runner.results.progress import Progress
from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir
from runner.types import CostOf, Result, Sample

__all__ = ["Keeping", "Known"]


class Known(Protocol):
    """The results of earlier starts."""

    @property
    def ledger(self) -> Ledger | None:
        """The ledger that holds them, if there is one here."""

    def known(self, item_index: int, sample_index: int, alias: str) -> PriorResult | None:
        """Return the known result of a unit, or None if the unit is pending."""


class Keeping(Protocol):
    """Gives samples, and keeps results."""

    progress: Progress
    #: Returns the cost of an answer in dollars; None if no prices are set.
    cost_of: CostOf | None
    #: The longest delay of the event loop, in seconds.
    loop_lag_s: float | None
    #: Set to end the survey of the dataset.
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
    def pending(self) -> Known:
        """The results that are known already."""

    def samples(self) -> Iterator[Sample | None]:
        """Yield the samples; None when there is none at the moment."""

    async def idle(self) -> None:
        """Wait, after a None, until there may be another sample."""

    def close_samples(self) -> None:
        """Release the source of the samples."""

    def has_more(self) -> bool:
        """Return whether there may be a sample that was not asked yet."""

    def when_dry(self, act: Callable[[], None]) -> None:
        """Have `act` called whenever the samples run dry."""

    def missing(self, unasked: int) -> str | None:
        """Return why results are missing, or None. `unasked` units needed a request and got none."""

    def keep(self, result: Result, endpoint: str | None) -> None:
        """Write a result down. Raises StorageError."""

    async def survey(self) -> None:
        """Find the total and the identity of the dataset."""

    async def count_rows(self) -> None:
        """Count the rows, if the survey does not give the total."""

    async def save_status(self) -> None:
        """Write the status now and then, until cancelled."""
