"""Some rows of a dataset, by their indexes, for a worker that does not read the others.

A row has the same index, place and name as in a run that reads all rows. If a name depends on other rows, the caller, who has
read them, has to give it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from runner.datasets.row_ids import own_name
from runner.datasets.rows import BadRow, Cursor, Mark, Row
from runner.datasets.source import Dataset, item_of
from runner.types import Item

__all__ = ["SomeRows", "mark_before"]

#: How many rows are passed over at a time; in between other tasks run.
_PASSED_AT_ONCE = 2000


def mark_before(marks: Sequence[Mark], index: int) -> Mark | None:
    """Return the last of some ordered marks that is not after a row."""
    place = bisect_right(marks, index, key=lambda mark: mark.index)
    return marks[place - 1] if place else None


class SomeRows:
    """Reads forward from a mark before the row, or from the current place if that is nearer."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._rows: Iterator[tuple[object, int, Row]] = iter(())
        #: The index of the next row; -1 while nothing is open.
        self._next = -1
        self._wanted = 0

    def items(
        self,
        runs: Iterable[tuple[int, int]],
        names: Mapping[int, str],
        bad: Mapping[int, str],
        marks: Sequence[Mark] = (),
    ) -> Iterator[Item | None]:
        """Yield the items of ranges of indexes, in order, and None now and then if many rows are before them.

        `names` has the names that depend on other rows. `bad` has the reason why a row has no name: another row has it. `marks`
        are ordered places from which the files can be read; without one they are read from their beginning. Raises
        DatasetReadError, and RunStopped if a file has changed.
        """
        for first, last in runs:
            self._go_near(first, mark_before(marks, first))
            for index in range(first, last):
                self._wanted = index
                while (found := self._read()) is None:
                    yield None
                file, number, row = found
                yield self._item(index, f"{file}:{number}", row, names, bad)

    def _go_near(self, index: int, mark: Mark | None) -> None:
        """Begin at a mark, or at the beginning, unless the rows that are open reach the row sooner."""
        begins = 0 if mark is None else mark.index
        if not begins <= self._next <= index:
            self._rows, self._next = self._dataset.rows(Cursor(unneeded=self._unneeded, start=mark)), begins

    def _unneeded(self) -> int:
        """Return how many of the next rows can be passed over."""
        return min(self._wanted - self._next, _PASSED_AT_ONCE)

    def _read(self) -> tuple[object, int, dict[str, object] | BadRow] | None:
        """Return the wanted row, or None after many other rows."""
        for count, (file, number, row) in enumerate(self._rows):
            if isinstance(row, int):
                self._next += row
                return None
            self._next += 1
            if self._next > self._wanted:
                return file, number, row
            if count >= _PASSED_AT_ONCE:
                return None
        raise IndexError(f"the dataset has {self._next} rows, and row {self._wanted + 1} is wanted")

    def _item(
        self, index: int, place: str, row: dict[str, object] | BadRow, names: Mapping[int, str], bad: Mapping[int, str]
    ) -> Item:
        if isinstance(row, BadRow):
            return item_of(index, place, row, row)
        if index in bad:
            return item_of(index, place, row, BadRow(bad[index]))
        return item_of(index, place, row, names.get(index) or own_name(row, self._dataset.id_column))
