"""The dry run: everything is checked and rendered, nothing is sent."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.errors import UsageError, common_words
from runner.pipeline.pipeline import Step
from runner.pipeline.rehearsal import find_bad, send_nothing
from runner.pipeline.steps import build_steps
from runner.processes.pool import ProcessPool
from runner.types import Outcome, Request

if TYPE_CHECKING:
    from runner.cli.estimate import Estimate
    from runner.evaluation import Evaluation

__all__ = ["dry_run"]

_MOST_BAD_ROWS_SHOWN = 50
#: How many bad rows are shown whose messages are alike.
_MOST_ALIKE = 5


def dry_run(evaluation: Evaluation, say: Callable[[str], None]) -> bool:
    """Rehearse every row and report the bad ones, the first request's body and the number of requests.

    Returns whether more rows are bad than `limits.fail_on_error` allows.
    """
    return asyncio.run(_DryRun(evaluation, say).run())


class _DryRun:
    def __init__(self, evaluation: Evaluation, say: Callable[[str], None]) -> None:
        self._evaluation, self._say = evaluation, say
        self._first: Request | None = None
        self._requests = self._rows = self._bad = self._shown = 0
        self._alike: Counter[str] = Counter()
        self._steps: dict[str, Step] = {}
        self._estimate: Estimate | None = None
        if evaluation.prices is not None:
            from runner.cli.estimate import Estimate  # loaded only if there are prices

            self._estimate = Estimate(evaluation.prices)

    async def run(self) -> bool:
        apart = ProcessPool()
        try:
            await self._try_all(build_steps(self._evaluation.config, self._take, apart))
        finally:
            await apart.close()
        if self._first is not None:
            self._say(f"first request: POST {self._evaluation.config.endpoint.name}{self._first.path}")
            self._say(json.dumps(json.loads(self._first.shown), indent=2, ensure_ascii=False))
        if self._estimate is not None:
            for line in self._estimate.lines():
                self._say(line)
        refused = await self._refused()
        requests = 0 if refused else self._requests
        self._say(f"{self._rows} rows, {self._bad} of them bad; {requests} requests would be sent")
        if refused is not None:
            self._say(refused)
        for line in self._evaluation.lacking():
            self._say(f"before they can be sent: {line}")
        return refused is not None or self._bad > self._evaluation.config.limits.errors_allowed(self._rows)

    async def _refused(self) -> str | None:
        """Return why a run would not begin with these rows, or None."""
        try:
            await self._evaluation.rehearse()
        except UsageError as error:
            return str(error)
        return None

    async def _try_all(self, steps: list[Step]) -> None:
        self._steps = {step.task.alias: step for step in steps}
        for item in self._evaluation.dataset:
            self._rows += 1
            await asyncio.sleep(0)  # so that Ctrl-C works between two rows
            if (bad := await find_bad(item, steps, self._count_untold)) is not None:
                self._bad += 1
                self._show(bad.reason)
        if self._bad > self._shown:
            self._say(f"bad row: … and {self._bad - self._shown} more")

    def _show(self, reason: str) -> None:
        """Print why a row is bad, unless enough messages like it were printed."""
        words = common_words(reason)
        if self._shown < _MOST_BAD_ROWS_SHOWN and self._alike[words] < _MOST_ALIKE:
            self._shown += 1
            self._alike[words] += 1
            self._say(f"bad row: {reason}")

    def _count_untold(self, step: Step) -> None:
        """Count requests that cannot be rendered without a real answer."""
        if not step.judges:
            self._requests += step.samples
            if self._estimate is not None:
                self._estimate.untold += step.samples

    async def _take(self, request: Request) -> Outcome:
        """Count a request, and answer in place of the endpoint."""
        step = self._steps[request.unit.task]
        self._requests += step.samples
        if self._estimate is not None:
            self._estimate.add(request, step.samples, reads=bool(step.inputs))
        self._first = self._first or request
        return await send_nothing(request)
