"""What a worker keeps: a segment of the run's journal, and nothing else of the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event

from runner.pipeline.resume import Asked, open_line
from runner.results.progress import Progress
from runner.scale.leased import Leased
from runner.storage.journal import Journal
from runner.storage.records import end_of
from runner.storage.rundir import RunDir
from runner.structs import Struct, field
from runner.types import CostOf, Result, Sample

__all__ = ["SegmentKeeper"]


class SegmentKeeper(Struct, kw_only=True):
    """Keeps the results of one worker; whoever gives it its rows makes the files of the run."""

    run: RunDir
    asked: Asked
    tasks: Sequence[tuple[str, int]]
    engine: str
    slot: int
    #: The samples, and what is known of them.
    pending: Leased
    #: What the journal must not hold.
    secrets: Sequence[str]
    cost_of: CostOf | None
    progress: Progress = field(default_factory=Progress)
    loop_lag_s: float | None = None
    stop_survey: Event = field(default_factory=Event)
    asks: bool = True
    makes_views: bool = False
    unread: str | None = None
    _journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """The segment, within `opened`."""
        assert self._journal is not None
        return self._journal

    @property
    def segments(self) -> list[int]:
        """The number of the segment, and before it of those that have grown as far as they may."""
        return [int(path.stem) for path in self.journal.paths]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep the segment open within the block. Raises StorageError."""
        self._journal = Journal(self.run.journal, secrets=self.secrets, on_synced=self._synced, files=self.run.files)
        try:
            opening = open_line(self.run, self.asked, self.tasks, engine=self.engine, worker=self.slot)
            for _ in range(2):  # twice, for a flipped bit in the only one would cost the worker's rows
                self._journal.append(opening)
            self._journal.sync()
            yield
        finally:
            self._journal.close()
            self.progress.advance()

    def _synced(self, lines: int) -> None:
        self.progress.synced_lines = lines

    def samples(self) -> Iterator[Sample | None]:
        """Return the samples."""
        return self.pending

    async def idle(self) -> None:
        """Wait until there may be another sample."""
        await self.pending.idle()

    def close_samples(self) -> None:
        """Do nothing: the rows are read here."""

    def has_more(self) -> bool:
        """Whether another sample is at hand."""
        return self.pending.has_more()

    def when_dry(self, act: Callable[[], None]) -> None:
        """Have this called when no sample is at hand any more."""
        self.pending.on_dry = act

    def missing(self, unasked: int) -> str | None:  # noqa: ARG002  as `Keeping` has it
        """Return None: whether results are missing, the whole run knows."""
        return None

    def keep(self, result: Result, endpoint: str | None) -> None:
        """Write a result down. Raises StorageError."""
        paid, cost = result.paid, None
        if self.cost_of is not None and paid is not None and result.request is not None:
            cost = self.cost_of(result.request, paid)
        end = end_of(result, endpoint, ran_us=self.journal.ran_us, cost=cost)
        self.progress.note(end, self.journal.append(end))

    async def survey(self) -> None:
        """Do nothing: the dataset is surveyed once for the run."""

    async def count_rows(self) -> None:
        """Do nothing: whoever gives out the rows knows how many there are."""

    async def save_status(self) -> None:
        """Do nothing until cancelled: the status is the run's."""
        await asyncio.Event().wait()
