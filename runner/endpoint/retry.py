"""The one retry layer: attempts happen here, and here alone an exception becomes a value."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from runner.endpoint.health import Health, Trouble, Verdict
from runner.errors import AttemptError
from runner.structs import Struct, field
from runner.types import Answer, Attempt, ErrorType, Execute, Outcome, Request, Send

__all__ = ["RetryBudget", "RetryPolicy", "retrying"]


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How often a row may fail, and how long it waits: exponential back-off with full jitter, capped.

    Full jitter draws the wait evenly between 0 and the back-off, so that requests that failed together do not come back
    together. A server's own wish (`Retry-After`) is a lower bound and is never undercut.
    """

    #: Failures that make an error row, where the endpoint works for others.
    max_attempts: int
    #: Seconds of attempts and back-offs after which a row that only fails is given up.
    longest_s: float = 7200.0
    #: The longest wait before the second attempt, in seconds; it doubles with each further one.
    base_s: float = 0.5
    #: No back-off is longer.
    cap_s: float = 60.0
    #: No wish of a server's is honoured beyond this.
    wish_cap_s: float = 120.0

    def wait_s(self, failures: int, wish: float | None, draw: float) -> float:
        """Return the seconds to wait after so many failures. `draw` is from [0, 1)."""
        doublings = min(failures, self.max_attempts) - 1
        wait = float(draw * min(self.cap_s, self.base_s * 2**doublings)) if failures else 0.0
        return wait if wish is None else max(wait, min(wish, self.wish_cap_s) * (1 + 0.1 * draw))


class RetryBudget:
    """A share of successes: while much fails, attempts that follow a failure are no more than twice those that succeed.

    Up to fifty may be saved. Who finds none waits in line, and one in a tenth of a second is free, or a run in which everybody
    waits would never end.
    """

    _MOST = 50.0
    _FREE_EVERY_S = 0.1

    def __init__(self) -> None:
        self._left = self._MOST
        self._line = asyncio.Lock()
        self._more = asyncio.Event()

    def earn(self) -> None:
        """Note a success."""
        if self._left < self._MOST:
            self._left = min(self._MOST, self._left + 2)
            self._more.set()

    async def spend(self) -> None:
        """Wait until there is one to spend."""
        async with self._line:
            while self._left < 1:
                self._more.clear()
                try:
                    async with asyncio.timeout(self._FREE_EVERY_S):
                        await self._more.wait()
                except TimeoutError:
                    self._left += 1
            self._left -= 1


def retrying(
    send: Send,
    policy: RetryPolicy,
    health: Health,
    *,
    aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    draw: Callable[[], float] = random.random,
) -> Execute:
    """Make attempts until one succeeds or the row is charged with its failures.

    `aside` is held while nobody can tell whose fault a failure is, so that another row can take the place meanwhile.
    Raises RunStopped when the trouble is the whole run's.
    """
    return _Retrying(send, policy, health, aside, sleep, clock, draw).execute


class _Retrying(Struct):
    send: Send
    policy: RetryPolicy
    health: Health
    aside: Callable[[], AbstractContextManager[None]]
    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]
    draw: Callable[[], float]
    budget: RetryBudget = field(default_factory=RetryBudget)

    async def execute(self, request: Request) -> Outcome:
        number, spent = 1, _Spent()
        trouble: Trouble | None = None
        if self.health.undecided:  # a row that takes the place of another is as good as a further attempt
            await self.budget.spend()
        while True:
            attempt = Attempt(request, number)
            self.health.trying += 1
            try:
                response = await self.send(attempt)
            except AttemptError as error:
                failed = error
            else:
                spent.add(attempt)
                self.health.succeeded(trouble)
                self.budget.earn()
                return spent.outcome(response)
            finally:
                self.health.trying -= 1
            spent.add(attempt)
            trouble = trouble or self.health.trouble(request.unit)
            began = self.clock()
            if await self._is_charged(trouble, failed) or spent.seconds > self.policy.longest_s:
                return spent.outcome(failed.failure)
            spent.backoff_s += self.clock() - began
            number += 1

    async def _is_charged(self, trouble: Trouble, error: AttemptError) -> bool:
        """Return whether the row is charged with its failures; if not, wait until it may be sent again."""
        verdict = self.health.failed(trouble, error, self.policy.max_attempts)
        if verdict is Verdict.UNDECIDED:
            with self.health.waiting(), self.aside():
                while (verdict := self.health.reconsider(trouble)) is Verdict.UNDECIDED:
                    await self.health.news()
        if verdict is Verdict.CHARGED:
            return True
        if trouble.has_begun or not error.is_outage:  # else it is the outage's, and the circuit holds it back
            await self.sleep(self._wait_s(trouble, error))
            if error.is_outage:
                await self.budget.spend()
        return False

    def _wait_s(self, trouble: Trouble, error: AttemptError) -> float:
        if error.failure.error_type is ErrorType.RATE_LIMIT:
            return 0.0  # the gate is closed for everybody
        if trouble.refused or trouble.unreached:
            return self.health.hold_s(trouble)
        return self.policy.wait_s(trouble.failures, error.failure.retry_after_s, self.draw())


class _Spent(Struct):
    """What a request has cost so far, and how it was sent last."""

    sent: Request | None = None
    attempts: int = 0
    queue_s: float = 0.0
    held_s: float = 0.0
    backoff_s: float = 0.0
    wire_s: float = 0.0
    started_at: int | None = None

    @property
    def seconds(self) -> float:
        """What counts against the longest time that a row may take."""
        return self.wire_s + self.backoff_s

    def add(self, attempt: Attempt) -> None:
        self.sent = attempt.request
        self.queue_s += attempt.queue_s
        self.held_s += attempt.held_s
        self.wire_s += attempt.wire_s
        if attempt.sent_at is not None:
            self.attempts += 1 + attempt.resent
            if self.started_at is None:
                self.started_at = attempt.sent_at

    def outcome(self, answer: Answer) -> Outcome:
        now = time.time_ns() // 1000
        return Outcome(
            answer=answer,
            sent=self.sent,
            attempts=self.attempts,
            queue_s=self.queue_s,
            held_s=self.held_s,
            backoff_s=self.backoff_s,
            wire_s=self.wire_s,
            started_at=self.started_at or now,
            completed_at=now,
        )
