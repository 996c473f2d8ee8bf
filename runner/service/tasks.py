"""Tasks as clients post them, checked and made into tasks of a run.

What only the endpoint can know, ranges and the insides of messages and tools, is not checked: its answer is that item's error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.keypaths import KeyPath
from runner.service.language import in_config, mistakes_in
from runner.service.refusals import Mistake, Refusal, invalid, mistake, not_served
from runner.service.settings import ServiceConfig
from runner.structs import Struct, field
from runner.tasks.base import TaskConfig
from runner.tasks.chat_completion import ChatCompletionConfig, ChatCompletionConfiguration
from runner.tasks.completion import CompletionConfig, CompletionConfiguration
from runner.tasks.dependencies import inputs_of, order
from runner.tasks.function import FunctionConfiguration, FunctionOutput
from runner.tasks.guided_decoding import GuidedDecodingConfig, GuidedDecodingConfiguration
from runner.tasks.metric import MetricConfig, MetricConfiguration
from runner.tasks.wire import types_of
from runner.templates.compile import compile_template, is_template

__all__ = [
    "FUNCTION",
    "SERVED_TYPES",
    "Asked",
    "asked_by",
    "chat_task",
    "function_task",
    "mistakes_of_columns",
    "names_of",
    "with_aliases",
]

CHAT, METRIC, GUIDED, INFERENCE = "chat_completion", "metric", "auto_evaluation.guided_decoding", "inference"
FUNCTION = "custom_function"
SERVED_TYPES = (CHAT, METRIC, GUIDED, INFERENCE, FUNCTION)
#: What a chat completion of an evaluation may not say: its answer is kept as a whole, and what is sent is what is named.
_NOT_OF_A_CLIENT = ("stream", "stream_options", "extra_body")
_CHAT_TYPES = types_of(ChatCompletionConfiguration)
#: Where a text begins with a function, the name of it.
_FUNCTION = re.compile(r"(?:[^\S\n]*(?:#[^\n]*)?\n)*+def\s+(\w+)")
_NAMES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", list: "list", dict: "object"}


class Asked(Struct):
    """What the tasks of a body come to."""

    #: For the run, and as its config says them.
    tasks: list[TaskConfig] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    #: Which endpoint is asked; None where no task asks.
    endpoint: str | None = None
    mistakes: list[Mistake] = field(default_factory=list)

    def model(self, name: Any, place: KeyPath, settings: ServiceConfig) -> str:
        """Return how the endpoint calls a model; what is wrong with it is noted."""
        found = settings.served(name) if isinstance(name, str) and not is_template(name) else None
        if found is None:
            why = "should be the name of a model" if not isinstance(name, str) or is_template(name) else "is not served here"
            self.mistakes.append(mistake(place, f"{name!r:.80} {why}; served are: {', '.join(settings.models)}"))
            return ""
        if self.endpoint not in {None, found.endpoint}:
            self.mistakes.append(mistake(place, f"is asked at `{found.endpoint}`, and an earlier task at `{self.endpoint}`"))
        self.endpoint = self.endpoint or found.endpoint
        return found.model


def with_aliases(tasks: Sequence[Any]) -> list[Any]:
    """Return tasks as they were posted, each with its alias."""
    return [{**task, "alias": _alias(task)} if isinstance(task, dict) else task for task in tasks]


def _alias(task: Mapping[str, Any]) -> Any:
    configuration, kind = task.get("configuration"), task.get("task_type")
    said = configuration if isinstance(configuration, dict) else {}
    metric, source = said.get("type"), said.get("function_source")
    if kind == METRIC and isinstance(metric, str):
        return task.get("alias") or metric
    found = _FUNCTION.match(source) if kind == FUNCTION and isinstance(source, str) else None
    return task.get("alias") or (found[1] if found else str(kind).replace(".", "_"))


def names_of(task: Mapping[str, Any]) -> list[str]:
    """Return the columns that a task with its alias gives."""
    configuration = task.get("configuration")
    outputs = configuration.get("outputs") if task.get("task_type") == FUNCTION and isinstance(configuration, dict) else None
    return [task["alias"], *(FunctionOutput.model_validate(one).name for one in outputs or ())]


def asked_by(posted: Sequence[dict[str, Any]], settings: ServiceConfig) -> Asked:
    """Return what posted tasks come to, and all that is wrong with them. Raises Refusal (501) for a type that is not served."""
    asked = Asked()
    aliases: set[str] = set()
    for index, task in enumerate(with_aliases(posted)):
        place: KeyPath = ("body", "tasks", index)
        kind, configuration, alias = task.get("task_type"), task.get("configuration"), task["alias"]
        if kind not in SERVED_TYPES or "output_rules" in (configuration if isinstance(configuration, dict) else ()):
            raise _no_type(kind, index)
        if not isinstance(configuration, dict):
            asked.mistakes.append(mistake((*place, "configuration"), "Field required", "missing"))
            continue
        if not isinstance(alias, str):
            asked.mistakes.append(mistake((*place, "alias"), "Input should be a valid string", "string_type"))
            continue
        if alias in aliases:
            asked.mistakes.append(mistake((*place, "alias"), f"another task has the alias {alias!r}"))
        aliases.add(alias)
        before = len(asked.mistakes)
        said = _told(asked, kind, configuration, (*place, "configuration"))
        made = _MAKING[kind](asked, said, alias, (*place, "configuration"), settings)
        if made is not None and len(asked.mistakes) == before:
            for name in names_of(task)[1:]:
                if name in aliases:
                    asked.mistakes.append(mistake((*place, "configuration", "outputs"), f"another column is named {name!r}"))
                aliases.add(name)
            asked.tasks.append(made)
            asked.said.append({"task_type": made.task_type, "alias": alias, "configuration": made.settings.verbatim})
    if not asked.mistakes:
        asked.mistakes += _circles(asked.tasks)
    return asked


def _told(asked: Asked, kind: str, configuration: dict[str, Any], place: KeyPath) -> dict[str, Any]:
    """Return a configuration as a config says it; where a client may write templates, they are SGP's."""
    templated = configuration if kind != FUNCTION else {key: configuration[key] for key in _MAPPING if key in configuration}
    asked.mistakes += mistakes_in(templated, place)
    return {**configuration, **in_config(templated)}


