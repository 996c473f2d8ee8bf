"""The task type `auto_evaluation.guided_decoding`: a judge, with the configuration of Scale SGP's v5 evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from runner import jsontext
from runner.errors import RowError
from runner.processes.pool import Calls
from runner.tasks.base import RunCondition, Task, TaskConfig
from runner.tasks.chat_completion import ChatCompletionConfiguration, ChatParameters
from runner.tasks.fields import Locatable, VerbatimModel
from runner.tasks.guides import Guide, by_choices, by_schema, check_form, schema_in
from runner.tasks.judge import JudgeTask, OfChoices, OfSchema, Reading, choices_in
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.request import CHAT_PATH, Model
from runner.tasks.wire import Wire, types_of
from runner.templates.compile import Template, Wanted, compile_template, is_template
from runner.templates.locators import Step, steps_of
from runner.types import LARGEST_VALUE, Execute

__all__ = ["GuidedDecodingConfig", "GuidedDecodingConfiguration", "InferenceArgs"]

_WIRE = Wire(types_of(ChatCompletionConfiguration))
_PROMPTS = {"prompt", "system_prompt"}
#: The settings that may read the row.
_READING = {"model", *_PROMPTS, "choices", "inference_args"}


class InferenceArgs(ChatParameters):
    """Parameters of the request by their wire names, such as `temperature`."""

    @model_validator(mode="after")
    def _leave_the_answer_alone(self) -> Self:
        if self.n not in {None, 1}:
            raise ValueError("`n` must be 1 for a judge; set `samples` for more verdicts")
        if self.response_format is not None:
            raise ValueError("`response_format` goes beside `inference_args`, not into it; with `choices` leave it out")
        return self


class GuidedDecodingConfiguration(VerbatimModel):
    """What a judge is asked, and which verdicts it may give."""

    model: Model
    prompt: Annotated[str, Field(min_length=1)]
    """The question to the judge: a template that reads the row and earlier answers."""
    system_prompt: str | None = None
    """A system message before the prompt."""
    choices: Locatable[Annotated[list[str | int], Field(min_length=1)]] | None = None
    """The verdicts that are allowed."""
    response_format: dict[str, Any] | None = None
    """In place of choices: the JSON schema of the verdict, or OpenAI's `response_format` that holds one."""
    inference_args: InferenceArgs | None = None
    """More parameters of the request."""
    run_condition: RunCondition | None = None
    """A condition; a row that does not meet it is skipped."""
    guide: Guide = "json_schema"
    """How the server is made to give such a verdict: by `response_format`, by a parameter of vLLM, or not at all."""
    scores: dict[str, Annotated[float, Field(ge=-LARGEST_VALUE, le=LARGEST_VALUE)]] = Field(default_factory=dict)
    """The value of each choice, such as `{Yes: 1, No: 0}`. Default: a choice that is a number is its own value."""
    value: str | None = None
    """With a `response_format`: the member that gives the value, such as `grade` or `parts.0.grade`."""

    output: str | None = None
    """With a `response_format`: the member that is the output, such as `answer`. Default: the whole JSON."""

    @field_validator("response_format")
    @classmethod
    def _is_schema(cls, form: dict[str, Any] | None) -> dict[str, Any] | None:
        if form is not None:
            check_form(form)
        return form

    @field_validator("choices")
    @classmethod
    def _differ(cls, choices: Any) -> Any:
        if isinstance(choices, list):
            try:
                choices_in(choices)
            except RowError as error:
                raise ValueError(str(error).partition(": ")[2]) from error
        return choices

    @field_validator("value", "output")
    @classmethod
    def _is_path(cls, value: str | None) -> str | None:
        if value is not None and steps_of(f"item.{value}") is None:
            raise ValueError(f"{value!r} is not a path into the verdict; write it as grade or parts.0.grade")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.choices is None) == (self.response_format is None):
            raise ValueError("needs either `choices` or `response_format`")
        if self.choices is not None and self.output is not None:
            raise ValueError("`output` is a path into the JSON of a `response_format`; with `choices` the output is the choice")
        if self.choices is not None and self.value is not None:
            raise ValueError("`value` is a path into the JSON of a `response_format`; the values of `choices` go into `scores`")
        if self.response_format is not None and self.guide == "guided_choice":
            raise ValueError(
                "`guide: guided_choice` is for `choices`; with a `response_format` use json_schema or structured_outputs"
            )
        if self.response_format is not None and self.scores and self.value is None:
            raise ValueError("`scores` with a `response_format` need `value`, the member that they give a score")
        if isinstance(self.choices, list) and (unknown := [name for name in self.scores if name not in map(str, self.choices)]):
            raise ValueError(f"`scores` has {', '.join(map(repr, unknown))}, which is not one of `choices`")
        return self

    @property
    def readable(self) -> dict[str, Any]:
        """The settings that may read the row."""
        return {key: value for key, value in self.verbatim.items() if key in _READING}


