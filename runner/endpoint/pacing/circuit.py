"""The circuit: while the endpoint is in doubt or down, no row is sent, only one control request at a time.

    closed ── rows fail one after the other ──► doubt ── a control request is answered ──► closed
    doubt ─── control requests fail ──► open ─── one after 1 s, 1.5 s, 2.25 s … 30 s, until one is answered ──► closed

Only a few workers of a run may check whether the endpoint is back, and the one that gets an answer tells all other workers.

Before anything was answered there is no control request, so a row that was not asked yet takes its place: the circuit opens
without being in doubt first, and rows are tried one after the other. `health` decides what each outcome means.
"""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Awaitable, Callable

from runner.endpoint.pacing.health import Health, State
from runner.endpoint.pacing.verdict import FailureRecord
from runner.errors import AttemptError, RunStopped
from runner.logs import logger
from runner.structs import Struct, field
from runner.types import Attempt, Request, Response, Send

__all__ = ["Circuit", "Circuits"]

_log = logger(__name__)
#: The waits in an outage: the first, the factor to the next, and the longest. So an outage seems at most half as long again.
_FIRST_WAIT_S = 1.0
_LONGER = 1.5
_LONGEST_WAIT_S = 30.0
#: The wait between rows while no good request is known: the next row may be the first.
_NEXT_ROW_S = 0.1
#: How often a waiting row looks again, because a late answer may end an outage.
_LOOK_EVERY_S = 0.5
#: The shortest time between control requests for rows that wait for their verdict.
_CONTROL_EVERY_S = 1.0
#: The chance of a second control request right after the first. Otherwise, of two servers that take turns, the broken one could
#: always get the row and never the control request.
_ONE_MORE = 0.5


class _State(Struct):
    """What the circuits for one endpoint and model share."""

    #: Its holder finds out for all rows whether the endpoint is up.
    line: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Set, and dropped, when the waiting rows are to be judged again; None while no row waits.
    update: asyncio.Event | None = None
    #: While the endpoint is down, the wait before the next request, and when it is due.
    wait_s: float = 0.0
    next_at: float = 0.0
    #: When the last control request ended.
    asked_at: float = -_CONTROL_EVERY_S


