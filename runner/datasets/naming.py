"""Names for items: the id column, or a hash of the row; no name twice."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Mapping
from typing import Any

from runner import jsontext
from runner.datasets.formats import BadRow

__all__ = ["Namer", "NamesSeen", "id_of"]

_HASH_DIGITS = 16
_MOST_LOOK_UPS = 3
_SHOWN = 60


class Namer:
    """Names rows in the order in which they come.

    `place_of` finds where an id stood first. It reads the dataset again, so it is asked only for the first few doubled ids.
    """

    def __init__(self, id_column: str | None, place_of: Callable[[str], str | None]) -> None:
        self._column = id_column
        self._place_of = place_of
        self._seen = NamesSeen()
        self._repeats: dict[str, int] = {}
        self._look_ups = 0

    def name(self, row: Mapping[str, Any]) -> str | BadRow:
        """Return the row's name, or why it has none."""
        if self._column is None:
            return self._by_hash(row)
        value = row.get(self._column)
        name = id_of(value)
        if name is None:
            if self._column not in row:
                return BadRow(f"the row has no id (column `{self._column}`)")
            shown = jsontext.encode_str(value)[:_SHOWN]
            return BadRow(f"the row has {shown} as its id (column `{self._column}`); a text or a whole number can be one")
        return name if self._seen.add(name) else self._doubled(name)

    def _by_hash(self, row: Mapping[str, Any]) -> str:
        name = hashlib.sha256(jsontext.encode(dict(sorted(row.items())))).hexdigest()[:_HASH_DIGITS]
        if self._seen.add(name):
            return name
        self._repeats[name] = self._repeats.get(name, 1) + 1
        return f"{name}-{self._repeats[name]}"

    def _doubled(self, name: str) -> BadRow:
        self._look_ups += 1
        place = self._place_of(name) if self._look_ups <= _MOST_LOOK_UPS else None
        return BadRow(f"the id {name!r} stands already {f'at {place}' if place else 'further up'}")


def id_of(value: object) -> str | None:
    """Return the name that an id column's value gives: a string or a whole number, not an empty one."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


class NamesSeen:
    """A set of strings that costs about 12 bytes each: an open-addressing table of 64-bit hashes, and nothing else.

    A Python set of a million names would take more memory than all the rest of the program. The hash is Python's own, keyed
    anew in each process; among a million names two share one with a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, name: str) -> bool:
        """Add a name; return whether it is new."""
        if not self._put(self._table, hash(name) & 0xFFFF_FFFF_FFFF_FFFF or 1):
            return False
        self._count += 1
        if self._count * 4 > len(self._table) * 3:
            self._grow()
        return True

    @staticmethod
    def _put(table: array[int], key: int) -> bool:
        size = len(table)
        slot = key % size
        while (found := table[slot]) != 0:
            if found == key:
                return False
            slot = slot + 1 if slot + 1 < size else 0
        table[slot] = key
        return True

    def _grow(self) -> None:
        larger = array("Q", bytes(8 * (len(self._table) * 3 // 2 | 1)))
        for key in self._table:
            if key:
                self._put(larger, key)
        self._table = larger
