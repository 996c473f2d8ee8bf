"""To which groups an item belongs, and with which others it is one cluster: by what its row has in columns."""

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
    """Reads rows for tables of groups, each by one column or several that are crossed, and for the column of clusters."""

    def __init__(self, by: Sequence[Sequence[str]], cluster: str | None) -> None:
        """Take locators, as `item.category`. Without a column of clusters each item is one of its own."""
        self._by, self._cluster = by, cluster
        self._steps = {column: steps_of(column) or [column] for columns in (*by, [cluster]) for column in columns if column}
        self._absent, self._has_rows = set(self._steps), False

    @property
    def absent(self) -> Collection[str]:
        """The columns that no row has had, where there was any row."""
        return self._absent if self._has_rows else ()

    def of(self, end: End) -> tuple[list[str], Hashable]:
        """Return the name of an item's group in each table, and what it shares with the others of its cluster."""
        if not self._steps:
            return [], end.item_index
        row, self._has_rows = jsontext.decode(end.item.encode()), True
        groups = [_crossed([self._text(row, column) for column in columns]) for columns in self._by]
        of_cluster = None if self._cluster is None else self._text(row, self._cluster)
        if of_cluster is None:  # what a row does not have it shares with nobody
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
    """Return the name of a group; a value that could be taken for two of them stands in quotes."""
    names = [_NONE if value is None else value[:_LONGEST_NAME] for value in values]
    return ", ".join(jsontext.encode_str(name) if ", " in name and len(names) > 1 else name for name in names)


def group_in(table: Collection[str], name: str) -> str:
    """Return the group of a table in which a name is counted: beyond so many, all others are one."""
    return name if name in table or len(table) < _MOST_GROUPS else _OTHERS
