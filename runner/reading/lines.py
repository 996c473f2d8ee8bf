"""Finds an answer by its position in a text: on the first or last line, or after words that announce it."""

from __future__ import annotations

import re

__all__ = ["after", "first_line", "last_line"]

#: Markdown marks, without those of a fence, and white space between the words that announce an answer and the answer.
_DRESSING = re.compile(r"(?:(?!```)[\s*_`])*+")
_BULLET, _MARK = re.compile(r"\s*\*\s"), re.compile(r"\*++|`++")


def first_line(text: str) -> str | None:
    """Return the first line that is not blank, without the white space at its ends."""
    return next((line.strip() for line in text.splitlines() if not line.isspace() and line), None)


def last_line(text: str) -> str | None:
    """Return the last line that is not blank, without the white space at its ends."""
    return first_line("\n".join(reversed(text.splitlines())))


def after(marker: str, text: str, *, ignore_case: bool = False) -> str | None:
    """Return the text after the last occurrence of a marker, without the marks of Markdown around it; None if there is none."""
    places = list(re.finditer(re.escape(marker), text, re.IGNORECASE if ignore_case else 0))
    if not places:
        return None
    start, end = places[-1].span()
    dressing = _DRESSING.match(text, end)
    assert dressing is not None
    before = text[text.rfind("\n", 0, start) + 1 : start]
    marks = _MARK.findall(_BULLET.sub("", before, count=1) + dressing[0])
    found = text[dressing.end() :]
    for mark in {mark for mark in marks if marks.count(mark) % 2}:  # it opens there, and closes in the answer or behind it
        found = found.replace(mark, "", 1)
    return found.rstrip()
