"""The state of evaluations, read from their journals, which may still grow: counts, and the results of items."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from runner import jsontext
from runner.errors import RunDirError
from runner.output import JUDGE
from runner.results.evaluation_json import progress_of
from runner.service.making import QUESTION
from runner.service.similarity import run_names, serving_name
from runner.service.store import Record
from runner.storage.item_states import ItemStates
from runner.storage.ledger import Ledger
from runner.storage.records import End
from runner.structs import Struct
from runner.tasks.function import CUSTOM_FUNCTION, outputs_in

__all__ = ["Standing", "Standings", "items_of"]

_MOST_OPEN, _AT_ONCE = 24, 500
_MOST_FAILED_ITEMS = 100


class Standing(Struct):
    """The journal of an evaluation, as far as it was read."""

    record: Record
    ledger: Ledger | None

    def states(self) -> ItemStates:
        """Return the states of its items."""
        rows = self.record.rows
        if not self.record.tasks:
            return ItemStates(failed=bytes(rows), successful=b"\1" * rows, done=b"\1" * rows)
        return ItemStates(*[bytes(rows)] * 3) if self.ledger is None else self.ledger.items_standing(rows)

    def ends(self, index: int) -> dict[str, End]:
        """Return the results of an item, by alias."""
        found: dict[str, End] = {}
        if self.ledger is None:
            return found
        for task in self.record.tasks:
            end = self.ledger.end(index, 0, task["alias"])
            if end is not None and end.error_type == "dependency":  # the cause is in a task that the client did not post
                name = serving_name(task)
                serving = None if name is None else self.ledger.end(index, 0, name)
                end = end if serving is None or serving.error_type is None else serving
            if end is not None:
                found[task["alias"]] = end
        return found

    def progress(self) -> tuple[dict[str, Any], int]:
        """Return its progress, and the number of results that are errors."""
        states = self.states()
        successful, failed, _ = states.counts
        errors = 0 if self.ledger is None else self.ledger.failed
        return progress_of(self.record.rows, successful, list(self._failures(states)), failed=failed), errors

    def _failures(self, states: ItemStates) -> Iterator[dict[str, Any]]:
        index = -1
        for _ in range(_MOST_FAILED_ITEMS):
            if (index := states.failed.find(1, index + 1)) < 0:
                return
            first = next((end for end in self.ends(index).values() if end.error_type is not None), None)
            if first is not None:
                item = f"{self.record.id}.{index}"
                yield {"item_id": item, "error": first.message or "", "error_type": first.error_type}


class Standings:
    """The open journals, each read by one thread at a time."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Ledger] = OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def of(self, record: Record) -> Iterator[Standing]:
        """Read the new lines of a journal, and lock it for the block. Raises StorageError."""
        with self._guard:
            lock = self._locks.setdefault(record.id, threading.Lock())
        with lock:
            yield Standing(record, self._ledger(record) if record.tasks else None)

    def progress(self, record: Record) -> tuple[dict[str, Any], int]:
        """Return the progress of an evaluation, and the number of results that are errors. Raises StorageError."""
        with self.of(record) as standing:
            return standing.progress()

    def batches(self, record: Record, rows: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the first items in batches; other threads can read the journal in between. Raises StorageError, OSError."""
        for start in range(0, rows, _AT_ONCE):
            with self.of(record) as standing:
                items = items_of(standing, range(start, min(start + _AT_ONCE, rows)))
            yield items

    def forget(self, record: Record) -> None:
        """Close a journal, so that it is read again from the start: the tasks have changed."""
        with self._guard:
            lock = self._locks.setdefault(record.id, threading.Lock())
        with lock, self._guard:
            if (ledger := self._open.pop(record.id, None)) is not None:
                ledger.close()

    def _ledger(self, record: Record) -> Ledger | None:
        with self._guard:
            ledger = self._open.pop(record.id, None)
        if ledger is None:
            try:
                ledger = Ledger.read(record.path / "journal", tasks=[(name, 1) for name in run_names(record.tasks)])
            except RunDirError:  # the run has not begun yet
                return None
        else:
            ledger.read_on()
        with self._guard:
            self._open[record.id] = ledger
            idle = [one for one in self._open if one != record.id and not self._locks[one].locked()]
            for one in idle[: max(0, len(self._open) - _MOST_OPEN)]:
                self._open.pop(one).close()
        return ledger


def _value_of(end: End) -> Any:
    """Return the value of a result in its item."""
    if end.task_type == "metric":
        return end.output if end.value is None else _number(end.value)
    if end.task_type == JUDGE:
        is_object = (end.output or "").startswith(("{", "["))
        return jsontext.decode(end.output) if is_object and end.output else end.output
    if end.choices is not None:
        return [(choice.get("message") or {}).get("content") for choice in jsontext.decode(end.choices)]
    if not end.output and end.tool_calls:
        return {"role": "assistant", "content": end.output, "tool_calls": jsontext.decode(end.tool_calls)}
    return end.output or end.refusal or end.output


def _answer_of(end: End, question: Mapping[str, Any]) -> Any:
    """Return the value of an answer to a question in its item."""
    is_json = question["question_type"] in {"rating", "number"} or (question["configuration"] or {}).get("multi")
    return jsontext.decode(end.output or "null") if is_json else end.output


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value


def items_of(standing: Standing, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return items of an evaluation, as the API shows them."""
    record = standing.record
    rows = record.data.read(indices)
    extras = [{}] * len(rows) if record.extras is None else record.extras.read(indices)
    return [_item(standing, *one) for one in zip(indices, rows, extras, strict=True)]


def _item(standing: Standing, index: int, row: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    record, ends = standing.record, standing.ends(index)
    data, statuses, errors = dict(row), {}, {}
    for task in record.tasks:
        alias = task["alias"]
        end = ends.get(alias)
        if end is None:
            statuses[alias] = "pending"
        elif end.error_type is not None:
            statuses[alias] = "errored"
            errors[alias] = {"type": end.error_type, "message": end.message}
        elif end.skipped:
            statuses[alias] = "skipped"
        else:
            statuses[alias] = "completed"
            data[alias] = _value_of(end)
            if task["task_type"] == QUESTION:
                data[alias] = _answer_of(end, record.questions[task["configuration"]["question_id"]])
            if task["task_type"] == CUSTOM_FUNCTION and isinstance(end.output, str) and end.value is None:
                data[alias] = jsontext.decode(end.output)
                data |= outputs_in(task["configuration"], data[alias])
    return {
        "id": f"{record.id}.{index}",
        "object": "evaluation.item",
        "evaluation_id": record.id,
        "data": data,
        "created_at": record.created_at,
        "created_by": record.creator,
        "archived_at": record.archived_at,
        "dataset_item_id": extra.get("dataset_item_id"),
        "dataset_item_version_num": extra.get("dataset_item_version_num"),
        "files": extra.get("files"),
        "task_errors": errors or None,
        "task_result_statuses": statuses or None,
    }
