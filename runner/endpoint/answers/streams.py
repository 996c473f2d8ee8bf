"""Streamed answers: chunks in, the same JSON as without streaming out.

The chunks are OpenAI's, as its dialects really send them: usage in a trailing chunk without choices, on the finish chunk or in
every chunk; tool calls whole or in fragments, several fragments of one call in a single delta, with ids and names repeated;
reasoning under two names; choices interleaved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from runner import jsontext
from runner.endpoint.answers.choice_parts import ChoiceParts
from runner.endpoint.answers.chunks import Choice, Chunk, FirstChunk, decode_chunk, decode_first, decode_plain, unusual_chunk
from runner.endpoint.answers.refusals import GAVE_UP, error_object, says_something
from runner.endpoint.answers.responses import MAY_BE_BILLED, error_in, invalid
from runner.endpoint.answers.sse import DONE
from runner.errors import AttemptError

__all__ = ["StreamAssembler"]

#: A longer stream is a server fault, not an answer. It is not held in memory.
_LARGEST_ANSWER = 32 << 20
_ENVELOPE = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
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
        self._choices: dict[int, ChoiceParts] = {}

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
            chunk = decode_first(data) if self._envelope_is_open else decode_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            chunk = self._repaired(data)
        if (chunk.error and says_something(chunk.error)) or chunk.object == "error":
            raise self._error_in(data)
        if chunk.usage and isinstance(chunk.usage, dict):
            self._usage = chunk.usage
        elif chunk.choices is None:
            self._aside = data, self.contents
        if isinstance(chunk, FirstChunk):
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
            chunk = decode_plain(data)
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

    def _repaired(self, data: bytes) -> Chunk:
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
            return unusual_chunk(decoded)
        except msgspec.MsgspecError as error:
            raise invalid(f"event {self.events} of the stream is not a chunk ({error})", data) from error

    def _take_envelope(self, chunk: FirstChunk) -> None:
        """Keep the first non-empty value of each field; Azure's first chunk has empty ones."""
        for name in _ENVELOPE:
            value = getattr(chunk, name)
            if value and name not in self._envelope:
                self._envelope[name] = value
        # Once a chunk with choices has come, new fields are unlikely, and looking for them in every chunk costs time.
        self._envelope_is_open = not chunk.choices or "model" not in self._envelope
        self._try_plain = _MOST_NOT_PLAIN if self._chat and not self._envelope_is_open else 0

    def _take_choice(self, choice: Choice) -> None:
        if choice.finish_reason in GAVE_UP and self.finished:
            raise invalid(f"a choice ended with the finish reason {choice.finish_reason!r}")
        parts = self._choices.get(choice.index)
        if parts is None:
            parts = self._choices[choice.index] = ChoiceParts(chat=self._chat)
        if parts.take(choice):
            self.contents += 1
        if isinstance(choice.usage, dict) and self._usage is None:
            self._usage = choice.usage


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
