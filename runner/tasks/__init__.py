"""The task types: what a task is, and the list of those there are.

A task type is one file with two classes: its part of the config (`TaskConfig`) and the task itself (`Task`). It is loaded where
a config has such a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any

from pydantic import TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from runner.tasks.base import TaskConfig
from runner.tasks.fields import Late

__all__ = ["TASK_TYPES", "AnyTask", "task_config"]

#: Where each task type's part of the config is: its module below this one, and its class.
TASK_TYPES: Mapping[str, tuple[str, str]] = {
    "chat_completion": ("chat_completion", "ChatCompletionConfig"),
    "completion": ("completion", "CompletionConfig"),
    "embedding": ("embedding", "EmbeddingConfig"),
    "auto_evaluation.guided_decoding": ("guided_decoding", "GuidedDecodingConfig"),
    "metric": ("metric", "MetricConfig"),
    "auto_evaluation.pairwise": ("pairwise", "PairwiseConfig"),
}


def task_config(task_type: str) -> type[TaskConfig]:
    """Return a task type's part of the config."""
    module, name = TASK_TYPES[task_type]
    found: type[TaskConfig] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def _validator(value: Any) -> SchemaValidator:
    """Return what checks a task by its type. Raises PydanticCustomError where it has none, or one that is not there."""
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "Input should be a mapping of keys")
    task_type = value.get("task_type")
    if task_type is None:
        raise PydanticCustomError("union_tag_not_found", "is missing", {"discriminator": "'task_type'"})
    if not isinstance(task_type, str) or task_type not in TASK_TYPES:
        context = {"discriminator": "'task_type'", "tag": str(task_type), "expected_tags": ", ".join(TASK_TYPES)}
        raise PydanticCustomError("union_tag_invalid", "is no task type", context)
    return _validator_of(task_type)


@cache
def _validator_of(task_type: str) -> SchemaValidator:
    """Return what checks tasks of a type; as of a union, the place of a mistake begins with the type."""
    return SchemaValidator(core_schema.tagged_union_schema({task_type: _schema_of(task_type)}, "task_type"))


def _schema_of(task_type: str) -> CoreSchema:
    return TypeAdapter(task_config(task_type)).core_schema


def _schema() -> CoreSchema:
    return core_schema.tagged_union_schema({task_type: _schema_of(task_type) for task_type in TASK_TYPES}, "task_type")


#: A task in the config, whichever type it has.
AnyTask = Annotated[TaskConfig, Late(_validator, _schema)]
