"""Keeps the results of a worker: a segment of the journal, and no other file of the run."""

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
    """Keeps the results of one worker or shard. The coordinator or the merge makes the other files of the run."""

    run: RunDir
    asked: Asked
    tasks: Sequence[tuple[str, int]]
    engine: str
    slot: int
    #: The samples, and the results that are known already.
    pending: Leased
    #: Values that must not reach the journal.
    secrets: Sequence[str]
    asks: bool = True
    makes_views: bool = False
    unread: str | None = None

    @property
    def segments(self) -> list[int]:
        """The numbers of the segments: the last one is written, those before it have reached their largest size."""
        return [int(path.stem) for path in self.journal.paths]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep the segment open within the block. Raises StorageError."""
        self._journal = Journal(self.run.journal, secrets=self.secrets, on_synced=self._synced, files=self.run.files)
        try:
            opening = open_line(self.run, self.asked, self.tasks, engine=self.engine, worker=self.slot)
            for _ in range(2):  # twice, because a flipped bit in the only one would cost the results of the worker
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
        """Close what the samples were read from."""
        self.pending.release()

    def missing(self, unasked: int) -> str | None:  # noqa: ARG002  the interface of `Keeping`
        """Return None: the coordinator or the merge checks for missing results."""
        return None

    async def survey(self) -> None:
        """Do nothing: the coordinator or the plan surveys the dataset."""

    def beside(self) -> Iterable[Coroutine[Any, Any, None]]:
        """Return nothing: the coordinator counts the rows and saves the status."""
        return ()
