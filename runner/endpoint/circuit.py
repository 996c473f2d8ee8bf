"""The circuit: an endpoint that is down is asked by one probe at a time, and nobody's row pays for it.

    closed ── 20 failures in a row, or 90 of the last 100, of several rows and for longer than answers take ──► open
    open ──── a probe after 1 s, 1.5 s, 2.25 s … 30 s ──► an answer: closed; a failure: the next probe; too long: the run ends

What counts as a failure is what an outage looks like (`AttemptError.is_outage`). A refusal is an answer: who refuses is up.
Once there are no new rows, those that are left may all be bad ones: then a row counts only if nobody who was sent after it
first failed has been answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from runner.errors import AttemptError, RunStopped
from runner.types import Attempt, Response, Send, Unit

__all__ = ["Circuit", "guarded"]

_log = logging.getLogger(__name__)
#: So many failures in a row open the circuit …
_IN_A_ROW = 20
#: … or such a share of so many last attempts …
_SHARE = 0.9
_LAST = 100
#: … if they are of so many rows: fewer could all be bad rows.
_FEWEST_ROWS = 4
#: So many rows are known to have failed.
_MOST_KNOWN = 20_000
#: Failures may be quicker than answers: they count only when for twice an answer's time, but at most so long, none came.
_LONGEST_DOUBT_S = 1.0
_USUAL_ANSWER_S = 0.25
#: The share that a new answer has in the usual time of one.
_NEWEST = 0.1
_FIRST_PROBE_S = 1.0
#: Each wait for a probe is so much longer than the one before: an outage lasts at most half as long again as it would.
_LONGER = 1.5
_LONGEST_WAIT_S = 30.0
#: A late answer to an attempt from before the outage may end it while all wait.
_LOOK_EVERY_S = 0.5


class Circuit:
    """Whether the endpoint is up, by what all attempts found."""

    def __init__(
        self,
        *,
        give_up_after: float = 600.0,
        all_taken: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`give_up_after` is how long an outage may last, in seconds; `all_taken` tells whether no new rows are left."""
        self.is_open = False
        #: How often it has opened.
        self.outages = 0
        #: Called when the endpoint is back.
        self.on_close: Callable[[], None] = lambda: None
        #: When the attempts were sent that failed first, by row; and the last one that was answered.
        self._first_failed: dict[Unit, int] = {}
        self._last_answered = 0
        self._give_up_after, self._all_taken, self._clock, self._sleep = give_up_after, all_taken, clock, sleep
        self._line = asyncio.Lock()
        self._in_a_row = 0
        self._rows: set[Unit] = set()
        self._last: deque[bool] = deque(maxlen=_LAST)
        self._failing_since = 0.0
        self._answer_s = _USUAL_ANSWER_S
        self._reason = ""
        self._wait = _FIRST_PROBE_S
        self._next_probe = 0.0

    async def enter(self) -> bool:
        """Wait until an attempt may go on; return whether it is a probe, of which there is one at a time, in this line.

        Raises RunStopped when the outage has lasted too long.
        """
        await self._line.acquire()
        try:
            await self._wait_for_a_probe()
        except BaseException:
            self._line.release()
            raise
        if not self.is_open:
            self._line.release()
        return self.is_open

    async def _wait_for_a_probe(self) -> None:
        while self.is_open and (wait := self._next_probe - self._clock()) > 0:
            left = self._failing_since + self._give_up_after - self._clock()
            if left <= 0:
                waited = f"{self._give_up_after:g} s (limits.give_up_after)"
                raise RunStopped(f"the endpoint has been down for {waited}: {self._reason}")
            await self._sleep(min(wait, left, _LOOK_EVERY_S))

    def leave(self) -> None:
        """End a probe, whatever came of it."""
        self._line.release()

    def answered(self, seconds: float, sent_at: int = 0) -> None:
        """Note that the endpoint answered, if only with a refusal, how long it took, and when it was sent."""
        self._last_answered = max(self._last_answered, sent_at)
        self._answer_s += _NEWEST * (seconds - self._answer_s)
        self._in_a_row = 0
        self._rows.clear()
        self._last.append(True)
        if self.is_open:
            self._close()

    def failed(self, unit: Unit, reason: str, sent_at: int = 0) -> None:
        """Note a failure that an outage would explain, and when its attempt was sent."""
        first = self._first_failed.setdefault(unit, sent_at)
        if len(self._first_failed) > _MOST_KNOWN:
            del self._first_failed[next(iter(self._first_failed))]
        if self._all_taken() and first < self._last_answered and not self.is_open:
            return
        if not self._in_a_row:
            self._failing_since = self._clock()
        self._in_a_row += 1
        self._reason = reason
        self._last.append(False)
        if len(self._rows) < _FEWEST_ROWS:
            self._rows.add(unit)
        if self.is_open or len(self._rows) < _FEWEST_ROWS:
            return
        if self._clock() - self._failing_since < min(2 * self._answer_s, _LONGEST_DOUBT_S):
            return
        if self._in_a_row >= _IN_A_ROW or (len(self._last) == _LAST and self._last.count(False) >= _SHARE * _LAST):
            self._open()

    def probe_failed(self) -> None:
        """Set the time of the next probe."""
        self._wait = min(self._wait * _LONGER, _LONGEST_WAIT_S)
        self._next_probe = self._clock() + self._wait

    def _open(self) -> None:
        _log.warning("the endpoint is down (%s); rows wait, it is probed until it is back", self._reason)
        self.is_open = True
        self.outages += 1
        self._first_failed.clear()
        self._wait = _FIRST_PROBE_S
        self._next_probe = self._clock() + self._wait

    def _close(self) -> None:
        _log.warning("the endpoint is back after %.1f s", self._clock() - self._failing_since)
        self.is_open = False
        self._last.clear()
        self.on_close()


def guarded(send: Send, circuit: Circuit) -> Send:
    """Hold attempts back while the endpoint is down, and learn from each whether it is. It raises RunStopped."""

    async def send_guarded(attempt: Attempt) -> Response:
        probing = False
        if circuit.is_open:
            arrived = time.perf_counter()
            probing = await circuit.enter()
            attempt.hold(time.perf_counter() - arrived)
        try:
            response = await send(attempt)
        except AttemptError as error:
            if not error.is_outage:
                if attempt.sent_at is not None:
                    circuit.answered(attempt.wire_s, attempt.sent_at)
                raise
            circuit.failed(attempt.request.unit, error.failure.message, attempt.sent_at or 0)
            if probing:
                circuit.probe_failed()
            raise
        else:
            circuit.answered(attempt.wire_s, attempt.sent_at or 0)
            return response
        finally:
            if probing:
                circuit.leave()

    return send_guarded
