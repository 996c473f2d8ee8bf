"""The task type `completion`: /v1/completions, text in and text out."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from runner.tasks.fields import Locatable, VerbatimModel
from runner.tasks.request import AskingConfig, Count, Model, Penalty

__all__ = ["CompletionConfig", "CompletionConfiguration"]


class CompletionConfiguration(VerbatimModel):
    """The request parameters by their wire names. They are sent exactly as given, and no other is sent."""

    model: Model
    prompt: Locatable[str | list[Any]]
    best_of: Locatable[Count] | None = None
    echo: Locatable[bool] | None = None
    frequency_penalty: Locatable[Penalty] | None = None
    logit_bias: Locatable[dict[str, Locatable[float]]] | None = None
    logprobs: Locatable[Annotated[int, Field(ge=0)]] | None = None
    max_tokens: Locatable[Annotated[int, Field(ge=0)]] | None = None
    n: Locatable[Count] | None = None
    presence_penalty: Locatable[Penalty] | None = None
    seed: Locatable[int] | None = None
    stop: Locatable[str | list[str]] | None = None
    stream_options: Locatable[dict[str, Any]] | None = None
    suffix: Locatable[str] | None = None
    temperature: Locatable[Annotated[float, Field(ge=0)]] | None = None
    top_k: Locatable[int] | None = None
    top_p: Locatable[Annotated[float, Field(ge=0, le=1)]] | None = None
    user: Locatable[str] | None = None
    extra_body: dict[str, Any] | None = None
    """Parameters of a server beyond the names above; they are merged into the body."""


class CompletionConfig(AskingConfig):
    """Have a model complete a text once for each sample."""

    path: ClassVar[str] = "/completions"
    task_type: Literal["completion"]
    stream: bool = False
    """Whether to stream the answer; adds `stream_options: {include_usage: true}` unless `stream_options` is given."""
    configuration: CompletionConfiguration
