"""Some rows of a dataset, by their indexes, for whoever does not see the others.

A row is the same as for whoever reads them all: its index, its place, its name. What the name of a row depends on others for,
somebody who has seen them must say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from runner.datasets.row_ids import own_name
from runner.datasets.rows import BadRow, Cursor, Mark, Row
from runner.datasets.source import Dataset, item_of
from runner.types import Item

__all__ = ["SomeRows", "mark_before"]

#: So many rows are passed over in one go: in between others have their turn.
_PASSED_AT_ONCE = 2000


def mark_before(marks: Sequence[Mark], index: int) -> Mark | None:
    """Return the last of some marks, which are in order, that does not lie behind a row."""
    place = bisect_right(marks, index, key=lambda mark: mark.index)
    return marks[place - 1] if place else None


class SomeRows:
    """Reads forward from a mark before the row, or from where it is where that is nearer."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._rows: Iterator[tuple[object, int, Row]] = iter(())
        #: The index of the row that comes next; before the first one nothing is open.
        self._next = -1
        self._wanted = 0

    def items(
        self,
        runs: Iterable[tuple[int, int]],
        names: Mapping[int, str],
        bad: Mapping[int, str],
        marks: Sequence[Mark] = (),
    ) -> Iterator[Item | None]:
        """Yield the items of ranges of indexes, in order; None now and then, where there is a long way to them.

        `names` has the names that depend on other rows, `bad` why a row has none for another one has it. `marks` are places
        from which the files can be read, in order; without one they are read from their beginning. Raises DatasetReadError, and
        RunStopped where a file was changed.
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
        """Begin at a mark, or at the beginning, unless what is open leads to the row sooner."""
        begins = 0 if mark is None else mark.index
        if not begins <= self._next <= index:
            self._rows, self._next = self._dataset.rows(Cursor(unneeded=self._unneeded, start=mark)), begins

    def _unneeded(self) -> int:
        """Tell how many of the rows from here on can be passed over."""
        return min(self._wanted - self._next, _PASSED_AT_ONCE)

    def _read(self) -> tuple[object, int, dict[str, object] | BadRow] | None:
        """Return the wanted row, or None after many others."""
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