def _no_type(kind: Any, index: int) -> Refusal:
    refusal = not_served(f"tasks.{index}: the task type {kind!r:.80}", SERVED_TYPES)
    known = isinstance(kind, str) and kind.partition(".")[0] in {
        *("application_variant", "agentex_output", "auto_evaluation", "contributor_evaluation")
    }
    return (
        refusal
        if known
        else Refusal(422, [mistake(("body", "tasks", index, "task_type"), str(refusal.detail), "literal_error")])
    )


def chat_task(said: dict[str, Any], place: KeyPath, settings: ServiceConfig) -> tuple[Asked, TaskConfig]:
    """Return the task of a chat completion that a client asks for by itself. Raises Refusal with all that is wrong."""
    asked = Asked()
    task = _chat(asked, said, "reply", place, settings)
    if task is None or asked.mistakes:
        raise invalid(*asked.mistakes)
    return asked, task


def _chat(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath, settings: ServiceConfig) -> TaskConfig | None:
    for name in ("model", "messages"):
        if name not in said:
            asked.mistakes.append(mistake((*place, name), "Field required", "missing"))
    for name in _NOT_OF_A_CLIENT:
        if name in said:
            asked.mistakes.append(mistake((*place, name), "is not taken here"))
    for name, types in _CHAT_TYPES.items():
        value = said.get(name)
        if name not in {"model", *_NOT_OF_A_CLIENT} and not (value is None or is_template(value) or _is_of(value, types)):
            what = " or ".join(word for kind, word in _NAMES.items() if kind in types)
            asked.mistakes.append(mistake((*place, name), f"Input should be a valid {what}", "type_error"))
    if "model" in said:
        said = {**said, "model": asked.model(said["model"], (*place, "model"), settings)}
    configuration = ChatCompletionConfiguration.model_construct()
    configuration._verbatim = said  # noqa: SLF001  it is sent as it is, and was checked above
    return ChatCompletionConfig.model_construct(task_type=CHAT, alias=alias, configuration=configuration)


def _is_of(value: Any, types: frozenset[type]) -> bool:
    return type(value) in types or (isinstance(value, int | float) and not isinstance(value, bool) and float in types)


def _metric(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath, settings: ServiceConfig) -> TaskConfig | None:  # noqa: ARG001  as the others have it
    if said.get("type") == "cosine_similarity":
        what = "cosine_similarity of texts needs embeddings, and no endpoint is set for them"
        asked.mistakes.append(mistake((*place, "type"), what))
        return None
    known = {name: value for name, value in said.items() if name in MetricConfiguration.model_fields}
    configuration = _validated(MetricConfiguration, known, place, asked)
    return (
        None
        if configuration is None
        else MetricConfig.model_construct(task_type=METRIC, alias=alias, configuration=configuration)
    )


