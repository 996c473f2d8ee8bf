"""Some rows of a dataset, by their indexes, for whoever does not see the others.

A row is the same as for whoever reads them all: its index, its place, its name. What the name of a row depends on others for,
somebody who has seen them must say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runner.datasets.row_ids import own_name
from runner.datasets.rows import BadRow, Row
from runner.datasets.source import Dataset, item_of
from runner.types import Item

__all__ = ["SomeRows"]

#: So many rows are passed over in one go: in between others have their turn.
_PASSED_AT_ONCE = 2000


class SomeRows:
    """Reads forward as far as it can, and from the beginning again where it has to go back."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._rows: Iterator[tuple[object, int, Row]] = iter(())
        #: The index of the row that comes next; before the first one nothing is open.
        self._next = -1
        self._wanted = 0

    def items(self, runs: Sequence[tuple[int, int]], names: Mapping[int, str], bad: Mapping[int, str]) -> Iterator[Item | None]:
        """Yield the items of ranges of indexes, in order; None now and then, where there is a long way to them.

        `names` has the names that depend on other rows, `bad` why a row has none for another one has it. Raises
        DatasetReadError, and RunStopped where a file was changed.
        """
        for first, last in runs:
            for index in range(first, last):
                self._wanted = index
                if self._next < 0 or index < self._next:
                    self._rows, self._next = iter(self._dataset.rows(self._unneeded)), 0
                while (found := self._read()) is None:
                    yield None
                file, number, row = found
                yield self._item(index, f"{file}:{number}", row, names, bad)

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
