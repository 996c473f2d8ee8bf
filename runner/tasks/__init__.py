"""The task types: the list of the built-in ones, and the lookup of those that packages offer.

A task type is one file with two classes: its part of the config (`TaskConfig`) and the task itself (`Task`). It is loaded only
if a config has such a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from inspect import signature
from typing import Annotated, Any, cast

from pydantic import TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from runner.tasks.base import TaskConfig
from runner.tasks.fields import Late, VerbatimModel

__all__ = ["TASK_TYPES", "AnyTask", "task_config"]

#: The config class of each built-in task type: its module in this package, and its name.
TASK_TYPES: Mapping[str, tuple[str, str]] = {
    "chat_completion": ("chat_completion", "ChatCompletionConfig"),
    "completion": ("completion", "CompletionConfig"),
    "embedding": ("embedding", "EmbeddingConfig"),
    "auto_evaluation.guided_decoding": ("guided_decoding", "GuidedDecodingConfig"),
    "metric": ("metric", "MetricConfig"),
    "auto_evaluation.pairwise": ("pairwise", "PairwiseConfig"),
}


def task_config(task_type: str) -> type[TaskConfig]:
    """Return the config class of a task type. Raises KeyError for an unknown type, ValueError for an unusable plug-in."""
    if task_type not in TASK_TYPES:
        return _offered(task_type)
    module, name = TASK_TYPES[task_type]
    found: type[TaskConfig] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def _offered(task_type: str) -> type[TaskConfig]:
    """Return the config class that a package offers. Raises KeyError if there is none, ValueError if it is unusable."""
    from runner.plugins import TASKS_GROUP, loaded_offer, offer_of  # imported only for a type that is not built in

    offer = offer_of(TASKS_GROUP, task_type)
    if offer is None:
        raise KeyError(task_type)
    found = loaded_offer(offer)
    if (why := _why_no_task(found)) is not None:
        raise ValueError(f"{task_type!r} of {offer}: {offer.where} {why}")
    task: type[TaskConfig] = found
    return task


def _why_no_task(found: Any) -> str | None:
    """Return why an offered object is not a task type, or None."""
    if not (isinstance(found, type) and issubclass(found, TaskConfig)):
        return "is not a subclass of runner.tasks.base.TaskConfig"
    settings = found.model_fields.get("configuration")
    model = None if settings is None else settings.annotation
    if not (isinstance(model, type) and issubclass(model, VerbatimModel)):
        return "has no field `configuration` whose type is a subclass of runner.tasks.fields.VerbatimModel"
    wanted = signature(TaskConfig.build).parameters
    if found.build is TaskConfig.build or len(signature(found.build).parameters) != len(wanted):
        return f"has no method build({', '.join(wanted)})"
    return None


def _validator(value: Any) -> SchemaValidator:
    """Return the validator for a task by its type. Raises PydanticCustomError if the type is missing or unknown."""
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "Input should be a mapping of keys")
    task_type = value.get("task_type")
    if task_type is None:
        raise PydanticCustomError("union_tag_not_found", "is missing", {"discriminator": "'task_type'"})
    if isinstance(task_type, str):
        with suppress(KeyError):
            return _validator_of(task_type) if task_type in TASK_TYPES else _validator_of_offered(task_type)
    context = {"discriminator": "'task_type'", "tag": str(task_type), "expected_tags": ", ".join(TASK_TYPES)}
    raise PydanticCustomError("union_tag_invalid", "is not a task type", context)


def _validator_of_offered(task_type: str) -> SchemaValidator:
    """Return the validator for tasks of a type that a package offers. Raises PydanticCustomError, KeyError."""
    try:
        return cast("SchemaValidator", task_config(task_type).__pydantic_validator__)  # pydantic's plug-ins are disabled
    except ValueError as error:
        raise PydanticCustomError("no_plug_in", "{why}", {"why": str(error)}) from error


@cache
def _validator_of(task_type: str) -> SchemaValidator:
    """Return the validator for tasks of a type. The path of a mistake begins with the type, as in a union."""
    return SchemaValidator(core_schema.tagged_union_schema({task_type: _schema_of(task_type)}, "task_type"))


def _schema_of(task_type: str) -> CoreSchema:
    return TypeAdapter(task_config(task_type)).core_schema


def _schema() -> CoreSchema:
    return core_schema.tagged_union_schema({task_type: _schema_of(task_type) for task_type in TASK_TYPES}, "task_type")


#: A task in the config, of any type.
AnyTask = Annotated[TaskConfig, Late(_validator, _schema)]