class GuidedDecodingConfig(TaskConfig):
    """Let a model judge. Its verdict is one of several choices, or JSON that fits a schema."""

    task_type: Literal["auto_evaluation.guided_decoding"]
    configuration: GuidedDecodingConfiguration
    agree_with: str | None = None
    """The column with the verdicts of people, such as `item.human`; `totals.judges` shows how far the judge agrees."""

    @field_validator("agree_with")
    @classmethod
    def _is_column(cls, column: str | None) -> str | None:
        if column is not None and steps_of(column) is None:
            raise ValueError(f"{column!r} is not a column of the row; write it as item.human")
        return column

    @property
    def readable(self) -> Mapping[str, Any]:
        """The parts of the task that read the row."""
        return {**super().readable, "agree_with": self.agree_with}

    def build(self, execute: Execute, files: MediaFiles, calls: Calls) -> Task:
        """Return the task, ready to run."""
        settings = self.configuration
        body = _body_of(settings)
        return JudgeTask(
            alias=self.name,
            task_type=self.task_type,
            path=CHAT_PATH,
            stream=False,
            body=body,
            fitting=_WIRE.fitting(body),
            model=None if is_template(settings.model) else settings.model,
            execute=execute,
            files=files,
            reading=_reading_of(settings, calls),
            by_format=settings.guide == "json_schema",
        )


def _body_of(settings: GuidedDecodingConfiguration) -> Template:
    """Return the template of a request body: the prompts become messages, and the guide becomes parameters."""
    said = dict(settings.verbatim)
    args = dict(said.get("inference_args") or {})
    args.update(args.pop("extra_body", None) or {})
    names = ("model", "system_prompt", "prompt", "choices")
    asking = {name: said[name] for name in names if said.get(name) is not None} | args
    template = compile_template(asking, ("configuration",), _wanted)
    guide, form = settings.guide, settings.response_format

    def render(item: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = template.render(item)
        system, prompt = found.pop("system_prompt", None), found.pop("prompt")
        choices = found.pop("choices", None)
        messages = [] if system is None else [{"role": "system", "content": system}]
        asked = {"model": found.pop("model"), "messages": [*messages, {"role": "user", "content": prompt}]}
        guided = by_schema(guide, form) if form is not None else by_choices(guide, choices_in(choices))
        return {**asked, **found, **guided}

    of_wire = tuple(one for one in template.references if one.path[1] not in {*_PROMPTS, "choices"})
    return Template(render, of_wire)


def _wanted(path: tuple[str | int, ...]) -> Wanted:
    if path[1] in _PROMPTS:
        return "text"
    return "value" if path[1] == "choices" else _WIRE.wanted(path)


def _reading_of(settings: GuidedDecodingConfiguration, calls: Calls) -> Reading:
    if settings.choices is not None:
        return OfChoices(
            compile_template(settings.choices, ("configuration", "choices"), lambda _path: "value"), settings.scores
        )
    assert settings.response_format is not None
    schema = jsontext.encode_str(schema_in(settings.response_format))
    return OfSchema(schema, _steps(settings.value), settings.scores, calls, _steps(settings.output))


def _steps(path: str | None) -> tuple[Step, ...] | None:
    return None if path is None else tuple(steps_of(f"item.{path}") or ())
