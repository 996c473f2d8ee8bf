"""How long a server asks clients to wait: in headers, in a field of its error, or only in words. Pure.

Waits are honoured up to `LONGEST_HONOURED_S`. After a 429 (`pacing.rate_limiter`) all rows wait; once a pace is learnt, only
the row that got the 429. After another failure (`pacing.retry`) the failed row waits, if its back-off is shorter. The server's
value stays in `retry_after_s`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["LONGEST_HONOURED_S", "retry_after", "waits_in"]

#: The longest wait, even if a server asks for more: it may be back sooner, and the run would stand still.
LONGEST_HONOURED_S = 120.0
#: A longer wait is a fault of the server.
_LONGEST_WAIT_S = 24 * 3600.0
_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_UNIT = r"ms|millis|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?"
_AMOUNT = rf"{_NUMBER}\s?(?:{_UNIT})(?![a-z])"
#: `20s`, `1m30s`, `2 minutes and 5 seconds`.
_AMOUNTS = rf"{_AMOUNT}(?:(?:,?\sand\s|,?\s?){_AMOUNT}){{0,4}}"
_ABOUT = r"(?:(?:about|approximately|at\sleast|another)\s|~\s?)?"
_ONE_AMOUNT = rf"(?i)({_NUMBER})\s?({_UNIT})(?![a-z])"
#: A number without a unit means seconds, unless it is the year of a date or the hour of a time.
_BARE = rf"{_NUMBER}(?![\w.:/-])"
#: How servers name a wait: `try again in`, `please wait`, Google's `"retryDelay": "37s"`, the same as Python prints it.
#: Compiled only when the first failure is read: it takes longest of all patterns, and most runs never need it.
_WAIT = rf"""(?ix)
      \b(?:re)?try(?:\s(?!failed|timed|exhausted)\w+){{0,4}}?\s(?:in|after)\s{_ABOUT}(?P<told>{_AMOUNTS}|{_BARE})
    | \b(?:again|come\sback|resets?|available|allowed|accepted)\s(?:in|after)\s{_ABOUT}(?P<again>{_AMOUNTS})
    | \bwait(?:\sfor)?\s{_ABOUT}(?P<waited>{_AMOUNTS})
    | \bretry[-_\s]?(?:after|delay)(?:[-_]?(?:(?P<ms>ms|millis|milliseconds)|s|secs|seconds))?(?:\\n|[^\w-]){{1,12}}
      (?:seconds[^\w-]{{1,4}})?(?P<field>{_AMOUNTS}|{_BARE})
    """


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how many seconds a server asks us to wait, or None.

    Reads `retry-after-ms`, then `retry-after` in seconds or as an HTTP date, then `x-ratelimit-reset-requests`, `-tokens` or
    without suffix (`1m30s`, `250ms`) if the matching `x-ratelimit-remaining` is 0 or missing. A date, or a number of seconds or
    milliseconds since 1970, is compared with the server's own clock, its `date` header.
    """
    if (ms := _number(headers.get("retry-after-ms", ""))) is not None:
        return _sensible(ms / 1000)
    today = _date(headers.get("date", "")) or now or datetime.now(UTC)
    after = headers.get("retry-after", "")
    if (seconds := _span(after, today)) is not None:
        return _sensible(seconds)
    if (until := _date(after)) is not None:
        return _sensible((until - today).total_seconds())
    waits = [
        _span(headers.get(f"x-ratelimit-reset{of}", ""), today)
        for of in ("-requests", "-tokens", "")
        if headers.get(f"x-ratelimit-remaining{of}", "0").strip() == "0"
    ]
    known = [wait for wait in waits if wait is not None]
    return _sensible(max(known)) if known else None


def _span(text: str, today: datetime) -> float | None:
    """Return a duration in seconds. A number that is a time within a day of `today`, since 1970, is the end of the wait."""
    seconds = _duration(text)
    if seconds is not None:
        for since_1970 in (seconds, seconds / 1000):
            if abs(left := since_1970 - today.timestamp()) <= _LONGEST_WAIT_S:
                return left
    return seconds


def waits_in(text: str) -> Iterator[tuple[str, float]]:
    """Yield each wait in a text: the words that name it, and its seconds."""
    for match in re.finditer(_WAIT, text):
        words = match["told"] or match["again"] or match["waited"] or match["field"]
        if (seconds := _duration(words)) is not None:
            is_ms = match["ms"] is not None and words[-1].isdecimal()
            yield match[0], min(seconds / 1000 if is_ms else seconds, _LONGEST_WAIT_S)


def _sensible(seconds: float) -> float | None:
    return min(seconds, _LONGEST_WAIT_S) if seconds >= 0 else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,13}(?:\.\d+)?\s*", text) else None


def _duration(text: str) -> float | None:
    """Return the seconds of `7.66s`, `1m30s`, `6 minutes and 3 seconds`, or of a bare number; None for anything else."""
    if (seconds := _number(text)) is not None:
        return seconds
    if not re.fullmatch(_AMOUNTS, text.strip(), re.IGNORECASE):
        return None
    return sum(float(number) * _seconds_of(unit.lower()) for number, unit in re.findall(_ONE_AMOUNT, text))


def _seconds_of(unit: str) -> float:
    if unit.startswith(("ms", "mil")):
        return 0.001
    return {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit[0]]


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
