"""Streamed answers: chunks in, the same JSON as without streaming out.

The chunks are OpenAI's, as its dialects really send them: usage in a trailing chunk without choices, on the finish chunk or in
every chunk; tool calls whole or in fragments, several fragments of one call in a single delta, with ids and names repeated;
reasoning under two names; choices interleaved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner import jsontext
from runner.endpoint.answers.refusals import GAVE_UP, error_object, says_something
from runner.endpoint.answers.responses import MAY_BE_BILLED, error_in, invalid, text_and_thoughts, words_of
from runner.endpoint.answers.sse import DONE
from runner.errors import AttemptError
from runner.structs import Struct

__all__ = ["StreamAssembler"]

#: A longer stream is a server fault, not an answer. It is not held in memory.
_LARGEST_ANSWER = 32 << 20


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Delta(Struct, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: dict[str, Any] | None = None


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    #: Some servers send a whole message instead of a delta.
    message: _Delta | None = None
    text: str | None = None
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    usage: Any = None
    error: Any = None


class _Chunk(Struct, gc=False):
    object: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


class _FirstChunk(_Chunk, gc=False):
    """A chunk with the envelope fields, which the first chunk sets and all others repeat."""

    id: Any = None
    created: Any = None
    model: Any = None
    system_fingerprint: Any = None
    service_tier: Any = None


class _PlainDelta(Struct, gc=False):
    """Text and nothing else."""

    content: str
    role: str | None = None
    reasoning: None = None
    reasoning_content: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None


class _PlainChoice(Struct, gc=False):
    delta: _PlainDelta
    index: int = 0
    message: None = None
    text: None = None
    logprobs: None = None
    finish_reason: None = None
    usage: None = None
    error: None = None


class _PlainChunk(Struct, gc=False):
    """A chunk with nothing but text, as nearly all are. A chunk that decodes as this type needs no further checks."""

    choices: list[_PlainChoice]
    object: str | None = None
    usage: None = None
    error: None = None


_ENVELOPE = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_plain = msgspec.json.Decoder(_PlainChunk).decode
_decode_first = msgspec.json.Decoder(_FirstChunk).decode
_OBJECT_START = ord("{")
#: After this many chunks that are not plain, no more are tried as plain ones.
_MOST_NOT_PLAIN = 8


class StreamAssembler:
    """Puts the chunks of one stream together."""

    def __init__(self, *, chat: bool = True, choices: int = 1, sent: str = "") -> None:
        """`chat` is true for a chat completion, false for a text completion, whose answer is its choices' `text`.

        `choices` is how many were requested: a stream that breaks off between two choices is not complete. `sent` is the body
        of the request, which an error may repeat.
        """
        self._chat = chat
        self._sent = sent
        self._wanted = choices
        self.events = 0
        #: Whether `[DONE]` came, or an error or invalid event after a complete answer.
        self.done = False
        #: What was wrong with an event after the last finish reason. The answer is complete, and no more events are read.
        self.wrong_after: str | None = None
        #: How many chunks hold part of the answer: text, reasoning, a refusal, a tool call.
        self.contents = 0
        #: Whether bytes that are not UTF-8 were replaced.
        self.text_repaired = False
        self._size = 0
        self._envelope: dict[str, Any] = {}
        self._envelope_is_open = True
        #: How many more chunks may fail to be plain. Before the envelope is known it is 0, and none is tried as plain.
        self._try_plain = 0
        #: The latest event that is not a chunk, and `contents` at that time.
        self._aside: tuple[bytes, int] | None = None
        self._usage: dict[str, Any] | None = None
        self._choices: dict[int, _ChoiceParts] = {}

    @property
    def complete(self) -> bool:
        """Whether the answer is complete, if nothing more comes.

        `[DONE]` is not enough: it may also follow an error, which each server words in its own way.
        """
        return (self.done and self._words_at_end is None) or self.finished

    @property
    def _words_at_end(self) -> bytes | None:
        """The event that is not a chunk and came after the last part of the answer, if there is one."""
        return self._aside[0] if self._aside is not None and self._aside[1] == self.contents else None

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish reason, or failed."""
        ended = (choice.finish_reason or choice.error for choice in self._choices.values())
        return len(self._choices) >= self._wanted and all(ended)

    def take(self, events: Sequence[bytes]) -> None:
        """Take the data of events. Raises AttemptError for an error event or an invalid chunk before the answer is complete."""
        for data in events:
            if self.done:
                return
            if not data:
                continue
            if data[0] != _OBJECT_START and data.strip() == DONE:
                self.done = True
                return
            try:
                self._take_chunk(data)
            except AttemptError as error:
                if not self.finished:
                    raise
                self.done, self.wrong_after = True, error.failure.message

    def _take_chunk(self, data: bytes) -> None:
        self.events += 1
        self._size += len(data)
        if self._size > _LARGEST_ANSWER:
            raise invalid(f"the stream is longer than {_LARGEST_ANSWER >> 20} MiB (response_too_large)", retry=False)
        if self._try_plain and self._is_plain(data):
            return
        try:
            chunk = _decode_first(data) if self._envelope_is_open else _decode_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            chunk = self._repaired(data)
        if (chunk.error and says_something(chunk.error)) or chunk.object == "error":
            raise self._error_in(data)
        if chunk.usage and isinstance(chunk.usage, dict):
            self._usage = chunk.usage
        elif chunk.choices is None:
            self._aside = data, self.contents
        if isinstance(chunk, _FirstChunk):
            self._take_envelope(chunk)
        for choice in chunk.choices or ():
            self._take_choice(choice)

    def broken_off(self, reason: str | None = None) -> AttemptError:
        """Return the error of a stream without a complete answer. The partial answer is kept as the error's body.

        `reason` says how it broke; None if the server ended it properly.
        """
        if reason is None and self._words_at_end is not None:
            return self._error_in(self._words_at_end)
        reason = reason or "it ended without a finish reason and without [DONE]"
        so_far = jsontext.encode(self.response()) if self.events else b""
        said = f"the stream broke off after {self.events} events: {reason}".removesuffix(MAY_BE_BILLED)
        return invalid(f"{said} (stream_incomplete){MAY_BE_BILLED}", so_far)

    def _error_in(self, data: bytes) -> AttemptError:
        return error_in(data, partial=self.response(), sent=self._sent)

    def _is_plain(self, data: bytes) -> bool:
        """Take a chunk that is only text, the fast path for most chunks; return whether it was one."""
        try:
            chunk = _decode_plain(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._try_plain -= 1
            return False
        if len(chunk.choices) != 1 or chunk.object == "error":
            return False
        choice = chunk.choices[0]
        parts = self._choices.get(choice.index)
        if parts is None:
            return False
        if parts.take_text(choice.delta):
            self.contents += 1
        return True

    def response(self) -> dict[str, Any]:
        """Return the answer so far, in the form of a response without streaming."""
        response: dict[str, Any] = {name: value for name, value in self._envelope.items() if name != "object"}
        kind = str(self._envelope.get("object") or "").removesuffix(".chunk")
        response["object"] = kind or "chat.completion"
        response["choices"] = [self._choices[index].response(index) for index in sorted(self._choices)]
        if self._usage is not None:
            response["usage"] = self._usage
        return response

    def _repaired(self, data: bytes) -> _Chunk:
        """Read a chunk with unusual types. Raises AttemptError if that fails."""
        try:
            decoded = jsontext.decode(data)
        except jsontext.JsonError as error:
            raise invalid(f"event {self.events} of the stream is not JSON ({error})", data) from error
        self.text_repaired = self.text_repaired or not _is_utf8(data)
        if not isinstance(decoded, dict) and error_object(decoded):
            raise self._error_in(data)
        if not isinstance(decoded, dict):
            raise invalid(f"event {self.events} of the stream is a JSON {type(decoded).__name__}, not an object", data)
        try:
            return msgspec.convert(_with_usual_types(decoded), _FirstChunk, strict=False)
        except msgspec.MsgspecError as error:
            raise invalid(f"event {self.events} of the stream is not a chunk ({error})", data) from error

    def _take_envelope(self, chunk: _FirstChunk) -> None:
        """Keep the first non-empty value of each field; Azure's first chunk has empty ones."""
        for name in _ENVELOPE:
            value = getattr(chunk, name)
            if value and name not in self._envelope:
                self._envelope[name] = value
        # Once a chunk with choices has come, new fields are unlikely, and looking for them in every chunk costs time.
        self._envelope_is_open = not chunk.choices or "model" not in self._envelope
        self._try_plain = _MOST_NOT_PLAIN if self._chat and not self._envelope_is_open else 0

    def _take_choice(self, choice: _Choice) -> None:
        if choice.finish_reason in GAVE_UP and self.finished:
            raise invalid(f"a choice ended with the finish reason {choice.finish_reason!r}")
        parts = self._choices.get(choice.index)
        if parts is None:
            parts = self._choices[choice.index] = _ChoiceParts(chat=self._chat)
        if parts.take(choice):
            self.contents += 1
        if isinstance(choice.usage, dict) and self._usage is None:
            self._usage = choice.usage


class _ChoiceParts:
    """The parts of one choice."""

    __slots__ = (
        "audio",
        "chat",
        "comes_in_deltas",
        "error",
        "finish_reason",
        "function_call",
        "logprobs",
        "role",
        "texts",
        "tool_calls",
    )

    def __init__(self, *, chat: bool) -> None:
        self.chat = chat
        self.comes_in_deltas = False
        self.role: str | None = None
        self.texts: dict[str, list[str]] = {}
        self.tool_calls: list[_ToolParts] = []
        self.function_call: _ToolParts | None = None
        self.logprobs: dict[str, Any] | None = None
        self.audio: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.error: Any = None

    def take(self, choice: _Choice) -> bool:
        """Take one part; return whether it holds part of the answer."""
        has_content = False
        if not self.chat:
            has_content = choice.text is not None and self._add("text", choice.text)
        elif choice.delta is not None:
            self.comes_in_deltas = True
            has_content = self._take_delta(choice.delta)
        elif choice.message is not None and not (self.comes_in_deltas and self._has_content()):
            has_content = self._take_delta(choice.message)
        elif choice.text is not None:
            has_content = self._add("content", choice.text)
        if choice.logprobs is not None:
            self._take_logprobs(choice.logprobs)
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        if choice.error and says_something(choice.error):
            self.error = choice.error
        return has_content

    def _has_content(self) -> bool:
        """Return whether any content has come, which a whole message at the end would repeat."""
        return bool(self.tool_calls) or any(piece for pieces in self.texts.values() for piece in pieces)

    def take_text(self, delta: _PlainDelta) -> bool:
        """Take a delta that is only text; return whether the text is not empty."""
        if delta.role is not None:
            self.role = delta.role
        return self._add("content", delta.content)

    def _take_delta(self, delta: _Delta) -> bool:
        has_content = False
        if delta.content is not None:
            has_content = self._add("content", delta.content)
        if delta.role is not None:
            self.role = delta.role
        if delta.reasoning is not None:
            has_content = self._add("reasoning", delta.reasoning) or has_content
        if delta.reasoning_content is not None:
            has_content = self._add("reasoning_content", delta.reasoning_content) or has_content
        if delta.refusal is not None:
            has_content = self._add("refusal", delta.refusal) or has_content
        if delta.tool_calls:
            has_content = True
            for call in delta.tool_calls:
                self._take_tool_call(call)
        if delta.function_call is not None:
            has_content = True
            self.function_call = self.function_call or _ToolParts(0)
            self.function_call.take(_ToolCall(function=delta.function_call))
        if delta.audio is not None:
            self.audio = _joined(self.audio or {}, delta.audio)
        return has_content

    def _add(self, name: str, text: str) -> bool:
        pieces = self.texts.get(name)
        if pieces is None:
            self.texts[name] = [text]
        else:
            pieces.append(text)
        return bool(text)

    def _take_tool_call(self, call: _ToolCall) -> None:
        parts = next((one for one in reversed(self.tool_calls) if one.continues(call)), None)
        if parts is None:
            parts = _ToolParts(call.index if call.index is not None else len(self.tool_calls))
            self.tool_calls.append(parts)
        parts.take(call)

    def _take_logprobs(self, logprobs: dict[str, Any]) -> None:
        """Join the lists inside. A member may be null in one chunk and a list in the next."""
        self.logprobs = _joined(self.logprobs or {}, logprobs)

    def response(self, index: int) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index}
        if self.chat:
            choice["message"] = self._message()
        else:
            choice["text"] = "".join(self.texts.get("text", ()))
        choice["finish_reason"] = self.finish_reason
        if self.logprobs is not None:
            choice["logprobs"] = self.logprobs
        if self.error:
            choice["error"] = self.error
        return choice

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": self.role or "assistant", "content": None}
        message |= {name: "".join(pieces) for name, pieces in self.texts.items()}
        if self.tool_calls:
            message["tool_calls"] = [call.response() for call in sorted(self.tool_calls, key=lambda call: call.index)]
        if self.function_call is not None:
            message["function_call"] = self.function_call.function()
        if self.audio is not None:
            message["audio"] = self.audio
        return message


