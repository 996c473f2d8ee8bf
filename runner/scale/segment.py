"""What a worker keeps: a segment of the run's journal, and nothing else of the run."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runner.pipeline.keeping import Keeper
from runner.pipeline.resume import Asked, open_line
from runner.scale.leased import Leased
from runner.storage.journal import Journal
from runner.storage.rundir import RunDir
from runner.types import Sample

__all__ = ["SegmentKeeper"]


class SegmentKeeper(Keeper, kw_only=True):
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
    asks: bool = True
    makes_views: bool = False
    unread: str | None = None

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

    def samples(self) -> Iterator[Sample | None]:
        """Return the samples."""
        return self.pending

    def close_samples(self) -> None:
        """Do nothing: the rows are read here."""

    def missing(self, unasked: int) -> str | None:  # noqa: ARG002  as `Keeping` has it
        """Return None: whether results are missing, the whole run knows."""
        return None

    async def survey(self) -> None:
        """Do nothing: the dataset is surveyed once for the run."""

    def beside(self) -> Iterable[Coroutine[Any, Any, None]]:
        """Return nothing: whoever gives out the rows knows how many there are, and how the run stands."""
        return ()
