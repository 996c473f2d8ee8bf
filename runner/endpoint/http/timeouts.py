"""The timeouts of an attempt: until an answer begins, between two parts of it, and in total.

A timer for each attempt would cost more than decoding its JSON, and nearly all are postponed or dropped before they fire. So
timers are reused, and a timer that fires checks the deadline. Before a timer ends an attempt, data that has arrived is read:
after a stall of this program, timers are due together with answers that came in the meantime and are paid for.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from runner.endpoint.answers.responses import MAY_BE_BILLED
from runner.errors import AttemptError
from runner.structs import Struct
from runner.timers import TURNS
from runner.types import ErrorType, Failure

__all__ = ["AttemptTimer", "Timeouts"]

#: The resolution of an event loop's clock: a timer may fire this much early.
_CLOCK_TICK_S = 0.002
#: How long to wait for usage and `[DONE]` after a complete answer: this, or this share of the idle timeout if that is less.
_AFTER_THE_END_S = 5.0
_SHARE_AFTER_THE_END = 0.25
#: After the deadline, data that keeps coming is read for this long; if the timer was later than that, for as long as it was.
_READING_S = 1.0
#: What did not happen in time, by phase.
_MISSED = {
    "first_byte": "no answer began",
    "idle": "the answer stood still",
    "total": "the answer was not complete",
}


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds for the phases of an attempt, from the moment it is sent."""

    first_byte: float
    idle: float
    total: float


class AttemptTimer:
    """Ends a `with` block when its time is over: the block then raises AttemptError (timeout).

    One timer serves one block after another.
    """

    def __init__(self, limits: Timeouts) -> None:
        """Take the timeouts. Make it in a running loop."""
        self._after_the_end = min(_AFTER_THE_END_S, _SHARE_AFTER_THE_END * limits.idle)
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.Handle | None = None
        #: When the timer fires, and when it should: postponing the deadline does not move the timer.
        self._fires_at = 0.0
        self._deadline = 0.0
        self._begun = 0.0
        self._phase = "first_byte"
        self._is_over = False
        self._cancelled_before = 0
        #: For how many turns of the loop no data has come since the time was over; and when reading ends in any case.
        self._turns = 0
        self._reads_until = 0.0

    def __enter__(self) -> Self:
        """Begin an attempt in the current task."""
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled_before = task, task.cancelling()
        self._phase, self._is_over = "first_byte", False
        self._begun = self._loop.time()
        self._set(self._begun + min(self._limits.first_byte, self._limits.total))
        return self

    def renew(self, *, is_whole: bool = False) -> None:
        """Note that data came: postpone the deadline, up to the total time. After a complete answer the wait is shorter."""
        self._phase, self._turns = "idle", 0
        wait = self._after_the_end if is_whole else self._limits.idle
        self._set(min(self._loop.time() + wait, self._begun + self._limits.total))

    def take_back(self) -> bool:
        """Take back the cancellation if this timer caused it; return whether it did."""
        is_it, self._is_over = self._is_over, False
        return is_it and self._task is not None and self._task.uncancel() <= self._cancelled_before

    def elapsed(self) -> float:
        """Return the seconds since the attempt was sent."""
        return self._loop.time() - self._begun

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task, self._task = self._task, None
        # Another part of the program may have cancelled the task too. Then the cancellation stands.
        if self._is_over and task is not None and task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise self._timed_out() from error

    def _set(self, deadline: float) -> None:
        self._deadline = deadline
        if self._timer is None or deadline < self._fires_at:
            self._start_timer()

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        """Begin to end the attempt if its time is over."""
        self._timer, now = None, self._loop.time()
        self._turns, self._reads_until = 0, now + max(_READING_S, now - self._deadline)
        self._end_or_read()

    def _end_or_read(self) -> None:
        """End the attempt once no data has come for some turns of the loop."""
        self._timer, now = None, self._loop.time()
        if self._task is None:
            return
        if now < self._deadline - _CLOCK_TICK_S:
            self._start_timer()
        elif self._turns < TURNS and now < self._reads_until:
            self._turns += 1
            self._timer = self._loop.call_soon(self._end_or_read)
        else:
            self._is_over = True
            self._task.cancel()

    def _timed_out(self) -> AttemptError:
        """Return the error that says which timeout ran out."""
        phase = "total" if self.elapsed() >= self._limits.total - _CLOCK_TICK_S else self._phase
        seconds = getattr(self._limits, phase)
        message = f"{phase}: {_MISSED[phase]} within {seconds:g} s (endpoint.timeout.{phase}){MAY_BE_BILLED}"
        return AttemptError(Failure(error_type=ErrorType.TIMEOUT, message=message), retry=True)
