"""Batches: requests in files that a batch service answers, in the format of OpenAI's batch API.

    export     units that may be asked ──► `files`: batch-0001.jsonl …     and a line `batch` in the journal for each file
    import     output and error files  ──► `answers`: what each line means ──► results, as if an endpoint had answered

Both are starts of the run, with the same pipeline, journal and views as any other start. A `Batch` takes the place of the
endpoints. For a request that it does not answer it raises `NotAsked`: the unit stays pending. `lines` knows the format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir
from runner.structs import Struct, field
from runner.types import Outcome, Request

__all__ = ["Batch"]


class Batch(Struct, kw_only=True):
    """Takes the place of the endpoints."""

    #: What the summary says of the requests.
    counts: Counter[str] = field(default_factory=Counter)
    ledger: Ledger | None = None
    journal: Journal | None = None

    def begin(self, run: RunDir, ledger: Ledger | None) -> None:
        """Check the run, which is locked, and take its ledger. Raises UsageError before anything is written."""
        raise NotImplementedError

    def write_to(self, journal: Journal) -> None:
        """Take the journal of this start."""
        self.journal = journal

    async def execute(self, request: Request) -> Outcome:
        """Return the outcome of a request. Raises NotAsked, StorageError."""
        raise NotImplementedError

    def end(self) -> None:
        """Finish the open files. Raises StorageError."""
        raise NotImplementedError

    def lines(self) -> Iterator[str]:
        """Yield a summary."""
        raise NotImplementedError

    def waits_in(self, request: Request) -> int:
        """Return the number of the file in which a request waits for its answer; 0 if it does not wait."""
        unit = request.unit
        return 0 if self.ledger is None else self.ledger.waits_in(unit.item_index, unit.sample_index, unit.task)
