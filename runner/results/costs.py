"""The costs of the answers of a run, summed over its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.storage.records import End
from runner.structs import Struct, field

__all__ = ["Costs", "said_of_cost"]

#: Decimal places that are kept: a token costs about 1e-7 dollars.
_DIGITS = 12


class _OfTask(Struct):
    """The costs of the answers of one task."""

    answers: int = 0
    unpriced: int = 0
    total: float = 0.0

    @property
    def known(self) -> float | None:
        """The total; None if no answer has a price."""
        return None if self.answers and self.answers == self.unpriced else round(self.total, _DIGITS)


class Costs(Struct):
    """Sums the costs of answers, in dollars."""

    #: Whether the config names prices, or some answer has a price from an earlier start.
    is_wanted: bool = False
    tasks: dict[str, _OfTask] = field(default_factory=dict)
    #: Attempts that were sent and not answered: their costs are unknown.
    unanswered: int = 0
    #: The costs of answers without a readable verdict: they are errors, and have no row in results.parquet.
    useless: float = 0.0

    def add(self, end: End) -> None:
        """Count a result."""
        is_answered = end.is_answered
        self.unanswered += max(0, end.attempts - is_answered)
        if not is_answered:
            return
        if end.error_type is not None:
            self.useless += end.cost or 0.0
            return
        self.is_wanted = self.is_wanted or (end.cost is not None and not end.cached)
        if (task := self.tasks.get(end.task)) is None:
            task = self.tasks[end.task] = _OfTask()
        task.answers += 1
        task.unpriced += end.cost is None
        task.total += end.cost or 0.0

    def report(self, *, control: float, items: int, whole: int | None) -> dict[str, Any] | None:
        """Return `totals.cost` of evaluation.json; None if no price is known.

        `control` is the cost of the control requests. `items` of the dataset's `whole` items were asked: if they are fewer, the
        result includes what all would cost.
        """
        if not self.is_wanted:
            return None
        tasks = self.tasks.values()
        everything = _OfTask(*(sum(getattr(task, name) for task in tasks) for name in ("answers", "unpriced", "total")))
        found: dict[str, Any] = {
            "total": everything.known,
            "by_task": {alias: task.known for alias, task in self.tasks.items()},
            "answers": everything.answers,
            "unpriced": everything.unpriced,
            "unanswered_attempts": self.unanswered,
            "control": round(control, _DIGITS),
            "no_verdict": round(self.useless, _DIGITS),
            "projected": None,
        }
        if whole is not None and items and whole > items and everything.known is not None:
            found["projected"] = {"items": whole, "total": round((everything.total + self.useless) / items * whole, _DIGITS)}
        return found


def said_of_cost(cost: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield a line for `totals.cost`, and a second one for the cost of the whole dataset, if it is known."""
    if cost is None:
        return
    from runner.prices import dollars  # a run without prices does not need it

    answers, unpriced = cost["answers"], cost["unpriced"]
    if cost["total"] is None:
        said = f"not known: none of {answers} answers has a price"
    else:
        said = f"{dollars(cost['total'])} of {answers} answers"
        said += f", {unpriced} of them unpriced" if unpriced else ""
    if cost["control"]:
        said += f" · {dollars(cost['control'])} for control requests"
    if cost["no_verdict"]:
        said += f" · {dollars(cost['no_verdict'])} for answers without a verdict"
    if count := cost["unanswered_attempts"]:
        said += f" · unknown for {count} attempts without an answer"
    yield said
    if (projected := cost["projected"]) is not None:
        beside = ", without the unpriced answers" if unpriced else ""
        yield f"about {dollars(projected['total'])} for all {projected['items']:,} items{beside}"
