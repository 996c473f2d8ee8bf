"""Finds an answer by its position in a text: on the first or last line, or after words that announce it."""

from __future__ import annotations

import re

__all__ = ["after", "first_line", "last_line"]

#: Markdown marks and white space between the words that announce an answer and the answer.
_DRESSING = " \t\r\n*_`"


def first_line(text: str) -> str | None:
    """Return the first line that is not blank, without the white space at its ends."""
    return next((line.strip() for line in text.splitlines() if not line.isspace() and line), None)


def last_line(text: str) -> str | None:
    """Return the last line that is not blank, without the white space at its ends."""
    return first_line("\n".join(reversed(text.splitlines())))


def after(marker: str, text: str, *, ignore_case: bool = False) -> str | None:
    """Return the text after the last occurrence of a marker; None if there is none."""
    places = [match.end() for match in re.finditer(re.escape(marker), text, re.IGNORECASE if ignore_case else 0)]
    return text[places[-1] :].lstrip(_DRESSING).rstrip() if places else None
