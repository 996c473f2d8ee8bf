"""Characters that a page can show, since untrusted text may contain any; and values packed as Base64."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

__all__ = ["MOST_LETTERS", "blocks_of", "escaped", "legal", "packed"]

#: The most characters of packed texts in a page.
MOST_LETTERS = 2_000_000

#: The gzip level. Higher levels take three times as long, and save two percent.
_LEVEL = 6
#: Characters that HTML does not allow: control characters, lone surrogates, and noncharacters.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]")


def legal(text: str) -> str:
    """Return a text with U+FFFD in place of each character that HTML does not allow."""
    return _ILLEGAL.sub("\ufffd", text)


def escaped(text: str) -> str:
    """Return a text escaped for HTML or SVG, also within quotes."""
    return html.escape(legal(text))


def packed(value: Any) -> str:
    """Return a value as Base64 of gzip of its JSON; the same value always gives the same text."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), _LEVEL, mtime=0)).decode()


def blocks_of(values: Iterable[Any], in_a_block: int, most: float = MOST_LETTERS) -> Iterator[str]:
    """Yield values packed, so many in a block, until there is no more room for a block."""
    waiting, letters = iter(values), 0
    while block := list(islice(waiting, in_a_block)):
        text = packed(block)
        letters += len(text)
        if letters > most:
            return
        yield text