class Circuit:
    """Holds back the requests of one task while the endpoint is in doubt or down, and finds out when it is up."""

    def __init__(
        self,
        health: Health,
        send: Send,
        *,
        give_up_after: float = 600.0,
        on_back: Callable[[], None] = lambda: None,
        may_probe: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`give_up_after` is how long an outage may last, in seconds; `on_back` is called when the endpoint is back.

        `may_probe` returns whether this worker may check the endpoint. If not, `back` is called when another worker was
        answered.
        """
        self.health = health
        health.on_change = self._changed
        self._send, self._give_up_after, self._on_back, self._may_probe = send, give_up_after, on_back, may_probe
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._state = _State()

    def beside(self, send: Send, *, give_up_after: float) -> Circuit:
        """Return a circuit for another evaluation of the same endpoint and model. Both share what they know."""
        other = copy.copy(self)
        other._send, other._give_up_after = send, give_up_after  # noqa: SLF001  the same class
        return other

    async def send(self, attempt: Attempt) -> Response:
        """Make an attempt once the endpoint is up. Raises AttemptError, and RunStopped when an outage has lasted too long."""
        health = self.health
        if health.is_held:
            arrived = self._clock()
            await self._wait_until_it_is_up()
            attempt.hold(self._clock() - arrived)
        attempt.entered_at = self._clock()
        return await self._send(attempt)

    def answered(self, attempt: Attempt, record: FailureRecord | None) -> None:
        """Note the answer to a row; `record` has its failures before that."""
        self.health.answered(attempt, record)
        self.notify()

    def failed(self, record: FailureRecord, attempt: Attempt, error: AttemptError) -> None:
        """Note a failed attempt of a row. Raises RunStopped."""
        were_alike = self.health.known.all_alike
        self.health.failed(record, attempt, error)
        # Before anything was answered many rows wait, and a failure changes their verdict only in these two cases.
        if (were_alike and not self.health.known.all_alike) or not self.health.has_others:
            self.notify()

    async def wait_for_update(self, record: FailureRecord) -> None:
        """Wait until more is known than when the row failed. Send a control request if no other row will show it."""
        health = self.health
        if not health.known.is_good or (health.known.has_fresh and not health.is_held):
            await self._next_update()
        elif health.is_held:
            await self._wait_until_it_is_up()
        else:
            async with self._state.line:
                await self._sleep(max(0.0, self._state.asked_at + _CONTROL_EVERY_S - self._clock()))
                if health.known.good_sent_at <= record.failed_at and (control := health.control()) is not None:
                    await self._ask(control)
                    if self._draw() < _ONE_MORE:
                        await self._ask(control)

    def back(self) -> None:
        """Note that the endpoint has answered another worker."""
        self.health.back()

    def notify(self) -> None:
        """Let the waiting rows be judged again."""
        if (update := self._state.update) is not None:
            self._state.update = None
            update.set()

    async def _next_update(self) -> None:
        """Wait until the waiting rows are judged again."""
        if self._state.update is None:
            self._state.update = asyncio.Event()
        await self._state.update.wait()

    async def _wait_until_it_is_up(self) -> None:
        """Wait until the endpoint is up. Rows take turns to send a control request, or to be sent if there is none."""
        async with self._state.line:
            while self.health.is_held:
                await self._until_due()
                if not self.health.is_held:
                    return
                if (control := self.health.control()) is not None:
                    await self._ask(control)
                elif self.health.state is State.OPEN:
                    self._wait_for_the_next()
                    return
                else:
                    await self._next_update()

    async def _until_due(self) -> None:
        """Wait until a control request is due; in doubt that is now. Raises RunStopped when the outage has lasted too long."""
        while self.health.state is State.OPEN:
            wait = self._state.next_at - self._clock()
            if wait <= 0:
                if self._may_probe():
                    return
                wait = _LOOK_EVERY_S
            left = self.health.opened_at + self._give_up_after - self._clock()
            if left <= 0:
                waited = f"{self._give_up_after:g} s (limits.give_up_after)"
                raise RunStopped(f"the endpoint has been down for {waited}: {self.health.reason}")
            await self._sleep(min(wait, left, _LOOK_EVERY_S))

    async def _ask(self, control: Request) -> None:
        """Send a control request. Raises RunStopped if it is refused."""
        attempt = Attempt(control, 1, is_control=True, entered_at=self._clock())
        try:
            await self._send(attempt)
        except AttemptError as error:
            was_down = self.health.known.is_down
            self.health.control_failed(error)
            if was_down:
                self._wait_for_the_next()
        else:
            self.health.control_answered(attempt)
        finally:
            self._state.asked_at = self._clock()
        self.notify()

    def _wait_for_the_next(self) -> None:
        """Set the time of the next request after a failed one."""
        if not self.health.known.is_good:
            self._state.wait_s = _NEXT_ROW_S
        else:
            self._state.wait_s = min(self._state.wait_s * _LONGER, _LONGEST_WAIT_S)
        self._state.next_at = self._clock() + self._state.wait_s

    def _changed(self) -> None:
        """Report that the endpoint is down, or back."""
        health = self.health
        if not health.known.is_down:
            _log.warning("the endpoint is up, after an outage of %.1f s", self._clock() - health.opened_at)
            self._on_back()
        else:
            if health.known.is_good:
                _log.warning(
                    "the endpoint is down (%s); rows wait until a control request is answered",
                    health.reason,
                )
            else:
                _log.warning("nothing was answered yet (%s); rows are tried one at a time until one is answered", health.reason)
            self._state.wait_s = _FIRST_WAIT_S if health.known.is_good else _NEXT_ROW_S
            self._state.next_at = self._clock() + self._state.wait_s
        self.notify()


class Circuits(dict[str, Circuit]):
    """One circuit for each task, made on first use: the model of one task may be down, or refused, while another works."""

    def __init__(self, make: Callable[[str], Circuit]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, task: str) -> Circuit:
        """Make a task's circuit."""
        self[task] = circuit = self._make(task)
        return circuit

    def counting(self, send: Send) -> Send:
        """Return `send` with a count of the attempts of each task that are on the wire."""

        async def send_counted(attempt: Attempt) -> Response:
            health = self[attempt.request.unit.task].health
            health.trying += 1
            try:
                return await send(attempt)
            finally:
                health.trying -= 1

        return send_counted

    def notify(self) -> None:
        """Let all waiting rows be judged again."""
        for circuit in self.values():
            circuit.notify()
