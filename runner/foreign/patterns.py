"""Regular expressions: Python's own, which may need longer than the age of the world."""

from __future__ import annotations

import re

__all__ = ["find_answer", "find_first", "shown"]

_LONGEST_SHOWN = 200


def find_first(patterns: list[str], text: str, ignore_case: bool) -> str | None:
    """Return the first match of the first pattern that has one, or None. Raises ValueError for one that is none."""
    for pattern in patterns:
        match = _compiled(pattern, ignore_case=ignore_case).search(text)
        if match is not None:
            return match[0]
    return None


def find_answer(pattern: str, text: str, last: bool) -> str | None:
    """Return the first group of the first or last match, or the match where there is no group; None where nothing is found."""
    compiled = _compiled(pattern, ignore_case=False)
    match: re.Match[str] | None = None
    for match in compiled.finditer(text):  # noqa: B007  the last one is meant
        if not last:
            break
    return None if match is None else match[1 if compiled.groups else 0]


def _compiled(pattern: str, *, ignore_case: bool) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, RecursionError, OverflowError) as error:
        what = str(error) or type(error).__name__
        raise ValueError(f"{shown(pattern)} is no regular expression: {what}") from error


def shown(pattern: str) -> str:
    """Return a pattern as it stands in messages."""
    return repr(pattern if len(pattern) <= _LONGEST_SHOWN else f"{pattern[:_LONGEST_SHOWN]}…")
