"""The rehearsal: rows are rendered, references are looked at, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runner.errors import RowError, RunStopped, UsageError
from runner.output import JUDGE, Output, asks_for_json, stand_in
from runner.pipeline.pipeline import Step
from runner.processes.pool import Calls, NoProcessError
from runner.structs import Struct
from runner.tasks.judging import JudgingTask
from runner.types import ErrorType, Failure, Item, Outcome, Request, Sample

__all__ = ["NoCalls", "find_bad", "rehearse", "send_nothing"]

#: A single bad row may be no more than that.
_FEWEST = 2


async def send_nothing(request: Request) -> Outcome:  # noqa: ARG001  as an endpoint has it
    """Stand in the place of the endpoint."""
    answer = Failure(error_type=ErrorType.REQUEST, message="a rehearsal sends nothing")
    return Outcome(answer=answer, started_at=0, completed_at=0)


class NoCalls:
    """Stands in the place of the processes: what would be done there is not rehearsed."""

    @property
    def of_others(self) -> Calls:
        """Itself."""
        return self

    @property
    def of_strangers(self) -> Calls:
        """Itself."""
        return self

    async def call(self, function: str, *args: Any, seconds: float = 1.0, within: float | None = None) -> Any:  # noqa: ARG002  as `Calls` has it
        """Raise NoProcessError."""
        raise NoProcessError("a rehearsal starts no process")


async def rehearse(rows: Sequence[Mapping[str, Any]], steps: Sequence[Step]) -> None:
    """Raise UsageError where a metric could judge none of the first rows, whatever is answered: the answers would be paid.

    It looks no further than to the first row that is well. A row of which nothing can be asked costs nothing.
    """
    first = None
    for number, row in enumerate(rows):
        item = Item(item_id=str(number), index=number, row=row, place=f"row {number + 1} of the dataset")
        try:
            bad = await find_bad(item, steps)
        except RunStopped:  # it needs a process, and so cannot be told here
            return
        if bad is None or bad.step is None or not bad.step.judges:
            return
        first = first or bad
    if first is not None and len(rows) >= _FEWEST:
        assert first.step is not None
        what = f"`{first.step.task.alias}` could judge none of the first {len(rows)} rows, so nothing is sent"
        raise UsageError(f"{what}; {first.reason}")


class Bad(Struct, frozen=True):
    """Why a row is bad."""

    reason: str
    #: Whose task says so; None of a row that cannot be read.
    step: Step | None = None


async def find_bad(item: Item, steps: Iterable[Step], untold: Callable[[Step], None] = lambda _step: None) -> Bad | None:
    """Return why a row is bad, as far as it can be seen before anything is sent, or None.

    What a later task would read of an earlier one's answer is stood for by `<alias>`, of a metric by 1.0. An error that names
    what stands in says nothing of the row, for an answer may well be the number or the JSON that is wanted there; then `untold`
    is called.
    """
    if item.failure is not None:
        return Bad(item.failure.message)
    outputs: dict[str, Any] = {}
    skipped: set[str] = set()
    for step in steps:
        if _is_skipped(step, item, skipped):
            skipped.add(step.task.alias)
            outputs[step.task.alias] = None
            continue
        result = await step.task.run(Sample(item, 0), {**item.row, **outputs})
        failure = result.outcome.answer
        if result.request is None and isinstance(failure, Failure):
            if not _is_of_a_stand_in(failure.message, step):
                return Bad(f"{item.place} ({item.item_id}): {failure.message}", step)
            untold(step)
        outputs |= dict.fromkeys((step.task.alias, *step.columns), _stand_in(step, result.request))
    return None


def _is_skipped(step: Step, item: Item, skipped: set[str]) -> bool:
    """Whether a task is not run for a row, as far as the row alone tells: what a condition reads of answers may hold."""
    if step.condition is None:
        return not skipped.isdisjoint(step.inputs)
    if not skipped.issuperset(step.condition.inputs):
        return False
    try:
        return not step.condition.holds({**item.row, **dict.fromkeys(skipped)})
    except RowError:
        return False


def _stand_in(step: Step, request: Request | None) -> Output | float:
    """Return what a later task reads instead of an output."""
    task = step.task
    if step.columns:
        return stand_in(task.alias, is_json=True)
    if task.task_type == "metric":
        return 1.0
    return stand_in(task.alias, is_json=task.task_type == JUDGE or (request is not None and asks_for_json(request.shown)))


def _is_of_a_stand_in(message: str, step: Step) -> bool:
    return any(f"<{alias}" in message for alias in step.inputs) or _judges_an_output(step)


def _judges_an_output(step: Step) -> bool:
    """Whether a metric takes an earlier output where it has to make sense, which what stands in for it cannot."""
    if not isinstance(step.task, JudgingTask):
        return False
    references, any_will_do = step.task.template.references, step.task.takes_any_candidate
    return any(one.field in step.inputs and not (any_will_do and one.path[1] == "candidate") for one in references)
