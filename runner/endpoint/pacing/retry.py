"""The one retry layer: attempts are made here, and only here an exception becomes a value."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from runner.endpoint.answers.retry_after import LONGEST_HONOURED_S
from runner.endpoint.pacing.circuit import Circuit, Circuits
from runner.endpoint.pacing.verdict import FailureRecord, Kind, Verdict
from runner.errors import AttemptError
from runner.structs import Struct
from runner.types import Answer, Attempt, Execute, Outcome, Request

__all__ = ["RetryPolicy", "retrying"]

#: The back-off after a refusal that may concern the whole run, before anything was answered. It is short: a few such refusals
#: end the run.
_BEFORE_ANYTHING_S = 0.2


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How often a row may fail, and how long it waits: exponential back-off with full jitter, capped.

    Full jitter draws the wait evenly between 0 and the back-off, so that requests that failed together do not come back
    together. `Retry-After` is a lower bound, up to a cap.
    """

    #: Failures that make an error row, if the endpoint works for other rows.
    max_attempts: int
    #: Seconds of attempts and back-offs after which a row that only fails is given up.
    longest_s: float = 7200.0
    #: The longest wait before the second attempt, in seconds; it doubles with each further one.
    base_s: float = 0.5
    #: No back-off is longer.
    cap_s: float = 60.0
    #: If the server asks for a longer wait, the row is asked again after this.
    retry_after_cap_s: float = LONGEST_HONOURED_S

    def wait_s(self, failures: int, retry_after_s: float | None, draw: float) -> float:
        """Return the seconds to wait after this many failures. `draw` is from [0, 1)."""
        doublings = min(failures, self.max_attempts) - 1
        wait = float(draw * min(self.cap_s, self.base_s * 2**doublings)) if failures else 0.0
        return wait if retry_after_s is None else max(wait, min(retry_after_s, self.retry_after_cap_s) * (1 + 0.1 * draw))


def retrying(
    policy: RetryPolicy,
    circuits: Circuits,
    *,
    aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    draw: Callable[[], float] = random.random,
) -> Execute:
    """Make attempts until one succeeds or the row is charged with its failures.

    `aside` is entered while a row waits, for its time or for news of other rows, so that another row can take its place
    meanwhile. Raises RunStopped when the whole run is affected.
    """
    return _Retrying(policy, circuits, aside, sleep, clock, draw).execute


class _Retrying(Struct):
    policy: RetryPolicy
    circuits: Circuits
    aside: Callable[[], AbstractContextManager[None]]
    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]
    draw: Callable[[], float]

    async def execute(self, request: Request) -> Outcome:
        circuit = self.circuits[request.unit.task]
        number, spent = 1, _Spent()
        record: FailureRecord | None = None
        while True:
            attempt = Attempt(request, number)
            try:
                response = await circuit.send(attempt)
            except AttemptError as error:
                failed = error
            else:
                spent.add(attempt)
                circuit.answered(attempt, record)
                return spent.outcome(response)
            spent.add(attempt)
            record = record or circuit.health.record()
            circuit.failed(record, attempt, failed)
            if (wait_s := self._wait_s(circuit, record, failed)) > 0:
                spent.backoff_s += await self._seconds_aside(self.sleep(wait_s))
            if await self._is_charged(circuit, record, spent) or spent.seconds > self.policy.longest_s:
                return spent.outcome(failed.failure)
            number += 1

    async def _is_charged(self, circuit: Circuit, record: FailureRecord, spent: _Spent) -> bool:
        """Return whether the row is charged with its failures. Wait aside until that is decided."""
        while (verdict := circuit.health.verdict(record, self.policy.max_attempts)) is Verdict.WAIT:
            spent.hold(await self._seconds_aside(circuit.wait_for_update(record)))
        return verdict is Verdict.CHARGED

    async def _seconds_aside(self, waiting: Awaitable[None]) -> float:
        """Wait while another row takes its place; return the seconds."""
        began = self.clock()
        with self.aside():
            await waiting
        return self.clock() - began

    def _wait_s(self, circuit: Circuit, record: FailureRecord, error: AttemptError) -> float:
        """Return how long the row backs off: not at all if it is not asked again, or if all rows wait."""
        if record.last is Kind.LIMITED or circuit.health.is_held:
            return 0.0
        if not circuit.health.known.is_good and record.may_be_all:
            return _BEFORE_ANYTHING_S
        if circuit.health.is_enough(record, self.policy.max_attempts):
            return 0.0
        return self.policy.wait_s(record.count, error.failure.retry_after_s, self.draw())


class _Spent(Struct):
    """What a request has cost so far, and the request as it was last sent."""

    sent: Request | None = None
    endpoint: str | None = None
    attempts: int = 0
    queue_s: float = 0.0
    held_s: float = 0.0
    backoff_s: float = 0.0
    wire_s: float = 0.0
    started_at: int | None = None

    @property
    def seconds(self) -> float:
        """The seconds that count against `longest_s`."""
        return self.wire_s + self.backoff_s

    def hold(self, seconds: float) -> None:
        """Note a wait for the endpoint itself."""
        self.queue_s += seconds
        self.held_s += seconds

    def add(self, attempt: Attempt) -> None:
        self.sent, self.endpoint = attempt.request, attempt.endpoint
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
            endpoint=self.endpoint,
            attempts=self.attempts,
            queue_s=self.queue_s,
            held_s=self.held_s,
            backoff_s=self.backoff_s,
            wire_s=self.wire_s,
            started_at=self.started_at or now,
            completed_at=now,
        )
