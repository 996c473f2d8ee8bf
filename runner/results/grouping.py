"""The groups and the cluster of an item, by the values in columns of its row."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from runner import jsontext
from runner.storage.records import End
from runner.templates.locators import NotThereError, located, steps_of

__all__ = ["Grouping", "group_in"]

_MOST_GROUPS = 200
_OTHERS, _NONE = "(others)", "(none)"
_LONGEST_NAME = 200


class Grouping:
    """Finds the group of each row in each table, by one column or several crossed columns, and the cluster of the row."""

    def __init__(self, by: Sequence[Sequence[str]], cluster: str | None) -> None:
        """Take locators, such as `item.category`. Without a cluster column each item is its own cluster."""
        self._by, self._cluster = by, cluster
        self._steps = {column: steps_of(column) or [column] for columns in (*by, [cluster]) for column in columns if column}
        self._absent, self._has_rows = set(self._steps), False

    @property
    def absent(self) -> Collection[str]:
        """The columns that no row had; empty if there were no rows."""
        return self._absent if self._has_rows else ()

    def of(self, end: End) -> tuple[list[str], Hashable]:
        """Return the name of an item's group in each table, and the key of its cluster."""
        if not self._steps:
            return [], end.item_index
        row, self._has_rows = jsontext.decode(end.item), True
        groups = [_crossed([self._text(row, column) for column in columns]) for columns in self._by]
        of_cluster = None if self._cluster is None else self._text(row, self._cluster)
        if of_cluster is None:  # a row without a value is its own cluster
            return groups, end.item_index
        return groups, blake2b(of_cluster.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _text(self, row: Mapping[str, Any], column: str) -> str | None:
        try:
            value = located(row, self._steps[column])
        except NotThereError:
            return None
        self._absent.discard(column)
        return None if value is None else jsontext.as_text(value)


def _crossed(values: Sequence[str | None]) -> str:
    """Return the name of a group; a value that could be read as two values stands in quotes."""
    names = [_NONE if value is None else value[:_LONGEST_NAME] for value in values]
    return ", ".join(jsontext.encode_str(name) if ", " in name and len(names) > 1 else name for name in names)


def group_in(table: Collection[str], name: str) -> str:
    """Return the group in which a name is counted; when the table is full, new names are counted as `(others)`."""
    return name if name in table or len(table) < _MOST_GROUPS else _OTHERS
