"""The task type `chat_completion`: /v1/chat/completions, with the parameters of OpenAI's API and Scale SGP's v5 evaluations."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from runner.tasks.fields import Locatable, VerbatimModel
from runner.tasks.request import CHAT_PATH, AskingConfig, Count, Model, Penalty

__all__ = ["ChatCompletionConfig", "ChatCompletionConfiguration", "ChatParameters"]

_Object = dict[str, Any]


class ChatParameters(VerbatimModel):
    """The request parameters by their wire names, without the model and the messages."""

    audio: Locatable[_Object] | None = None
    frequency_penalty: Locatable[Penalty] | None = None
    function_call: Locatable[str | _Object] | None = None
    functions: Locatable[list[Locatable[_Object]]] | None = None
    logit_bias: Locatable[dict[str, Locatable[float]]] | None = None
    logprobs: Locatable[bool] | None = None
    max_completion_tokens: Locatable[Count] | None = None
    max_tokens: Locatable[Count] | None = None
    metadata: Locatable[_Object] | None = None
    modalities: Locatable[list[str]] | None = None
    n: Locatable[Count] | None = None
    parallel_tool_calls: Locatable[bool] | None = None
    prediction: Locatable[_Object] | None = None
    presence_penalty: Locatable[Penalty] | None = None
    reasoning_effort: Locatable[str] | None = None
    response_format: Locatable[_Object] | None = None
    seed: Locatable[int] | None = None
    service_tier: Locatable[str] | None = None
    stop: Locatable[str | list[str]] | None = None
    store: Locatable[bool] | None = None
    stream_options: Locatable[_Object] | None = None
    temperature: Locatable[Annotated[float, Field(ge=0)]] | None = None
    tool_choice: Locatable[str | _Object] | None = None
    tools: Locatable[list[Locatable[_Object]]] | None = None
    top_k: Locatable[int] | None = None
    top_logprobs: Locatable[Annotated[int, Field(ge=0)]] | None = None
    top_p: Locatable[Annotated[float, Field(ge=0, le=1)]] | None = None
    user: Locatable[str] | None = None
    extra_body: _Object | None = None
    """Parameters of a server beyond the names above; they are merged into the body."""


class ChatCompletionConfiguration(ChatParameters):
    """The request parameters by their wire names. They are sent exactly as given, and no other is sent."""

    model: Model
    messages: Locatable[Annotated[list[Locatable[_Object]], Field(min_length=1)]]
    """A list of messages, or a locator to one. A list within it is spliced; ShareGPT's turns (`from`, `value`) work too."""


class ChatCompletionConfig(AskingConfig):
    """Ask a chat model once for each sample."""

    path: ClassVar[str] = CHAT_PATH
    task_type: Literal["chat_completion"]
    stream: bool = False
    """Whether to stream the answer; adds `stream_options: {include_usage: true}` unless `stream_options` is given."""
    configuration: ChatCompletionConfiguration
