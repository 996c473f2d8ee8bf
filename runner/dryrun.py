"""The dry run: everything is checked and rendered, nothing is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner.output import Output, stand_in
from runner.pipeline import Step
from runner.processes.pool import ProcessPool
from runner.tasks.base import Task
from runner.tasks.metric import MetricTask
from runner.types import ErrorType, Failure, Item, Outcome, Request, Sample

if TYPE_CHECKING:
    from runner.evaluate import Evaluation

__all__ = ["dry_run"]

_MOST_BAD_ROWS_SHOWN = 50


def dry_run(evaluation: Evaluation, say: Callable[[str], None]) -> bool:
    """Render every row and report the bad ones, the first request's body and the number of requests.

    Returns whether more rows are bad than `limits.fail_on_error` allows. What a later task would read of an earlier one's
    answer is stood for by `<alias>`, of a metric by 1.0.
    """
    return asyncio.run(_DryRun(evaluation, say).run())


class _DryRun:
    def __init__(self, evaluation: Evaluation, say: Callable[[str], None]) -> None:
        self._evaluation, self._say = evaluation, say
        self._first: Request | None = None
        self._requests = self._rows = self._bad = 0

    async def run(self) -> bool:
        from runner.evaluate import steps_of

        apart = ProcessPool()
        try:
            await self._try_all(steps_of(self._evaluation.config, self._take, apart))
        finally:
            await apart.close()
        if self._first is not None:
            self._say(f"first request: POST {self._evaluation.config.endpoint.name}{self._first.path}")
            self._say(json.dumps(json.loads(self._first.shown), indent=2, ensure_ascii=False))
        self._say(f"{self._rows} rows, {self._bad} of them bad; {self._requests} requests would be sent")
        return self._bad > self._evaluation.errors_allowed(self._rows)

    async def _try_all(self, steps: list[Step]) -> None:
        for item in self._evaluation.dataset:
            self._rows += 1
            if (reason := await self._try(item, steps)) is not None:
                self._bad += 1
                if self._bad <= _MOST_BAD_ROWS_SHOWN:
                    self._say(f"bad row: {reason}")
        if self._bad > _MOST_BAD_ROWS_SHOWN:
            self._say(f"bad row: … and {self._bad - _MOST_BAD_ROWS_SHOWN} more")

    async def _try(self, item: Item, steps: list[Step]) -> str | None:
        """Return why a row is bad, or None."""
        if item.failure is not None:
            return item.failure.message
        outputs: dict[str, Any] = {}
        for step in steps:
            before = self._requests
            result = await step.task.run(Sample(item, 0), {**item.row, **outputs})
            self._requests += (self._requests - before) * (step.samples - 1)
            failure = result.outcome.answer
            if result.request is None and isinstance(failure, Failure) and not _judges_an_output(step):
                return f"{item.place} ({item.item_id}): {failure.message}"
            outputs[step.task.alias] = _stand_in(step.task)
        return None

    async def _take(self, request: Request) -> Outcome:
        """Stand in the place of the endpoint."""
        self._requests += 1
        self._first = self._first or request
        answer = Failure(error_type=ErrorType.REQUEST, message="a dry run sends nothing")
        return Outcome(answer=answer, started_at=0, completed_at=0)


def _stand_in(task: Task) -> Output | float:
    """Return what a later task reads instead of an output."""
    return 1.0 if task.task_type == "metric" else stand_in(task.alias)


def _judges_an_output(step: Step) -> bool:
    """Whether a metric takes an earlier output for its reference or type: what stands in for it cannot make sense there."""
    if not isinstance(step.task, MetricTask):
        return False
    references = step.task.template.references
    return any(one.field in step.inputs and one.path[1] != "candidate" for one in references)
