"""The error rate: when so many of the last results of a task are errors that the run stops."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import NamedTuple

__all__ = ["LAST", "ErrorRate", "Outcome"]

#: How many of the last results of a task count.
LAST = 200


class Outcome(NamedTuple):
    """The outcome of a row, as the error rate sees it; both are None if the row was answered."""

    error_type: str | None = None
    message: str | None = None


class ErrorRate:
    """The last results of each task, counted apart: a task that always fails stops the run, however well the others do."""

    def __init__(self, most: float) -> None:
        """Take the largest share of errors with which the run goes on, `limits.max_error_rate`."""
        self._most = most
        self._last: defaultdict[str, deque[Outcome]] = defaultdict(lambda: deque(maxlen=LAST))
        self._failed: Counter[str] = Counter()

    def note(self, task: str, outcome: Outcome) -> str | None:
        """Count a result; return why the run must stop, or None."""
        last = self._last[task]
        if len(last) == LAST and last[0].error_type is not None:
            self._failed[task] -= 1
        last.append(outcome)
        if outcome.error_type is not None:
            self._failed[task] += 1
        if len(last) < LAST or self._failed[task] <= self._most * LAST:
            return None
        kind, count = Counter(one.error_type for one in last if one.error_type is not None).most_common(1)[0]
        example = next(one.message for one in reversed(last) if one.error_type == kind)
        share = f"{self._failed[task]} of the last {LAST} results of `{task}` are errors"
        return f"{share} (limits.max_error_rate: {self._most:g}), {count} of them {kind}, for example: {example}"
