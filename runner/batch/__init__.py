"""Batches: requests in files that somebody else answers, in the format of OpenAI's batch API.

    export     units that may be asked ──► `files`: batch-0001.jsonl …     and a line `batch` in the journal for each
    import     output and error files  ──► `answers`: what each line means ──► results, as if an endpoint had answered

Either is a start of the run: its pipeline, journal and views are those of any other, and a `Batch` stands in the place of the
endpoints. A request that it does not answer is `NotAsked`: its unit stays pending. `lines` knows the format.
"""

from __future__ import annotations

from typing import Protocol

from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir
from runner.types import Outcome, Request

__all__ = ["Batch"]


class Batch(Protocol):
    """What stands in the place of the endpoints."""

    def begin(self, run: RunDir, ledger: Ledger | None) -> None:
        """Look at the run, which is locked, and at what is known of it. Raises UsageError before anything is written."""

    def write_to(self, journal: Journal) -> None:
        """Take the journal of this start."""

    async def execute(self, request: Request) -> Outcome:
        """Return what became of a request. Raises NotAsked, StorageError."""

    def end(self) -> None:
        """Finish what is open. Raises StorageError."""
