"""Characters that a page can show, since untrusted text may contain any."""

from __future__ import annotations

import html
import re

__all__ = ["escaped", "legal"]

#: Characters that HTML does not allow: control characters, lone surrogates, and noncharacters.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]")


def legal(text: str) -> str:
    """Return a text with U+FFFD in place of each character that HTML does not allow."""
    return _ILLEGAL.sub("\ufffd", text)


def escaped(text: str) -> str:
    """Return a text escaped for HTML or SVG, also within quotes."""
    return html.escape(legal(text))
