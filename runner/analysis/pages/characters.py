"""Characters that a page can show: what others wrote may hold any."""

from __future__ import annotations

import html
import re

__all__ = ["escaped", "legal"]

#: What HTML has no place for: control characters, halves of surrogate pairs, and what is no character.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]")


def legal(text: str) -> str:
    """Return a text with U+FFFD in place of each character that a page has no place for."""
    return _ILLEGAL.sub("\ufffd", text)


def escaped(text: str) -> str:
    """Return a text as it may stand in HTML or SVG, also within quotes."""
    return html.escape(legal(text))
