"""Text from elsewhere as one printable line: control characters in it could move the cursor of a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(words: str) -> str:
    """Return text as one line, without characters that cannot be printed."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
