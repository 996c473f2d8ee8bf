r"""Escapes of JSON, HTML and URLs: a text without them, and where each part of it was before.

This serves to find a word however it was escaped, also by several programs one after the other. So it is lenient: any run of
backslashes counts as one (`\/`, `\\\/`), hexadecimal digits may be upper or lower case, and entities may lack their semicolon.
Invisible characters that separate letters are left out: NUL and U+FFFD.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cached_property, lru_cache

__all__ = ["Unescaped", "unescaped"]

_ESCAPE = re.compile(
    rb"\\++(?:u[0-9a-fA-F]{4}(?:\\++u[dD][c-fC-F][0-9a-fA-F]{2})?|x[0-9a-fA-F]{2})?"
    rb"|&(?:#0{0,99}[0-9]{1,7}|#[xX]0{0,99}[0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?"
    rb"|%[0-9a-fA-F]{2}"
    rb"|\0++|\xef\xbf\xbd"
)
#: Nobody nests escapes more deeply than this.
_MOST_LAYERS = 8


class Unescaped:
    """A text in UTF-8 with one layer of its escapes removed."""

    def __init__(self, before: bytes) -> None:
        self._before = before
        self.text = _ESCAPE.sub(lambda found: _meaning(found[0]), before)

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Return the range in the text before that became `start` to `end` of this text.

        An escape counts as a whole. Characters that were left out at either side do not belong to the range.
        """
        here, before = self._places
        first, last = bisect_right(here, start) - 1, bisect_left(here, end)
        if last == len(here) or here[last] != end:
            last -= 1
        return before[first] + start - here[first], before[last] + end - here[last]

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        """The beginning and end of each escape, here and in the text before."""
        here, before = [0], [0]
        for found in _ESCAPE.finditer(self._before):
            start = here[-1] + found.start() - before[-1]
            here += (start, start + len(_meaning(found[0])))
            before += found.span()
        return here, before


def unescaped(text: bytes) -> Iterator[Unescaped]:
    """Yield a text with one more layer of escapes removed each time, until none is left."""
    for _ in range(_MOST_LAYERS):
        layer = Unescaped(text)
        if layer.text == text:
            return
        yield layer
        text = layer.text


@lru_cache(maxsize=4096)
def _meaning(escape: bytes) -> bytes:
    """Return the meaning of an escape; nothing for a character that is left out."""
    if escape.startswith(b"&"):
        from html import unescape  # late: it loads a table of two thousand names, and few runs need it

        return unescape(escape.decode()).encode()
    if escape.startswith(b"%"):
        return bytes.fromhex(escape[1:].decode())
    digits = escape.replace(b"\\", b"").decode("utf-8", "replace")
    if digits.startswith("u"):
        return bytes.fromhex(digits.replace("u", "")).decode("utf-16-be", "replace").encode()
    return chr(int(digits[1:], 16)).encode() if digits.startswith("x") else b""
