"""The rehearsal: render rows and check references, without sending anything."""

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

#: With fewer rows than this the run begins anyway: a single bad row says nothing about the others.
_FEWEST = 2


async def send_nothing(request: Request) -> Outcome:  # noqa: ARG001  the interface of an endpoint
    """Stand in for the endpoint, and send nothing."""
    answer = Failure(error_type=ErrorType.REQUEST, message="a rehearsal sends nothing")
    return Outcome(answer=answer, started_at=0, completed_at=0)


class NoCalls:
    """Stands in for the processes: functions that run there are not rehearsed."""

    @property
    def of_others(self) -> Calls:
        """Itself."""
        return self

    @property
    def of_strangers(self) -> Calls:
        """Itself."""
        return self

    async def call(self, function: str, *args: Any, seconds: float = 1.0, within: float | None = None) -> Any:  # noqa: ARG002  the interface of `Calls`
        """Raise NoProcessError."""
        raise NoProcessError("a rehearsal starts no process")


async def rehearse(rows: Sequence[Mapping[str, Any]], steps: Sequence[Step], place_of: Callable[[str], str]) -> None:
    """Raise UsageError if a metric could judge none of the first rows, whatever the answers: they would be paid for nothing.

    It stops at the first good row. It also stops at a row that fails before a request: such a row costs nothing.
    `place_of` returns the place of a task in the config, by its alias.
    """
    first = None
    for number, row in enumerate(rows):
        item = Item(item_id=str(number), index=number, row=row, place=f"row {number + 1} of the dataset")
        try:
            bad = await find_bad(item, steps)
        except RunStopped:  # the metric needs a process, so it cannot be rehearsed
            return
        if bad is None or bad.step is None or not bad.step.judges:
            return
        first = first or bad
    if first is not None and len(rows) >= _FEWEST:
        assert first.step is not None
        alias = first.step.task.alias
        what = f"{place_of(alias)}: `{alias}` could judge none of the first {len(rows)} rows, so nothing is sent"
        raise UsageError(f"{what}; {first.reason}")


class Bad(Struct, frozen=True):
    """Why a row is bad."""

    reason: str
    #: The step that failed; None for a row that cannot be read.
    step: Step | None = None


async def find_bad(item: Item, steps: Iterable[Step], untold: Callable[[Step], None] = lambda _step: None) -> Bad | None:
    """Return why a row is bad, as far as that shows before anything is sent, or None.

    Later tasks read `<alias>` in place of an earlier answer, and 1.0 in place of a metric. An error that names such a stand-in
    says nothing about the row, because the real answer may be the number or the JSON that is wanted there. Then `untold` is
    called.
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
    """Return whether a task is skipped for a row whatever the answers are. A condition that reads an answer may hold."""
    if step.condition is None:
        return not skipped.isdisjoint(step.inputs)
    if not skipped.issuperset(step.condition.inputs):
        return False
    try:
        return not step.condition.holds({**item.row, **dict.fromkeys(skipped)})
    except RowError:
        return False


def _stand_in(step: Step, request: Request | None) -> Output | float:
    """Return what a later task reads in place of the output."""
    task = step.task
    if step.columns:
        return stand_in(task.alias, is_json=True)
    if task.task_type == "metric":
        return 1.0
    return stand_in(task.alias, is_json=task.task_type == JUDGE or (request is not None and asks_for_json(request.shown)))


def _is_of_a_stand_in(message: str, step: Step) -> bool:
    return any(f"<{alias}" in message for alias in step.inputs) or _judges_an_output(step)


def _judges_an_output(step: Step) -> bool:
    """Return whether a metric reads an earlier output in a field that a stand-in cannot fill sensibly."""
    if not isinstance(step.task, JudgingTask):
        return False
    references, any_will_do = step.task.template.references, step.task.takes_any_candidate
    return any(one.field in step.inputs and not (any_will_do and one.path[1] == "candidate") for one in references)
