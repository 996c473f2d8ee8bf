"""Interprets error answers: a status and a body in, an AttemptError out. Pure.

Providers send the same refusal in different forms: `{"error": {…}}`, the same in a list (Google), a flat `{"object": "error",
"message": …}` (vLLM), FastAPI's `{"detail": …}`, JSON nested as text inside `error.message` (Bedrock), HTML of a gateway.
Each of them is searched for codes and for words in its message. A server picks a code from its own fixed list, so codes count
as they are. A message is free text and may repeat the prompt, so its words count only if the request does not hold them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any, AnyStr, NamedTuple

from runner import jsontext
from runner.endpoint.answers.retry_after import retry_after, waits_in
from runner.errors import AttemptError
from runner.structs import Struct
from runner.types import ErrorType, Failure

__all__ = ["GAVE_UP", "KEPT_BYTES", "error_object", "inner_refusal", "refusal", "says_something"]

#: Finish reasons of a choice that the server gave up: from gateways, vLLM and SGLang, DeepSeek, and Z.ai.
GAVE_UP = frozenset({"error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource", "network_error"})
#: How many bytes of an error's body are kept.
KEPT_BYTES = 4096
#: How much of its beginning, and of its end, is searched for words.
_EDGE = 1 << 16
_MESSAGE_CHARACTERS = 1000
_MOST_WAITS = 20
_OK, _BAD_REQUEST = 200, 400
_ERROR_STATUSES = range(400, 600)

#: Not `billing` alone: ordinary rate limits point to the billing page too.
_QUOTA = re.compile(
    r"insufficient_quota|billing[_ ](?:hard[_ ]limit|not[_ ]active)|exceeded your current quota|credit balance"
    r"|payment required",
    re.IGNORECASE,
)
#: The same as a code, including the codes of Google and of gateways that keep an account for each user.
_QUOTA_CODE = re.compile(
    rf"{_QUOTA.pattern}|insufficient_(?:\w*quota|balance|credits?|funds)|exceeded_current_quota|billing_disabled",
    re.IGNORECASE,
)
#: How a message about the account begins. Only its beginning counts, because the rest may quote a model.
_ACCOUNT = re.compile(r"\A(?:your credit balance is too low|account \S+ is suspended)", re.IGNORECASE)
_CONTEXT = re.compile(
    r"context[_ ]length|context[_ ]window|context[_ ]size|maximum (?:context|(?:prompt|input) length)|too many tokens"
    r"|(?:input|prompt) (?:is )?too long|max_model_len|longer than the model|`inputs` (?:tokens \+|must have less)"
    r"|exceeds? (?:the )?max(?:imum)? (?:length|number of tokens)|exceeded model token limit|range of input length",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"(?:invalid|incorrect|missing|expired|no) api[ _-]?key|api[ _-]?key (?:is |has )?(?:not valid|invalid|missing|expired)",
    re.IGNORECASE,
)
_FILTER = re.compile(
    r"content[_ ]filter|content[_ ]policy|responsible ?ai|safety system|content management|content exists risk"
    r"|inspection_failed|(?:inappropriate|sensitive) content|content violates|(?:prompt|input) was flagged",
    re.IGNORECASE,
)
#: The status that a code stands for: codes of OpenAI and Anthropic, and of google.rpc.Code.
_STATUS_OF_CODE = {
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "payment_required": 402,
    "invalid_api_key": 401,
    "keyinvalid": 401,
    "keyexpired": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "credentials_missing": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "not_found": 404,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "out_of_range": 400,
    "request_timeout": 408,
    "aborted": 409,
    "already_exists": 409,
    "cancelled": 499,
    "server_error": 500,
    "internal_server_error": 500,
    "api_error": 500,
    "internal": 500,
    "unknown": 500,
    "data_loss": 500,
    "unimplemented": 501,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "unavailable": 503,
    "deadline_exceeded": 504,
}
#: How Google's reasons for rejecting a key begin: API_KEY_INVALID, API_KEY_SERVICE_BLOCKED, ACCESS_TOKEN_EXPIRED …
_KEY_REFUSED = ("api_key_", "access_token_")
#: The code of a 400 may stand for one of these: then the server refuses every request, not just this row.
_HIDDEN = frozenset({401, 402, 403, 404, 429})
#: Statuses of empty or incomplete answers, which get only one more attempt.
_EMPTY = frozenset(range(100, 300)) - {200}


class _Said(Struct):
    """What a server said, and the request that it may have repeated."""

    codes: Sequence[str]
    message: str
    #: The whole body, without the middle of a very long one.
    text: str
    #: The body of the request, in lower case.
    sent: str

    def has_code(self, words: re.Pattern[str]) -> bool:
        """Return whether a code matches."""
        return any(words.search(code) for code in self.codes)

    def names(self, words: re.Pattern[str] | None) -> bool:
        """Return whether a code matches, or the message in words that are not from the request. None matches everything."""
        if words is None or self.has_code(words):
            return True
        return any(found not in self.sent for found in {match[0].lower() for match in words.finditer(self.message)})

    def wait_s(self) -> float | None:
        """Return the first wait that it names in words that are not from the request, in seconds."""
        waits = islice(waits_in(self.text), _MOST_WAITS)
        return next((seconds for words, seconds in waits if words.lower() not in self.sent), None)


class _Meaning(NamedTuple):
    """How a refusal is treated."""

    kind: ErrorType
    #: Whether another attempt may help, and whether it stops the whole run.
    retry: bool
    stops_run: str | None = None


def refusal(status: int, headers: Mapping[str, str], body: bytes, sent: str = "") -> AttemptError:
    """Return the error of a response whose status is not 200. `sent` is the body of the request."""
    decoded = _decoded(body)
    return _refused(status, headers, body, _said(body, sent.lower(), error_object(decoded), decoded))


def inner_refusal(error: Mapping[str, Any], body: bytes, sent: str = "", *, otherwise: int = _OK) -> AttemptError:
    """Return the error of an error object inside a 200. It counts as the status that it names, else as `otherwise`."""
    status = _status_of(error)
    # Other members may be part of an answer, and the words of the model are no error message.
    said = _said(jsontext.encode(error) if error else body, sent.lower(), error)
    return _refused(otherwise if status == _OK else status, {}, body, said)


def _said(body: bytes, sent: str, error: Mapping[str, Any], decoded: Any = None) -> _Said:
    kept = body[:KEPT_BYTES].decode("utf-8", "replace")
    message = _edges(_message(error, decoded, kept), " … ")
    return _Said(_codes(error, decoded, sent), message, _edges(body, b" ").decode("utf-8", "replace"), sent)


def _edges(words: AnyStr, between: AnyStr) -> AnyStr:
    """Return a text without its middle if it is very long."""
    return words if len(words) <= 2 * _EDGE else words[:_EDGE] + between + words[-_EDGE:]


def _refused(status: int, headers: Mapping[str, str], body: bytes, said: _Said) -> AttemptError:
    wait = said.wait_s()
    meant = _hidden_status(said.codes) if status == _BAD_REQUEST else status
    kind, retry, stops_run = _verdict(meant, said, comes_back=wait is not None)
    once = status in _EMPTY
    if (wish := headers.get("x-should-retry", "").lower()) in {"true", "false"} and stops_run is None:
        retry = wish == "true"
    words = said.message[:_MESSAGE_CHARACTERS] or ("empty_response" if once and not body else "")
    asked = retry_after(headers)
    failure = Failure(
        error_type=kind,
        message=": ".join(part for part in (_status_text(status, headers), words) if part),
        status_code=status,
        response_body=jsontext.clean_text(body[:KEPT_BYTES].decode("utf-8", "replace")),
        retry_after_s=wait if asked is None and kind in {ErrorType.RATE_LIMIT, ErrorType.SERVER} else asked,
    )
    return AttemptError(failure, retry=retry, once=once, stops_run=stops_run)


def error_object(decoded: Any) -> Mapping[str, Any]:
    """Return the error inside a decoded body as {message, type, code}; {} if there is none."""
    if isinstance(decoded, list):
        return next((found for one in decoded if isinstance(one, dict) and (found := error_object(one))), {})
    if not isinstance(decoded, dict):
        return {}
    error = decoded.get("error")
    if error and says_something(error):
        if isinstance(error, dict):
            return error if error.get("message") else {**error, "message": jsontext.encode_str(error)}
        # a text, or only a flag such as true
        words = error if isinstance(error, str) else decoded.get("message") or jsontext.encode_str(error)
        return {"message": words, "code": decoded.get("code") or decoded.get("status")}
    if decoded.get("object") == "error":
        return decoded
    return {}


def says_something(error: Any) -> bool:
    """Return whether the member `error` is an error: some servers send an empty one with a good answer."""
    return any(error.values()) if isinstance(error, dict) else bool(error)


def _decoded(body: bytes) -> Any:
    try:
        return jsontext.decode(body)
    except jsontext.JsonError:
        return None


def _verdict(status: int, said: _Said, *, comes_back: bool) -> _Meaning:
    """Return the kind, whether another attempt may help, and whether it stops the whole run."""
    if status == HTTPStatus.TOO_MANY_REQUESTS and comes_back:
        # A server that says when to come back has quota left: Gemini words a limit per minute as OpenAI words a used-up quota.
        return _RATE_LIMIT
    if status in {400, 403, 429} and said.has_code(_QUOTA_CODE):
        return _USED_UP
    for statuses, words, verdict in _VERDICTS:
        if status in statuses and said.names(words):
            return verdict
    return _Meaning(ErrorType.INVALID_RESPONSE, retry=True)


_RATE_LIMIT = _Meaning(ErrorType.RATE_LIMIT, retry=True)
_USED_UP = _Meaning(ErrorType.QUOTA, retry=False, stops_run="always")
#: The first entry whose statuses and words match decides.
_VERDICTS: tuple[tuple[Container[int], re.Pattern[str] | None, _Meaning], ...] = (
    ({402}, None, _USED_UP),
    ({429}, _QUOTA, _USED_UP),
    ({429}, None, _RATE_LIMIT),
    ({400, 412}, _ACCOUNT, _USED_UP),
    ({401, 403}, _FILTER, _Meaning(ErrorType.CONTENT_FILTER, retry=False)),
    ({401, 403, 404}, None, _Meaning(ErrorType.AUTH, retry=False, stops_run="first")),
    ({408, 409, 425, 499}, None, _Meaning(ErrorType.SERVER, retry=True)),
    ({501, 505}, None, _Meaning(ErrorType.SERVER, retry=False, stops_run="first")),
    (range(500, 1000), None, _Meaning(ErrorType.SERVER, retry=True)),
    ({400}, _KEY, _Meaning(ErrorType.AUTH, retry=False, stops_run="first")),
    ({_OK, *range(400, 500)}, _CONTEXT, _Meaning(ErrorType.CONTEXT_LENGTH, retry=False)),
    ({_OK, *range(400, 500)}, _FILTER, _Meaning(ErrorType.CONTENT_FILTER, retry=False)),
    (range(400, 500), None, _Meaning(ErrorType.REQUEST, retry=False)),
    (range(300, 400), None, _Meaning(ErrorType.REQUEST, retry=False, stops_run="first")),
)


def _status_of(error: Mapping[str, Any]) -> int:
    """Return the status that an error inside a 200 stands for, else 200."""
    for name in ("status", "code", "status_code"):
        value = error.get(name)
        if isinstance(value, str) and len(value) == len("404") and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and value in _ERROR_STATUSES:
            return value
    return next((status for code in _codes_in(error) if (status := _status_of_code(code))), _OK)


def _status_of_code(code: str) -> int | None:
    code = code.lower()
    return 401 if code.startswith(_KEY_REFUSED) else _STATUS_OF_CODE.get(code)


def _hidden_status(codes: Sequence[str]) -> int:
    """Return the status that a 400 should have had."""
    return next((status for status in map(_status_of_code, codes) if status in _HIDDEN), None) or _BAD_REQUEST


def _codes(error: Mapping[str, Any], decoded: Any, sent: str) -> Sequence[str]:
    """Return all codes of an answer. A code in JSON inside a message counts only if the request does not hold it."""
    codes = [*_codes_in(error)]
    if isinstance(decoded, dict):
        codes += _codes_in(decoded)
        codes += _codes_in(decoded.get("detail"))
    return [*codes, *(code for code in _codes_in(_nested(error.get("message"))) if code.lower() not in sent)]


def _codes_in(error: Any) -> Iterator[str]:
    """Yield the codes of an error, the most exact ones first."""
    if not isinstance(error, dict):
        return
    for name in ("code", "type", "reason", "error_type"):
        if isinstance(value := error.get(name), str | int):
            yield str(value)
    for name in ("details", "errors"):
        details = error.get(name)
        for detail in details if isinstance(details, list) else [details]:
            if isinstance(detail, dict) and isinstance(reason := detail.get("reason"), str):
                yield reason
    if isinstance(status := error.get("status"), str):
        yield status


def _nested(message: Any) -> Mapping[str, Any]:
    """Return the error in a message that is JSON; {} if there is none."""
    if not isinstance(message, str) or not message.lstrip().startswith(("{", "[")):
        return {}
    return error_object(_decoded(message.encode("utf-8", "replace")))


def _message(error: Mapping[str, Any], decoded: Any, text: str) -> str:
    """Return the server's message: from JSON the message, from HTML the title, else the start of the text."""
    message = error.get("message")
    if isinstance(message, str) and message:
        return jsontext.clean_text(str(_nested(message).get("message") or message))
    if isinstance(decoded, dict):
        for name in ("detail", "message", "error_description", "title"):
            if found := decoded.get(name):
                return found if isinstance(found, str) else jsontext.encode_str(found)
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
