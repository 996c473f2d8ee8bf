"""JSON arrays, element by element: however large the file, and one that is damaged costs only itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["ArrayError", "elements"]

_CHUNK = 1 << 16
#: Strings as a whole, for what is in them is no structure; a lone quote is one whose end has not been read yet.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)


class ArrayError(ValueError):
    """Why nothing more can be read of an array."""


def elements(read: Callable[[int], bytes], longest: int) -> Iterator[bytes]:
    """Yield the text of each element of the array that `read` gives, the opening bracket first. Raises ArrayError.

    No more than about `longest` bytes are held, which is also the longest that an element may be.
    """
    splitter = _Splitter()
    read(1)  # the bracket
    buffer = b""
    while True:
        more = read(max(_CHUNK, len(buffer)))
        buffer += more
        for start, end in splitter.ends(buffer):
            yield buffer[start:end]
        if splitter.closed:
            _expect_nothing(buffer[splitter.start :], read)
            return
        if not more:
            raise ArrayError("it ends in the middle")
        buffer = buffer[splitter.start :]
        splitter.forget()
        if len(buffer) > longest:
            raise ArrayError(f"an element is longer than {longest >> 20} MiB")


class _Splitter:
    """Finds where elements end in a buffer that grows."""

    def __init__(self) -> None:
        #: Where the element begins that is not yet whole; behind the closing bracket, where the rest does.
        self.start = 0
        #: Whether the closing bracket was found.
        self.closed = False
        self._at = 0
        self._depth = 0
        self._is_first = True

    def forget(self) -> None:
        """Note that everything before `start` is no longer in the buffer."""
        self._at -= self.start
        self.start = 0

    def ends(self, buffer: bytes) -> Iterator[tuple[int, int]]:
        """Yield the start and the end of each whole element."""
        for match in _TOKEN.finditer(buffer, self._at):
            token = match[0]
            if token == b'"':
                self._at = match.start()
                return
            self._at = match.end()
            if token in b"[{":
                self._depth += 1
            elif self._depth and token in b"]}":
                self._depth -= 1
            elif not self._depth and token in b",]":
                start, self.start = self.start, match.end()
                self.closed = token == b"]"
                if not (self.closed and self._is_first and not buffer[start : match.start()].strip()):
                    yield start, match.start()
                self._is_first = False
                if self.closed:
                    return
        self._at = len(buffer)


def _expect_nothing(rest: bytes, read: Callable[[int], bytes]) -> None:
    while True:
        if rest.strip():
            raise ArrayError("there is more behind the closing bracket")
        rest = read(_CHUNK)
        if not rest:
            return
