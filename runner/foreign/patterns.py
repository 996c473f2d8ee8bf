"""Regular expressions of Python, which may take practically for ever."""

from __future__ import annotations

import re

__all__ = ["find_answer", "find_first", "shown"]

_LONGEST_SHOWN = 200


def find_first(patterns: list[str], text: str, ignore_case: bool) -> str | None:
    """Return the first match of the first pattern that has one, or None. Raises ValueError if a pattern is invalid."""
    for pattern in patterns:
        match = _compiled(pattern, ignore_case=ignore_case).search(text)
        if match is not None:
            return match[0]
    return None


def find_answer(pattern: str, text: str, last: bool, ignore_case: bool) -> str | None:
    """Return the content of the first or last match that is not blank; None if there is none.

    This is the first group that took part and is not blank, or the whole match if the pattern has no group. Blank matches do
    not count: a pattern that may match nothing, such as `.*$`, matches once more at the end of the text.
    """
    compiled = _compiled(pattern, ignore_case=ignore_case)
    answer: str | None = None
    for match in compiled.finditer(text):
        groups = match.groups() if compiled.groups else (match[0],)
        found = next((group for group in groups if group and not group.isspace()), None)
        answer = found or answer
        if answer is not None and not last:
            break
    return answer


def _compiled(pattern: str, *, ignore_case: bool) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{shown(pattern)} is not a regular expression: {error}") from error


def shown(pattern: str) -> str:
    """Return a pattern as messages show it."""
    return repr(pattern if len(pattern) <= _LONGEST_SHOWN else f"{pattern[:_LONGEST_SHOWN]}…")
