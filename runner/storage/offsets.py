"""Places: the position of each unit's result in the journal and the fingerprint of its item, in a temporary file, by slot.

A million places in memory would need more room than the rest of the program. Results come nearly in the order of their slots,
so one page is held in memory, and written when the next one begins.
"""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Place", "Places"]

_ENTRY = struct.Struct("=QIIQ")
#: An entry has three words of eight bytes; the third one is the fingerprint.
_WORDS, _FINGERPRINT = 3, 2
_PAGE_SLOTS = 4096
_PAGE_BYTES = _PAGE_SLOTS * _ENTRY.size


class Place(NamedTuple):
    """The position of a line in the journal."""

    offset: int
    length: int
    #: The number of the segment, from 1; in the file, 0 means that there is no line.
    segment: int
    #: The fingerprint of the item's name; 0 if it is not known.
    fingerprint: int


class Places:
    """A table on disk. Every method may raise OSError."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self._file = os.dup(file.fileno())
        #: The page in memory, and its number.
        self._page = bytearray(_PAGE_BYTES)
        self._number = 0
        #: How many of its first slots may hold an entry.
        self._used = 0
        self._is_written = True
        #: The page of the latest slot that was not in memory.
        self._other = -1

    def put(self, slot: int, offset: int, length: int, segment: int, fingerprint: int) -> None:
        """Note the place of a slot's line, and replace an earlier one."""
        number, index = divmod(slot, _PAGE_SLOTS)
        if number != self._number:
            if number != self._other:  # a straggler, or rows in any order: not worth a page
                self._other = number
                os.pwrite(self._file, _ENTRY.pack(offset, length, segment, fingerprint), slot * _ENTRY.size)
                return
            self._turn_to(number)
        self._is_written = False
        if index >= self._used:
            self._used = index + 1
        _ENTRY.pack_into(self._page, index * _ENTRY.size, offset, length, segment, fingerprint)

    def get(self, slot: int) -> Place | None:
        """Return the place of a slot's line; None if there is none."""
        self._write_page()
        entry = os.pread(self._file, _ENTRY.size, slot * _ENTRY.size)
        place = Place(*_ENTRY.unpack(entry)) if entry else Place(0, 0, 0, 0)
        return place if place.segment else None

    def __iter__(self) -> Iterator[Place]:
        """Yield the places of all lines in the order of their slots."""
        self._write_page()
        position = 0
        while entries := os.pread(self._file, _PAGE_BYTES, position):
            position += len(entries)
            for place in map(Place._make, _ENTRY.iter_unpack(entries)):
                if place.segment:
                    yield place

    def fingerprints(self, first: int, last: int, step: int) -> array[int]:
        """Return the fingerprints of every `step`th slot from `first` to before `last`, up to the first unknown one."""
        self._write_page()
        words = array("Q", os.pread(self._file, (last - first) * _ENTRY.size, first * _ENTRY.size))
        found = words[_FINGERPRINT :: _WORDS * step]
        return found[: found.index(0)] if 0 in found else found

    def close(self) -> None:
        """Close the temporary file, which deletes it."""
        os.close(self._file)

    def _turn_to(self, number: int) -> None:
        self._write_page()
        found = os.pread(self._file, _PAGE_BYTES, number * _PAGE_BYTES)
        self._page[:] = found.ljust(_PAGE_BYTES, b"\0")
        self._used = len(found) // _ENTRY.size
        self._number, self._other = number, -1

    def _write_page(self) -> None:
        if not self._is_written:
            os.pwrite(self._file, memoryview(self._page)[: self._used * _ENTRY.size], self._number * _PAGE_BYTES)
            self._is_written = True
