"""Batches: requests in files that a batch service answers, in the format of OpenAI's batch API.

    export     units that may be asked ──► `files`: batch-0001.jsonl …     and a line `batch` in the journal for each file
    import     output and error files  ──► `answers`: what each line means ──► results, as if an endpoint had answered

Both are starts of the run, with the same pipeline, journal and views as any other start. A `Batch` takes the place of the
endpoints. For a request that it does not answer it raises `NotAsked`: the unit stays pending. `lines` knows the format.
"""

from __future__ import annotations

from typing import Protocol

from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir
from runner.types import Outcome, Request

__all__ = ["Batch"]


class Batch(Protocol):
    """Takes the place of the endpoints."""

    def begin(self, run: RunDir, ledger: Ledger | None) -> None:
        """Check the run, which is locked, and its ledger. Raises UsageError before anything is written."""

    def write_to(self, journal: Journal) -> None:
        """Take the journal of this start."""

    async def execute(self, request: Request) -> Outcome:
        """Return the outcome of a request. Raises NotAsked, StorageError."""

    def end(self) -> None:
        """Finish the open files. Raises StorageError."""