def _guided(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath, settings: ServiceConfig) -> TaskConfig | None:
    model = asked.model(said.get("model"), (*place, "model"), settings)
    known = {name: value for name, value in said.items() if name in GuidedDecodingConfiguration.model_fields}
    guide = settings.endpoints[asked.endpoint].guided if asked.endpoint else "json_schema"
    configuration = _validated(GuidedDecodingConfiguration, {**known, "model": model or "model", "guide": guide}, place, asked)
    if configuration is None:
        return None
    return GuidedDecodingConfig.model_construct(task_type=GUIDED, alias=alias, configuration=configuration)


def _inference(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath, settings: ServiceConfig) -> TaskConfig | None:
    """Take `args` for the body of a chat completion where they have messages, and of a completion where they have a prompt."""
    args = said.get("args")
    if not isinstance(args, dict) or not ("messages" in args or "prompt" in args):
        asked.mistakes.append(mistake((*place, "args"), "should be an object with `messages` or `prompt`"))
        return None
    body = {**args, **({"model": said["model"]} if "model" in said else {})}
    if "messages" in args:
        return _chat(asked, body, alias, (*place, "args"), settings)
    body["model"] = asked.model(said.get("model"), (*place, "model"), settings)
    for name in _NOT_OF_A_CLIENT:
        if name in body:
            asked.mistakes.append(mistake((*place, "args", name), "is not taken here"))
    configuration = CompletionConfiguration.model_construct()
    configuration._verbatim = body  # noqa: SLF001  as of a chat completion
    return CompletionConfig.model_construct(task_type="completion", alias=alias, configuration=configuration)


#: Of a function's configuration what may hold templates.
_MAPPING = ("arg_mapping",)


def function_task(said: dict[str, Any], settings: ServiceConfig) -> TaskConfig:
    """Return the task of a function that a client tries out. Raises Refusal with all that is wrong."""
    asked, place = Asked(), ("body", "configuration")
    task = _function(asked, _told(asked, FUNCTION, said, place), FUNCTION, place, settings)
    if task is None or asked.mistakes:
        raise invalid(*asked.mistakes)
    return task


def _function(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath, settings: ServiceConfig) -> TaskConfig | None:
    if not settings.custom_function:
        asked.mistakes.append(mistake(place[:-1], "custom_function is not enabled here"))
        return None
    known = {name: value for name, value in said.items() if name in FunctionConfiguration.model_fields and value is not None}
    configuration = _validated(FunctionConfiguration, {**known, "type": FUNCTION}, place, asked)
    if configuration is None:
        return None
    return MetricConfig.model_construct(task_type=METRIC, alias=alias, configuration=configuration)


_MAKING = {CHAT: _chat, METRIC: _metric, GUIDED: _guided, INFERENCE: _inference, FUNCTION: _function}


def _validated(model: type[BaseModel], said: Mapping[str, Any], place: KeyPath, asked: Asked) -> Any:
    try:
        return model.model_validate(dict(said))
    except ValidationError as error:
        asked.mistakes += [mistake((*place, *found["loc"]), found["msg"], found["type"]) for found in error.errors()]
        return None


def _circles(tasks: Sequence[TaskConfig]) -> Iterator[Mistake]:
    names = [task.name for task in tasks]
    inputs = {task.name: inputs_of(dict(task.readable), names) for task in tasks}
    if ring := [name for name in names if name not in order(inputs)]:
        yield mistake(("body", "tasks"), f"these tasks wait for each other: {', '.join(ring)}")


def mistakes_of_columns(tasks: Sequence[TaskConfig], columns: set[str], *, all_seen: bool) -> Iterator[Mistake]:
    """Find aliases that are columns, and what reads neither a column nor an alias, where all columns are known."""
    names = {task.name for task in tasks}
    for index, task in enumerate(tasks):
        place: KeyPath = ("body", "tasks", index)
        if task.name in columns:
            yield mistake((*place, "alias"), f"{task.name!r} is also a column of an item")
        for output in getattr(task.settings, "outputs", ()):
            if output.name in columns:
                yield mistake((*place, "configuration", "outputs"), f"{output.name!r} is also a column of an item")
        for reference in compile_template(dict(task.readable)).references:
            known = columns | names - {task.name}
            if reference.field is not None and reference.field not in known and all_seen:
                what = f"`item.{reference.field}` is no column of any item and no other task's alias"
                yield mistake((*place, *reference.path), f"{what}; there is: {', '.join(sorted(known)[:20])}")
