"""The evaluations that the service keeps: a directory each, which is there as a whole or not at all.

request.json    what was posted, without the rows; by whom, and the hash of all of it
data.jsonl      the rows, and data.offsets where each begins; extras.jsonl what was posted beside each
changes.jsonl   what was changed since
config.yaml, journal/, evaluation.json, *.parquet    as of any run
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

__all__ = ["Record", "Store", "append", "identity", "kept_in", "leaving_out", "lines_of", "made_whole", "now"]

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
#: Why a run ends where the service does: it goes on with the next start.
STOPPED = "the service was stopped"
_NEW = ".new-"
_log = logger(__name__)


def now() -> str:
    """Return the time as the API has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Record(Struct, kw_only=True):
    """An evaluation."""

    path: Path
    id: str
    account: str
    created_by: str
    #: Of the body as it came, and the key that a client gave it.
    sha256: str
    idempotency_key: str | None
    rows: int
    #: As posted, with aliases.
    tasks: list[dict[str, Any]]
    taxonomy: dict[str, Any] | None
    #: What was asked, by the ids of questions that tasks name.
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: The ids of datasets from which its rows are, and their versions.
    datasets: list[tuple[str, int]]
    name: str
    description: str | None
    tags: list[str] | None
    metadata: dict[str, Any] | None
    archived_at: str | None = None
    status: str = RUNNING
    status_reason: str | None = None
    #: How it stands in the end; None while that may change.
    progress: dict[str, Any] | None = None
    error_count: int = 0
    #: Why it is to end, where somebody has said so; a kill before its end does not undo that.
    called_off: str | None = None

    @property
    def created_at(self) -> str:
        """When it was made."""
        return created_at(self.id).isoformat(timespec="milliseconds")

    @property
    def said(self) -> dict[str, Any]:
        """What both the API and evaluation.json say of it."""
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
        """For how long it has been there."""
        return (datetime.now(UTC) - created_at(self.id)).total_seconds()

    @property
    def data(self) -> Rows:
        """Its rows."""
        return Rows(self.path / "data.jsonl")

    @property
    def extras(self) -> Rows | None:
        """What was posted beside each row, if anything was."""
        path = self.path / "extras.jsonl"
        return Rows(path) if path.exists() else None

    def change(self, **values: Any) -> None:
        """Change what may change, synced before it counts. Raises OSError."""
        append(self.path / "changes.jsonl", [jsontext.encode({"at": now(), **values})])
        self.take(values)

    def take(self, values: Mapping[str, Any]) -> None:
        """Take over changed values."""
        for name in ("name", "description", "tags", "metadata", "archived_at", "tasks", "questions", "called_off"):
            if name in values:
                setattr(self, name, values[name])


_SAID = ("id", "account", "created_by", "sha256", "idempotency_key", "rows", "tasks", "taxonomy", "datasets", "questions")


class Store(Struct):
    """All evaluations."""

    output: Path
    records: dict[str, Record] = field(default_factory=dict)

    def load(self) -> None:
        """Find all that are there; what was not made to its end is removed. Raises OSError."""
        for path in kept_in(self.output, "eval_"):
            with leaving_out(path):
                self.records[path.name] = _loaded(path)

    def make(self, record: Record, lines: Iterator[bytes], extras: Iterator[bytes] | None) -> Record:
        """Write a new evaluation down; return it once it would survive a power loss.

        Raises OSError, and what the rows raise.
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
        """All evaluations, as they were made; threads make more while somebody looks through them."""
        return list(self.records.values())

    def of(self, account: str, *, archived: bool) -> list[Record]:
        """Return the evaluations of an account, as they were made."""
        return [one for one in self.all if one.account == account and (archived or one.archived_at is None)]

    def save(self, record: Record, **more: Any) -> None:
        """Write evaluation.json as it stands. Raises StorageError."""
        run = RunDir(record.path)
        known = run.read_evaluation()
        run.write_evaluation({**known, **record.said, "tasks": record.tasks, "error_count": record.error_count, **more})


def identity(name: str) -> dict[str, Any]:
    """Return who made something."""
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
        if known.get("created_by") is None:  # its run has ended, and the service was killed before it had ended it
            record.called_off = record.called_off or reason
        else:
            record.status, record.status_reason, record.progress = status, reason, known["progress"]
            record.error_count = known.get("error_count") or 0
    return record


def kept_in(output: Path, prefix: str) -> Iterator[Path]:
    """Yield the directories of what is kept, the oldest first; what is only half there is removed. Raises OSError."""
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted(output.iterdir()):
        if path.name.startswith(_NEW):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(prefix) and (path / "request.json").exists():
            yield path


@contextmanager
def leaving_out(path: Path) -> Iterator[None]:
    """Leave out what cannot be read, and say so: all else is served."""
    try:
        yield
    except (ValueError, TypeError, LookupError, msgspec.MsgspecError) as error:
        _log.warning("%s: is left out, for it cannot be read: %s; put it back from a copy, or move it away", path, error)


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Lend a directory that is at `path` after the block, synced: a kill leaves it there as a whole or not at all.

    Raises OSError.
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
            file.truncate(before)  # the next line would go on with what is half there
            raise


def lines_of(path: Path) -> list[bytes]:
    """Return the lines of a file; a torn one was never answered, and is cut off: what comes next is a line of its own."""
    content = path.read_bytes() if path.exists() else b""
    whole, _, torn = content.rpartition(b"\n")
    if torn:
        os.truncate(path, len(content) - len(torn))
    return whole.splitlines()
