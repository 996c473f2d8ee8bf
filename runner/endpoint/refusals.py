"""What an error answer means: a status and a body in, an AttemptError out. Pure.

Providers word the same refusal differently: `{"error": {…}}`, a flat `{"object": "error", "message": …}` (vLLM),
FastAPI's `{"detail": …}`, JSON nested as text inside `error.message` (Bedrock), HTML of a gateway. The words are looked
for in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from runner import jsontext
from runner.errors import AttemptError
from runner.types import ErrorType, Failure

__all__ = ["KEPT_BYTES", "error_object", "refusal", "retry_after"]

#: So much of an error's body is kept.
KEPT_BYTES = 4096
_MESSAGE_CHARACTERS = 1000
_LONGEST_WAIT_S = 24 * 3600.0

#: Not `billing` alone: ordinary rate limits point to the billing page too.
_QUOTA = re.compile(
    r"insufficient_quota|billing[_ ](?:hard[_ ]limit|not[_ ]active)|exceeded your current quota|credit balance"
    r"|payment required",
    re.IGNORECASE,
)
#: Whoever says when to come back has quota left: Gemini words its limits a minute as OpenAI words a quota used up.
_COMES_BACK = re.compile(r"(?:try again|retry) (?:in|after) \d", re.IGNORECASE)
_CONTEXT = re.compile(
    r"context[_ ]length|context[_ ]window|context[_ ]size|maximum context|too many tokens|prompt is too long|max_model_len"
    r"|input (?:is )?too long|longer than the model|`inputs` tokens \+",
    re.IGNORECASE,
)
_FILTER = re.compile(r"content[_ ]filter|content[_ ]policy|responsible ?ai|safety system|content management", re.IGNORECASE)
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")

_WAIT_IN_WORDS = re.compile(
    r"(?:(?:try|retry|come back)(?: again)? (?:in|after) |\"retry_?delay\"\s*:\s*\")"
    r"(?:(?P<count>\d{1,9}(?:\.\d+)?) ?(?P<unit>milliseconds?|seconds?|secs?|minutes?|mins?|hours?)\b"
    r"|(?P<duration>(?:\d{1,9}(?:\.\d+)?(?:ms|h|m|s))+))",
    re.IGNORECASE,
)
#: Answers without content, and those that are no whole ones: one more try is all they are worth.
_EMPTY = frozenset(range(100, 300)) - {200}


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> AttemptError:
    """Return what a response that is no answer means: any status but 200, or a 200 that holds an error."""
    text = body[:KEPT_BYTES].decode("utf-8", "replace")
    error = error_object(_decoded(body))
    message = _message(error, text)
    said = f"{error.get('code') or ''} {error.get('type') or ''} {message}"
    kind, retry, stops_run = _kind(status, said)
    once = status in _EMPTY
    if (wish := headers.get("x-should-retry", "").lower()) in {"true", "false"} and stops_run is None:
        retry = wish == "true"
    wait = retry_after(headers)
    if wait is None and kind in {ErrorType.RATE_LIMIT, ErrorType.SERVER}:
        wait = _wait_in_words(text)
    words = message or ("empty_response" if once and not body else "")
    failure = Failure(
        error_type=kind,
        message=": ".join(part for part in (_status_text(status, headers), words) if part),
        status_code=status,
        response_body=jsontext.clean_text(text),
        retry_after_s=wait,
    )
    return AttemptError(failure, retry=retry, once=once, stops_run=stops_run)


def error_object(decoded: Any) -> Mapping[str, Any]:
    """Return the error inside a decoded body as {message, type, code}; {} where there is none."""
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        return {}
    error = decoded.get("error")
    if isinstance(error, dict) and error:
        return error if error.get("message") else {**error, "message": jsontext.encode_str(error)}
    if isinstance(error, str) and error:
        return {"message": error, "code": decoded.get("code") or decoded.get("status")}
    if decoded.get("object") == "error":
        return decoded
    return {}


def _decoded(body: bytes) -> Any:
    try:
        return jsontext.decode(body)
    except jsontext.JsonError:
        return None


def _kind(status: int, said: str) -> tuple[ErrorType, bool, str | None]:
    """Return the kind, whether another attempt may help, and whether it is the whole run's trouble."""
    for statuses, words, verdict in _VERDICTS:
        if status in statuses and (words is None or words.search(said)):
            return verdict
    return ErrorType.INVALID_RESPONSE, True, None


