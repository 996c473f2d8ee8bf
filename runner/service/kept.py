"""What the service keeps for its accounts, and the files that keep it: synced, and there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from runner.logs import logger
from runner.run_ids import created_at
from runner.service.refusals import Refusal, not_found
from runner.storage.files import FILES
from runner.structs import Struct, field

__all__ = ["Kept", "Shelf", "append", "kept_in", "leaving_out", "lines_of", "made_whole", "now"]

_NEW = ".new-"
_log = logger(__name__)


def now() -> str:
    """Return the current time as the API writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Kept(Struct, kw_only=True):
    """An object that the service keeps for an account."""

    #: What it is called, and which of its values may change.
    kind: ClassVar[str]
    changeable: ClassVar[Sequence[str]]

    id: str
    account: str
    created_by: str
    archived_at: str | None = None

    @property
    def created_at(self) -> str:
        """When it was created, as the API writes it."""
        return created_at(self.id).isoformat(timespec="milliseconds")

    @property
    def creator(self) -> dict[str, str]:
        """Who created it, as the API shows it."""
        return {"id": self.created_by, "type": "user", "object": "identity"}

    def check_open(self) -> None:
        """Raise Refusal if it is archived."""
        if self.archived_at is not None:
            raise Refusal(400, f"the {self.kind} {self.id} is archived")

    def take(self, values: Mapping[str, Any]) -> None:
        """Apply changed values."""
        for name in self.changeable:
            if name in values:
                setattr(self, name, values[name])


_T = TypeVar("_T", bound=Kept)


class Shelf(Struct, Generic[_T], kw_only=True):
    """All objects of a kind."""

    kept: ClassVar[type[Kept]]

    records: dict[str, _T] = field(default_factory=dict)

    @property
    def all(self) -> list[_T]:
        """All of them, the oldest first: a copy, because threads add more meanwhile."""
        return list(self.records.values())

    def of(self, account: str, *, archived: bool) -> list[_T]:
        """Return those of an account, the oldest first."""
        return [one for one in self.all if one.account == account and (archived or one.archived_at is None)]

    def get(self, account: str, name: str, *, archived: bool = False) -> _T:
        """Return one of an account, by its id. Raises Refusal."""
        found = self.records.get(name)
        if found is None or found.account != account or (found.archived_at is not None and not archived):
            raise not_found(f"there is no {self.kept.kind} {name!r:.80}")
        return found


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
