"""Reads answers: the JSON of a chat completion, a text completion or an embedding in, a Response out. Pure.

The formats are OpenAI's. Differences between dialects are accepted: reasoning under two names, content in parts, tool calls in
the old form. What could be mistaken for an answer is not: JSON without choices is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner import jsontext
from runner.endpoint.answers.fast import read_usual
from runner.endpoint.answers.refusals import GAVE_UP, KEPT_BYTES, error_object, inner_refusal
from runner.endpoint.answers.vectors import vectors_in
from runner.errors import AttemptError
from runner.structs import replace
from runner.types import ErrorType, Failure, Request, Response, Usage
from runner.usage import count_of, total_of

__all__ = ["MAY_BE_BILLED", "error_in", "invalid", "read_response", "text_and_thoughts", "words_of"]

#: Ends the message of a failed attempt that the server may have worked on.
MAY_BE_BILLED = "; it may have been billed"

_OK = 200
#: The status that a failed choice stands for if it does not say why.
_FAILED = 500


def read_response(body: bytes, request: Request, *, streamed: Mapping[str, Any] | None = None) -> Response:
    """Return the response in a body. Raises AttemptError: invalid_response, or by the body's error object.

    The output of a chat completion is the content of its first choice's message; of a text completion, the choice's `text`.
    `streamed` is an answer that was put together from a stream, and is read instead of `body`.
    """
    decoded: Any = streamed
    if streamed is None:
        if request.chat and request.choices == 1 and (usual := read_usual(body)) is not None:
            return usual
        try:
            decoded = jsontext.decode(body)
        except jsontext.JsonError as error:
            raise _not_json(body, error) from error
    if found := error_object(decoded):
        raise inner_refusal(found, body, request.shown)
    if not isinstance(decoded, dict):
        raise invalid(f"the server sent a JSON {type(decoded).__name__} where an object belongs", body, once=True)
    if request.embeds:
        return _embedding(decoded, body, request)
    choices = _choices(decoded, body, request)
    first = choices[0]
    message = first.get("message")
    message = message if request.chat and isinstance(message, dict) else {}
    usage = decoded.get("usage")
    output, thoughts = text_and_thoughts(message.get("content") if message else first.get("text"))
    text, repaired = _as_text(body) if streamed is None else (jsontext.encode_str(decoded), False)
    return Response(
        output=output,
        reasoning=words_of(message.get("reasoning_content")) or words_of(message.get("reasoning")) or thoughts,
        refusal=words_of(message.get("refusal")),
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


def _embedding(decoded: Mapping[str, Any], body: bytes, request: Request) -> Response:
    """Return the response of an embeddings request. Raises AttemptError."""
    try:
        output = vectors_in(decoded, jsontext.decode(request.content)["input"])
    except ValueError as error:
        raise invalid(f"the server sent no embedding: {error}", body, once=True) from error
    usage = decoded.get("usage")
    used = _usage(usage) if isinstance(usage, dict) else Usage()
    text, repaired = _as_text(body)
    return Response(
        output=output,
        usage=replace(used, total_tokens=used.prompt_tokens) if used.total_tokens is None else used,
        response_id=_string(decoded.get("id")),
        response_model=_string(decoded.get("model")),
        body=text,
        text_repaired=repaired,
    )


def _as_text(body: bytes) -> tuple[str, bool]:
    """Return a body as text, and whether bytes that are not UTF-8 were replaced."""
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace"), True


def invalid(message: str, body: bytes = b"", *, retry: bool = True, once: bool = False) -> AttemptError:
    """Return the error of a response that is not an answer. If it came whole, `once` allows only one more attempt."""
    text = jsontext.clean_text(body[:KEPT_BYTES].decode("utf-8", "replace"))
    failure = Failure(error_type=ErrorType.INVALID_RESPONSE, message=message, status_code=_OK, response_body=text or None)
    return AttemptError(failure, retry=retry, once=once)


def _not_json(body: bytes, error: jsontext.JsonError) -> AttemptError:
    if body.lstrip().startswith(b"<"):
        # A gateway's login page, or the wrong URL: until a request has succeeded, the row is not at fault.
        page = invalid("the server sent an HTML page where JSON belongs; is `endpoint.base_url` right?", body)
        return AttemptError(page.failure, retry=True, stops_run="first")
    what = f"a body that is not JSON ({error})" if body else "an empty body (empty_response)"
    return invalid(f"the server sent {what}", body, once=True)


def error_in(data: bytes, *, partial: Mapping[str, Any], sent: str) -> AttemptError:
    """Return the error that an error event in a stream means. The partial answer is kept as the error's body."""
    try:
        decoded = jsontext.decode(data)
    except jsontext.JsonError:
        decoded = None
    error = inner_refusal(error_object(decoded) or (decoded if isinstance(decoded, dict) else {}), data, sent)
    before = jsontext.encode_str(partial)[:KEPT_BYTES] if partial.get("choices") else None
    failure = replace(
        error.failure,
        message=f"the stream ended with an error: {error.failure.message}{MAY_BE_BILLED}",
        response_body=before or error.failure.response_body,
    )
    return AttemptError(failure, retry=error.retry, once=error.once, stops_run=error.stops_run)


