"""The gate before the wire: requests a second, tokens a minute, and the pause that a 429 imposes on everybody.

Waiters stand in one line and only the first of them looks at the clock: asyncio-throttle polls, and a thousand polling
waiters would burn a core. The order of arrival is the order of passing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from asyncio_throttle.throttler import Throttler

from runner.errors import AttemptError
from runner.types import Attempt, ErrorType, Failure, Response, Send

__all__ = ["Gate", "TokenBudget", "limited"]

_LONGEST_PAUSE_S = 120.0


class TokenBudget:
    """Tokens a minute by reservation: an estimate is taken before sending and corrected by the usage that comes back."""

    def __init__(self, tokens_per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity = tokens_per_minute
        self._rate = tokens_per_minute / 60
        self._clock = clock
        self._level = float(tokens_per_minute)
        self._at = clock()

    def reserve(self, tokens: int) -> float:
        """Take tokens if there are enough and return 0; else return the seconds until there will be."""
        now = self._clock()
        self._level = min(self.capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        if tokens <= self._level:
            self._level -= tokens
            return 0.0
        return (tokens - self._level) / self._rate

    def correct(self, estimated: int, used: int) -> None:
        """Give back what was estimated too much, or take what was too little."""
        self._level += estimated - used


class Gate:
    """Lets attempts pass one after the other, as fast as the limits allow."""

    def __init__(
        self,
        *,
        requests_per_second: float | None = None,
        tokens: TokenBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._line = asyncio.Lock()
        self._throttler = None if requests_per_second is None else _throttler(requests_per_second)
        self._tokens = tokens
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether an attempt may pass without waiting."""
        return self._throttler is None and self._tokens is None and self._clock() >= self._closed_until

    async def wait(self, attempt: Attempt) -> None:
        """Wait for the attempt's turn. Raises AttemptError for one that could never have its turn."""
        estimate = attempt.request.token_estimate
        if self._tokens is not None and estimate > self._tokens.capacity:
            raise _too_large(estimate, self._tokens.capacity)
        async with self._line:
            while self._tokens is not None and (wait := self._tokens.reserve(estimate)) > 0:
                await self._sleep(wait)
            while True:
                while (wait := self._closed_until - self._clock()) > 0:
                    await self._sleep(wait)
                # Last, for a place from before a pause would be one too many after it.
                if self._throttler is not None:
                    await self._throttler.acquire()  # type: ignore[no-untyped-call]
                if self._clock() >= self._closed_until:
                    return

    def close_for(self, seconds: float) -> None:
        """Let nobody pass for so long: a server said that it has enough."""
        self._closed_until = max(self._closed_until, self._clock() + min(seconds, _LONGEST_PAUSE_S))

    def settle(self, attempt: Attempt, response: Response | None) -> None:
        """Correct the reserved tokens by what an attempt really used; a failed one used none that we know of."""
        if self._tokens is None:
            return
        used = 0 if response is None else response.usage.total_tokens
        if used is not None:
            self._tokens.correct(attempt.request.token_estimate, used)


def limited(send: Send, gate: Gate) -> Send:
    """Make every attempt wait its turn; what it waited is no part of its time on the wire."""

    async def send_in_turn(attempt: Attempt) -> Response:
        if not gate.is_open:
            arrived = time.perf_counter()
            try:
                await gate.wait(attempt)
            finally:
                attempt.queue_s = time.perf_counter() - arrived
        try:
            response = await send(attempt)
        except AttemptError as error:
            gate.settle(attempt, None)
            if error.failure.error_type is ErrorType.RATE_LIMIT and error.failure.retry_after_s:
                gate.close_for(error.failure.retry_after_s)
            raise
        gate.settle(attempt, response)
        return response

    return send_in_turn


def _throttler(requests_per_second: float) -> Throttler:
    """Return a throttler that spreads a rate over seconds, also where it was given per minute."""
    burst = max(1, int(requests_per_second))
    return Throttler(rate_limit=burst, period=burst / requests_per_second)


def _too_large(estimate: int, capacity: int) -> AttemptError:
    message = f"needs about {estimate} tokens, more than a whole minute's budget (limits.tokens_per_minute: {capacity})"
    return AttemptError(Failure(error_type=ErrorType.REQUEST, message=message), retry=False)
