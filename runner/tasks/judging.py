"""A metric that is ready to judge: what those of this program and those of others have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runner.errors import RowError, RunStopped
from runner.processes.pool import Calls, NoProcessError
from runner.structs import Struct
from runner.tasks.base import without_request
from runner.templates.compile import Template
from runner.types import LARGEST_VALUE, ErrorType, Result, Sample, Value

__all__ = ["JudgingTask", "as_number"]


class JudgingTask(Struct, frozen=True, kw_only=True):
    """Looks at what was answered, and gives a value."""

    alias: str
    template: Template
    calls: Calls
    task_type: str = "metric"
    model: str | None = None

    @property
    def takes_any_candidate(self) -> bool:
        """Whether every candidate has a value; where rows say the type, nobody knows."""
        raise NotImplementedError

    async def run(self, sample: Sample, item: Mapping[str, Any]) -> Result:
        """Judge one sample. What a metric raises beside RowError is left to the pipeline: it costs this result only."""
        try:
            answer = await self.judge(self.template.render(item))
        except RowError as error:
            return without_request(sample, self.alias, self.task_type, error.failure)
        except NoProcessError as error:
            raise RunStopped(str(error), hurry=False) from error
        return without_request(sample, self.alias, self.task_type, answer)

    async def judge(self, rendered: Mapping[str, Any]) -> Value:
        """Return the value of what the row has given, and what the candidate was taken for as text. Raises RowError."""
        raise NotImplementedError


def as_number(found: Any, whose: str) -> float:
    """Return what a function has returned as a column holds it. Raises RowError where none can."""
    try:
        number = float(found)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST_VALUE:
        what = f"returned {found if isinstance(found, float) else 'a number'}; a value is a number up to {LARGEST_VALUE:g}"
        raise RowError(ErrorType.TEMPLATE, f"{whose} {what}")
    return number
