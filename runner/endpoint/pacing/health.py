"""What the attempts of one task say about its endpoint: whether it is up, in doubt or down, and whether the run can be won.

One question stands behind every answer: *how often does a request that is known to be good fail now?* A row that has only
failed is in doubt, and says nothing about the endpoint; a control request does, one that was answered already and sent again.

    a row is asked again   when a request that was sent after it failed was answered; so of an outage one counts at most
    a row is charged       when a known-good request would hardly ever fail so often (`verdict`)
    the endpoint is down   when a control request fails so often in a row that an endpoint which is up would hardly ever do it
    the run is stopped     when control requests are refused; when nothing was ever answered, and all is refused alike; when a
                           quota is used up; and when nothing but 429 came for `limits.give_up_after`

Only decisions are made here. `retry` and `circuit` carry them out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from enum import Enum

from runner.endpoint.pacing.verdict import (
    EndpointRecord,
    FailureRecord,
    Kind,
    Verdict,
    is_enough,
    kind_of,
    most_failures,
    verdict,
)
from runner.errors import AttemptError, RunStopped, common_words
from runner.types import Attempt, ErrorType, Request

__all__ = ["Health", "State"]

#: The endpoint is in doubt when so many rows in a row fail at their first attempt, and as many as are on the wire.
_FEWEST_FAILING = 4
#: So often a control request fails in a row before the endpoint is down; and so many are refused before the run is stopped.
_DOWN = 6
_REFUSING = 2
#: So many requests are kept to be sent again: one of them may have gone bad.
_MOST_KEPT = 2
#: Before anything was answered, so many equal refusals in a row end the run; where nothing is even reached, so many.
_EQUAL_REFUSALS = 16
_NOT_REACHED = 3
#: A time that runs out while this program is so late is no failure, in seconds.
_LONGEST_LAG_S = 5.0


class State(Enum):
    """Whether requests are sent."""

    CLOSED = "closed"  # as of a circuit: all are
    #: None is until it is known whether it is up: by a control request or, where there is none, by what is on its way.
    DOUBT = "doubt"
    OPEN = "open"  # the endpoint is down: now and then a control request is


class Health:
    """What the attempts of one task say about its endpoint, and about each row that fails."""

    def __init__(
        self,
        controls: Sequence[Request] = (),
        *,
        has_fresh: Callable[[], bool] = lambda: True,
        give_up_after: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        lag_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Start with requests that an earlier start of the run has had answered.

        `has_fresh` tells whether there are rows that were not asked yet, `give_up_after` how long the endpoint may answer
        nothing but 429, in seconds, and `lag_s` how late this program itself is.
        """
        self.known = EndpointRecord()
        self.state = State.CLOSED
        #: Why the endpoint is in doubt, or down; and since when it is down.
        self.reason = ""
        self.opened_at = 0.0
        #: Called when it goes down, and when it is back.
        self.on_change: Callable[[], None] = lambda: None
        #: Attempts that are on the wire.
        self.trying = 0
        #: The two requests that were answered soonest, with their times: to send them again costs least.
        self._controls: list[tuple[float, Request]] = []
        self.know_good(controls)
        self._asked = 0
        self._has_fresh, self._give_up_after, self._clock, self._lag_s = has_fresh, give_up_after, clock, lag_s
        #: First attempts of rows that failed since the last answer to one that was sent later; and since when.
        self._failing, self._failing_since = 0, -math.inf
        self._control_record = FailureRecord()
        #: What all refusals so far have in common, and how many in a row have it.
        self._refusal: tuple[object, ...] = ()
        self._refusals = 0
        self._limited_since: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether no row may be sent."""
        return self.state is not State.CLOSED

    def record(self) -> FailureRecord:
        """Return the record of a row that meets its first failure."""
        return FailureRecord(outages=self.known.outages)

    @property
    def has_others(self) -> bool:
        """Whether any other row is on the wire, or may be asked."""
        return self.trying > 0 or self._has_fresh()

    def is_enough(self, record: FailureRecord, max_attempts: int) -> bool:
        """Whether a row has failed more often than it may."""
        return is_enough(record, self.known, max_attempts)

    def verdict(self, record: FailureRecord, max_attempts: int) -> Verdict:
        """Judge a row by what is known now."""
        self.known.has_fresh = self._has_fresh()
        self.known.has_others = self.has_others
        return verdict(record, self.known, max_attempts)

    def control(self) -> Request | None:
        """Return the request to send in the place of a row: the two that there are in turn, for one may have gone bad."""
        self._asked += 1
        return self._controls[self._asked % len(self._controls)][1] if self._controls else None

    def know_good(self, controls: Sequence[Request]) -> None:
        """Take requests that an earlier start of a run has had answered, where none are known yet."""
        if controls and not self.known.is_good:
            self._controls = [(math.inf, request) for request in controls]
            self.known.is_good = True

    # --- answers ---

    def answered(self, attempt: Attempt, record: FailureRecord | None = None) -> None:
        """Note the answer to a row, and what it had met before."""
        known = self.known
        known.evidence.answered(record if record is None or record.outages == known.outages else None)
        is_first, known.is_good = not known.is_good, True
        known.good_sent_at = max(known.good_sent_at, attempt.entered_at)
        self._limited_since = None
        was_sent_since = attempt.entered_at >= self._failing_since
        if was_sent_since:
            self._failing = 0
        self._keep(attempt)
        # In an outage answers may still come to what was sent before it. The first of all tells in any case.
        if self.is_held and (was_sent_since or is_first):
            self._close()

    def control_answered(self, attempt: Attempt) -> None:
        """Note the answer to a control request."""
        record, self._control_record = self._control_record, FailureRecord(outages=self.known.outages)
        self.answered(attempt, None if self.known.is_down else record)

    def back(self) -> None:
        """Note that another worker of the run was answered, while the endpoint was down for both."""
        if self.known.is_down:
            self._close()

    def _keep(self, attempt: Attempt) -> None:
        """Keep a request where it was answered sooner than others."""
        if not attempt.is_control and len(self._controls) == _MOST_KEPT and attempt.wire_s >= self._controls[-1][0]:
            return
        others = [one for one in self._controls if one[1] is not attempt.request]
        self._controls = sorted([*others, (attempt.wire_s, attempt.request)], key=lambda one: one[0])[:_MOST_KEPT]

    # --- failures ---

    def failed(self, record: FailureRecord, attempt: Attempt, error: AttemptError) -> None:
        """Note a failed attempt of a row. Raises RunStopped when the run cannot go on."""
        if error.stops_run == "always":
            raise RunStopped(error.failure.message)
        self._look_at_the_start(error)
        kind = kind_of(error)
        if self.known.outages > record.outages:
            record.failures, record.outages = {}, self.known.outages
        record.last, record.failed_at, record.may_be_all = kind, self._clock(), error.stops_run is not None
        if kind is Kind.LIMITED:
            self._note_limit(error)
        if error.failure.error_type is ErrorType.TIMEOUT and self._lag_s() > _LONGEST_LAG_S:
            return  # it was this program that stood still
        if kind is not Kind.OWN and self.state is not State.OPEN:
            record.failures[kind] = record.failures.get(kind, 0) + 1
        if kind in {Kind.BROKEN, Kind.REFUSED}:
            if not self._failing and not self.is_held:
                self._failing_since = self._clock()
            self._failing += attempt.number == 1
            if kind is Kind.BROKEN or self.known.is_good:  # refusals alone are no outage where nothing was ever answered
                self._look_for_an_outage(error)

    def control_failed(self, error: AttemptError) -> None:
        """Note a failed control request. Raises RunStopped for one that is refused."""
        kind = kind_of(error)
        if error.stops_run == "always":
            raise RunStopped(error.failure.message)
        if kind is Kind.LIMITED:
            self._note_limit(error)
            return
        self.reason = error.failure.message
        failures = self._control_record.failures
        if not failures:
            self._control_record.failed_at = self._clock()
        failures[kind] = failures.get(kind, 0) + 1
        is_refused = kind in {Kind.OWN, Kind.REFUSED}
        if failures[kind] < most_failures(_REFUSING if is_refused else _DOWN, self.known.evidence.share(kind)):
            return
        if is_refused:
            raise RunStopped(f"the endpoint refuses what it has answered before: {self.reason}")
        if self.state is not State.OPEN:
            self._open()

    def _look_for_an_outage(self, error: AttemptError) -> None:
        """Doubt the endpoint when as many rows in a row have failed at their first attempt as are being asked."""
        if self.state is not State.CLOSED or self._failing < max(_FEWEST_FAILING, self.trying):
            return
        self.reason = error.failure.message
        if self.known.is_good:
            self.state = State.DOUBT
        else:
            self._open()

    def _open(self) -> None:
        self.state, self._failing = State.OPEN, 0
        self.opened_at = self._control_record.failed_at if self._control_record.failures else self._clock()
        self.known.is_down = True
        self.on_change()

    def _close(self) -> None:
        """Send rows again; what they met while the endpoint was down does not count."""
        was_down, self.state = self.known.is_down, State.CLOSED
        if was_down:
            self.known.outages += 1
            self.known.is_down = False
            self._control_record = FailureRecord(outages=self.known.outages)
            self.on_change()

    def _note_limit(self, error: AttemptError) -> None:
        """Note a 429, which is no failure: everybody waits, but not for ever. Raises RunStopped."""
        if self._limited_since is None:
            self._limited_since = self._clock()
        elif self._clock() - self._limited_since >= self._give_up_after:
            waited = f"{self._give_up_after:g} s (limits.give_up_after)"
            raise RunStopped(f"the endpoint has answered nothing but 429 for {waited}: {error.failure.message}")

    def _look_at_the_start(self, error: AttemptError) -> None:
        """Stop a run that nobody can win: nothing was ever answered, and everything is refused alike. Raises RunStopped.

        What is on its way may still be answered: it is waited for, and nothing more is sent.
        """
        is_reached = error.stops_run != "first" or error.failure.status_code is not None
        if self.known.evidence.answers or (self.known.is_good and is_reached):
            return
        if (refusal := _refusal_of(error)) is not None:
            self.known.all_alike = self._refusal in {(), refusal}
            self._refusals = self._refusals + 1 if self.known.all_alike else 1
            self._refusal = refusal
        if self._refusals < (_EQUAL_REFUSALS if is_reached else _NOT_REACHED):
            if self.state is State.DOUBT and not self.known.is_good:
                self._close()
        elif self.trying and is_reached:
            self.state = State.DOUBT
        else:
            raise RunStopped(f"nothing succeeded, and the endpoint refuses: {error.failure.message}")


def _refusal_of(error: AttemptError) -> tuple[object, ...] | None:
    """Return what two equal refusals have in common; None for what waiting may help: a server error, a timeout, a 429.

    Words count only where the server chose them to say no: without what is quoted, numbers and ids, which are the row's.
    """
    failure = error.failure
    kind = failure.error_type
    if kind is ErrorType.CONNECT:
        return (kind, error.stops_run)
    if kind is ErrorType.INVALID_RESPONSE:
        return (kind, failure.status_code)
    if error.retry and error.stops_run is None:
        return None
    return (kind, failure.status_code, common_words(failure.message))
