"""Characters that a page can show: what others wrote may hold any, and values are packed into letters."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from typing import Any

__all__ = ["escaped", "legal", "packed"]

#: The next levels take three times as long, and save a fiftieth.
_LEVEL = 6
#: What HTML has no place for: control characters, halves of surrogate pairs, and what is no character.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]")


def legal(text: str) -> str:
    """Return a text with U+FFFD in place of each character that a page has no place for."""
    return _ILLEGAL.sub("\ufffd", text)


def escaped(text: str) -> str:
    """Return a text as it may stand in HTML or SVG, also within quotes."""
    return html.escape(legal(text))


def packed(value: Any) -> str:
    """Return a value as Base64 of gzip of its JSON; the same value always gives the same."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), _LEVEL, mtime=0)).decode()
