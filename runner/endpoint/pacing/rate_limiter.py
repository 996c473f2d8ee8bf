"""The rate limiter: requests a second, tokens a minute, attempts at a time, and the pause after a 429.

Attempts wait in one line, and only the first of them looks at the clock: asyncio-throttle polls, and a thousand polling waiters
would keep a core busy. The attempts of one sender pass in the order of their arrival. They pass evenly, one after the other
(`Pace`), and asyncio-throttle ensures that there are never too many.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from asyncio_throttle.throttler import Throttler

from runner.endpoint.answers.retry_after import LONGEST_HONOURED_S
from runner.endpoint.pacing.pace import Pace
from runner.endpoint.pacing.slots import Slots
from runner.endpoint.pacing.turns import Turns
from runner.endpoint.pacing.verdict import Kind, kind_of
from runner.errors import AttemptError
from runner.logs import logger
from runner.types import Attempt, ErrorType, Failure, Response, Send, Unit
from runner.usage import used_by

__all__ = ["RateLimiter", "TokenBudget", "limited"]

_log = logger(__name__)
#: The rate is enforced for each quarter of a second, so that the server never sees two bursts in one second.
_WINDOW_S = 0.25
#: On their way to the server requests may be delayed and come closer together. This factor of time makes up for it.
_SLACK = 1.011
#: The pace is slower by this factor as well, so that requests do not run into asyncio-throttle, which would bunch them.
_EVENLY = 1.001
#: How often in each window the first in line polls asyncio-throttle.
_POLLS = 250
_LONGEST_POLL_S = 0.01
#: This share of the first window stays unused, because requests that open connections arrive late, and close together.
_GIVEN_UP = 0.25
#: The share of their weight that earlier answers keep with each new one, in what is learnt about tokens.
_REMEMBERED = 0.95
#: No more is owed than the tokens of this many minutes, because a server can report any usage.
_MOST_MINUTES_OWED = 10
#: The first and the longest pause after a 429 that does not say how long. It doubles while nothing is answered.
_FIRST_PAUSE_S = 1.0
_LONGEST_UNSAID_PAUSE_S = 60.0
_MOST_DOUBLINGS = 6
#: This many `Retry-After` in a row are followed as they are. Then pauses become longer: an endless `Retry-After: 0` is no
#: reason to flood the server.
_TRUSTED_WISHES = 10
#: Pauses are longer by up to this share, at random: clients that were refused together should not return together.
_SPREAD = 0.1
#: The pace is checked at least this often, in seconds, because it may have risen.
_LONGEST_LOOK_S = 0.5


#: The sender and its row: two evaluations may have rows with the same name.
Row: TypeAlias = tuple[object, Unit]


class TokenBudget:
    """Tokens a minute by reservation: an estimate is taken before sending, and corrected by the reported usage.

    If estimates prove too low they are raised. Otherwise many requests in flight would use up the minutes to come.
    """

    def __init__(self, tokens_per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity = tokens_per_minute
        self._rate = tokens_per_minute / 60
        self._clock = clock
        self._level = float(tokens_per_minute)
        self._at = clock()
        #: What the last answers have used, and what was estimated for them; the older an answer, the less it counts.
        self._used = self._estimated = 0.0

    def likely(self, estimate: int) -> int:
        """Return the likely usage of a request: its estimate, raised if earlier ones were too low; at most a minute's."""
        factor = max(1.0, self._used / self._estimated) if self._estimated else 1.0
        return min(self.capacity, math.ceil(estimate * factor))

    def learn(self, estimate: int, used: int) -> None:
        """Note the usage of an answer and its estimate."""
        self._used = self._used * _REMEMBERED + min(used, self.capacity)
        self._estimated = self._estimated * _REMEMBERED + estimate

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
        """Give back the tokens that were estimated too high, or take those that were estimated too low."""
        self._level = max(self._level + estimated - used, -_MOST_MINUTES_OWED * self.capacity)


