"""Datasets that clients keep: versions are never overwritten, and an evaluation copies the rows of one.

A line of `items.jsonl` is a content of an item with the version that it begins with; one without data ends it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import jsontext
from runner.run_ids import created_at, new_ulid
from runner.service.refusals import Refusal, invalid, mistake, not_found
from runner.service.store import identity, now
from runner.structs import Struct, field

__all__ = ["DatasetRecord", "Datasets", "Version"]

#: What the API says of an item itself.
RESERVED = frozenset({"id", "evaluation_id", "dataset_id", "dataset_item_id", "created_at"})


class Version(Struct):
    """A content of an item: from one version of the dataset to before another."""

    since: int
    data: dict[str, Any]
    files: dict[str, str] | None
    at: str
    until: int | None = None


class DatasetRecord(Struct, kw_only=True):
    """A dataset."""

    path: Path
    id: str
    account: str
    created_by: str
    name: str
    description: str | None = None
    tags: list[str] | None = None
    archived_at: str | None = None
    version: int = 0
    #: By the number of an item, its contents in the order of versions.
    items: list[list[Version]] = field(default_factory=list)

    @property
    def created_at(self) -> str:
        """When it was made."""
        return created_at(self.id).isoformat(timespec="milliseconds")

    def shown(self) -> dict[str, Any]:
        """Return it as the API has it."""
        return {
            "id": self.id,
            "object": "dataset",
            "name": self.name,
            "description": self.description,
            "tags": self.tags,
            "current_version_num": self.version,
            "created_at": self.created_at,
            "archived_at": self.archived_at,
            "created_by": identity(self.created_by),
            "created_by_user_id": self.created_by,
        }

    def at(self, number: int, version: int | None) -> Version | None:
        """Return the content of an item in a version, by default the latest."""
        wanted = self.version if version is None else version
        contents = self.items[number] if 0 <= number < len(self.items) else []
        return next((one for one in contents if one.since <= wanted and (one.until is None or wanted < one.until)), None)

    def numbers(self, version: int | None = None) -> list[int]:
        """Return the items that a version has."""
        return [number for number in range(len(self.items)) if self.at(number, version) is not None]

    def item(self, number: int, content: Version) -> dict[str, Any]:
        """Return an item as the API has it."""
        digest = hashlib.sha256(jsontext.encode(_sorted(content.data))).hexdigest()
        first = self.items[number][0]
        return {
            "id": f"{self.id}.{number}",
            "object": "dataset.item",
            "dataset_id": self.id,
            "data": content.data,
            "content_hash": digest,
            "created_at": first.at,
            "updated_at": content.at,
            "archived_at": self.archived_at,
            "created_by": identity(self.created_by),
            "files": content.files,
        }

    def append(self, changes: Sequence[tuple[int, dict[str, Any] | None, dict[str, str] | None]]) -> None:
        """Make a version of changed items; data None ends one. Synced when this returns. Raises OSError."""
        version, at = self.version + 1, now()
        lines = [
            jsontext.encode({"item": number, "since": version, "data": data, "files": files, "at": at})
            for number, data, files in changes
        ]
        _append(self.path / "items.jsonl", lines)
        for number, data, files in changes:
            self.take(number, version, data, files, at)

    def take(self, number: int, version: int, data: dict[str, Any] | None, files: dict[str, str] | None, at: str) -> None:
        """Take over what a line says."""
        self.version = max(self.version, version)
        while len(self.items) <= number:
            self.items.append([])
        if self.items[number]:
            self.items[number][-1].until = self.items[number][-1].until or version
        if data is not None:
            self.items[number].append(Version(version, data, files, at))

    def change(self, **values: Any) -> None:
        """Change what may change. Raises OSError."""
        _append(self.path / "changes.jsonl", [jsontext.encode(values)])
        self.update(values)

    def update(self, values: Mapping[str, Any]) -> None:
        """Take over changed values."""
        for name in ("name", "description", "tags", "archived_at"):
            if name in values:
                setattr(self, name, values[name])


class Datasets(Struct):
    """All datasets."""

    output: Path
    records: dict[str, DatasetRecord] = field(default_factory=dict)
    #: Held by whoever makes a version.
    changing: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Find all that are there. Raises OSError."""
        self.output.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.output.glob("ds_*")):
            if not (path / "request.json").exists() or not (path / "items.jsonl").exists():
                continue
            record = DatasetRecord(path=path, **jsontext.decode((path / "request.json").read_bytes()))
            for line in _lines(path / "items.jsonl"):
                record.take(line["item"], line["since"], line["data"], line["files"], line["at"])
            for line in _lines(path / "changes.jsonl"):
                record.update(line)
            self.records[record.id] = record

    def make(
        self,
        account: str,
        created_by: str,
        said: Mapping[str, Any],
        rows: Sequence[dict[str, Any]],
        files: Sequence[Any] | None,
    ) -> DatasetRecord:
        """Keep a new dataset. Raises Refusal, OSError."""
        check_rows(rows, files)
        known = {"id": f"ds_{new_ulid()}", "account": account, "created_by": created_by, **said}
        record = DatasetRecord(path=self.output / known["id"], **known)
        record.path.mkdir()
        _append(record.path / "request.json", [jsontext.encode(known)])
        record.append([(number, row, files[number] if files else None) for number, row in enumerate(rows)])
        self.records[record.id] = record
        return record

    def get(self, account: str, dataset_id: str, *, archived: bool = False) -> DatasetRecord:
        """Return a dataset of an account. Raises Refusal."""
        found = self.records.get(dataset_id)
        if found is None or found.account != account or (found.archived_at is not None and not archived):
            raise not_found(f"there is no dataset {dataset_id!r:.80}")
        return found

    def item(self, account: str, item_id: str, *, archived: bool = False) -> tuple[DatasetRecord, int]:
        """Return a dataset and the number of an item of it. Raises Refusal."""
        dataset_id, _, number = item_id.rpartition(".")
        found = self.records.get(dataset_id)
        is_one = found is not None and number.isascii() and number.isdecimal() and len(number) < 10  # noqa: PLR2004
        if not is_one or int(number) >= len(self.get(account, dataset_id, archived=archived).items):
            raise not_found(f"there is no dataset item {item_id!r:.80}")
        return self.get(account, dataset_id, archived=archived), int(number)


def check_rows(rows: Sequence[dict[str, Any]], files: Sequence[Any] | None) -> None:
    """Raise Refusal for rows that have names of the API's own, and files that are not one for each."""
    wrong = [
        mistake(("body", "data", number, name), "is a name of the API's own")
        for number, row in enumerate(rows)
        for name in sorted(RESERVED & row.keys())
    ]
    if files is not None and len(files) != len(rows):
        wrong.append(mistake(("body", "files"), f"should have {len(rows)} members, one for each item, not {len(files)}"))
    if wrong:
        raise invalid(*wrong[:100])


def check_open(record: DatasetRecord) -> None:
    """Raise Refusal for one that is archived."""
    if record.archived_at is not None:
        raise Refusal(400, f"the dataset {record.id} is archived")


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def _append(path: Path, lines: Sequence[bytes]) -> None:
    with path.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    whole, _, _ = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    return [jsontext.decode(line) for line in whole.splitlines()]
