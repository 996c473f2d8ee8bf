"""The requests of the check, as bodies. Pure.

The probes of chat, completions, image, function calling, audio (`audio_url`) and completions with logprobs are exactly those of
NeMo Evaluator's endpoint checks; the other probes go beyond them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Any

from runner.check.samples import png, wav
from runner.structs import Struct
from runner.tasks.mediatype import data_url
from runner.types import Request

__all__ = ["PARAMETERS", "PROBES", "TOOL", "Asked", "Expect", "Probe", "Stage", "body_of"]


class Expect(Enum):
    """What an answer must have beyond what its request says."""

    #: An answer that is not empty.
    ANSWER = "answer"
    #: Nothing: the request is one of the config's tasks, and an empty answer may be right.
    OWN = "own"
    #: An answer that keeps to its token limit.
    LIMIT = "limit"
    #: A call of the declared tool; its arguments may be cut off.
    TOOL_CALL = "tool call"
    #: A call of the declared tool whose arguments fit its schema.
    WHOLE_TOOL_CALL = "whole tool call"
    #: The colour of the picture.
    COLOUR = "colour"
    #: An error: an answer would mean that the server does not notice the missing image.
    REFUSAL = "refusal"


class Stage(IntEnum):
    """When a probe is asked. Later stages leave out the parameters that were refused."""

    LENGTH = 1
    SAMPLING = 2
    REST = 3


class Probe(Struct, frozen=True, kw_only=True):
    """One kind of request."""

    name: str
    #: The body without the model and the streaming.
    body: Mapping[str, Any]
    #: Whether it is a chat completion, else a text completion.
    chat: bool = True
    expects: Expect = Expect.ANSWER
    stage: Stage = Stage.REST
    #: Whether it is also asked as a stream.
    also_streamed: bool = True

    @property
    def path(self) -> str:
        """The path below the base URL."""
        return "/chat/completions" if self.chat else "/completions"


class Asked(Struct, frozen=True, kw_only=True):
    """One request of the check."""

    #: As in a `Finding`.
    name: str
    model: str
    request: Request
    expects: Expect
    #: The aliases of the tasks that need it.
    needed_by: Sequence[str]
    #: How the request differs from the probe as defined.
    notes: Sequence[str] = ()


#: The parameters that have their own probe.
PARAMETERS = ("max_tokens", "max_completion_tokens", "temperature", "top_p")

TOOL: Mapping[str, Any] = {
    "name": "get_weather",
    "description": "Get the current weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "letters": {"type": "integer"}},
    "required": ["city", "letters"],
    "additionalProperties": False,
}
_ONE_WORD = "What is the capital of France? Answer with one word."
_COUNT = "Count from 1 to 100."
_AS_IN_NEMO = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 256}
_SOUND = "What do you hear? Answer in a few words."


def _user(content: str | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def _with_text(part: Mapping[str, Any], text: str) -> dict[str, Any]:
    return _user([part, {"type": "text", "text": text}])


def _picture(url: str) -> dict[str, Any]:
    asked = _with_text({"type": "image_url", "image_url": {"url": url}}, "Which colour is this picture? Answer with one word.")
    return {**asked, "max_tokens": 16, "temperature": 0.0, "top_p": 1.0}


def _tools(max_tokens: int) -> dict[str, Any]:
    asked = _user("What is the weather in Paris now? Use the tool.")
    tools = [{"type": "function", "function": TOOL}]
    return {**asked, "tools": tools, "max_tokens": max_tokens, "temperature": 0.0, "top_p": 1.0}


def _parameter(name: str, value: float, asked: str, stage: Stage, **more: Any) -> Probe:
    expects = Expect.LIMIT if stage is Stage.LENGTH else Expect.ANSWER
    return Probe(name=name, body={**_user(asked), name: value, **more}, expects=expects, stage=stage, also_streamed=False)


_PARAMETER_PROBES = (
    _parameter("max_tokens", 16, _COUNT, Stage.LENGTH),
    _parameter("max_completion_tokens", 16, _COUNT, Stage.LENGTH),
    _parameter("temperature", 0.6, _ONE_WORD, Stage.SAMPLING, max_tokens=256),
    _parameter("top_p", 0.95, _ONE_WORD, Stage.SAMPLING, max_tokens=256),
)

_CHAT_PROBES = (
    Probe(name="chat", body={**_user(_ONE_WORD), **_AS_IN_NEMO}),
    Probe(name="n", body={**_user("Name an animal."), "n": 2, "max_tokens": 16}),
    Probe(
        name="seed",
        body={**_user("Write a short sentence about any animal."), "seed": 7, "temperature": 1.0, "max_tokens": 16},
    ),
    Probe(name="logprobs", body={**_user(_ONE_WORD), "logprobs": True, "top_logprobs": 2, "max_tokens": 16}),
    Probe(
        name="json_object",
        body={
            **_user("Which city is the capital of France, and of which country is it the capital? Answer in JSON."),
            "response_format": {"type": "json_object"},
            "max_tokens": 256,
        },
    ),
    Probe(
        name="json_schema",  # the question does not ask for JSON: an answer that fits shows that the schema was used
        body={
            **_user("Which city is the capital of France, and how many letters has its name?"),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "capital", "strict": True, "schema": _SCHEMA},
            },
            "max_tokens": 256,
        },
    ),
    Probe(name="tools", body=_tools(16), expects=Expect.TOOL_CALL),
    Probe(name="tools_whole", body=_tools(256), expects=Expect.WHOLE_TOOL_CALL),
)

_MEDIA_PROBES = (
    Probe(name="image", body=_picture(data_url("image/png", png())), expects=Expect.COLOUR),
    Probe(name="image_empty", body=_picture(""), expects=Expect.REFUSAL, also_streamed=False),
    Probe(
        name="audio_url",  # vLLM's form
        body={
            **_with_text({"audio_url": {"url": data_url("audio/wav", wav())}, "type": "audio_url"}, _SOUND),
            "max_tokens": 256,
        },
    ),
    Probe(
        name="input_audio",  # OpenAI's form
        body={
            **_with_text(
                {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav()).decode(), "format": "wav"}}, _SOUND
            ),
            "max_tokens": 256,
        },
    ),
)

_COMPLETION_PROBES = (
    Probe(name="completions", body={"prompt": "The capital of France is", **_AS_IN_NEMO}, chat=False),
    Probe(
        name="completions_logprobs",
        body={"prompt": "3 + 3 = 6", "max_tokens": 1, "logprobs": 1, "echo": True},
        chat=False,
    ),
)

#: All probes, in the order in which they are shown.
PROBES: tuple[Probe, ...] = (*_PARAMETER_PROBES, *_CHAT_PROBES, *_MEDIA_PROBES, *_COMPLETION_PROBES)


def body_of(probe: Probe, *, model: str, stream: bool, instead: Mapping[str, str | None]) -> dict[str, Any]:
    """Return a probe's body for a model.

    `instead` names the parameters that the model refuses, each with its replacement, or None. They are replaced in chat
    bodies, except in the probes of these parameters: one refused parameter must not hide what else works.
    """
    body: dict[str, Any] = {"model": model, **probe.body}
    for name in instead.keys() & body.keys() if probe.chat and probe.name not in instead else ():
        value, other = body.pop(name), instead[name]
        if other is not None:
            body[other] = value
    body["stream"] = stream
    if stream:
        body["stream_options"] = {"include_usage": True}
    return body
