"""What every task has: a name, inputs, and one result for each sample."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import Field, PrivateAttr, TypeAdapter, model_validator

from runner.processes.pool import Calls
from runner.tasks.conditions import with_locators
from runner.tasks.fields import Late, StrictModel, VerbatimModel
from runner.tasks.mediafiles import MediaFiles
from runner.templates.compile import is_template
from runner.templates.locators import Step
from runner.types import Answer, Execute, Outcome, Result, Sample, Unit

__all__ = [
    "NAME_PATTERN",
    "RunCondition",
    "Task",
    "TaskConfig",
    "alias_in",
    "alias_of",
    "tasks_in",
    "tasks_of",
    "unit_of",
    "wall_clock_us",
    "without_request",
]

#: The pattern of an alias and of the name of an evaluation: safe as a directory and as a column.
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"


def _of_conditions() -> TypeAdapter[Any]:
    from runner.tasks.condition_models import ADAPTER  # hardly any config has a condition

    return ADAPTER


#: A `run_condition` in the config.
RunCondition = Annotated[Any, Late(lambda _: _of_conditions().validator, lambda: _of_conditions().core_schema)]


class Task(Protocol):
    """Turns one sample into one result."""

    @property
    def alias(self) -> str:
        """The name of its result; later tasks read it as `item.<alias>`."""

    @property
    def task_type(self) -> str:
        """The task type, as in the config."""

    @property
    def model(self) -> str | None:
        """The model, if the config names one for all rows."""

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        """Return the result of one sample; never raises for a bad row.

        `item` is the dataset row with the outputs of earlier tasks.
        """


class TaskConfig(StrictModel):
    """The part that the configs of all tasks have in common."""

    #: Whether the task sends nothing, and only judges the results of other tasks.
    judges: ClassVar[bool] = False

    task_type: str
    alias: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)] = ""
    """The name of its result, a column that later tasks can read. Default: the task type."""
    samples: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How often each item is asked. Default: as often as the tasks it reads, else once."""
    endpoint: str | None = None
    """The name of one of `endpoints`. The task asks it in place of `endpoint`."""
    run_condition: RunCondition | None = None
    """A condition, such as `{op: eq, left: {op: var, path: item.x}, right: {op: const, value: 1}}`. A row that does not meet it
    is skipped. Operators: const, var, eq, ne, lt, lte, gt, gte, and, or, not, is_null, is_not_null, in, not_in."""

    #: The plug-in code that the task runs, by name: versions of packages, SHA-256 of files.
    _code: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def code(self) -> dict[str, str]:
        """The plug-in code that the task runs: the versions of packages and the SHA-256 of files, by their names."""
        return self._code

    @property
    def name(self) -> str:
        """The alias, or the task type if none is given."""
        return alias_of(self.alias, self.task_type)

    @property
    def settings(self) -> VerbatimModel:
        """The checked configuration."""
        return self.configuration  # type: ignore[attr-defined,no-any-return]  # every subclass has its own type of it

    @model_validator(mode="after")
    def _asks_somebody(self) -> Self:
        if self.judges and self.endpoint is not None:
            raise ValueError("`endpoint` is for tasks that send requests; this task sends none")
        return self

    @model_validator(mode="after")
    def _has_one_condition(self) -> Self:
        if self.run_condition is not None and self._condition_within is not None:
            raise ValueError("`run_condition` is both here and in the `configuration`; leave one of them out")
        return self

    @property
    def condition(self) -> RunCondition | None:
        """The `run_condition`. In SGP, a judge has it in its `configuration`."""
        return self.run_condition or self._condition_within

    @property
    def _condition_within(self) -> RunCondition | None:
        return getattr(self.settings, "run_condition", None)

    @property
    def readable(self) -> Mapping[str, Any]:
        """The parts of the task that read the row, as locators and templates, by their keys in the config."""
        return {"configuration": self.settings.readable, "run_condition": with_locators(self.condition)}

    @property
    def columns(self) -> Mapping[str, Sequence[Step]]:
        """The members of its output, an object, that later tasks read by names of their own: the path of each."""
        return {}

    @property
    def parts(self) -> Sequence[TaskConfig]:
        """The tasks that run for it, mostly only itself; the last one has its name."""
        return [self]

    def build(self, execute: Execute, files: MediaFiles, calls: Calls) -> Task:
        """Return the task, ready to run.

        `files` reads the local files that its messages name. `calls` runs functions that could block in other processes.
        """
        raise NotImplementedError


def alias_of(alias: object, task_type: object, metric: object = None) -> str:
    """Return the alias of a task. The default is its type; for a metric it is the type of the metric, if rows do not give it.

    For `checks.py:score` that is `score`. A dot in a task type becomes `_`, because the alias is read as `item.NAME`.
    """
    is_named = task_type == "metric" and isinstance(metric, str) and not is_template(metric)
    return str(alias or (str(metric).rpartition(":")[2] if is_named else str(task_type).replace(".", "_")))


def alias_in(task: Mapping[str, Any]) -> str:
    """Return the alias of a task as a config has it; it need not be valid."""
    configuration = task.get("configuration")
    metric = configuration.get("type") if isinstance(configuration, dict) else None
    return alias_of(task.get("alias"), task.get("task_type"), metric)


def tasks_of(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the tasks of a config's document by their aliases."""
    return {alias_in(task): task for task in document.get("tasks") or ()}


def tasks_in(tasks: Any) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Yield the index, the task and its configuration for each task of a config that need not be valid.

    What is not a mapping is left out if it is a task, and empty if it is a configuration.
    """
    for index, task in enumerate(tasks if isinstance(tasks, list) else ()):
        if isinstance(task, dict):
            configuration = task.get("configuration")
            yield index, task, configuration if isinstance(configuration, dict) else {}


def unit_of(sample: Sample, alias: str) -> Unit:
    """Return the identity of a task's result for a sample."""
    return Unit(sample.item.item_id, sample.item.index, sample.index, alias)


def wall_clock_us() -> int:
    """Return the time as data: microseconds since the epoch. Intervals are measured with a monotonic clock instead."""
    return time.time_ns() // 1000


def without_request(sample: Sample, alias: str, task_type: str, answer: Answer) -> Result:
    """Return a result for which nothing was sent."""
    now = wall_clock_us()
    return Result(
        unit=unit_of(sample, alias),
        task_type=task_type,
        item=sample.item,
        outcome=Outcome(answer=answer, started_at=now, completed_at=now),
    )
