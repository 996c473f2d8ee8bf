"""The budget: when a run stops as a whole.

It stops when its tokens or dollars are used up. It also stops when too many rows end as errors: then something is wrong that
does not depend on the row, and the other rows are better not asked.
"""

from __future__ import annotations

from runner.errors import RunStopped
from runner.logs import logger
from runner.pipeline.error_rate import ErrorRate, Outcome
from runner.types import Attempt, CostOf, ErrorType, Failure, Request, Response, Result, Send
from runner.usage import used_by

__all__ = ["Budget"]

_log = logger(__name__)
#: A row ends with such a failure only if the endpoint works for other rows. So it concerns this row, and not the run.
_OF_A_ROW = frozenset({ErrorType.CONNECT, ErrorType.TIMEOUT, ErrorType.SERVER, ErrorType.AUTH, ErrorType.RATE_LIMIT})
#: Failures before anything was tried: a bad row of the dataset, a failed input.
_UNTRIED = frozenset({ErrorType.DATASET, ErrorType.DEPENDENCY})
_ANSWERED = Outcome()


class Budget:
    """Counts results as they come."""

    def __init__(
        self,
        *,
        max_tokens: int | None,
        max_error_rate: float,
        tokens: int = 0,
        tokens_per_minute: int | None = None,
        max_cost: float | None = None,
        cost: float = 0.0,
        cost_of: CostOf | None = None,
    ) -> None:
        """Take the limits, and the tokens and dollars that earlier starts of the run have used.

        `max_cost` and `cost` are in dollars, and `cost_of` returns the cost of an answer. `tokens_per_minute` is enforced
        elsewhere.
        """
        self._max_tokens, self._max_cost = max_tokens, max_cost
        #: The tokens and dollars used so far.
        self.tokens, self.cost = tokens, cost
        self._cost_of = None if max_cost is None else cost_of
        limits = {"max_tokens": max_tokens, "tokens_per_minute": tokens_per_minute}
        #: The limits that count tokens; empty once the warning that they count estimates was logged.
        self._unsaid = [f"limits.{name}" for name, limit in limits.items() if limit is not None]
        self._is_unpriced_said = False
        self._error_rate = ErrorRate(max_error_rate)

    def used_up(self, *, tokens: int = 0, cost: float = 0.0) -> str | None:
        """Return why nothing more may be sent, or None. `tokens` and `cost` were used elsewhere, and count too."""
        tokens, cost = tokens + self.tokens, cost + self.cost
        if self._max_tokens is not None and tokens >= self._max_tokens:
            return f"{tokens} tokens are used of {self._max_tokens}; raise limits.max_tokens to go on"
        if self._max_cost is not None and cost >= self._max_cost:
            return f"${cost:.6g} are spent of ${self._max_cost:.6g}; raise limits.max_cost to go on"
        return None

    def watching(self, send: Send) -> Send:
        """Return the same send, which raises RunStopped when the tokens or dollars are used up. Earlier starts count too."""

        async def send_within(attempt: Attempt) -> Response:
            if (reason := self.used_up()) is not None:
                raise RunStopped(reason, hurry=False)
            response = await send(attempt)
            if attempt.is_control:
                self._spend(attempt.request, response)
            return response

        return send_within

    def may_probe(self, task: str) -> bool:  # noqa: ARG002  a run without workers always may
        """Return whether this process may probe the endpoint of a task while it is down."""
        return True

    def note(self, result: Result) -> str | None:
        """Count a result; return why the run must stop, or None."""
        answer, paid = result.outcome.answer, result.paid
        if paid is not None and result.request is not None:
            self._spend(result.request, paid)
        if (reason := self.used_up()) is not None:
            return reason
        failure = answer if isinstance(answer, Failure) else None
        if result.skipped or (failure is not None and failure.error_type in _OF_A_ROW | _UNTRIED):
            return None
        outcome = _ANSWERED if failure is None else Outcome(failure.error_type.value, failure.message)
        return self.note_outcome(result.unit.task, outcome)

    def note_outcome(self, task: str, outcome: Outcome) -> str | None:
        """Count the outcome of a row; return why the run must stop, or None."""
        return self._error_rate.note(task, outcome)

    def _spend(self, request: Request, response: Response) -> None:
        """Count the tokens and the cost of an answer."""
        used = used_by(request, response)
        self.tokens += used.tokens
        if self._unsaid and not used.is_said:
            self._say_that_it_is_estimated()
        if self._cost_of is not None:
            self._pay(self._cost_of(request, response))

    def _pay(self, cost: float | None) -> None:
        self.cost += cost or 0.0
        if cost is None and not self._is_unpriced_said:
            self._is_unpriced_said = True
            why = "its model has no price, or the server does not report its tokens"
            _log.warning("the cost of an answer is not known, because %s; limits.max_cost does not count it", why)

    def _say_that_it_is_estimated(self) -> None:
        limits, self._unsaid = " and ".join(self._unsaid), []
        _log.warning(
            "the server does not report the tokens of its answers; for %s they are estimated from text lengths", limits
        )
