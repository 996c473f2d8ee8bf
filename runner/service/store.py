"""The evaluations that the service keeps, each in a directory that is there as a whole or not at all.

request.json    the posted body without its rows, the client, and the hash of the whole body
data.jsonl      the rows; data.offsets has the offset of each, and extras.jsonl the values that were posted with each
changes.jsonl   later changes
config.yaml, journal/, evaluation.json, *.parquet    as in any run
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from runner import jsontext
from runner.logs import logger
from runner.run_ids import created_at
from runner.service.rows import Rows, write_rows
from runner.storage.files import FILES
from runner.storage.rundir import RunDir
from runner.structs import Struct, field

__all__ = ["Kept", "Record", "Store", "append", "identity", "kept_in", "leaving_out", "lines_of", "made_whole", "now"]

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
#: The reason of runs that end because the service stops. They go on at its next start.
STOPPED = "the service was stopped"
_NEW = ".new-"
_log = logger(__name__)


def now() -> str:
    """Return the current time as the API writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Kept(Struct, kw_only=True):
    """An object that the service keeps for an account."""

    id: str
    account: str
    created_by: str

    @property
    def created_at(self) -> str:
        """When it was created, as the API writes it."""
        return created_at(self.id).isoformat(timespec="milliseconds")


class Record(Kept, kw_only=True):
    """An evaluation."""

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
    archived_at: str | None = None
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
            "created_by": identity(self.created_by),
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

    def take(self, values: Mapping[str, Any]) -> None:
        """Apply changed values."""
        for name in ("name", "description", "tags", "metadata", "archived_at", "tasks", "questions", "called_off"):
            if name in values:
                setattr(self, name, values[name])


_SAID = ("id", "account", "created_by", "sha256", "idempotency_key", "rows", "tasks", "taxonomy", "datasets", "questions")


class Store(Struct):
    """All evaluations of the service."""

    output: Path
    records: dict[str, Record] = field(default_factory=dict)

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
            said = {name: getattr(record, name) for name in (*_SAID, "name", "description", "tags", "metadata")}
            append(new / "request.json", [jsontext.encode(said)])
            (new / "journal").mkdir()
        self.records[record.id] = record
        return record

    @property
    def all(self) -> list[Record]:
        """All evaluations, the oldest first: a copy, because threads add more meanwhile."""
        return list(self.records.values())

    def of(self, account: str, *, archived: bool) -> list[Record]:
        """Return the evaluations of an account, the oldest first."""
        return [one for one in self.all if one.account == account and (archived or one.archived_at is None)]

    def save(self, record: Record, **more: Any) -> None:
        """Update evaluation.json from the record. Raises StorageError."""
        run = RunDir(record.path)
        known = run.read_evaluation()
        run.write_evaluation({**known, **record.said, "tasks": record.tasks, "error_count": record.error_count, **more})


def identity(name: str) -> dict[str, Any]:
    """Return the creator of an object, as the API shows it."""
    return {"id": name, "type": "user", "object": "identity"}


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


def kept_in(output: Path, prefix: str) -> Iterator[Path]:
    """Yield the directories with a prefix, the oldest first, and remove incomplete ones. Raises OSError."""
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted(output.iterdir()):
        if path.name.startswith(_NEW):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(prefix) and (path / "request.json").exists():
            yield path


@contextmanager
def leaving_out(path: Path) -> Iterator[None]:
    """Skip a path that cannot be read, with a warning, so that the rest is served."""
    try:
        yield
    except (ValueError, TypeError, LookupError, msgspec.MsgspecError) as error:
        _log.warning("%s: skipped, because it cannot be read: %s; restore it from a copy, or move it away", path, error)


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Yield a new directory, which is synced and renamed to `path` after the block.

    After a kill it is there as a whole or not at all. Raises OSError.
    """
    new = path.with_name(f"{_NEW}{path.name}")
    new.mkdir()
    try:
        yield new
        FILES.sync_directory(new)
        new.rename(path)
        FILES.sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def append(path: Path, lines: Iterable[bytes]) -> None:
    """Add lines to a file, all of them or none, synced when this returns. Raises OSError."""
    with path.open("ab", buffering=0) as file:
        before, rest = file.tell(), memoryview(b"".join(line + b"\n" for line in lines))
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)  # else the next line would continue a torn one
            raise


def lines_of(path: Path) -> list[bytes]:
    """Return the lines of a file. A torn last line is cut off: its request was never answered."""
    content = path.read_bytes() if path.exists() else b""
    whole, _, torn = content.rpartition(b"\n")
    if torn:
        os.truncate(path, len(content) - len(torn))
    return whole.splitlines()
