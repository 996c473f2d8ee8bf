"""The parts of one choice of a streamed answer, put together: its texts, tool calls, logprobs and audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner import jsontext
from runner.endpoint.answers.chunks import Choice, Delta, PlainDelta, ToolCall
from runner.endpoint.answers.refusals import says_something

__all__ = ["ChoiceParts"]


class ChoiceParts:
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
        """`chat` is false for a text completion, whose answer is its choices' `text`."""
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

    def take(self, choice: Choice) -> bool:
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

    def take_text(self, delta: PlainDelta) -> bool:
        """Take a delta that is only text; return whether the text is not empty."""
        if delta.role is not None:
            self.role = delta.role
        return self._add("content", delta.content)

    def _take_delta(self, delta: Delta) -> bool:
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
            self.function_call.take(ToolCall(function=delta.function_call))
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

    def _take_tool_call(self, call: ToolCall) -> None:
        parts = next((one for one in reversed(self.tool_calls) if one.continues(call)), None)
        if parts is None:
            parts = _ToolParts(call.index if call.index is not None else len(self.tool_calls))
            self.tool_calls.append(parts)
        parts.take(call)

    def _take_logprobs(self, logprobs: dict[str, Any]) -> None:
        """Join the lists inside. A member may be null in one chunk and a list in the next."""
        self.logprobs = _joined(self.logprobs or {}, logprobs)

    def response(self, index: int) -> dict[str, Any]:
        """Return the choice so far, as in a response without streaming."""
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

    def continues(self, call: ToolCall) -> bool:
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
            return isinstance(jsontext.decode("".join(self.arguments)), dict)
        except jsontext.JsonError:
            return False

    def take(self, call: ToolCall) -> None:
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
