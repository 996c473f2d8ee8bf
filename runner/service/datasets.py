"""Datasets of clients: a version is never overwritten, and an evaluation copies the rows of one version.

A line of `items.jsonl` is the content of an item and the version in which it begins. A line without data deletes the item.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from runner import jsontext
from runner.run_ids import new_ulid
from runner.service.kept import Kept, Shelf, append, kept_in, leaving_out, lines_of, made_whole, now
from runner.service.refusals import Mistake, mistake, not_found
from runner.service.rows import place_of
from runner.structs import Struct, field

__all__ = ["DatasetRecord", "Datasets", "Version"]

#: Fields that the API sets on an item.
RESERVED = frozenset({"id", "evaluation_id", "dataset_id", "dataset_item_id", "created_at"})


class Version(Struct, gc=False):
    """One content of an item, in the versions of the dataset from `since` until before `until`.

    It is kept as JSON, because the garbage collector would scan the objects of all rows repeatedly, and delay all requests.
    """

    since: int
    row: bytes
    files_said: bytes
    at: str
    until: int | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The row."""
        return dict(jsontext.decode(self.row))

    @property
    def files(self) -> dict[str, str] | None:
        """The files that were posted with it."""
        found: dict[str, str] | None = jsontext.decode(self.files_said)
        return found


class _Line(Struct, omit_defaults=True):
    """A line of `items.jsonl`."""

    item: int
    since: int
    data: Raw
    files: Raw
    at: str
    #: Whether the next line belongs to the same version.
    more: bool = False


_line = msgspec.json.Decoder(_Line).decode
_NULL = b"null"


class DatasetRecord(Kept, kw_only=True):
    """A dataset."""

    kind = "dataset"
    changeable = ("name", "description", "tags", "archived_at")

    path: Path
    name: str
    description: str | None = None
    tags: list[str] | None = None
    version: int = 0
    #: For each item, by its number, its contents in the order of versions.
    items: list[tuple[Version, ...]] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """Return the dataset as the API shows it."""
        return {
            "id": self.id,
            "object": "dataset",
            "name": self.name,
            "description": self.description,
            "tags": self.tags,
            "current_version_num": self.version,
            "created_at": self.created_at,
            "archived_at": self.archived_at,
            "created_by": self.creator,
            "created_by_user_id": self.created_by,
        }

    def at(self, number: int, version: int | None) -> Version | None:
        """Return the content of an item in a version, by default the latest; None if the version does not have the item."""
        wanted = self.version if version is None else version
        contents = self.items[number] if 0 <= number < len(self.items) else ()
        return next((one for one in contents if one.since <= wanted and (one.until is None or wanted < one.until)), None)

    def numbers(self, version: int | None = None) -> list[int]:
        """Return the numbers of the items that a version has."""
        return [number for number in range(len(self.items)) if self.at(number, version) is not None]

    def item(self, number: int, content: Version) -> dict[str, Any]:
        """Return an item as the API shows it."""
        data = content.data
        digest = hashlib.sha256(msgspec.json.encode(data, order="sorted")).hexdigest()
        first = self.items[number][0]
        return {
            "id": f"{self.id}.{number}",
            "object": "dataset.item",
            "dataset_id": self.id,
            "data": data,
            "content_hash": digest,
            "created_at": first.at,
            "updated_at": content.at,
            "archived_at": self.archived_at,
            "created_by": self.creator,
            "files": content.files,
        }

    def append(self, changes: Iterable[tuple[int, bytes | None, dict[str, str] | None]]) -> None:
        """Add a version with changed items. A row is JSON; None deletes the item. Synced when this returns. Raises OSError."""
        version, at = self.version + 1, now()
        made = [
            _Line(number, version, Raw(row or _NULL), Raw(jsontext.encode(files)), at, more=True)
            for number, row, files in changes
        ]
        made[-1].more = False
        append(self.path / "items.jsonl", map(jsontext.encode, made))
        self.take_lines(made)

    def take_lines(self, lines: Sequence[_Line]) -> None:
        """Apply the lines of one or more versions."""
        for line in lines:
            number, row = line.item, bytes(line.data)
            while len(self.items) <= number:
                self.items.append(())
            if self.items[number]:
                self.items[number][-1].until = self.items[number][-1].until or line.since
            if row != _NULL:
                self.items[number] += (Version(line.since, row, bytes(line.files), line.at),)
        self.version = lines[-1].since  # changed last: concurrent readers see the previous version

    def change(self, **values: Any) -> None:
        """Write and apply changed values. Raises OSError."""
        append(self.path / "changes.jsonl", [jsontext.encode(values)])
        self.take(values)


class Datasets(Shelf[DatasetRecord], kw_only=True):
    """All datasets of the service."""

    kept = DatasetRecord

    output: Path
    #: Held while a version is added.
    changing: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Load all datasets from disk. Raises OSError."""
        for path in kept_in(self.output, "ds_"):
            with leaving_out(path):
                record = DatasetRecord(path=path, **jsontext.decode((path / "request.json").read_bytes()))
                record.take_lines(_whole_versions(path / "items.jsonl"))
                for line in lines_of(path / "changes.jsonl"):
                    record.take(jsontext.decode(line))
                self.records[record.id] = record

    def make(
        self,
        account: str,
        created_by: str,
        said: Mapping[str, Any],
        rows: Sequence[bytes],
        files: Sequence[Any] | None,
    ) -> DatasetRecord:
        """Write a new dataset. Its rows are JSON that was checked already. Raises OSError."""
        known = {"id": f"ds_{new_ulid()}", "account": account, "created_by": created_by, **said}
        path = self.output / known["id"]
        with made_whole(path) as new:
            record = DatasetRecord(path=new, **known)
            append(new / "request.json", [jsontext.encode(known)])
            record.append([(number, row, files[number] if files else None) for number, row in enumerate(rows)])
        record.path = path
        self.records[record.id] = record
        return record

    def item(self, account: str, item_id: str, *, archived: bool = False) -> tuple[DatasetRecord, int]:
        """Return the dataset of an item, and the number of the item. Raises Refusal."""
        dataset_id, number = place_of(item_id) or ("", 0)
        missing = not_found(f"there is no dataset item {item_id!r:.80}")
        if dataset_id not in self.records:
            raise missing
        found = self.get(account, dataset_id, archived=archived)
        if number >= len(found.items):
            raise missing
        return found, number


def reserved_in(row: Mapping[str, Any], number: int) -> list[Mistake]:
    """Return a mistake for each column of a row whose name the API reserves."""
    what = "is a name that the API reserves; rename the column"
    return [mistake(("body", "data", number, name), what) for name in sorted(RESERVED & row.keys())]


def _whole_versions(path: Path) -> list[_Line]:
    """Return the lines of `items.jsonl`. A version that a kill left incomplete is cut off, like a torn line."""
    texts = lines_of(path)
    lines = list(map(_line, texts))
    while lines and lines[-1].more:
        lines.pop()
    if len(lines) < len(texts):
        os.truncate(path, sum(len(text) + 1 for text in texts[: len(lines)]))
    return lines
