"""Names for items: the id column, or a hash of the row; no name twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner import jsontext
from runner.datasets.rows import BadRow
from runner.datasets.seen_ids import SeenIds

__all__ = ["Namer", "has_value", "id_of", "value_of"]

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

    def name(self, row: Mapping[str, Any]) -> str | BadRow:
        """Return the row's name, or why it has none."""
        if self._column is None:
            return self._by_hash(row)
        value = value_of(row, self._column)
        name = id_of(value)
        if name is None:
            if not has_value(row, self._column):
                return BadRow(f"the row has no id (column `{self._column}`)")
            shown = jsontext.encode_str(value)[:_SHOWN]
            return BadRow(f"the row has {shown} as its id (column `{self._column}`); a text or a whole number can be one")
        return name if self._seen.add(name) else self._doubled(name)

    def pass_over(self, fingerprints: Sequence[int]) -> None:
        """Take in the names that earlier rows have got in an earlier start."""
        self._seen.add_all(fingerprints)

    def _by_hash(self, row: Mapping[str, Any]) -> str:
        name = hashlib.sha256(jsontext.encode(dict(sorted(row.items())))).hexdigest()[:_HASH_DIGITS]
        if self._seen.add(name):
            return name
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


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """Return what a row has in a column, else in the object to which dots lead, as `meta.id`; None where there is nothing."""
    return _at(row, column)[0]


def has_value(row: Mapping[str, Any], column: str) -> bool:
    """Whether a row has something there, be it null."""
    return _at(row, column)[1]


def _at(row: Any, column: str) -> tuple[Any, bool]:
    """Return what `value_of` and `has_value` do."""
    if not isinstance(row, Mapping):
        return None, False
    if column in row:
        return row[column], True
    first, dot, rest = column.partition(".")
    return _at(row.get(first), rest) if dot else (None, False)


def id_of(value: object) -> str | None:
    """Return the name that an id column's value gives: a string or a whole number, not an empty one.

    A float is a whole number where it is one exactly: pandas makes floats of whole numbers with gaps.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)
