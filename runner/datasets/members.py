"""JSON objects in files: which of their members are lists, and where such a list begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runner import jsontext
from runner.datasets.json_arrays import CHUNK, TOKEN, cut_string

__all__ = ["lists_in"]

_LONGEST_STRING = 1 << 20


def lists_in(read: Callable[[int], bytes], most: int | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the key of each member that is a list, and what was read behind it, from the list's bracket on.

    `read` gives the object, from its brace on; it is read to its end, or `most` bytes of it.
    """
    buffer, total, depth = b"", 0, 0
    key: bytes | None = None
    while (more := read(max(CHUNK, len(buffer)))) and (most is None or total < most):
        total += len(more)
        buffer += more
        at = len(buffer)
        for match in TOKEN.finditer(buffer):
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
            buffer = cut_string(buffer)
