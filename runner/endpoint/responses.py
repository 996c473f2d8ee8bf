"""What an answer says: the JSON of a chat completion or a text completion in, a Response out. Pure.

The formats are OpenAI's, read leniently where its dialects differ (reasoning under two names, content in parts, tool
calls in the old form) and strictly where an answer could be mistaken: what has no choices is no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner import jsontext
from runner.endpoint.refusals import KEPT_BYTES, error_object, refusal
from runner.endpoint.usual import read_usual
from runner.errors import AttemptError
from runner.structs import replace
from runner.types import ErrorType, Failure, Request, Response, Usage

__all__ = ["MAY_BE_BILLED", "error_in", "invalid", "read_response"]

#: What a message adds where the server may have worked for an attempt that failed.
MAY_BE_BILLED = "; it may have been billed"

_INT64 = 2**63
_OK = 200
_ERROR_STATUSES = range(400, 600)
#: The status that goes with the code or type of an error which names none.
_STATUS_OF_WORD = {
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "invalid_request_error": 400,
    "server_error": 500,
    "internal_server_error": 500,
    "api_error": 500,
    "overloaded_error": 503,
    "service_unavailable": 503,
}


def read_response(body: bytes, request: Request, *, streamed: Mapping[str, Any] | None = None) -> Response:
    """Return what a 200 says. Raises AttemptError (invalid_response, or what its error object means).

    The answer of a chat completion is its first choice's message, of a text completion its `text`. `streamed` is the answer
    already reassembled from a stream, in place of decoding `body`.
    """
    decoded: Any = streamed
    if streamed is None:
        if request.chat and request.choices == 1 and (usual := read_usual(body)) is not None:
            return usual
        try:
            decoded = jsontext.decode(body)
        except jsontext.JsonError as error:
            raise _not_json(body, error) from error
    if not isinstance(decoded, dict):
        raise invalid(f"the server sent a JSON {type(decoded).__name__} where an object belongs", body, once=True)
    if found := error_object(decoded):
        raise refusal(_status_of(found), {}, body)
    choices = _choices(decoded, body)
    first = choices[0]
    message = first.get("message")
    message = message if request.chat and isinstance(message, dict) else {}
    usage = decoded.get("usage")
    text, repaired = _as_text(body) if streamed is None else (jsontext.encode_str(decoded), False)
    return Response(
        output=_text(message.get("content")) if message else _text(first.get("text")),
        reasoning=_text(message.get("reasoning_content")) or _text(message.get("reasoning")),
        refusal=_text(message.get("refusal")),
        tool_calls=_tool_calls(message),
        finish_reason=_string(first.get("finish_reason")),
        choices=jsontext.encode_str(choices) if request.choices > 1 or len(choices) > 1 else None,
        logprobs=jsontext.encode_str(first["logprobs"]) if first.get("logprobs") else None,
        usage=_usage(usage) if isinstance(usage, dict) else Usage(),
        response_id=_string(decoded.get("id")),
        response_model=_string(decoded.get("model")),
        system_fingerprint=_string(decoded.get("system_fingerprint")),
        body=text,
        text_repaired=repaired,
    )


def _as_text(body: bytes) -> tuple[str, bool]:
    """Return a body as text, and whether bytes that are no UTF-8 had to be replaced."""
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace"), True


def invalid(message: str, body: bytes = b"", *, retry: bool = True, once: bool = False) -> AttemptError:
    """Return the error of a response that is no answer; `once` where it came whole, so that a second try is the last."""
    text = jsontext.clean_text(body[:KEPT_BYTES].decode("utf-8", "replace"))
    failure = Failure(error_type=ErrorType.INVALID_RESPONSE, message=message, status_code=_OK, response_body=text or None)
    return AttemptError(failure, retry=retry, once=once)


def _not_json(body: bytes, error: jsontext.JsonError) -> AttemptError:
    if body.lstrip().startswith(b"<"):
        # A gateway's login page, or the wrong address: until something has succeeded it is no row's own fault.
        page = invalid("the server sent an HTML page where JSON belongs; is `endpoint.base_url` right?", body)
        return AttemptError(page.failure, retry=True, stops_run="first")
    what = f"a body that is not JSON ({error})" if body else "an empty body (empty_response)"
    return invalid(f"the server sent {what}", body, once=True)


def error_in(data: bytes, *, partial: Mapping[str, Any]) -> AttemptError:
    """Return what an error event in a stream means; what came before it is kept as the error's body."""
    try:
        found = error_object(jsontext.decode(data))
    except jsontext.JsonError:
        found = {}
    error = refusal(_status_of(found), {}, data)
    before = jsontext.encode_str(partial)[:KEPT_BYTES] if partial.get("choices") else None
    failure = replace(
        error.failure,
        message=f"the stream ended with an error: {error.failure.message}{MAY_BE_BILLED}",
        response_body=before or error.failure.response_body,
    )
    return AttemptError(failure, retry=error.retry, once=error.once, stops_run=error.stops_run)


def _status_of(error: Mapping[str, Any]) -> int:
    """Return the status that an error inside a 200 stands for, where it says one."""
    for name in ("status", "code", "status_code"):
        value = error.get(name)
        if isinstance(value, str) and len(value) == len("404") and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and value in _ERROR_STATUSES:
            return value
    words = (str(error.get(name)).lower() for name in ("code", "type"))
    return next((_STATUS_OF_WORD[word] for word in words if word in _STATUS_OF_WORD), _OK)


def _choices(decoded: Mapping[str, Any], body: bytes) -> Sequence[Mapping[str, Any]]:
    """Return the choices in the order of their indexes, of which there is at least one."""
    choices = decoded.get("choices")
    if not isinstance(choices, list) or not choices:
        sent = ", ".join(map(str, decoded)) or "an empty object"
        raise invalid(f"the server sent no choices (it sent {sent}): empty_choices", body, once=True)
    if not all(isinstance(choice, dict) and _has_answer(choice) for choice in choices):
        raise invalid("the server sent a choice without message or text", body, once=True)
    return sorted(choices, key=lambda choice: choice["index"] if isinstance(choice.get("index"), int) else 0)


def _has_answer(choice: Mapping[str, Any]) -> bool:
    return isinstance(choice.get("message"), dict) or isinstance(choice.get("text"), str)


def _text(value: Any) -> str | None:
    """Return text, joined where it comes in parts; None for null."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) or value is None else jsontext.encode_str(value)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _tool_calls(message: Mapping[str, Any]) -> str | None:
    """Return tool calls as JSON; the older `function_call` is a single one."""
    calls = message.get("tool_calls")
    if not calls and isinstance(message.get("function_call"), dict):
        calls = [{"type": "function", "function": message["function_call"]}]
    return jsontext.encode_str(calls) if calls else None


def _usage(usage: Mapping[str, Any]) -> Usage:
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        total_tokens=_count(usage.get("total_tokens")),
        reasoning_tokens=_count(completion.get("reasoning_tokens")) if isinstance(completion, dict) else None,
        cached_tokens=_count(prompt.get("cached_tokens") if isinstance(prompt, dict) else usage.get("cached_tokens")),
    )


def _count(value: Any) -> int | None:
    """Return a count of tokens; None for what is none (a word, a negative number, beyond int64)."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INT64 else None
