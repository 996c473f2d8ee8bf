"""The one retry layer: attempts happen here, and here alone an exception becomes a value."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from runner.endpoint.health import Health
from runner.errors import AttemptError
from runner.types import Answer, Attempt, Execute, Failure, Outcome, Request, Send

__all__ = ["RetryPolicy", "retrying"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When another attempt is made, and after how long: exponential back-off with full jitter, capped.

    Full jitter draws the wait evenly between 0 and the back-off, so that requests that failed together do not come back
    together. A server's own wish (`Retry-After`) is a lower bound and is never undercut.
    """

    max_attempts: int
    #: The longest wait before the second attempt, in seconds; it doubles with each further one.
    base_s: float = 0.5
    #: No back-off is longer.
    cap_s: float = 60.0
    #: No wish of a server's is honoured beyond this.
    wish_cap_s: float = 120.0

    def next_wait(self, number: int, error: AttemptError, draw: float) -> float | None:
        """Return the seconds to wait after attempt `number` failed, or None if that was the last. `draw` is from [0, 1)."""
        if not error.retry or number >= self.max_attempts:
            return None
        wait = float(draw * min(self.cap_s, self.base_s * 2 ** (number - 1)))
        wish = error.failure.retry_after_s
        return wait if wish is None else max(wait, min(wish, self.wish_cap_s) * (1 + 0.1 * draw))


def retrying(
    send: Send,
    policy: RetryPolicy,
    health: Health,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    draw: Callable[[], float] = random.random,
) -> Execute:
    """Make attempts until one succeeds or the policy ends them. Raises RunStopped when the trouble is the whole run's."""

    async def execute(request: Request) -> Outcome:
        number, spent = 1, _Spent()
        while True:
            attempt = Attempt(request, number)
            try:
                response = await send(attempt)
            except AttemptError as error:
                spent.add(attempt)
                hold = health.failed(error)
                wait = hold if hold is not None else policy.next_wait(number, error, draw())
                if wait is None:
                    return spent.outcome(error.failure, number)
                number += hold is None
                spent.backoff_s += wait
                await sleep(wait)
            else:
                spent.add(attempt)
                health.succeeded()
                return spent.outcome(response, number)

    return execute


@dataclass(slots=True)
class _Spent:
    """What a request has cost so far."""

    queue_s: float = 0.0
    backoff_s: float = 0.0
    wire_s: float = 0.0
    started_at: int | None = None

    def add(self, attempt: Attempt) -> None:
        self.queue_s += attempt.queue_s
        self.wire_s += attempt.wire_s
        if self.started_at is None:
            self.started_at = attempt.sent_at

    def outcome(self, answer: Answer, attempts: int) -> Outcome:
        now = time.time_ns() // 1000
        never_sent = self.started_at is None and isinstance(answer, Failure)
        return Outcome(
            answer=answer,
            attempts=0 if never_sent else attempts,
            queue_s=self.queue_s,
            backoff_s=self.backoff_s,
            wire_s=self.wire_s,
            started_at=self.started_at or now,
            completed_at=now,
        )
