"""The evaluations that the service keeps, each in a directory that is there as a whole or not at all.

request.json    the posted body without its rows, the client, and the hash of the whole body
data.jsonl      the rows; data.offsets has the offset of each, and extras.jsonl the values that were posted with each
changes.jsonl   later changes
config.yaml, journal/, evaluation.json, *.parquet    as in any run
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner import jsontext
from runner.run_ids import created_at
from runner.service.kept import Kept, Shelf, append, kept_in, leaving_out, lines_of, made_whole, now
from runner.service.rows import Rows, write_rows
from runner.storage.rundir import RunDir
from runner.structs import field

__all__ = ["Record", "Store"]

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
#: The reason of runs that end because the service stops. They go on at its next start.
STOPPED = "the service was stopped"


class Record(Kept, kw_only=True):
    """An evaluation."""

    kind = "evaluation"
    changeable = ("name", "description", "tags", "metadata", "archived_at", "tasks", "questions", "called_off")

    path: Path
    #: The hash of the body as it arrived, and the Idempotency-Key of the client.
    sha256: str
    idempotency_key: str | None
    rows: int
    #: The tasks as posted, with aliases.
    tasks: list[dict[str, Any]]
    taxonomy: dict[str, Any] | None
    #: The questions that tasks name, by id.
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: The ids and versions of the datasets that its rows come from.
    datasets: list[tuple[str, int]]
    name: str
    description: str | None
    tags: list[str] | None
    metadata: dict[str, Any] | None
    status: str = RUNNING
    status_reason: str | None = None
    #: The final progress; None while it may change.
    progress: dict[str, Any] | None = None
    error_count: int = 0
    #: Why it was called off, or None. It is on disk, so a kill before the end does not undo it.
    called_off: str | None = None

    @property
    def said(self) -> dict[str, Any]:
        """The values that both the API and evaluation.json have."""
        return {
            "id": self.id,
            "object": "evaluation",
            "name": self.name,
            "description": self.description,
            "status": self.status,
            "status_reason": self.status_reason,
            "created_at": self.created_at,
            "created_by": self.creator,
            "archived_at": self.archived_at,
            "tags": self.tags,
            "metadata": self.metadata,
        }

    @property
    def age_s(self) -> float:
        """Its age in seconds."""
        return (datetime.now(UTC) - created_at(self.id)).total_seconds()

    @property
    def data(self) -> Rows:
        """Its rows."""
        return Rows(self.path / "data.jsonl")

    @property
    def extras(self) -> Rows | None:
        """The values that were posted with each row, if there are any."""
        path = self.path / "extras.jsonl"
        return Rows(path) if path.exists() else None

    def change(self, **values: Any) -> None:
        """Write, sync and then apply changed values. Raises OSError."""
        append(self.path / "changes.jsonl", [jsontext.encode({"at": now(), **values})])
        self.take(values)


#: What `request.json` says.
_SAID = (
    *("id", "account", "created_by", "sha256", "idempotency_key", "rows", "tasks", "taxonomy", "datasets", "questions"),
    *("name", "description", "tags", "metadata"),
)


class Store(Shelf[Record], kw_only=True):
    """All evaluations of the service."""

    kept = Record

    output: Path

    def load(self) -> None:
        """Load all evaluations from disk; incomplete ones are removed. Raises OSError."""
        for path in kept_in(self.output, "eval_"):
            with leaving_out(path):
                self.records[path.name] = _loaded(path)

    def make(self, record: Record, lines: Iterator[bytes], extras: Iterator[bytes] | None) -> Record:
        """Write a new evaluation, and return it once it would survive a power loss.

        Raises OSError, and the errors of the iterators.
        """
        with made_whole(record.path) as new:
            record.rows = write_rows(new / "data.jsonl", lines)
            if extras is not None:
                write_rows(new / "extras.jsonl", extras)
            said = {name: getattr(record, name) for name in _SAID}
            append(new / "request.json", [jsontext.encode(said)])
            (new / "journal").mkdir()
        self.records[record.id] = record
        return record

    def save(self, record: Record, **more: Any) -> None:
        """Update evaluation.json from the record. Raises StorageError."""
        run = RunDir(record.path)
        known = run.read_evaluation()
        run.write_evaluation({**known, **record.said, "tasks": record.tasks, "error_count": record.error_count, **more})


def _loaded(path: Path) -> Record:
    said = jsontext.decode((path / "request.json").read_bytes())
    said["datasets"] = [tuple(one) for one in said["datasets"]]
    record = Record(path=path, **said)
    for line in lines_of(path / "changes.jsonl"):
        record.take(jsontext.decode(line))
    known = RunDir(path).read_evaluation()
    status, reason = known.get("status"), known.get("status_reason")
    if status in {COMPLETED, FAILED} and reason != STOPPED:
        if known.get("created_by") is None:  # its run has ended, but the service was killed before it ended the evaluation
            record.called_off = record.called_off or reason
        else:
            record.status, record.status_reason, record.progress = status, reason, known["progress"]
            record.error_count = known.get("error_count") or 0
    return record
