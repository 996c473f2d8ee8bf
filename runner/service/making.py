"""Translates each task type of the API to a task of a run.

Only the endpoint can check ranges and the contents of messages and tools. Its refusal becomes the error of the item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.keypaths import KeyPath
from runner.output import JUDGE
from runner.service.asked import Asked, Made
from runner.service.questions import form_of, prompt_of
from runner.service.refusals import not_served
from runner.service.similarity import SIDES, compared_by_vectors
from runner.tasks.chat_completion import ChatCompletionConfig, ChatCompletionConfiguration
from runner.tasks.completion import CompletionConfig, CompletionConfiguration
from runner.tasks.function import CUSTOM_FUNCTION, FunctionConfiguration
from runner.tasks.guided_decoding import GuidedDecodingConfig, GuidedDecodingConfiguration, InferenceArgs
from runner.tasks.metric import MetricConfig, MetricConfiguration
from runner.tasks.wire import types_of
from runner.templates.compile import is_template

__all__ = ["MAKING", "METRIC", "QUESTION", "TEMPLATED", "chat_made", "questions_in"]

CHAT = "chat_completion"
METRIC = "metric"
QUESTION = "auto_evaluation.question"
INFERENCE = "inference"
#: Task types in which only these keys of the configuration may hold templates.
TEMPLATED = {CUSTOM_FUNCTION: ("arg_mapping",)}
#: Keys of a judge's configuration that a question sets.
_ANSWERED = frozenset({"choices", "response_format", "output", "value", "scores"})
#: Keys that a request of an evaluation may not have, because its answer is kept as a whole.
_OF_A_STREAM = ("stream", "stream_options")
#: Keys that no request may have: they could name another model than the one that is looked up here.
_OF_ANOTHER_MODEL = ("extra_body", "models", "fallbacks")
#: Keys that the judge sets in its request.
_OF_A_JUDGE = ("model", "messages", "response_format", "n", "prompt", "system_prompt", "choices")
_CHAT_TYPES = types_of(ChatCompletionConfiguration)
_NAMES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", list: "list", dict: "object"}


def _chat(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath) -> Made:
    _refuse(asked, said, place, *_OF_A_STREAM)
    return chat_made(asked, said, alias, place)


def _refuse(asked: Asked, said: Mapping[str, Any], place: KeyPath, *names: str) -> None:
    for name in names:
        if name in said:
            asked.note((*place, name), "is not accepted here; leave it out")


def chat_made(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath) -> Made:
    """Return the task that sends a chat completion, streamed or not, and note its mistakes."""
    if "messages" not in said:
        asked.note((*place, "messages"), "Field required", "missing")
    _refuse(asked, said, place, *_OF_ANOTHER_MODEL)
    for name, types in _CHAT_TYPES.items():
        value = said.get(name)
        if name not in {"model", *_OF_ANOTHER_MODEL} and not (value is None or is_template(value) or _is_of(value, types)):
            what = " or ".join(word for kind, word in _NAMES.items() if kind in types)
            asked.note((*place, name), f"Input should be a valid {what}", "type_error")
    said = {**said, "model": asked.model(said.get("model"), (*place, "model"))}
    streams = said.get("stream")
    if not (streams is None or isinstance(streams, bool)):
        asked.note((*place, "stream"), "Input should be a valid boolean", "bool_type")
    configuration = ChatCompletionConfiguration.unchecked(said)  # it was checked above
    return ChatCompletionConfig.model_construct(
        task_type=CHAT, alias=alias, configuration=configuration, stream=streams is True
    )


def _is_of(value: Any, types: frozenset[type]) -> bool:
    return type(value) in types or (isinstance(value, int | float) and not isinstance(value, bool) and float in types)


def _metric(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath) -> Made:
    configuration = _validated(MetricConfiguration, said, place, asked)
    if configuration is None:
        return None
    if configuration.type == "cosine_similarity":
        configuration = _of_texts(asked, configuration, alias, place)
    return MetricConfig.model_construct(task_type=METRIC, alias=alias, configuration=configuration)


def _of_texts(asked: Asked, said: MetricConfiguration, alias: str, place: KeyPath) -> MetricConfiguration:
    """Add a task that embeds both texts, and return the metric that compares their vectors."""
    if asked.settings.embeddings is None:
        what = "cosine_similarity of texts needs embeddings, and this service has no endpoint for them"
        asked.note((*place, "type"), what)
        return said
    asked.ask(asked.settings.embeddings.endpoint)
    before, compared = compared_by_vectors(said, alias, asked.settings.embeddings.model)
    asked.take(before, int(place[2]))
    asked.serving[before.name] = SIDES
    return compared


def _guided(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath) -> Made:
    model = asked.model(said.get("model"), (*place, "model"))
    if isinstance(args := said.get("inference_args"), dict):
        _refuse(asked, args, (*place, "inference_args"), *_OF_A_STREAM, *_OF_ANOTHER_MODEL, *_OF_A_JUDGE)
        said = {**said, "inference_args": _with_more(args)}
    guide = asked.settings.endpoints[asked.current].guided if asked.current else "json_schema"
    configuration = _validated(GuidedDecodingConfiguration, {**said, "model": model or "model", "guide": guide}, place, asked)
    if configuration is None:
        return None
    return GuidedDecodingConfig.model_construct(task_type=JUDGE, alias=alias, configuration=configuration)


def _with_more(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request as a config has them: those that only the server may know are in `extra_body`."""
    more = {name: value for name, value in args.items() if name not in InferenceArgs.model_fields}
    known = {name: value for name, value in args.items() if name not in more}
    return known | ({"extra_body": more} if more else {})