class RateLimiter:
    """Lets attempts pass one after the other, as fast as the limits allow."""

    def __init__(
        self,
        *,
        requests_per_second: float | None = None,
        tokens: TokenBudget | None = None,
        slots: Slots | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        left: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """`left` returns how many results are missing; infinite if that is unknown."""
        self._left = left
        self.clock, self._sleep, self._draw = clock, sleep, draw
        self.slots = slots or Slots()
        self._line = Turns()
        self._throttler = None if requests_per_second is None else _throttler(requests_per_second)
        self._per_second = requests_per_second
        self._pace = Pace(_evenly(requests_per_second))
        self._given_up = 1
        self._tokens = tokens
        self._closed_until = 0.0
        #: Until when the server wants no requests, if it has said so.
        self._wished_until = 0.0
        #: When the last pause began, and how many there were since the last answer.
        self._paused_at = 0.0
        self._pauses = 0
        #: How long it is, in seconds; and by which share longer, so that other refused clients do not return at the same time.
        self._wait_s = _FIRST_PAUSE_S
        self._longer = 0.0
        #: Rows that got a 429, until they are answered; each with the time before which it is not asked again.
        self._refused: dict[Row, float] = {}

    def keep(self, requests_per_second: float | None, tokens_per_minute: int | None) -> None:
        """Keep these limits from now on; None means no limit."""
        if requests_per_second != self._per_second:
            self._per_second = requests_per_second
            self._throttler = None if requests_per_second is None else _throttler(requests_per_second)
            self._pace.limit = _evenly(requests_per_second)
        if tokens_per_minute != (None if self._tokens is None else self._tokens.capacity):
            self._tokens = None if tokens_per_minute is None else TokenBudget(tokens_per_minute, clock=self.clock)

    @property
    def paused_s(self) -> float:
        """How many seconds the pause still lasts; 0 if there is none."""
        return max(0.0, self._closed_until - self.clock())

    @property
    def per_second(self) -> float | None:
        """The pace, in requests a second; None if there is none."""
        return self._pace.per_second(self.clock())

    @property
    def learnt_per_second(self) -> float:
        """The pace as 429s have shown it, in requests a second; 0 if they have not."""
        return self._pace.learnt_per_second(self.clock())

    def rise(self, per_second: float) -> None:
        """Go faster by this rate, because another client of the run that went at it has ended."""
        self._pace.rise(per_second)

    @property
    def wished_pause_s(self) -> float:
        """How many seconds the pause that the server asked for still lasts; 0 if there is none."""
        return max(0.0, self._wished_until - self.clock())

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`, because the server has asked another client of the run to pause."""
        self._closed_until = max(self._closed_until, self.clock() + seconds)

    def forget(self, who: object) -> None:
        """Forget the rows of a sender that sends nothing more."""
        self._refused = {row: until for row, until in self._refused.items() if row[0] is not who}

    @property
    def is_open(self) -> bool:
        """Whether an attempt may pass without waiting."""
        return (
            not self._pace.is_kept
            and self._tokens is None
            and not self._refused
            and self.slots.free
            and not self._line.is_taken
            and self.clock() >= self._closed_until
        )

    async def wait(self, attempt: Attempt, who: object = None) -> None:
        """Wait until the attempt may be sent. Senders take turns."""
        while (wait := self._refused.get((who, attempt.request.unit), 0.0) - self.clock()) > 0:
            await self._sleep(wait)
        async with self._line.of(who):
            while self._tokens is not None and (wait := self._reserve(self._tokens, attempt)) > 0:
                await self._sleep(wait)
            while True:
                while (wait := self._closed_until - self.clock()) > 0:
                    await self._sleep(wait)
                await self.slots.room()
                self._pace.is_ending = self._is_ending()
                while (wait := self._pace.wait_s(self.clock())) > 0:
                    await self._sleep(min(wait, _LONGEST_LOOK_S))
                # Last, because a permit from before a pause would be one too many after it.
                if self._throttler is not None:
                    await self._acquire(self._throttler)
                if self.clock() >= self._closed_until and self.slots.free:
                    return

    def _reserve(self, tokens: TokenBudget, attempt: Attempt) -> float:
        attempt.reserved = tokens.likely(attempt.request.token_estimate)
        return tokens.reserve(attempt.reserved)

    def _is_ending(self) -> bool:
        """Return whether the remaining rows are done before a row that is refused now may be asked again."""
        rate = self._pace.per_second(self.clock())
        return rate is not None and self._left() <= rate * self._wait_s

    async def _acquire(self, throttler: Throttler) -> None:
        """Take a permit. The first ones stay unused, because requests that open connections arrive late and close together."""
        while self._given_up < throttler.rate_limit * _GIVEN_UP:
            self._given_up += 1
            await throttler.acquire()  # type: ignore[no-untyped-call]
        await throttler.acquire()  # type: ignore[no-untyped-call]

    def take(self) -> float:
        """Take a slot for an attempt that has had its turn; return the time."""
        self.slots.take()
        now = self.clock()
        self._pace.passed(now)
        return now

    def rate_limited(self, sent_at: float, retry_after_s: float | None, row: Row | None = None) -> None:
        """Note a 429 to an attempt of `row` that was sent at `sent_at`.

        The row itself waits as long as the server asks. All rows wait while no pace is learnt that the server accepts; later,
        the pace becomes slower instead. Attempts that were on the wire together are one episode: only the first of them takes
        slots away, and if the server does not say how long to wait, only the first sets the pause.
        """
        now = self.clock()
        again = row is not None and row in self._refused
        first = sent_at >= self._paused_at
        if self._pace.is_learnt and (again or not self._is_too_much(sent_at, now)):
            self._hold(row, now, retry_after_s)
            return
        if first:
            self._paused_at = now
            self._pauses += 1
            self._longer = _SPREAD * self._draw()
            self.slots.shrink(self._pause_s(retry_after_s))
            if self._pauses == 1 and not self._pace.is_learnt:
                _log.info("the endpoint limits the rate (429); %d requests at a time for now", self.slots.limit)
        self._hold(row, now, retry_after_s)
        if retry_after_s is None and not first:
            return
        self._wait_s = pause_s = self._pause_s(retry_after_s)
        if retry_after_s is not None:
            self._wished_until = max(self._wished_until, now + pause_s)
        self._closed_until = max(self._closed_until, now + pause_s * (1 + self._longer))
        self._pace.pause(self._paused_at, self._closed_until, pause_s)

    def _is_too_much(self, sent_at: float, now: float) -> bool:
        """Return whether a 429 means that nothing may be sent for now, although a pace is learnt."""
        if sent_at < self._paused_at:
            return now < self._closed_until
        return self._pace.refused(sent_at, now)

    def _hold(self, row: Row | None, now: float, retry_after_s: float | None) -> None:
        if row is not None:
            self._refused[row] = now + self._pause_s(retry_after_s)

    def _pause_s(self, retry_after_s: float | None) -> float:
        """Return how long to pause: as long as the server says, but longer if that did not help several times in a row."""
        doublings = max(1, self._pauses) - (1 if retry_after_s is None else _TRUSTED_WISHES + 1)
        own = min(_LONGEST_UNSAID_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(doublings, _MOST_DOUBLINGS)) if doublings >= 0 else 0.0
        return own if retry_after_s is None else max(own, min(retry_after_s, LONGEST_HONOURED_S))

    def answered(self, row: Row | None = None, sent_at: float | None = None) -> None:
        """Note an answer to an attempt of `row` that was sent at `sent_at`. The slots may grow again."""
        now = self.clock()
        self._pauses = 0
        self._pace.answered(now if sent_at is None else sent_at, now)
        self.slots.grow(now, 0.0 if sent_at is None else now - sent_at)
        if row is not None and self._refused:
            self._refused.pop(row, None)

    def settle(self, attempt: Attempt, response: Response | None) -> None:
        """Correct the reserved tokens by the real usage of an attempt. That of a failed one is unknown, and counts as 0."""
        if self._tokens is None:
            return
        used = 0 if response is None else used_by(attempt.request, response).tokens
        self._tokens.correct(attempt.reserved, used)
        if response is not None:
            self._tokens.learn(attempt.request.token_estimate, used)


def limited(send: Send, limiter: RateLimiter, who: object = None, *, tokens_per_minute: int | None = None) -> Send:
    """Make every attempt wait for its turn. The wait is not part of its time on the wire.

    An attempt that needs more tokens than a whole minute has fails at once: its turn could never come.
    """

    async def send_in_turn(attempt: Attempt) -> Response:
        row = (who, attempt.request.unit)
        estimate = attempt.request.token_estimate
        if tokens_per_minute is not None and estimate > tokens_per_minute:
            raise _too_large(estimate, tokens_per_minute)
        if not limiter.is_open:
            arrived = limiter.clock()
            try:
                await limiter.wait(attempt, who)
            finally:
                attempt.queue_s += limiter.clock() - arrived
        sent_at = limiter.take()
        try:
            response = await send(attempt)
        except AttemptError as error:
            limiter.settle(attempt, None)
            if error.failure.error_type is ErrorType.RATE_LIMIT:
                limiter.rate_limited(sent_at, error.failure.retry_after_s, row)
            elif kind_of(error) is Kind.BROKEN:
                limiter.slots.fail()
            raise
        finally:
            limiter.slots.give_back()
        limiter.settle(attempt, response)
        limiter.answered(row, sent_at)
        return response

    return send_in_turn


def _evenly(requests_per_second: float | None) -> float | None:
    """Return the rate at which requests pass evenly, a little below what asyncio-throttle allows."""
    return None if requests_per_second is None else requests_per_second / (_SLACK * _EVENLY)


def _throttler(requests_per_second: float) -> Throttler:
    """Return a throttler that keeps a rate in every quarter of a second, not only in every second."""
    burst = max(1, int(requests_per_second * _WINDOW_S))
    period = burst / requests_per_second * _SLACK
    return Throttler(rate_limit=burst, period=period, retry_interval=min(_LONGEST_POLL_S, period / _POLLS))


def _too_large(estimate: int, capacity: int) -> AttemptError:
    message = f"needs about {estimate} tokens, more than a whole minute's budget (limits.tokens_per_minute: {capacity})"
    return AttemptError(Failure(error_type=ErrorType.REQUEST, message=message), retry=False)
