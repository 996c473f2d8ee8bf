"""The tasks of a config as steps of the pipeline, each after those that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.config.model import Config
from runner.pipeline.pipeline import Condition, Step
from runner.processes.pool import Calls
from runner.tasks.base import TaskConfig
from runner.tasks.conditions import with_locators
from runner.tasks.dependencies import effective_samples, inputs_of, order
from runner.types import Execute

__all__ = ["build_steps", "ordered"]


def build_steps(config: Config, execute: Execute, calls: Calls) -> list[Step]:
    """Return the tasks, each after those it reads; `calls` does apart what could hold up the program."""
    files = config.media_files
    return [
        Step(
            task=task.build(execute, files, calls),
            samples=count,
            inputs=read,
            judges=task.judges,
            condition=_compiled(task.condition, read),
        )
        for task, count, read in ordered(config)
    ]


def _compiled(condition: Any, read: Sequence[str]) -> Condition | None:
    if condition is None:
        return None
    from runner.tasks.condition_models import CompiledCondition  # it is loaded already, for the config has a condition

    return CompiledCondition(condition, inputs_of(with_locators(condition), read))


def ordered(config: Config) -> list[tuple[TaskConfig, int, Sequence[str]]]:
    """Return each task with its samples and inputs, in order of dependency."""
    tasks = {task.name: task for task in config.run_tasks}
    inputs = {name: inputs_of(dict(task.readable), list(tasks)) for name, task in tasks.items()}
    samples = effective_samples({name: task.samples for name, task in tasks.items()}, inputs)
    return [(tasks[name], samples[name], inputs[name]) for name in order(inputs)]
