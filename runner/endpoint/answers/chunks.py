"""The chunks of a stream: their types, and the unusual types that some servers send in their place."""

from __future__ import annotations

from typing import Any

import msgspec

from runner import jsontext
from runner.endpoint.answers.responses import text_and_thoughts, words_of
from runner.structs import Struct

__all__ = [
    "Choice",
    "Chunk",
    "Delta",
    "FirstChunk",
    "PlainDelta",
    "ToolCall",
    "decode_chunk",
    "decode_first",
    "decode_plain",
    "unusual_chunk",
]


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct, gc=False):
    """A tool call, or a fragment of one."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Function | None = None


class Delta(Struct, gc=False):
    """What a chunk adds to a choice."""

    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    audio: dict[str, Any] | None = None


class Choice(Struct, gc=False):
    """A choice in a chunk."""

    index: int = 0
    delta: Delta | None = None
    #: Some servers send a whole message instead of a delta.
    message: Delta | None = None
    text: str | None = None
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    usage: Any = None
    error: Any = None


class Chunk(Struct, gc=False):
    """A chunk without its envelope."""

    object: Any = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class FirstChunk(Chunk, gc=False):
    """A chunk with the envelope fields, which the first chunk sets and all others repeat."""

    id: Any = None
    created: Any = None
    model: Any = None
    system_fingerprint: Any = None
    service_tier: Any = None


class PlainDelta(Struct, gc=False):
    """Text and nothing else."""

    content: str
    role: str | None = None
    reasoning: None = None
    reasoning_content: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None


class PlainChoice(Struct, gc=False):
    delta: PlainDelta
    index: int = 0
    message: None = None
    text: None = None
    logprobs: None = None
    finish_reason: None = None
    usage: None = None
    error: None = None


class PlainChunk(Struct, gc=False):
    """A chunk with nothing but text, as nearly all are. A chunk that decodes as this type needs no further checks."""

    choices: list[PlainChoice]
    object: str | None = None
    usage: None = None
    error: None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
decode_plain = msgspec.json.Decoder(PlainChunk).decode
decode_first = msgspec.json.Decoder(FirstChunk).decode


def unusual_chunk(decoded: dict[str, Any]) -> FirstChunk:
    """Return the chunk in an object with unusual types. Raises msgspec.MsgspecError if there is none."""
    return msgspec.convert(_with_usual_types(decoded), FirstChunk, strict=False)


def _with_usual_types(value: Any) -> Any:
    """Convert the unusual types of some servers: text in parts, arguments as an object, an index of null."""
    if isinstance(value, list):
        return [_with_usual_types(member) for member in value]
    if not isinstance(value, dict):
        return value
    usual = {name: _with_usual_types(member) for name, member in value.items() if name != "index" or member is not None}
    for name in ("delta", "message"):
        if isinstance(usual.get(name), dict):
            _join_parts(usual[name])
    if isinstance(usual.get("arguments"), dict):
        usual["arguments"] = jsontext.encode_str(usual["arguments"])
    return usual


def _join_parts(message: dict[str, Any]) -> None:
    """Convert text in parts into one text; thoughts among the content become reasoning."""
    for name in ("reasoning", "reasoning_content"):
        if isinstance(message.get(name), list):
            message[name] = words_of(message[name])
    if isinstance(message.get("content"), list):
        message["content"], thoughts = text_and_thoughts(message["content"])
        if thoughts and not message.get("reasoning"):
            message["reasoning"] = thoughts
