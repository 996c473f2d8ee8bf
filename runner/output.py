"""What a later task reads under the alias of an answer: its text, with its other parts as attributes, or its vector.

If JSON was requested, the answer is still its text; it is read as JSON when a task asks for a member of it.
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

#: The parts of an answer that locators and templates may read: `item.answer.tool_calls`.
PARTS = frozenset({"content", "finish_reason", "reasoning", "refusal", "tool_calls"})
#: The keys of a request that can ask for JSON. Each body that asks for it has one of them.
_ASKING = ("response_format", "guided_json", "structured_outputs")
_FORMATS = ("json_object", "json_schema")
#: The task type of a judge.
JUDGE = "auto_evaluation.guided_decoding"


class Output(str):
    """The text of an answer without the reasoning in it; empty if there is no text, or it was cut off within its reasoning.

    It behaves as a plain string. Templates can read public attributes, so there are none except `PARTS`.
    """

    __slots__ = ("_json", "_request", "_tool_calls", "_value", "content", "finish_reason", "reasoning", "refusal")

    #: The text as the server sent it.
    content: str
    #: These three are None if the server did not send them; reasoning in the text counts as sent.
    reasoning: str | None
    refusal: str | None
    finish_reason: str | None
    _tool_calls: str | None
    #: The body that was sent; after the first request for a member, whether it asked for JSON.
    _request: str | bool | None
    #: The text decoded as JSON, in a tuple; None until it is first needed.
    _json: tuple[Any] | None
    #: The score of a judge's verdict.
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
        """Take the parts of a response: `tool_calls` as JSON text, and `request` as the body that was kept.

        `request` may also be True: the answer is known to be JSON or a choice.
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
        """The tool calls as the server sent them, or an empty list. Each access decodes them anew, so they are never shared."""
        calls = jsontext.decode(self._tool_calls) if self._tool_calls else []
        return calls if isinstance(calls, list) else [calls]

    def _asked_for_json(self) -> bool:
        if not isinstance(self._request, bool):
            self._request = self._request is not None and asks_for_json(self._request)
        return self._request

    def _decoded(self) -> Any:
        if self._json is None:
            try:
                self._json = (jsontext.decode(self),)
            except jsontext.JsonError as error:
                raise jsontext.JsonError(f"the answer is not JSON ({error}): {jsontext.shown(self)}") from error
        return self._json[0]


def asked_for_json(answer: Output) -> bool:
    """Return whether the request of an answer asked for JSON."""
    return answer._asked_for_json()  # noqa: SLF001  its own module; templates read what is public


def json_of(answer: Output) -> Any:
    """Return the text of an answer decoded as JSON. Raises JsonError."""
    return answer._decoded()  # noqa: SLF001  its own module; templates read what is public


def request_of(task_type: str, request: str | None) -> str | bool | None:
    """Return what `Output` takes as `request`: the body, or True for a judge, whose verdict was read already."""
    return True if task_type == JUDGE else request


def counts(answer: object) -> float | None:
    """Return the score of a judge's verdict; None for a verdict without a score and for anything else."""
    return answer._value if isinstance(answer, Output) else None  # noqa: SLF001  its own module


def asks_for_json(request: str) -> bool:
    """Return whether the body of a request, as JSON text, asks for an answer in JSON."""
    if not any(f'"{key}"' in request for key in _ASKING):
        return False
    body = jsontext.decode(request)
    form, structured = (body.get(key) for key in ("response_format", "structured_outputs"))
    return (
        (isinstance(form, dict) and form.get("type") in _FORMATS)
        or body.get("guided_json") is not None
        or (isinstance(structured, dict) and structured.get("json") is not None)
    )


def vectors_of(text: str | None) -> Any:
    """Return an embedding, which is kept as JSON text: the vector of one text, or a list of vectors."""
    return jsontext.decode(text or "[]")


class _Everything(dict[str, Output]):
    """Stands in for an answer in JSON before there is one: it has every member."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str)

    def __missing__(self, key: str) -> Output:
        return _filled(_Member(f"<{self._name}.{key}>"), f"{self._name}.{key}", is_json=True)


class _Member(Output):
    """A member of that stand-in. It can also be called, because a template may mean a method of the text."""

    __slots__ = ()

    def __call__(self, *_args: Any, **_named: Any) -> Self:
        return self


def stand_in(name: str, *, is_json: bool = False) -> Output:
    """Return a stand-in for the answer of a task that has not been asked: `<name>`, with one tool call and every other part.

    With `is_json` every member can be read too.
    """
    text = f"<{name}>"
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": "{}"}}
    output = Output(text, tool_calls=jsontext.encode_str([call]), reasoning=text, refusal=text, finish_reason="stop")
    return _filled(output, name, is_json=is_json)


def _filled(output: Output, name: str, *, is_json: bool) -> Output:
    output._request, output._json = is_json, (_Everything(name),)  # noqa: SLF001  its own module
    return output
