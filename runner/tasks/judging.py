"""What all metrics have in common, built in or not: a configuration that makes a task, and the task, which judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from runner.errors import RowError, RunStopped
from runner.processes.pool import Calls, NoProcessError
from runner.structs import Struct
from runner.tasks.base import without_request
from runner.templates.compile import Template, compile_template
from runner.templates.locators import Step
from runner.types import LARGEST_VALUE, ErrorType, Result, Sample, Value

__all__ = ["JudgingConfiguration", "JudgingTask", "as_number"]


class JudgingTask(Struct, frozen=True, kw_only=True):
    """Gives a value to an answer."""

    alias: str
    template: Template
    calls: Calls
    #: Its configuration; `template` renders the part that reads the row.
    settings: Any
    task_type: str = "metric"
    model: str | None = None

    @property
    def takes_any_candidate(self) -> bool:
        """Whether every candidate has a value, so that one that stands in for an answer shows whether the row is good."""
        return False

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        """Judge one sample. Unexpected errors of a metric are left to the pipeline: they cost only this result."""
        try:
            answer = await self.judge(self.template.render(item))
        except RowError as error:
            return without_request(sample, self.alias, self.task_type, error.failure)
        except NoProcessError as error:
            raise RunStopped(str(error), hurry=False) from error
        return without_request(sample, self.alias, self.task_type, answer)

    async def judge(self, rendered: Mapping[str, Any]) -> Value:
        """Return the value for the rendered settings, and the candidate as it was read, as text. Raises RowError."""
        raise NotImplementedError


class JudgingConfiguration:
    """The configuration of a metric: what it compares, and how."""

    #: The class of the task.
    makes: ClassVar[type[JudgingTask]]

    @property
    def templated(self) -> Mapping[str, Any]:
        """The settings that may read the row, each with its value for the rows that do not."""
        raise NotImplementedError

    @property
    def columns(self) -> Mapping[str, Sequence[Step]]:
        """The members of its output that later tasks read by names of their own: the path of each."""
        return {}

    def task(self, alias: str, calls: Calls) -> JudgingTask:
        """Return the task, ready to run."""
        template = compile_template(dict(self.templated), ("configuration",), lambda _path: "value")
        return self.makes(alias=alias, template=template, calls=calls, settings=self)


def as_number(found: Any, whose: str) -> float:
    """Return the number that a function returned, as a float. Raises RowError if it is too large, or not a number."""
    try:
        number = float(found)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST_VALUE:
        what = f"returned {found if isinstance(found, float) else 'a number'}; a value is a number up to {LARGEST_VALUE:g}"
        raise RowError(ErrorType.TEMPLATE, f"{whose} {what}")
    return number
