"""Names for items: the value of the id column, or a hash of the row. No name is given twice."""

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
#: From this size on, a float may stand for more than one whole number.
_EXACT = 1 << 53
#: How many repeated rows are remembered with their number.
_MOST_REPEATS = 100_000


class Namer:
    """Names rows in the order in which they come.

    `place_of` returns the place of an id's first row. It reads the dataset again, so it is called only for a few doubled ids.
    """

    def __init__(self, id_column: str | None, place_of: Callable[[str], str | None]) -> None:
        self._column = id_column
        self._place_of = place_of
        self._seen = SeenIds()
        #: The last number of each repeated row without an id.
        self._repeats: dict[str, int] = {}
        self._look_ups = 0
        #: Whether the name of the last row does not depend on other rows.
        self.is_own = True

    def name(self, row: Mapping[str, Any]) -> str | BadRow:
        """Return the row's name, or why it has none."""
        name = own_name(row, self._column)
        self.is_own = isinstance(name, BadRow) or self._seen.add(name)
        if self.is_own or isinstance(name, BadRow):
            return name
        return self._numbered(name) if self._column is None else self._doubled(name)

    def pass_over(self, fingerprints: Sequence[int]) -> None:
        """Take the names that an earlier start has given to earlier rows."""
        self._seen.add_all(fingerprints)

    def _numbered(self, name: str) -> str:
        if len(self._repeats) >= _MOST_REPEATS:
            self._repeats.clear()  # they are counted again then
        number = self._repeats[name] = self._last(name, self._repeats.get(name, 1)) + 1
        self._seen.add(f"{name}-{number}")
        return f"{name}-{number}"

    def _last(self, name: str, known: int) -> int:
        """Return the last number that a name has got. `known` is one of its numbers; passed-over rows may have greater ones."""
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
        return BadRow(f"the id {name!r} is already used {f'at {place}' if place else 'further up'}")


def own_name(row: Mapping[str, Any], column: str | None) -> str | BadRow:
    """Return the name that a row has if no other row has the same name, or why it has none."""
    if column is None:
        return hashlib.sha256(jsontext.encode(dict(sorted(row.items())))).hexdigest()[:_HASH_DIGITS]
    value, is_there = _at(row, column)
    if (name := id_of(value)) is not None:
        return name
    if not is_there:
        return BadRow(f"the row has no id (column `{column}`)")
    shown = jsontext.encode_str(value)[:_SHOWN]
    return BadRow(f"the row has {shown} as its id (column `{column}`); an id is a text or a whole number")


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """Return the value of a row's column, or of a path inside a column, such as `meta.id`; None if there is none."""
    return _at(row, column)[0]


def has_value(row: Mapping[str, Any], column: str) -> bool:
    """Return whether a row has such a value, which may be null."""
    return _at(row, column)[1]


def _at(row: Any, column: str) -> tuple[Any, bool]:
    """Return the results of `value_of` and `has_value`."""
    if not isinstance(row, dict):  # a check for Mapping would be much slower
        return None, False
    if column in row:
        return row[column], True
    first, dot, rest = column.partition(".")
    return _at(row.get(first), rest) if dot else (None, False)


def id_of(value: object) -> str | None:
    """Return the name that the value of an id column gives: a text that is not empty, or a whole number.

    A float counts if it is exactly a whole number: pandas makes floats of a column of whole numbers with gaps.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
