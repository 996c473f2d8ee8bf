"""How evaluations stand, from their journals, which may be growing: counts, and the results of some items."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from runner import jsontext
from runner.errors import RunDirError
from runner.service.making import QUESTION
from runner.service.similarity import run_names, serving_name
from runner.service.store import Record, identity
from runner.storage.item_states import ItemStates
from runner.storage.ledger import Ledger
from runner.storage.records import End
from runner.structs import Struct
from runner.tasks.function import CUSTOM_FUNCTION, outputs_in

__all__ = ["Standing", "Standings", "items_of", "value_of"]

_MOST_OPEN, _AT_ONCE = 24, 500
_MOST_FAILED_ITEMS = 100


class Standing(Struct):
    """One evaluation's journal, as far as it was read."""

    record: Record
    ledger: Ledger | None

    def states(self) -> ItemStates:
        """Return how its items stand."""
        rows = self.record.rows
        if not self.record.tasks:
            return ItemStates(failed=bytes(rows), successful=b"\1" * rows, done=b"\1" * rows)
        return ItemStates(*[bytes(rows)] * 3) if self.ledger is None else self.ledger.items_standing(rows)

    def ends(self, index: int) -> dict[str, End]:
        """Return the results of an item, by alias."""
        found = {}
        for task in self.record.tasks if self.ledger is not None else ():
            assert self.ledger is not None
            end = self.ledger.end(index, 0, task["alias"])
            if end is not None and end.error_type == "dependency":  # what the client did not ask for by itself has its error
                name = serving_name(task)
                serving = None if name is None else self.ledger.end(index, 0, name)
                end = end if serving is None or serving.error_type is None else serving
            if end is not None:
                found[task["alias"]] = end
        return found

    def progress(self) -> tuple[dict[str, Any], int]:
        """Return how far it is, and how many results are errors."""
        states = self.states()
        successful, failed, pending = states.counts
        items = {"total": self.record.rows, "successful": successful, "failed": failed, "pending": pending}
        flows = {"total": self.record.rows, "completed": successful, "failed": failed, "pending": pending}
        failures = list(self._failures(states))
        errors = 0 if self.ledger is None else self.ledger.failed
        return {"items": {**items, "failed_items": failures}, "workflows": flows}, errors

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
    """The journals that are open, each read by one thread at a time."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Ledger] = OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def of(self, record: Record) -> Iterator[Standing]:
        """Read what was written since, and hold it for the block. Raises StorageError."""
        with self._guard:
            lock = self._locks.setdefault(record.id, threading.Lock())
        with lock:
            yield Standing(record, self._ledger(record) if record.tasks else None)

    def progress(self, record: Record) -> tuple[dict[str, Any], int]:
        """Return how far an evaluation is, and how many results are errors. Raises StorageError."""
        with self.of(record) as standing:
            return standing.progress()

    def batches(self, record: Record, rows: int) -> Iterator[list[dict[str, Any]]]:
        """Yield its first so many items, some at a time: in between others read the journal. Raises StorageError, OSError."""
        for start in range(0, rows, _AT_ONCE):
            with self.of(record) as standing:
                items = items_of(standing, range(start, min(start + _AT_ONCE, rows)))
            yield items

    def forget(self, record: Record) -> None:
        """Read a journal anew when it is wanted next: the tasks are others now."""
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
            except RunDirError:  # nothing was begun yet
                return None
        else:
            ledger.read_on()
        with self._guard:
            self._open[record.id] = ledger
            idle = [one for one in self._open if one != record.id and not self._locks[one].locked()]
            for one in idle[: max(0, len(self._open) - _MOST_OPEN)]:
                self._open.pop(one).close()
        return ledger


def value_of(end: End) -> Any:
    """Return what an item shows of a result."""
    if end.task_type == "metric":
        return end.output if end.value is None else _number(end.value)
    if end.task_type == "auto_evaluation.guided_decoding":
        is_object = (end.output or "").startswith(("{", "["))
        return jsontext.decode(end.output.encode()) if is_object and end.output else end.output
    if end.choices is not None:
        return [(choice.get("message") or {}).get("content") for choice in jsontext.decode(end.choices.encode())]
    if not end.output and end.tool_calls:
        return {"role": "assistant", "content": end.output, "tool_calls": jsontext.decode(end.tool_calls.encode())}
    return end.output or end.refusal or end.output


def _answer_of(end: End, question: Mapping[str, Any]) -> Any:
    """Return what an item shows of the answer to a question."""
    is_json = question["question_type"] in {"rating", "number"} or (question["configuration"] or {}).get("multi")
    return jsontext.decode((end.output or "null").encode()) if is_json else end.output


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value


def items_of(standing: Standing, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return the items of an evaluation, as the API has them."""
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
            data[alias] = value_of(end)
            if task["task_type"] == QUESTION:
                data[alias] = _answer_of(end, record.questions[task["configuration"]["question_id"]])
            if task["task_type"] == CUSTOM_FUNCTION and isinstance(end.output, str) and end.value is None:
                data[alias] = jsontext.decode(end.output.encode())
                data |= outputs_in(task["configuration"], data[alias])
    return {
        "id": f"{record.id}.{index}",
        "object": "evaluation.item",
        "evaluation_id": record.id,
        "data": data,
        "created_at": record.created_at,
        "created_by": identity(record.created_by),
        "archived_at": record.archived_at,
        "dataset_item_id": extra.get("dataset_item_id"),
        "dataset_item_version_num": extra.get("dataset_item_version_num"),
        "files": extra.get("files"),
        "task_errors": errors or None,
        "task_result_statuses": statuses or None,
    }
