"""Characters that a page can show, since untrusted text may contain any; and values packed as Base64."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from typing import Any

__all__ = ["escaped", "legal", "packed"]

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