def questions_in(posted: Sequence[Any], known: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the questions that tasks name. Raises Refusal (501) for a question that judges cannot answer."""
    found: dict[str, dict[str, Any]] = {}
    for index, task in enumerate(posted):
        named = task["configuration"].get("question_id") if task["task_type"] == QUESTION else None
        question = known.get(named) if isinstance(named, str) else None
        if isinstance(named, str) and question is not None:
            if form_of(question) is None:
                what = f"tasks.{index}: a question of the type {question['question_type']!r}"
                raise not_served(what, ("categorical", "rating", "number", "free_text"))
            if question.get("conditions"):
                raise not_served(f"tasks.{index}: a question with conditions", ("questions without conditions",))
            found[named] = question
    return found


def _question(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath) -> Made:
    """Return the judge that answers a question. The question sets the allowed answers; its prompt is the system prompt."""
    named = said.get("question_id")
    question = asked.questions.get(named) if isinstance(named, str) else None
    if question is None:
        asked.note((*place, "question_id"), f"there is no question {named!r:.80}, or it is archived")
        return None
    said_before = asked.told({"question_id": prompt_of(question)}, place)["question_id"]
    before = {"system_prompt": said_before} if said_before else {}
    rest = {name: value for name, value in said.items() if name not in _ANSWERED}
    return _guided(asked, {**before, **rest, **(form_of(question) or {})}, alias, place)


def _inference(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath) -> Made:
    """Use `args` as the body of a chat completion if they have messages, or of a completion if they have a prompt."""
    args = said.get("args")
    if not isinstance(args, dict) or not ("messages" in args or "prompt" in args):
        asked.note((*place, "args"), "should be an object with `messages` or `prompt`")
        return None
    if said.get("inference_configuration"):
        what = "is not accepted here: the service sets timeouts and retries; leave it out"
        asked.note((*place, "inference_configuration"), what)
    body = {**args, **({"model": said["model"]} if "model" in said else {})}
    if "messages" in args:
        return _chat(asked, body, alias, (*place, "args"))
    body["model"] = asked.model(said.get("model"), (*place, "model"))
    _refuse(asked, body, (*place, "args"), *_OF_A_STREAM, *_OF_ANOTHER_MODEL)
    configuration = CompletionConfiguration.unchecked(body)
    return CompletionConfig.model_construct(task_type="completion", alias=alias, configuration=configuration)


def _function(asked: Asked, said: dict[str, Any], alias: str, place: KeyPath) -> Made:
    if not asked.settings.custom_function:
        asked.note(place[:-1], "custom_function is not enabled here")
        return None
    given = {name: value for name, value in said.items() if value is not None}
    configuration = _validated(FunctionConfiguration, {**given, "type": CUSTOM_FUNCTION}, place, asked)
    if configuration is None:
        return None
    return MetricConfig.model_construct(task_type=METRIC, alias=alias, configuration=configuration)


MAKING = {CHAT: _chat, METRIC: _metric, JUDGE: _guided, QUESTION: _question, INFERENCE: _inference, CUSTOM_FUNCTION: _function}


def _validated(model: type[BaseModel], said: Mapping[str, Any], place: KeyPath, asked: Asked) -> Any:
    """Return the configuration, from the keys that its model has; None, with its mistakes noted, if it is not valid."""
    try:
        return model.model_validate({name: value for name, value in said.items() if name in model.model_fields})
    except ValidationError as error:
        for found in error.errors():
            asked.note((*place, *found["loc"]), found["msg"], found["type"])
        return None
