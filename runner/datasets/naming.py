"""Names for items: the id column, or a hash of the row; no name twice."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

from runner import jsontext
from runner.datasets.formats import BadRow

__all__ = ["Namer", "NamesSeen", "id_of"]

_HASH_DIGITS = 16
_MOST_LOOK_UPS = 3
_SHOWN = 60
_ARRAYS = 4096


class Namer:
    """Names rows in the order in which they come.

    `place_of` finds where an id stood first. It reads the dataset again, so it is asked only for the first few doubled ids.
    """

    def __init__(self, id_column: str | None, place_of: Callable[[str], str | None]) -> None:
        self._column = id_column
        self._place_of = place_of
        self._seen = NamesSeen()
        self._read_id = None if id_column is None else jsontext.reader_of(id_column)
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

    def skim(self, text: bytes) -> bool:
        """Take in only the name of a row that is JSON; return whether that was possible, else the row is to be read."""
        if self._read_id is None:
            return False
        try:
            self._seen.add(str(self._read_id(text)))
        except jsontext.JsonError:
            return False
        return True

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
    """A set of strings that costs about 10 bytes each: their 64-bit hashes, sorted, in many short arrays.

    A Python set of a million names would take more memory than all the rest of the program; and as no array is long, no name
    has to wait until a table has grown. The hash is Python's own, keyed anew in each process; among a million names two share
    one with a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._arrays = [array("q") for _ in range(_ARRAYS)]

    def add(self, name: str) -> bool:
        """Add a name; return whether it is new."""
        key = hash(name)
        hashes = self._arrays[key % _ARRAYS]
        place = bisect_left(hashes, key)
        if place < len(hashes) and hashes[place] == key:
            return False
        hashes.insert(place, key)
        return True
