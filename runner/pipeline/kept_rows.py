"""The rows of a run as its journal has them: a rescoring needs no dataset, which may be gone or another one since."""

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
#: So many rows are looked through for a column that the first ones do not have.
_MOST_ROWS_FOR_A_COLUMN = 100_000


class KeptRows:
    """The items of which a run has a result, in the order of the dataset they came from. They keep their names and indexes."""

    is_given = False
    inline: Sequence[dict[str, Any]] = ()
    elsewhere = None

    def __init__(self, run: Path, ledger: Ledger) -> None:
        """Take the run's directory, which tells where a row is from, and its ledger, which has to stay open."""
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
        """Yield the items. Raises StorageError where the journal cannot be read."""
        return (item for item in self.passing_over(None) if not isinstance(item, int))

    def passing_over(self, finished: Finished | None) -> Iterator[Item | int]:
        """Yield the items; in place of each that is finished the number 1. Raises StorageError."""
        last: int | None = None
        for end in self._ledger.ends():
            if end.item_index == last:
                continue
            last = end.item_index
            yield self._item(end) if finished is None or finished.first_unanswered(last) == last else 1

    def by_index(self) -> Iterator[Item]:
        """Yield the items: they come in the order of their indexes."""
        return iter(self)

    def may_have(self, column: str) -> bool:
        """Whether a row may have a column: some row has it, or there are too many rows to look through them all."""
        return any(count >= _MOST_ROWS_FOR_A_COLUMN or column in item.row for count, item in enumerate(self))

    def survey(self, stop: Event | None = None) -> Survey | None:  # noqa: ARG002  as a dataset has it
        """Return that there are no files."""
        return Survey([], self.total, self.total)

    def count(self, stop: Event) -> int | None:  # noqa: ARG002  as a dataset has it
        """Return None: the total is known."""
        return None

    def sizes(self) -> list[tuple[str, int]]:
        """Return that there are no files."""
        return []

    def _item(self, end: End) -> Item:
        failure = None
        if end.error_type == ErrorType.DATASET:
            failure = Failure(error_type=ErrorType.DATASET, message=end.message or "")
        row = jsontext.decode(end.item.encode("utf-8", "surrogatepass"))
        # No `file:row`, for files that a row names do not lie beside the run.
        place = f"row {end.item_index + 1} of {self._run.name}"
        return Item(item_id=end.item_id, index=end.item_index, row=row, place=place, failure=failure)
