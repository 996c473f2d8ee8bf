"""What a run needs of whoever gives it its samples and keeps what it finds: the whole run's, or that of one of its workers."""

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
    """What earlier starts have found."""

    @property
    def ledger(self) -> Ledger | None:
        """All of it, where it is at hand."""

    def known(self, item_index: int, sample_index: int, alias: str) -> PriorResult | None:
        """Return what is known of a unit, or None where it is to be asked."""


class Keeping(Protocol):
    """Gives samples, and keeps results."""

    progress: Progress
    #: Tells what an answer has cost, in dollars, where prices are set.
    cost_of: CostOf | None
    #: How late the event loop was at worst, in seconds.
    loop_lag_s: float | None
    #: Set to end the survey of the dataset.
    stop_survey: Event

    @property
    def run(self) -> RunDir:
        """The run whose results they are."""

    @property
    def journal(self) -> Journal:
        """Where attempts and results are written."""

    @property
    def asks(self) -> bool:
        """Whether anything is to be asked; if not, all answers are known."""

    @property
    def makes_views(self) -> bool:
        """Whether the Parquet files are made here at the end."""

    @property
    def unread(self) -> str | None:
        """Why the dataset could not be read to its end, or None."""

    @property
    def pending(self) -> Known:
        """What is known already."""

    def samples(self) -> Iterator[Sample | None]:
        """Yield the samples; None where nothing is at hand just now."""

    async def idle(self) -> None:
        """Wait, after a None, until there may be another sample."""

    def close_samples(self) -> None:
        """Let go of what gives the samples."""

    def has_more(self) -> bool:
        """Whether a sample that was not asked yet may be at hand."""

    def when_dry(self, act: Callable[[], None]) -> None:
        """Have this called whenever nothing is at hand any more."""

    def missing(self, unasked: int) -> str | None:
        """Return why results are missing, of which so many had to be asked and were not; None where none is."""

    def keep(self, result: Result, endpoint: str | None) -> None:
        """Write a result down. Raises StorageError."""

    async def survey(self) -> None:
        """Learn the dataset's total and identity."""

    async def count_rows(self) -> None:
        """Learn the total where the survey does not tell it."""

    async def save_status(self) -> None:
        """Write now and then how it stands, until cancelled."""