class _ToolParts:
    """The fragments of one tool call."""

    __slots__ = ("arguments", "id", "index", "name", "type")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id: str | None = None
        self.type: str | None = None
        self.name = ""
        self.arguments: list[str] = []

    def continues(self, call: _ToolCall) -> bool:
        """Return whether a fragment belongs to this call.

        The index decides. A server that gives several whole calls the same index tells them apart by their ids. A server
        without indexes sends the fragments of a call one after the other, with the function's name in the first.
        """
        if call.index is not None and call.index != self.index:
            return False
        function = call.function
        if function is None or not function.name:
            return True
        if call.id:
            return self.id is None or call.id == self.id
        return call.index is not None and not (function.arguments and self._is_whole())

    def _is_whole(self) -> bool:
        """Return whether the arguments are a complete JSON object."""
        try:
            return isinstance(jsontext.decode("".join(self.arguments).encode("utf-8", "replace")), dict)
        except jsontext.JsonError:
            return False

    def take(self, call: _ToolCall) -> None:
        self.id = self.id or call.id
        self.type = self.type or call.type
        function = call.function
        if function is None:
            return
        if function.name and function.name != self.name:
            self.name += function.name
        if function.arguments:
            self.arguments.append(function.arguments)

    def function(self) -> dict[str, Any]:
        return {"name": self.name, "arguments": "".join(self.arguments)}

    def response(self) -> dict[str, Any]:
        return {"id": self.id, "type": self.type or "function", "function": self.function()}


def _joined(before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Join two parts of an object: lists and the texts of audio grow, other values are replaced."""
    joined = dict(before)
    for name, value in more.items():
        old = joined.get(name)
        if isinstance(old, list) and isinstance(value, list):
            old.extend(value)
        elif isinstance(old, str) and isinstance(value, str) and name in {"data", "transcript"}:
            joined[name] = old + value
        elif value is not None or name not in joined:
            joined[name] = value
    return joined


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


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
