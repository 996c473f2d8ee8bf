"""The allowance: how much of the limits of the run one worker may use, as long as it hears from the coordinator."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection

from runner.pipeline.budget import Budget
from runner.pipeline.error_rate import LAST, Outcome
from runner.types import Attempt, CostOf, Response, Send

__all__ = ["Allowance"]

#: A worker that hears nothing for this long sends no new request: its rows may belong to another worker by now.
_HEARD_WITHIN_S = 5.0


class Allowance(Budget):
    """A budget that the coordinator raises; requests wait while it is used up. The coordinator judges the error rate."""

    def __init__(
        self,
        *,
        counts_cost: bool,
        cost_of: CostOf | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without bounds, as if the worker had heard from the coordinator just now."""
        unbounded = float("inf") if counts_cost else None
        super().__init__(max_tokens=None, max_error_rate=1.0, max_cost=unbounded, cost_of=cost_of)
        self._clock = clock
        self._bounds: tuple[float | None, float | None] = None, None
        self._probed: Collection[str] = ()
        self._heard_at = clock()
        self._changed = asyncio.Event()
        self._flying = self._answers = 0
        #: By task, the outcomes of its last rows since the latest call of `outcomes`.
        self._outcomes: dict[str, deque[Outcome]] = {}
        #: Called when a request has to wait, so that the worker reports at once.
        self.on_waiting: Callable[[], None] = lambda: None

    def heard(self, tokens: float | None, cost: float | None, may_probe: Collection[str] = ()) -> None:
        """Take new bounds: how many tokens and dollars this worker may use in all; None is no bound.

        `may_probe` holds the tasks whose endpoint this worker probes while it is down.
        """
        self._bounds, self._probed = (tokens, cost), may_probe
        self._heard_at = self._clock()
        self._changed.set()

    def may_probe(self, task: str) -> bool:
        """Return whether this worker is to probe the endpoint of a task."""
        return task in self._probed and self._is_heard

    def note_outcome(self, task: str, outcome: Outcome) -> str | None:
        """Keep the outcome of a row for the next report: the coordinator computes the error rate of all workers."""
        self._outcomes.setdefault(task, deque(maxlen=LAST)).append(outcome)
        return None

    def outcomes(self, clean: Callable[[str], str]) -> dict[str, list[Outcome]]:
        """Return, by task, the outcomes of the last rows since the previous call; `clean` removes secrets from messages."""
        taken, self._outcomes = self._outcomes, {}
        return {task: [Outcome(kind, said and clean(said)) for kind, said in last] for task, last in taken.items()}

    def watching(self, send: Send) -> Send:
        """Return the same send, which waits if the allowance is used up or the coordinator was silent for too long."""
        watched = super().watching(send)

        async def send_allowed(attempt: Attempt) -> Response:
            while not self._may_send():
                self._changed.clear()
                self.on_waiting()
                await self._changed.wait()
            self._flying += 1
            try:
                response = await watched(attempt)
            finally:
                self._flying -= 1
                self._changed.set()
            self._answers += 1
            return response

        return send_allowed

    @property
    def _is_heard(self) -> bool:
        return self._clock() - self._heard_at <= _HEARD_WITHIN_S

    def _may_send(self) -> bool:
        """Return whether one more request may be sent. Each request in flight counts as much as an average answer."""
        if not self._is_heard:
            return False
        answers = max(1, self._answers)
        for used, bound in zip((self.tokens, self.cost), self._bounds, strict=True):
            if bound is not None and used + self._flying * used / answers >= bound:
                return False
        return True
