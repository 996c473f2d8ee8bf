"""The tasks of a config as steps of the pipeline, each after the tasks that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.config.model import Config
from runner.pipeline.pipeline import Condition, Step
from runner.processes.pool import Calls
from runner.tasks.base import TaskConfig
from runner.tasks.conditions import with_locators
from runner.tasks.dependencies import effective_samples, inputs_between, inputs_of, names_in, order
from runner.types import Execute

__all__ = ["build_steps", "ordered"]


def build_steps(config: Config, execute: Execute, calls: Calls) -> list[Step]:
    """Return the tasks as steps, each after the tasks that it reads. `calls` runs blocking code in other processes."""
    files, names = config.media_files, names_in(config.run_tasks)
    return [
        Step(
            task=task.build(execute, files, calls),
            samples=count,
            inputs=read,
            judges=task.judges,
            condition=_compiled(task.condition, {name: alias for name, alias in names.items() if alias in read}),
            columns=task.columns,
        )
        for task, count, read in ordered(config)
    ]


def _compiled(condition: Any, names: Mapping[str, str]) -> Condition | None:
    if condition is None:
        return None
    from runner.tasks.condition_models import CompiledCondition  # it is loaded already, because the config has a condition

    return CompiledCondition(condition, inputs_of(with_locators(condition), names))


def ordered(config: Config) -> list[tuple[TaskConfig, int, Sequence[str]]]:
    """Return each task with its samples and inputs, in order of dependency."""
    tasks = {task.name: task for task in config.run_tasks}
    inputs = inputs_between(list(tasks.values()))
    samples = effective_samples({name: task.samples for name, task in tasks.items()}, inputs)
    return [(tasks[name], samples[name], inputs[name]) for name in order(inputs)]
