"""Names for items: the id column, or a hash of the row; no name twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner import jsontext
from runner.datasets.rows import BadRow
from runner.datasets.seen_ids import SeenIds

__all__ = ["Namer", "has_value", "id_of", "own_name", "value_of"]

_HASH_DIGITS = 16
_MOST_LOOK_UPS = 3
_SHOWN = 60
#: From here on a float may stand for more than one whole number.
_EXACT = 1 << 53
#: So many rows that stand there more than once are remembered with their number.
_MOST_REPEATS = 100_000


class Namer:
    """Names rows in the order in which they come.

    `place_of` finds where an id stood first. It reads the dataset again, so it is asked only for the first few doubled ids.
    """

    def __init__(self, id_column: str | None, place_of: Callable[[str], str | None]) -> None:
        self._column = id_column
        self._place_of = place_of
        self._seen = SeenIds()
        #: Of rows without an id that stand there more than once, the number of the last one.
        self._repeats: dict[str, int] = {}
        self._look_ups = 0
        #: Whether the last row's name is the one that it has by itself, whatever the other rows are.
        self.is_own = True

    def name(self, row: Mapping[str, Any]) -> str | BadRow:
        """Return the row's name, or why it has none."""
        name = own_name(row, self._column)
        self.is_own = isinstance(name, BadRow) or self._seen.add(name)
        if self.is_own or isinstance(name, BadRow):
            return name
        return self._numbered(name) if self._column is None else self._doubled(name)

    def pass_over(self, fingerprints: Sequence[int]) -> None:
        """Take in the names that earlier rows have got in an earlier start."""
        self._seen.add_all(fingerprints)

    def _numbered(self, name: str) -> str:
        if len(self._repeats) >= _MOST_REPEATS:
            self._repeats.clear()  # they are counted again then
        number = self._repeats[name] = self._last(name, self._repeats.get(name, 1)) + 1
        self._seen.add(f"{name}-{number}")
        return f"{name}-{number}"

    def _last(self, name: str, known: int) -> int:
        """Return the last number that a name has got; one is known. Rows that were passed over have got those behind it."""
        low, high = known, known + 1
        while f"{name}-{high}" in self._seen:
            low, high = high, high + 2 * (high - low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if f"{name}-{middle}" in self._seen else (low, middle)
        return low

    def _doubled(self, name: str) -> BadRow:
        self._look_ups += 1
        place = self._place_of(name) if self._look_ups <= _MOST_LOOK_UPS else None
        return BadRow(f"the id {name!r} stands already {f'at {place}' if place else 'further up'}")


def own_name(row: Mapping[str, Any], column: str | None) -> str | BadRow:
    """Return the name that a row has by itself, if no other one has it, or why it has none."""
    if column is None:
        return hashlib.sha256(jsontext.encode(dict(sorted(row.items())))).hexdigest()[:_HASH_DIGITS]
    value, is_there = _at(row, column)
    if (name := id_of(value)) is not None:
        return name
    if not is_there:
        return BadRow(f"the row has no id (column `{column}`)")
    shown = jsontext.encode_str(value)[:_SHOWN]
    return BadRow(f"the row has {shown} as its id (column `{column}`); a text or a whole number can be one")


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """Return what a row has in a column, else in the object to which dots lead, as `meta.id`; None where there is nothing."""
    return _at(row, column)[0]


def has_value(row: Mapping[str, Any], column: str) -> bool:
    """Whether a row has something there, be it null."""
    return _at(row, column)[1]


def _at(row: Any, column: str) -> tuple[Any, bool]:
    """Return what `value_of` and `has_value` do."""
    if not isinstance(row, dict):  # which is told much sooner than that it is a Mapping
        return None, False
    if column in row:
        return row[column], True
    first, dot, rest = column.partition(".")
    return _at(row.get(first), rest) if dot else (None, False)


def id_of(value: object) -> str | None:
    """Return the name that an id column's value gives: a string or a whole number, not an empty one.

    A float is a whole number where it is one exactly: pandas makes floats of whole numbers with gaps.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
