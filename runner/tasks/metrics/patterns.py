"""Regular expressions that come to an end: Python's own language, matched by the package `regex`, which can give up.

A pattern is tried for a moment where it stands; what needs longer is for a thread, in which it holds nobody up, and ends there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

from runner.errors import RowError
from runner.types import ErrorType

if TYPE_CHECKING:
    import regex

__all__ = ["SlowPatternError", "check_pattern", "find_all", "find_first", "with_patience"]

#: Seconds for which one pattern may hold up the event loop, and in all.
_MOMENT_S = 0.05
_PATIENCE_S = 1.0

_patient: ContextVar[bool] = ContextVar("patient", default=False)
_COUNT = re.compile(r"\{\d*(?:,\d*)?\}")
_ESCAPE = re.compile(r"\\(?:N\{[^}]*\}|.)", re.DOTALL)
#: A `]` that stands first in a set is one of its members.
_FIRST_IN_SET = re.compile(r"\^?\]?")


class SlowPatternError(RowError):
    """A pattern did not come to an end in its time."""


@contextmanager
def with_patience() -> Iterator[None]:
    """Give patterns a second, in a thread of their own."""
    token = _patient.set(True)
    try:
        yield
    finally:
        _patient.reset(token)


def check_pattern(pattern: str) -> None:
    """Raise re.error for what is no regular expression."""
    _compiled(pattern, ignore_case=False)


def find_first(pattern: str, text: str, *, ignore_case: bool = False) -> str | None:
    """Return the first match, or None. Raises re.error, and SlowPatternError after the time that it has."""
    patient = _patient.get()
    try:
        match = _compiled(pattern, ignore_case).search(text, timeout=_limit_s(patient), concurrent=patient)
    except TimeoutError as error:
        raise _too_slow(pattern) from error
    return None if match is None else match[0]


def find_all(pattern: str, text: str) -> list[str | None]:
    """Return the first group of each match, or the whole match where there is no group. Raises as `find_first`."""
    patient = _patient.get()
    try:
        compiled = _compiled(pattern, ignore_case=False)
        group = 1 if compiled.groups else 0
        found = compiled.finditer(text, timeout=_limit_s(patient), concurrent=patient)
        return [match[group] for match in found]
    except TimeoutError as error:
        raise _too_slow(pattern) from error


def _limit_s(patient: bool) -> float:
    return _PATIENCE_S if patient else _MOMENT_S


def _too_slow(pattern: str) -> SlowPatternError:
    message = f"the regular expression {pattern!r} takes more than {_PATIENCE_S:g} s for this text (nested repeats?)"
    return SlowPatternError(ErrorType.TEMPLATE, message)


@lru_cache(maxsize=1000)
def _compiled(pattern: str, ignore_case: bool) -> regex.Pattern[str]:
    import regex  # late: most runs have no pattern, and no start should wait for it

    try:
        re.compile(pattern)  # the language and its messages are Python's
        return regex.compile(_plain(pattern), regex.VERSION0 | (regex.IGNORECASE if ignore_case else 0))
    except (regex.error, RecursionError, OverflowError) as error:
        raise re.error(str(error)) from error


def _plain(pattern: str) -> str:
    """Escape what only `regex` would read: `x{e}` is fuzzy there, and `[[:alpha:]]` a class."""
    out, place, inside = [], 0, False
    while place < len(pattern):
        char = pattern[place]
        if char == "\\":
            escape = _ESCAPE.match(pattern, place)
            assert escape is not None
            out.append(escape[0])
            place = escape.end()
            continue
        literal = char == "[" if inside else char == "{" and not _COUNT.match(pattern, place)
        out.append(f"\\{char}" if literal else char)
        place += 1
        if inside:
            inside = char != "]"
        elif char == "[":
            inside = True
            opening = _FIRST_IN_SET.match(pattern, place)
            assert opening is not None
            out.append(opening[0])
            place = opening.end()
    return "".join(out)