#: The first row that fits decides: statuses, words in what the server said, and then kind, retry, stops_run.
_VERDICTS: tuple[tuple[Container[int], re.Pattern[str] | None, tuple[ErrorType, bool, str | None]], ...] = (
    ({402}, None, (ErrorType.QUOTA, False, "always")),
    ({429}, _COMES_BACK, (ErrorType.RATE_LIMIT, True, None)),
    ({403, 429}, _QUOTA, (ErrorType.QUOTA, False, "always")),
    ({429}, None, (ErrorType.RATE_LIMIT, True, None)),
    ({401, 403}, _FILTER, (ErrorType.CONTENT_FILTER, False, None)),
    ({401, 403, 404}, None, (ErrorType.AUTH, False, "first")),
    ({408, 409, 425}, None, (ErrorType.SERVER, True, None)),
    ({501, 505}, None, (ErrorType.SERVER, False, "first")),
    (range(500, 1000), None, (ErrorType.SERVER, True, None)),
    (range(400, 500), _CONTEXT, (ErrorType.CONTEXT_LENGTH, False, None)),
    (range(400, 500), _FILTER, (ErrorType.CONTENT_FILTER, False, None)),
    (range(400, 500), None, (ErrorType.REQUEST, False, None)),
    (range(300, 400), None, (ErrorType.REQUEST, False, "first")),
    ({200}, _CONTEXT, (ErrorType.CONTEXT_LENGTH, False, None)),
)


def _message(error: Mapping[str, Any], text: str) -> str:
    """Return the server's own words: of JSON its message, of HTML its title, else the start of the text."""
    message = error.get("message")
    if isinstance(message, str) and message:
        inner = error_object(_decoded(message.encode())) if message.lstrip().startswith("{") else {}
        return jsontext.clean_text(str(inner.get("message") or message))[:_MESSAGE_CHARACTERS]
    decoded = _decoded(text.encode())
    if isinstance(decoded, dict):
        for name in ("detail", "message", "error_description", "title"):
            if found := decoded.get(name):
                return (found if isinstance(found, str) else jsontext.encode_str(found))[:_MESSAGE_CHARACTERS]
    if title := re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL):
        return f"an HTML page, “{' '.join(title[1].split())[:200]}”"
    return " ".join(text.split())[:200]


def _status_text(status: int, headers: Mapping[str, str]) -> str:
    try:
        text = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        text = str(status)
    if location := headers.get("location"):
        text += f" to {location.split('?')[0]} (redirects are not followed: give that URL as base_url)"
    return text


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return for how many seconds a server asks us to wait, or None.

    Read are `retry-after-ms`, `retry-after` in seconds or as an HTTP date, and OpenAI's `x-ratelimit-reset-requests` and
    `-tokens` (`1m30s`, `250ms`) where what remains is 0. A date is held against the server's own clock, its `date` header.
    """
    if (ms := _number(headers.get("retry-after-ms"))) is not None:
        return _sensible(ms / 1000)
    after = headers.get("retry-after")
    if (seconds := _number(after)) is not None:
        return _sensible(seconds)
    if after and (until := _date(after)) is not None:
        today = _date(headers.get("date", "")) or now or datetime.now(UTC)
        return _sensible((until - today).total_seconds())
    waits = [
        _duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}", "0").strip() == "0"
    ]
    known = [wait for wait in waits if wait is not None]
    return _sensible(max(known)) if known else None


def _wait_in_words(text: str) -> float | None:
    """Return the wait that only the text names: `Please try again in 1.2s`, or Google's `"retryDelay": "37s"`."""
    match = _WAIT_IN_WORDS.search(text)
    if match is None:
        return None
    if match["count"] is None:
        return None if (wait := _duration(match["duration"])) is None else _sensible(wait)
    unit = match["unit"].lower()
    seconds = 0.001 if unit.startswith("milli") else 60 if unit.startswith("min") else 3600 if unit.startswith("h") else 1
    return _sensible(float(match["count"]) * seconds)


def _sensible(seconds: float) -> float | None:
    return min(seconds, _LONGEST_WAIT_S) if seconds >= 0 else None


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*\d{1,12}(?:\.\d+)?\s*", text) else None


def _duration(text: str) -> float | None:
    if (seconds := _number(text)) is not None:
        return seconds
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None:
        return None
    hours, minutes, seconds_, ms = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds_ + ms / 1000


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
