"""Where in a text an answer stands: on its first or last line, or behind words that announce it."""

from __future__ import annotations

import re

__all__ = ["after", "first_line", "last_line"]

#: Marks of Markdown and white space that stand between what announces an answer and the answer.
_DRESSING = " \t\r\n*_`"


def first_line(text: str) -> str | None:
    """Return the first line that is not blank, without the white space at its ends."""
    return next((line.strip() for line in text.splitlines() if not line.isspace() and line), None)


def last_line(text: str) -> str | None:
    """Return the last line that is not blank, without the white space at its ends."""
    return first_line("\n".join(reversed(text.splitlines())))


def after(marker: str, text: str, *, ignore_case: bool = False) -> str | None:
    """Return what stands behind the last place where a marker stands, to the end of the text; None where it stands nowhere."""
    places = [match.end() for match in re.finditer(re.escape(marker), text, re.IGNORECASE if ignore_case else 0)]
    return text[places[-1] :].lstrip(_DRESSING).rstrip() if places else None