def _choices(decoded: Mapping[str, Any], body: bytes, request: Request) -> Sequence[Mapping[str, Any]]:
    """Return the choices in the order of their indexes. Raises AttemptError if one has no answer, or failed."""
    choices = decoded.get("choices")
    if not isinstance(choices, list) or not choices:
        sent = ", ".join(map(str, decoded)) or "an empty object"
        raise invalid(f"the server sent no choices (it sent {sent}): empty_choices", body, once=True)
    for choice in choices:
        if isinstance(choice, dict) and (error := _error_of(choice)):
            raise _failed_choice(error, body or jsontext.encode(decoded), request)
    if not all(isinstance(choice, dict) and _has_answer(choice) for choice in choices):
        raise invalid("the server sent a choice without message or text", body, once=True)
    return sorted(choices, key=lambda choice: choice["index"] if isinstance(choice.get("index"), int) else 0)


def _error_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the error of a choice that failed during generation, as gateways report it; {} if there is none."""
    if error := error_object(choice):
        return error
    reason = choice.get("finish_reason")
    return {"message": f"its finish reason is “{reason}”"} if str(reason).lower() in GAVE_UP else {}


def _failed_choice(error: Mapping[str, Any], body: bytes, request: Request) -> AttemptError:
    found = inner_refusal(error, body, request.shown, otherwise=_FAILED)
    failure = replace(found.failure, message=f"a choice ended with an error: {found.failure.message}{MAY_BE_BILLED}")
    return AttemptError(failure, retry=found.retry, once=found.once, stops_run=found.stops_run)


def _has_answer(choice: Mapping[str, Any]) -> bool:
    return isinstance(choice.get("message"), dict) or isinstance(choice.get("text"), str)


def text_and_thoughts(content: Any) -> tuple[str | None, str | None]:
    """Return the text and the thoughts in a message's content, each joined from its parts; None if there is none."""
    if not isinstance(content, list):
        return content if isinstance(content, str) or content is None else jsontext.encode_str(content), None
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, dict) and _is_thought(part):
            thoughts.append(next(filter(None, (words_of(part.get(name)) for name in _THOUGHTS)), ""))
        elif isinstance(text := part.get("text") if isinstance(part, dict) else part, str):
            texts.append(text)
    text = "".join(texts) if texts or not thoughts else None
    return text, "".join(thoughts) or None


#: The members of a thought that may hold its text; the first one with text counts.
_THOUGHTS = ("thinking", "reasoning", "content", "text", "summary")


def _is_thought(part: Mapping[str, Any]) -> bool:
    kind = str(part.get("type", "")).lower()
    return "thinking" in kind or "reasoning" in kind or ("text" not in part and "thinking" in part)


def words_of(value: Any) -> str | None:
    """Return the text of a value that is text or consists of text parts; for any other value, its JSON."""
    if value is None or isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    words = [word for part in parts if (word := _word(part)) is not None]
    return "".join(words) if words or isinstance(value, list) else jsontext.encode_str(value)


def _word(part: Any) -> str | None:
    if isinstance(part, dict):
        return next((word for name in _THOUGHTS if isinstance(word := part.get(name), str)), None)
    return part if isinstance(part, str) else None


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
    tokens = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
    return Usage(
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        total_tokens=total_of(*tokens, count_of(usage.get("total_tokens"))),
        reasoning_tokens=count_of(completion.get("reasoning_tokens")) if isinstance(completion, dict) else None,
        cached_tokens=count_of(prompt.get("cached_tokens") if isinstance(prompt, dict) else usage.get("cached_tokens")),
    )
