"""What the attempts of one task say about its endpoint: whether it is up, in doubt or down, and whether the run can succeed.

Every decision rests on one question: *how often does a request that is known to be good fail now?* A row that has only failed
says nothing about the endpoint, because the row itself may be bad. A control request does: an answered request, sent again.

    a row is asked again   when a request that was sent after its failure is answered; so an outage counts once at most
    a row is charged       when a known-good request would hardly ever fail so often (`verdict`)
    the endpoint is down   when control requests fail so often in a row that this would hardly ever happen if it were up
    the run is stopped     when control requests are refused; when nothing was ever answered, and all refusals are alike; when a
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

#: The endpoint is in doubt when at least this many rows in a row fail at their first attempt, and as many as are on the wire.
_FEWEST_FAILING = 4
#: After this many failed control requests in a row the endpoint is down; after this many refused ones the run is stopped.
_DOWN = 6
_REFUSING = 2
#: How many requests are kept as control requests: one of them may have gone bad.
_MOST_KEPT = 2
#: Before anything was answered, this many equal refusals in a row end the run; and this many if no server is reached at all.
_EQUAL_REFUSALS = 16
_NOT_REACHED = 3
#: A timeout does not count as a failure while this program is later than this, in seconds.
_LONGEST_LAG_S = 5.0


class State(Enum):
    """Whether requests are sent."""

    CLOSED = "closed"  # all are, as in a closed circuit
    #: None is, until a control request shows whether the endpoint is up, or, if there is none, a request on its way.
    DOUBT = "doubt"
    OPEN = "open"  # the endpoint is down: only a control request is, now and then


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
        """Start with control requests: requests that were answered in an earlier start of the run.

        `has_fresh` returns whether there are rows that were not asked yet, and `lag_s` how late this program itself is.
        `give_up_after` is how long the endpoint may answer nothing but 429. Both times are in seconds.
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
        #: The two requests with the fastest answers, and the times of these: to send them again costs least.
        self._controls: list[tuple[float, Request]] = []
        self.know_good(controls)
        self._asked = 0
        self._has_fresh, self._give_up_after, self._clock, self._lag_s = has_fresh, give_up_after, clock, lag_s
        #: How many rows in a row failed at their first attempt, and since when.
        self._failing, self._failing_since = 0, -math.inf
        self._control_record = FailureRecord()
        #: What the last refusals have in common, and how many in a row there were.
        self._refusal: tuple[object, ...] = ()
        self._refusals = 0
        self._limited_since: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether no row may be sent."""
        return self.state is not State.CLOSED

    def record(self) -> FailureRecord:
        """Return the record of a row at its first failure."""
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
        """Return the control request to send, if there is any. The two take turns, because one may have gone bad."""
        self._asked += 1
        return self._controls[self._asked % len(self._controls)][1] if self._controls else None

    def know_good(self, controls: Sequence[Request]) -> None:
        """Take control requests from an earlier start of the run, if there are none yet."""
        if controls and not self.known.is_good:
            self._controls = [(math.inf, request) for request in controls]
            self.known.is_good = True

    # --- answers ---

    def answered(self, attempt: Attempt, record: FailureRecord | None = None) -> None:
        """Note the answer to a row; `record` has its failures before that."""
        known = self.known
        known.evidence.answered(record if record is None or record.outages == known.outages else None)
        is_first, known.is_good = not known.is_good, True
        known.good_sent_at = max(known.good_sent_at, attempt.entered_at)
        self._limited_since = None
        was_sent_since = attempt.entered_at >= self._failing_since
        if was_sent_since:
            self._failing = 0
        self._keep(attempt)
        # In an outage, answers to requests from before it show nothing. The first answer of all always does.
        if self.is_held and (was_sent_since or is_first):
            self._close()

    def control_answered(self, attempt: Attempt) -> None:
        """Note the answer to a control request."""
        record, self._control_record = self._control_record, FailureRecord(outages=self.known.outages)
        self.answered(attempt, None if self.known.is_down else record)

    def back(self) -> None:
        """Note that the endpoint has answered another worker of the run: that ends an outage."""
        if self.known.is_down:
            self._close()

    def _keep(self, attempt: Attempt) -> None:
        """Keep a request as a control request if it was answered faster than the others."""
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
            return  # this program itself stood still
        if kind is not Kind.OWN and self.state is not State.OPEN:
            record.failures[kind] = record.failures.get(kind, 0) + 1
        if kind in {Kind.BROKEN, Kind.REFUSED}:
            if not self._failing and not self.is_held:
                self._failing_since = self._clock()
            self._failing += attempt.number == 1
            if kind is Kind.BROKEN or self.known.is_good:  # refusals alone are no outage if nothing was ever answered
                self._look_for_an_outage(error)

    def control_failed(self, error: AttemptError) -> None:
        """Note a failed control request. Raises RunStopped if such requests are refused."""
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
            raise RunStopped(f"the endpoint refuses a request that it answered before: {self.reason}")
        if self.state is not State.OPEN:
            self._open()

    def _look_for_an_outage(self, error: AttemptError) -> None:
        """Doubt the endpoint if as many rows in a row have failed at their first attempt as are on the wire."""
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
        """Send rows again. Their failures while the endpoint was down do not count."""
        was_down, self.state = self.known.is_down, State.CLOSED
        if was_down:
            self.known.outages += 1
            self.known.is_down = False
            self._control_record = FailureRecord(outages=self.known.outages)
            self.on_change()

    def _note_limit(self, error: AttemptError) -> None:
        """Note a 429. It is not a failure: all rows wait, but not for ever. Raises RunStopped."""
        if self._limited_since is None:
            self._limited_since = self._clock()
        elif self._clock() - self._limited_since >= self._give_up_after:
            waited = f"{self._give_up_after:g} s (limits.give_up_after)"
            raise RunStopped(f"the endpoint has answered nothing but 429 for {waited}: {error.failure.message}")

    def _look_at_the_start(self, error: AttemptError) -> None:
        """Stop a run that cannot succeed: nothing was ever answered, and all refusals are alike. Raises RunStopped.

        Requests on their way may still be answered: the run waits for them, and sends nothing more.
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
            raise RunStopped(f"no request has succeeded, and the last ones all failed in the same way: {error.failure.message}")


def _refusal_of(error: AttemptError) -> tuple[object, ...] | None:
    """Return what equal refusals have in common; None if waiting may help: a server error, a timeout, a 429.

    The server's message counts without quoted parts, numbers and ids, because these belong to the row.
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
