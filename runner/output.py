"""What a later task reads under the alias of an answer: its text, with its other parts as attributes, or its vector."""

from __future__ import annotations

from typing import Any, Self

from runner import jsontext
from runner.reading.reasoning import split_reasoning

__all__ = ["PARTS", "Output", "stand_in", "vectors_of"]

#: The parts of an answer that locators and templates may read, as in `item.answer.tool_calls`.
PARTS = frozenset({"content", "finish_reason", "reasoning", "refusal", "tool_calls"})


class Output(str):
    """The text of an answer without reasoning that stands in it; empty where there is none, or it was cut off within.

    It is a plain string to everything that does not ask for more. Public attributes can be read by templates, so there are
    none beyond `PARTS`.
    """

    __slots__ = ("_tool_calls", "content", "finish_reason", "reasoning", "refusal")

    #: The text as the server sent it.
    content: str
    #: The three are None where the server did not say; reasoning that stands in the text counts as said.
    reasoning: str | None
    refusal: str | None
    finish_reason: str | None
    _tool_calls: str | None

    def __new__(
        cls,
        text: str | None,
        *,
        tool_calls: str | None = None,
        reasoning: str | None = None,
        refusal: str | None = None,
        finish_reason: str | None = None,
    ) -> Self:
        """Take the parts as a response has them: `tool_calls` as JSON text."""
        content = text or ""
        answer, in_text = split_reasoning(content)
        output = super().__new__(cls, answer or "")
        output._tool_calls = tool_calls
        output.content = content
        reasoning = in_text if reasoning is None else reasoning
        output.reasoning, output.refusal, output.finish_reason = reasoning, refusal, finish_reason
        return output

    @property
    def tool_calls(self) -> list[Any]:
        """The tool calls as the server sent them; empty where there were none. Decoded when asked for, and never shared."""
        calls = jsontext.decode(self._tool_calls.encode()) if self._tool_calls else []
        return calls if isinstance(calls, list) else [calls]


def vectors_of(text: str | None) -> Any:
    """Return an embedding as it is read: the vector of a text, or a list of them, for it is kept as JSON text."""
    return jsontext.decode((text or "[]").encode())


def stand_in(alias: str) -> Output:
    """Return what can be read of a task that has not been asked: `<alias>`, with one tool call and every other part."""
    name = f"<{alias}>"
    call = {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
    return Output(name, tool_calls=jsontext.encode_str([call]), reasoning=name, refusal=name, finish_reason="stop")
