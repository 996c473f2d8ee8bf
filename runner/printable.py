"""Words that others chose, as one line: what is no letter there could move the cursor of a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(words: str) -> str:
    """Return words in one line, without what cannot be printed."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
