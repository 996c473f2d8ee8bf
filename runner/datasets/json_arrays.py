"""Reads JSON arrays element by element, however large the file. A damaged element costs only itself.

The array is the whole file, or a list inside the file's object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from runner import jsontext

__all__ = ["ArrayError", "elements", "lists_in"]

_CHUNK = 1 << 16
_LONGEST_STRING = 1 << 20
#: Whole strings, because brackets inside them are text. A lone quote is a string whose end has not been read yet.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)


class ArrayError(ValueError):
    """Why nothing more can be read of an array."""


def elements(read: Callable[[int], bytes], longest: int, *, is_all: bool = True) -> Iterator[bytes | None]:
    """Yield the text of each element of the array that `read` returns, which begins at the opening bracket. Raises ArrayError.

    No more than about `longest` bytes are held: None is yielded in place of a longer element. `is_all`: nothing may follow the
    array.
    """
    splitter = _Splitter()
    read(1)  # the bracket
    buffer, too_long = b"", False
    while True:
        more = read(max(_CHUNK, len(buffer)))
        buffer += more
        for start, end in splitter.ends(buffer):
            yield None if too_long else buffer[start:end]
            too_long = False
        if splitter.closed:
            if is_all:
                _expect_nothing(buffer[splitter.start :], read)
            return
        if not more:
            raise ArrayError("a JSON array ends in the middle")
        buffer = buffer[splitter.start :]
        splitter.forget()
        too_long = too_long or len(buffer) > longest
        if too_long:
            buffer = splitter.without_content(buffer)


def _cut_string(start: bytes) -> bytes:
    """Return the part of a string's start that the search for its end needs."""
    backslashes = len(start) - len(start.rstrip(b"\\"))
    return start[:1] + b"\\" * (backslashes % 2)


class _Splitter:
    """Finds where elements end in a buffer that grows."""

    def __init__(self) -> None:
        #: The start of the element that is not yet whole; after the closing bracket, the start of the rest.
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

    def without_content(self, buffer: bytes) -> bytes:
        """Return the part of a buffer that the search for the element's end needs: nothing, or the string at its end."""
        rest = _cut_string(buffer[self._at :])
        self.start = self._at = 0
        self._is_first = False
        return rest

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
            raise ArrayError("there is more after the closing bracket of a JSON array")
        rest = read(_CHUNK)
        if not rest:
            return


def lists_in(read: Callable[[int], bytes], most: int | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the key of each member that is a list, and the bytes read so far from the list's bracket on.

    `read` returns the object from its brace on. It is read to its end, or for about `most` bytes.
    """
    buffer, total, depth = b"", 0, 0
    key: bytes | None = None
    while (more := read(max(_CHUNK, len(buffer)))) and (most is None or total < most):
        total += len(more)
        buffer += more
        at = len(buffer)
        for match in _TOKEN.finditer(buffer):
            token = match[0]
            if token == b'"':  # a string that ends further on
                at = match.start()
                break
            if depth == 1 and token == b"[" and key is not None:
                yield jsontext.decode(key), buffer[match.start() :]
            depth += (token in b"[{") - (token in b"]}")
            if depth == 0:
                return
            if depth == 1 and token[:1] in b'",':
                key = None if token == b"," else key or token
        buffer = buffer[at:]
        if len(buffer) > _LONGEST_STRING:
            buffer = _cut_string(buffer)
