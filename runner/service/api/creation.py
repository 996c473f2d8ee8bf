"""A new evaluation from the body of a POST: it is checked, written and synced before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from runner import jsontext
from runner.run_ids import new_ulid
from runner.service.api.bodies import CreateEvaluation, NewDataset, validated
from runner.service.api.reading import Data, read_object, read_rows
from runner.service.asked import Asked
from runner.service.asking import Caller, Service
from runner.service.datasets import DatasetRecord, reserved_in
from runner.service.refusals import Mistakes, Refusal, conflict, invalid, mistake
from runner.service.rows import Columns, checked_rows, mistakes_in_files
from runner.service.store import COMPLETED, RUNNING, Record
from runner.service.tasks import asked_by, mistakes_of_columns, with_aliases

__all__ = ["Creations", "make_evaluation"]

#: How long a retry finds the evaluation of its first attempt, in seconds.
_REMEMBERED_S = 15 * 60


class Creations:
    """The evaluations that are being created, so that a retry waits for one and does not create it twice."""

    def __init__(self, service: Service) -> None:
        self._service = service
        #: By client, account, and Idempotency-Key or hash of the body: the hash, and the future evaluation.
        self._making: dict[tuple[str, str, str], tuple[str, asyncio.Future[Record]]] = {}

    async def create(self, who: Caller, body: bytearray, sha256: str, key: str | None, *, is_retry: bool) -> Record:
        """Return the evaluation of a body; for a retry, the evaluation of the first attempt. Raises Refusal."""
        what = (who.name, who.account, key or sha256)
        if is_retry or key:
            if (known := self._known(who, sha256, key, is_retry=is_retry)) is not None:
                return known
            if what in self._making:
                hashed, made = self._making[what]
                _check_same(hashed, sha256)
                return await asyncio.shield(made)
        made = asyncio.ensure_future(asyncio.to_thread(make_evaluation, self._service, who, body, sha256, key))
        self._making[what] = sha256, made
        made.add_done_callback(lambda done: self._made(what, done))
        return await asyncio.shield(made)

    def _made(self, what: tuple[str, str, str], done: asyncio.Future[Record]) -> None:
        if what in self._making and self._making[what][1] is done:
            del self._making[what]
        if not done.cancelled() and done.exception() is None:
            record = done.result()
            if record.status == RUNNING:
                self._service.supervisor.submit(record)

    def _known(self, who: Caller, sha256: str, key: str | None, *, is_retry: bool) -> Record | None:
        for record in reversed(self._service.store.all):
            if record.age_s > _REMEMBERED_S:
                return None
            if (record.created_by, record.account) != (who.name, who.account):
                continue
            if key is not None and record.idempotency_key == key:
                _check_same(record.sha256, sha256)
                return record
            if is_retry and record.sha256 == sha256:
                return record
        return None


def _check_same(before: str, now: str) -> None:
    if before != now:
        raise invalid(mistake(("header", "Idempotency-Key"), "was already used with another body"))


def make_evaluation(service: Service, who: Caller, body: bytearray, sha256: str, key: str | None) -> Record:
    """Check a body and write the evaluation. This takes seconds for a million rows. Raises Refusal, OSError."""
    limits = service.settings.limits
    if len(service.store.of(who.account, archived=True)) >= limits.evaluations_per_account:
        raise conflict(f"an account may have at most {limits.evaluations_per_account} evaluations")
    said, data = read_object(body)
    asked_for = validated(CreateEvaluation, said)
    tasks = with_aliases([task.model_dump(exclude_unset=True) for task in asked_for.tasks or []])
    if len(tasks) > limits.tasks:
        raise invalid(mistake(("body", "tasks"), f"has {len(tasks)} members; {limits.tasks} are allowed"))
    asked = asked_by(tasks, service.settings, service.questions.asked_of(who.account))
    rows = _Posted(service, who, asked_for, data, asked)
    record = Record(
        path=service.store.output / (new := f"eval_{new_ulid()}"),
        id=new,
        account=who.account,
        created_by=who.name,
        sha256=sha256,
        idempotency_key=key,
        rows=0,
        tasks=tasks,
        taxonomy=asked_for.taxonomy_params,
        datasets=[] if rows.dataset is None else [(rows.dataset.id, rows.dataset.version)],
        questions=asked.questions,
        name=asked_for.name,
        description=asked_for.description,
        tags=asked_for.tags,
        metadata=asked_for.metadata,
        status=RUNNING if tasks else COMPLETED,
    )
    service.store.make(record, rows.lines(), rows.extras())
    if not tasks:
        record.progress, _ = service.standings.progress(record)
        service.store.save(record, progress=record.progress)
    return record


class _Posted:
    """The rows of a body: rows alone, with a new dataset, or of an existing dataset."""

    def __init__(self, service: Service, who: Caller, asked_for: CreateEvaluation, data: Data, asked: Asked) -> None:
        self._limits = service.settings.limits
        self._asked, self._columns = asked, Columns()
        self._mistakes = Mistakes(asked.mistakes)
        self._files: Sequence[Any] | None = asked_for.files
        self._raw = [] if data is None and asked_for.dataset_id is not None else read_rows(data, self._limits.items)
        self.dataset: DatasetRecord | None = None
        #: The ids, rows and files of items of a dataset; None if the body has rows alone.
        self._picked: list[tuple[str, dict[str, Any], dict[str, str] | None]] | None = None
        if asked_for.dataset_id is not None:
            self.dataset = service.datasets.get(who.account, asked_for.dataset_id)
            self._picked = list(self._of_dataset(service, who, self.dataset))
        self._mistakes.note(*mistakes_in_files(self._files, self._count))
        if asked_for.dataset is not None:
            self.dataset = self._new_dataset(service, who, asked_for.dataset)

    @property
    def _count(self) -> int:
        return len(self._raw) if self._picked is None else len(self._picked)

    def _checked(self) -> Iterator[tuple[int, dict[str, Any], bytes]]:
        return checked_rows(self._raw, self._limits.item, self._mistakes)

    def _of_dataset(
        self, service: Service, who: Caller, dataset: DatasetRecord
    ) -> Iterator[tuple[str, dict[str, Any], dict[str, str] | None]]:
        """Yield the id, row and files of all items of a dataset, or of those that the body names, with its columns added."""
        if not self._raw:
            for number in dataset.numbers():
                content = dataset.at(number, None)
                assert content is not None
                yield f"{dataset.id}.{number}", content.data, content.files
            return
        for number, row, _ in self._checked():
            item_id = row.pop("dataset_item_id", None)
            try:
                found, at = service.datasets.item(who.account, str(item_id))
                content = found.at(at, None) if found is dataset else None
            except Refusal:
                content = None
            if content is None:
                what = f"{item_id!r:.80} is not an item of the dataset"
                self._mistakes.note(mistake(("body", "data", number, "dataset_item_id"), what))
            else:
                yield str(item_id), content.data | row, content.files

    def _new_dataset(self, service: Service, who: Caller, new: NewDataset) -> DatasetRecord:
        rows, kept = list[dict[str, Any]](), list[dict[str, Any]]()
        for number, row, _ in self._checked():
            self._columns.note(row)
            rows.append(row)
            kept.append(row if new.keys is None else {name: row[name] for name in new.keys if name in row})
            self._mistakes.note(*reserved_in(kept[-1], number))
        self._refuse()  # before the dataset is created
        said = {"name": new.name, "description": new.description, "tags": new.tags}
        made = service.datasets.make(who.account, who.name, said, list(map(jsontext.encode, kept)), self._files)
        self._picked = [(f"{made.id}.{number}", row, None) for number, row in enumerate(rows)]
        return made

    def _refuse(self) -> None:
        """Raise Refusal if there are mistakes. Call it after all rows."""
        self._mistakes.note(*mistakes_of_columns(self._asked, self._columns.names, all_seen=self._columns.all_seen))
        self._mistakes.refuse()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of data.jsonl. Raises Refusal at the end with every mistake of the body."""
        if self._picked is None:
            for _, row, line in self._checked():
                self._columns.note(row)
                yield line
        else:
            for _, row, _ in self._picked:
                self._columns.note(row)
                yield jsontext.encode(row)
        self._refuse()

    def extras(self) -> Iterator[bytes] | None:
        """Return the lines of extras.jsonl; None without a dataset and files. Posted files replace those of the dataset."""
        if self._files is None and self._picked is None:
            return None
        version = None if self.dataset is None else self.dataset.version
        owns = [(None, None)] * self._count if self._picked is None else [(one, files) for one, _, files in self._picked]
        files = self._files or [own for _, own in owns]
        return (
            jsontext.encode({"dataset_item_id": item_id, "dataset_item_version_num": version, "files": file})
            for (item_id, _), file in zip(owns, files, strict=True)
        )
