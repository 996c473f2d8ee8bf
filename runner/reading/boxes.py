r"""The answer in a LaTeX box: `\boxed{…}` or `\fbox{…}`, the last one of a text."""

from __future__ import annotations

import re

__all__ = ["boxed"]

#: A box without braces holds one token.
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TOKEN = re.compile(r"\\[A-Za-z]+|[^\s{}]")
_ONLY_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*+\{((?:[^{}]|\{[^{}]*+\})*+)\}")


def boxed(text: str) -> str | None:
    r"""Return the content of the last box; None if there is no box, or the last one is never closed.

    The braces inside are balanced; braces after a backslash do not count. If the content is only a `\text{…}`, the text in it
    is returned.
    """
    last: re.Match[str] | None = None
    for last in _BOX.finditer(text):  # noqa: B007  the last one is meant
        pass
    if last is None:
        return None
    if text[last.end() : last.end() + 1] != "{":
        token = _TOKEN.match(text, last.end())
        return None if token is None else token[0]
    end = _closing_brace(text, last.end())
    if end is None:
        return None
    inside = text[last.end() + 1 : end].strip()
    while (only := _ONLY_TEXT.fullmatch(inside)) is not None:
        inside = only[1].strip()
    return inside


def _closing_brace(text: str, start: int) -> int | None:
    """Return the position where the brace that opens at `start` is closed."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return None
