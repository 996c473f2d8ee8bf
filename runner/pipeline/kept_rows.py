"""The rows of a run, from its journal: a rescoring does not need the dataset, which may be gone or changed since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

from runner import jsontext
from runner.datasets import Finished, Survey
from runner.storage.ledger import Ledger
from runner.storage.records import End
from runner.types import ErrorType, Failure, Item

__all__ = ["KeptRows"]

_FIRST_ROWS = 10
#: How many rows are searched for a column that the first rows do not have.
_MOST_ROWS_FOR_A_COLUMN = 100_000


class KeptRows:
    """The items that have a result in a run, in the order of the dataset. They keep their names and indexes."""

    is_given = False
    inline: Sequence[dict[str, Any]] = ()
    elsewhere = None

    def __init__(self, run: Path, ledger: Ledger) -> None:
        """Take the run directory, which names the source of each row, and the ledger, which must stay open."""
        self._run, self._ledger = run, ledger

    @cached_property
    def total(self) -> int | None:
        """The number of items."""
        return self._ledger.items

    @cached_property
    def first_rows(self) -> Sequence[dict[str, Any]]:
        """The first rows that could be read."""
        return [dict(item.row) for item in islice(self, _FIRST_ROWS) if item.failure is None]

    def __iter__(self) -> Iterator[Item]:
        """Yield the items. Raises StorageError if the journal cannot be read."""
        return (item for item in self.passing_over(None) if not isinstance(item, int))

    def passing_over(self, finished: Finished | None) -> Iterator[Item | int]:
        """Yield the items; the number 1 instead of each finished one. Raises StorageError."""
        last: int | None = None
        for end in self._ledger.ends():
            if end.item_index == last:
                continue
            last = end.item_index
            yield self._item(end) if finished is None or finished.first_unanswered(last) == last else 1

    def by_index(self) -> Iterator[Item]:
        """Yield the items, which come in the order of their indexes anyway."""
        return iter(self)

    def may_have(self, column: str) -> bool:
        """Return whether a row may have a column: some row has it, or there are too many rows to search."""
        return any(count >= _MOST_ROWS_FOR_A_COLUMN or column in item.row for count, item in enumerate(self))

    def survey(self, stop: Event | None = None) -> Survey | None:  # noqa: ARG002  the interface of a dataset
        """Return the total, and no files."""
        return Survey([], self.total, self.total)

    def count(self, stop: Event) -> int | None:  # noqa: ARG002  the interface of a dataset
        """Return None: the survey gives the total."""
        return None

    def sizes(self) -> list[tuple[str, int]]:
        """Return an empty list: there are no files."""
        return []

    def _item(self, end: End) -> Item:
        failure = None
        if end.error_type == ErrorType.DATASET:
            failure = Failure(error_type=ErrorType.DATASET, message=end.message or "")
        row = jsontext.decode(end.item.encode("utf-8", "surrogatepass"))
        # Not `file:row`: the dataset's folder, which relative paths in a row start from, is not the run's.
        place = f"row {end.item_index + 1} of {self._run.name}"
        return Item(item_id=end.item_id, index=end.item_index, row=row, place=place, failure=failure)
