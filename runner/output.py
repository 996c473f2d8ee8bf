"""What a later task reads under the alias of an answer: its text, with its other parts as attributes, or its vector.

An answer that was asked for as JSON is its text too, and read as JSON by those who ask for a member of it.
"""

from __future__ import annotations

from typing import Any, Self

from runner import jsontext
from runner.reading.reasoning import split_reasoning

__all__ = [
    "JUDGE",
    "PARTS",
    "Output",
    "asked_for_json",
    "asks_for_json",
    "counts",
    "json_of",
    "request_of",
    "stand_in",
    "vectors_of",
]

#: The parts of an answer that locators and templates may read, as in `item.answer.tool_calls`.
PARTS = frozenset({"content", "finish_reason", "reasoning", "refusal", "tool_calls"})
#: Keys of a request that can ask for JSON; one of them stands in every body that does.
_ASKING = ("response_format", "guided_json", "structured_outputs")
_FORMATS = ("json_object", "json_schema")
#: The type of a task that judges with a model.
JUDGE = "auto_evaluation.guided_decoding"


class Output(str):
    """The text of an answer without reasoning that stands in it; empty where there is none, or it was cut off within.

    It is a plain string to everything that does not ask for more. Public attributes can be read by templates, so there are
    none beyond `PARTS`.
    """

    __slots__ = ("_json", "_request", "_tool_calls", "_value", "content", "finish_reason", "reasoning", "refusal")

    #: The text as the server sent it.
    content: str
    #: The three are None where the server did not say; reasoning that stands in the text counts as said.
    reasoning: str | None
    refusal: str | None
    finish_reason: str | None
    _tool_calls: str | None
    #: The body that was sent, looked at when a member is asked for; then whether it asks for JSON.
    _request: str | bool | None
    #: What the text says as JSON, in a tuple, once somebody has asked for it.
    _json: tuple[Any] | None
    #: What a judge's verdict counts.
    _value: float | None

    def __new__(
        cls,
        text: str | None,
        *,
        value: float | None = None,
        tool_calls: str | None = None,
        reasoning: str | None = None,
        refusal: str | None = None,
        finish_reason: str | None = None,
        request: str | bool | None = None,
    ) -> Self:
        """Take the parts as a response has them: `tool_calls` as JSON text, and `request` as the body was kept.

        In place of the request stands True where the answer is known to be JSON, or a choice.
        """
        content = text or ""
        answer, in_text = split_reasoning(content)
        output = super().__new__(cls, answer or "")
        output._tool_calls, output._request, output._json, output._value = tool_calls, request, None, value
        output.content = content
        reasoning = in_text if reasoning is None else reasoning
        output.reasoning, output.refusal, output.finish_reason = reasoning, refusal, finish_reason
        return output

    @property
    def tool_calls(self) -> list[Any]:
        """The tool calls as the server sent them; empty where there were none. Decoded when asked for, and never shared."""
        calls = jsontext.decode(self._tool_calls.encode()) if self._tool_calls else []
        return calls if isinstance(calls, list) else [calls]

    def _asked_for_json(self) -> bool:
        if not isinstance(self._request, bool):
            self._request = self._request is not None and asks_for_json(self._request)
        return self._request

    def _decoded(self) -> Any:
        if self._json is None:
            try:
                self._json = (jsontext.decode(self.encode()),)
            except jsontext.JsonError as error:
                raise jsontext.JsonError(f"the answer is no JSON ({error}): {jsontext.shown(self)}") from error
        return self._json[0]


def asked_for_json(answer: Output) -> bool:
    """Whether the request of an answer asked for JSON."""
    return answer._asked_for_json()  # noqa: SLF001  its own module; templates read what is public


def json_of(answer: Output) -> Any:
    """Return what the text of an answer says as JSON. Raises JsonError."""
    return answer._decoded()  # noqa: SLF001  its own module; templates read what is public


def request_of(task_type: str, request: str | None) -> str | bool | None:
    """Return what tells whether an answer is JSON: the body of its request, or that a judge gave it, whose verdict was read."""
    return True if task_type == JUDGE else request


def counts(answer: object) -> float | None:
    """Return what a judge's verdict counts; None of anything else, and of a verdict that counts nothing."""
    return answer._value if isinstance(answer, Output) else None  # noqa: SLF001  its own module


def asks_for_json(request: str) -> bool:
    """Whether the body of a request, as JSON text, asks for an answer in JSON."""
    if not any(f'"{key}"' in request for key in _ASKING):
        return False
    body = jsontext.decode(request.encode())
    form, structured = (body.get(key) for key in ("response_format", "structured_outputs"))
    return (
        (isinstance(form, dict) and form.get("type") in _FORMATS)
        or body.get("guided_json") is not None
        or (isinstance(structured, dict) and structured.get("json") is not None)
    )


def vectors_of(text: str | None) -> Any:
    """Return an embedding as it is read: the vector of a text, or a list of them, for it is kept as JSON text."""
    return jsontext.decode((text or "[]").encode())


class _Everything(dict[str, Output]):
    """What stands for an answer in JSON that nobody has given: it has every member."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str)

    def __missing__(self, key: str) -> Output:
        return _filled(_Member(f"<{self._name}.{key}>"), f"{self._name}.{key}", is_json=True)


class _Member(Output):
    """A member of what stands for an answer in JSON; also a method of its text, for it may be meant."""

    __slots__ = ()

    def __call__(self, *_args: Any, **_named: Any) -> Self:
        return self


def stand_in(name: str, *, is_json: bool = False) -> Output:
    """Return what can be read of a task that has not been asked: `<name>`, with one tool call and every other part.

    Where the answer would be JSON, every member of it can be read too.
    """
    text = f"<{name}>"
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": "{}"}}
    output = Output(text, tool_calls=jsontext.encode_str([call]), reasoning=text, refusal=text, finish_reason="stop")
    return _filled(output, name, is_json=is_json)


def _filled(output: Output, name: str, *, is_json: bool) -> Output:
    output._request, output._json = is_json, (_Everything(name),)  # noqa: SLF001  its own module
    return output
