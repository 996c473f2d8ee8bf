"""The budget: when a run that goes on well enough, row by row, is to stop as a whole.

Tokens may be used up, and when most rows end as errors something is wrong that no row can help: the rest is better not asked.
"""

from __future__ import annotations

import logging
from collections import Counter, deque

from runner.errors import RunStopped
from runner.types import Attempt, ErrorType, Failure, Request, Response, Result, Send
from runner.usage import used_by

__all__ = ["Budget"]

_log = logging.getLogger(__name__)
_LAST = 200
#: A row is charged with such a failure only where the endpoint works for others: it is the row's, and says nothing of the run.
_OF_A_ROW = frozenset({ErrorType.CONNECT, ErrorType.TIMEOUT, ErrorType.SERVER, ErrorType.AUTH, ErrorType.RATE_LIMIT})


class Budget:
    """Counts results as they come."""

    def __init__(
        self, *, max_tokens: int | None, max_error_rate: float, tokens: int = 0, tokens_per_minute: int | None = None
    ) -> None:
        """Take the limits, and the tokens that earlier starts of the run have used. `tokens_per_minute` is kept elsewhere."""
        self._max_tokens, self._max_error_rate = max_tokens, max_error_rate
        self._tokens = tokens
        limits = {"max_tokens": max_tokens, "tokens_per_minute": tokens_per_minute}
        #: The limits that count tokens, until it is said that they do so by estimates.
        self._unsaid = [f"limits.{name}" for name, limit in limits.items() if limit is not None]
        self._last: deque[Failure | None] = deque(maxlen=_LAST)
        self._failed = 0

    def used_up(self) -> str | None:
        """Return why nothing more may be sent, or None."""
        if self._max_tokens is None or self._tokens < self._max_tokens:
            return None
        return f"{self._tokens} tokens are used of {self._max_tokens}; raise limits.max_tokens to go on"

    def watching(self, send: Send) -> Send:
        """Return the same send, which raises RunStopped where the tokens are used up, also by earlier starts of the run."""

        async def send_within(attempt: Attempt) -> Response:
            if (reason := self.used_up()) is not None:
                raise RunStopped(reason, hurry=False)
            response = await send(attempt)
            if attempt.is_control:
                self._spend(attempt.request, response)
            return response

        return send_within

    def note(self, result: Result) -> str | None:
        """Count a result; return why the run must stop, or None."""
        answer = result.outcome.answer
        if isinstance(answer, Response) and result.request is not None:
            self._spend(result.request, answer)
        if (reason := self.used_up()) is not None:
            return reason
        untried = result.request is None and not (isinstance(answer, Failure) and answer.error_type is ErrorType.TEMPLATE)
        if untried or result.task_type == "metric":
            return None  # nothing was to be asked: a metric, a bad row of the dataset, a failed input
        if isinstance(answer, Failure) and answer.error_type in _OF_A_ROW:
            return None
        return self._note_outcome(answer if isinstance(answer, Failure) else None)

    def _spend(self, request: Request, response: Response) -> None:
        """Count what an answer has used."""
        used = used_by(request, response)
        self._tokens += used.tokens
        if self._unsaid and not used.is_said:
            self._say_that_it_is_estimated()

    def _say_that_it_is_estimated(self) -> None:
        limits, self._unsaid = " and ".join(self._unsaid), []
        _log.warning(
            "the server does not say what its answers use; for %s it is estimated by the length of their texts", limits
        )

    def _note_outcome(self, failure: Failure | None) -> str | None:
        if len(self._last) == _LAST:
            self._failed -= self._last[0] is not None
        self._last.append(failure)
        self._failed += failure is not None
        if failure is None or len(self._last) < _LAST or self._failed <= self._max_error_rate * _LAST:
            return None
        kinds = Counter(one.error_type.value for one in self._last if one is not None)
        kind, count = kinds.most_common(1)[0]
        example = next(one.message for one in reversed(self._last) if one is not None and one.error_type == kind)
        rate = f"{self._failed} of the last {_LAST} rows are errors (limits.max_error_rate: {self._max_error_rate:g})"
        return f"{rate}, {count} of them {kind}, as: {example}"
