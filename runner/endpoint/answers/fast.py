"""The fast parser, for a chat completion with one choice that is text: decodes by type, in a third of the time.

For anything else it returns None, and the lenient full parser, `responses`, takes over. Both read the same from a body, unless
a member that neither uses is nested too deeply or holds too long a number.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from runner.endpoint.answers.refusals import GAVE_UP
from runner.structs import Struct
from runner.types import Response, Usage
from runner.usage import LARGEST_COUNT, count_of, total_of

__all__ = ["read_usual"]

#: Some servers send whole numbers as 5.0.
_Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)] | float | None


class _Message(Struct, gc=False):
    content: str
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: None = None


class _Choice(Struct, gc=False):
    message: _Message
    finish_reason: str | None = None
    logprobs: None = None
    error: None = None


class _PromptDetails(Struct, gc=False):
    cached_tokens: _Count = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: _Count = None


class _Usage(Struct, gc=False):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    #: Some dialects have it here, without details.
    cached_tokens: _Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Completion(Struct, gc=False):
    choices: tuple[_Choice]
    object: Literal["chat.completion"] = "chat.completion"
    usage: _Usage | None = None
    id: str | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    error: None = None


_decode = msgspec.json.Decoder(_Completion).decode


def read_usual(body: bytes) -> Response | None:
    """Return the response in the body of a chat completion, or None if the full parser has to read it."""
    try:
        completion, text = _decode(body), body.decode()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    choice = completion.choices[0]
    message = choice.message
    if message.tool_calls or (choice.finish_reason is not None and choice.finish_reason.lower() in GAVE_UP):
        return None
    return Response(
        output=message.content,
        reasoning=message.reasoning_content or message.reasoning or None,
        refusal=message.refusal,
        finish_reason=choice.finish_reason,
        usage=Usage() if completion.usage is None else _usage(completion.usage),
        response_id=completion.id,
        response_model=completion.model,
        system_fingerprint=completion.system_fingerprint,
        body=text,
    )


def _usage(usage: _Usage) -> Usage:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    tokens = count_of(usage.prompt_tokens), count_of(usage.completion_tokens)
    return Usage(
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        total_tokens=total_of(*tokens, count_of(usage.total_tokens)),
        reasoning_tokens=None if completion is None else count_of(completion.reasoning_tokens),
        cached_tokens=count_of(usage.cached_tokens if prompt is None else prompt.cached_tokens),
    )
