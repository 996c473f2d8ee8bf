"""Reads results back from the journal by their places: a single one, or all in a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from runner.errors import StorageError
from runner.storage.files import FILES, FileSystem
from runner.storage.journal import PREFIX_LENGTH, is_sound
from runner.storage.offsets import Place
from runner.storage.records import End

__all__ = ["Reader"]

_END = msgspec.json.Decoder(End)


class Reader:
    """Reads results. Segments that single results were read from stay open until `close`."""

    def __init__(self, path_of: Callable[[int], Path], files: FileSystem = FILES) -> None:
        """`path_of` returns the path of a segment, by the number that places have for it."""
        self._path_of, self._files = path_of, files
        #: The handles of the open segments, by number.
        self._open: dict[int, int] = {}

    def end(self, place: Place) -> End | None:
        """Return the result at a place; None if its line is damaged. Raises StorageError."""
        return next(self._ends([place], self._open), None)

    def ends(self, places: Iterable[Place]) -> Iterator[End]:
        """Yield the results at these places, without those whose line is damaged. Raises StorageError."""
        opened: dict[int, int] = {}
        try:
            yield from self._ends(places, opened)
        finally:
            for handle in opened.values():
                self._files.close(handle)

    def close(self) -> None:
        """Close the segments."""
        while self._open:
            self._files.close(self._open.popitem()[1])

    def _ends(self, places: Iterable[Place], opened: dict[int, int]) -> Iterator[End]:
        for place in places:
            offset, length, number, _ = place
            try:
                if number not in opened:
                    opened[number] = self._files.open(self._path_of(number), os.O_RDONLY)
                text = self._files.pread(opened[number], length, offset)
            except OSError as error:
                raise StorageError(f"{self._path_of(number)}: cannot be read: {error.strerror}") from error
            if is_sound(text):
                yield self._decoded(text, place)

    def _decoded(self, text: bytes, place: Place) -> End:
        try:
            return _END.decode(memoryview(text)[PREFIX_LENGTH:-1])
        except msgspec.MsgspecError as error:
            what = f"its checksum fits, but it is not a result: {error}; remove this line"
            raise StorageError(f"{self._path_of(place.segment)}: offset {place.offset}: {what}") from error
