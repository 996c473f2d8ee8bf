"""A set of the names of all rows so far, in a bounded amount of memory.

The first million are held as sorted fingerprints in many short arrays, of about 9 bytes each. A Python set would take more
memory than the rest of the program. No array is long, so no name waits until a table has grown. Later names go into a database
in a temporary file.
"""

from __future__ import annotations

import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from runner.errors import StorageError
from runner.fingerprint import fingerprint_of

__all__ = ["SeenIds"]

_ARRAYS = 4096
_MOST_IN_MEMORY = 1 << 20
#: SQLite's whole numbers have a sign.
_MIDDLE = 1 << 63
_CACHE_KIB = 2048


class SeenIds:
    """A set of strings. Its methods raise StorageError if the temporary file cannot be written."""

    def __init__(self, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        self._arrays = [array("Q") for _ in range(_ARRAYS)]
        #: Whether each array may be out of order.
        self._unsorted = bytearray(_ARRAYS)
        self._room = most_in_memory
        self._more: _OnDisk | None = None

    def add(self, name: str) -> bool:
        """Add a name; return whether it is new."""
        fingerprint = fingerprint_of(name)
        known, place, is_there = self._look_up(fingerprint)
        if is_there:
            return False
        if self._room <= 0:
            return self._on_disk().add([fingerprint]) > 0
        self._room -= 1
        known.insert(place, fingerprint)
        return True

    def __contains__(self, name: str) -> bool:
        """Return whether a name was added."""
        fingerprint = fingerprint_of(name)
        return self._look_up(fingerprint)[2] or (self._more is not None and fingerprint in self._more)

    def _look_up(self, fingerprint: int) -> tuple[array[int], int, bool]:
        """Return the sorted array that a fingerprint belongs to, its position in there, and whether it is there."""
        number = fingerprint % _ARRAYS
        if self._unsorted[number]:
            self._arrays[number] = array("Q", sorted(self._arrays[number]))
            self._unsorted[number] = False
        known = self._arrays[number]
        place = bisect_left(known, fingerprint)
        return known, place, place < len(known) and known[place] == fingerprint

    def add_all(self, fingerprints: Sequence[int]) -> None:
        """Add names that are known to be new, by their fingerprints: that is faster than `add`."""
        arrays, unsorted, room = self._arrays, self._unsorted, max(0, self._room)
        for fingerprint in fingerprints[:room]:
            number = fingerprint % _ARRAYS
            arrays[number].append(fingerprint)
            unsorted[number] = True
        self._room -= len(fingerprints[:room])
        if rest := fingerprints[room:]:
            self._on_disk().add(sorted(rest))

    def _on_disk(self) -> _OnDisk:
        if self._more is None:
            self._more = _OnDisk()
        return self._more


class _OnDisk:
    """Fingerprints in a database in a temporary file, which is deleted with this object. It need not survive a crash."""

    def __init__(self) -> None:
        import sqlite3  # imported late: most datasets are smaller, and need not wait for it

        self._error = sqlite3.Error
        with self._its_own_errors():
            self._database = sqlite3.connect("", isolation_level=None)
            weakref.finalize(self, self._database.close)
            for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.execute("CREATE TABLE names (fingerprint INTEGER PRIMARY KEY)")
            self._database.execute("BEGIN")

    def add(self, fingerprints: Iterable[int]) -> int:
        """Add them; return how many were new. Raises StorageError."""
        rows = ((fingerprint - _MIDDLE,) for fingerprint in fingerprints)
        with self._its_own_errors():
            return self._database.executemany("INSERT OR IGNORE INTO names VALUES (?)", rows).rowcount

    def __contains__(self, fingerprint: int) -> bool:
        """Return whether it was added. Raises StorageError."""
        with self._its_own_errors():
            found = self._database.execute("SELECT 1 FROM names WHERE fingerprint = ?", (fingerprint - _MIDDLE,))
            return found.fetchone() is not None

    @contextmanager
    def _its_own_errors(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            what = "the names of the rows cannot be kept in a temporary file (SQLite's, in $SQLITE_TMPDIR, $TMPDIR or /var/tmp)"
            raise StorageError(f"{what}: {error}") from error
