"""The metric `cosine_similarity` of texts, as two tasks of a run: one embeds both texts, the other compares the vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner import jsontext
from runner.tasks.embedding import EmbeddingConfig, EmbeddingConfiguration
from runner.tasks.metric import MetricConfiguration
from runner.templates.locators import steps_of, written

__all__ = ["SIDES", "compared_by_vectors", "run_names", "serving_name"]

#: The fields that are compared, in the order of the vectors.
SIDES = ("candidate", "reference")


def serving_name(task: Mapping[str, Any]) -> str | None:
    """Return the name of the task that serves a posted task, or None if it needs no such task."""
    configuration = task["configuration"]
    is_of_texts = task["task_type"] == "metric" and configuration.get("type") == "cosine_similarity"
    return _name(task["alias"]) if is_of_texts else None


def run_names(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the run tasks of posted tasks, in their order."""
    pairs = ((serving_name(task), task["alias"]) for task in tasks)
    return [name for pair in pairs for name in pair if name is not None]


def _name(alias: str) -> str:
    return f"{alias}.vectors"


def compared_by_vectors(said: MetricConfiguration, alias: str, model: str) -> tuple[EmbeddingConfig, MetricConfiguration]:
    """Return the task that embeds both sides, and the configuration of the metric that compares the vectors."""
    name = _name(alias)
    texts = [_as_text(getattr(said, side)) for side in SIDES]
    configuration = EmbeddingConfiguration.model_validate({"model": model, "input": texts})
    compared = {side: f"{written(name)}[{at}]" for at, side in enumerate(SIDES)}
    return (
        EmbeddingConfig.model_construct(task_type="embedding", alias=name, configuration=configuration),
        MetricConfiguration.model_validate({"type": said.type, **compared}),
    )


def _as_text(value: Any) -> str:
    """Return a side of the comparison as a template that always renders to text."""
    if isinstance(value, str) and steps_of(value) is not None:
        return "{{ " + value.strip() + " }}"
    return jsontext.as_text(value)
