"""Is it the row or the endpoint? The decisions as tables, and what leads to them as short stories.

What happens is written as words: `s` another row is asked and answered, `x` another row fails at its first attempt, `f` the row
itself fails, `l` it is answered with 429, `r` it is refused with 403, `c` a control request is answered, `C` it fails, `b` one
more row begins, `e` it ends with an answer. A number before a letter repeats it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import count

import pytest

from runner.endpoint.pacing.health import Health, State
from runner.endpoint.pacing.verdict import (
    EndpointRecord,
    Evidence,
    FailureRecord,
    Kind,
    Verdict,
    kind_of,
    most_failures,
    verdict,
)
from runner.errors import AttemptError, RunStopped
from runner.types import Attempt, ErrorType, Failure
from tests.plain_requests import request

AGAIN, CHARGED, WAIT = Verdict.AGAIN, Verdict.CHARGED, Verdict.WAIT
CLOSED, DOUBT, OPEN = State.CLOSED, State.DOUBT, State.OPEN


def failed(
    error_type: ErrorType = ErrorType.SERVER,
    status: int | None = 503,
    words: str = "no",
    *,
    retry: bool = True,
    once: bool = False,
    stops_run: str | None = None,
) -> AttemptError:
    failure = Failure(error_type=error_type, message=f"{status} {words}", status_code=status)
    return AttemptError(failure, retry=retry, once=once, stops_run=stops_run)


FAILED = failed()
LIMITED = failed(ErrorType.RATE_LIMIT, 429)
REFUSED = failed(ErrorType.AUTH, 403, retry=False, stops_run="first")
WRONG_KEY = failed(ErrorType.AUTH, 401, retry=False, stops_run="first")
USELESS = failed(ErrorType.INVALID_RESPONSE, 200, once=True)
BAD_REQUEST = failed(ErrorType.REQUEST, 400, retry=False)
REDIRECT = failed(ErrorType.REQUEST, 302, retry=False, stops_run="first")
NO_CONNECTION = failed(ErrorType.CONNECT, None, stops_run="first")
RESET = failed(ErrorType.CONNECT, None)
NO_HTTP = failed(ErrorType.INVALID_RESPONSE, None)
BAD_CERTIFICATE = failed(ErrorType.CONNECT, None, retry=False, stops_run="first")
NO_QUOTA = failed(ErrorType.QUOTA, 402, retry=False, stops_run="always")
CONNECT_TIMEOUT = failed(ErrorType.TIMEOUT, None, stops_run="first")
TIMEOUT = failed(ErrorType.TIMEOUT, None)


# --- the decision ---


def good(**more: object) -> EndpointRecord:
    """Return the knowledge of a task whose other rows are answered."""
    evidence = Evidence()
    for _ in range(100):
        evidence.answered(None)
    return EndpointRecord(evidence=evidence, is_good=True, **more)  # type: ignore[arg-type]


BROKEN = FailureRecord(failures={Kind.BROKEN: 1}, failed_at=10.0)
ENOUGH = FailureRecord(failures={Kind.BROKEN: 5}, failed_at=10.0)
TWICE_REFUSED = FailureRecord(failures={Kind.REFUSED: 2}, last=Kind.REFUSED, failed_at=10.0)
THRICE_REFUSED = FailureRecord(failures={Kind.REFUSED: 3}, last=Kind.REFUSED, failed_at=10.0)
REFUSED_AND_BROKEN = FailureRecord(failures={Kind.BROKEN: 1, Kind.REFUSED: 3}, last=Kind.REFUSED, failed_at=10.0)
ONCE_USELESS = FailureRecord(failures={Kind.USELESS: 1}, last=Kind.USELESS, failed_at=10.0)
TWICE_USELESS = FailureRecord(failures={Kind.USELESS: 2}, last=Kind.USELESS, failed_at=10.0)
NINE_LIMITS = FailureRecord(failures={Kind.LIMITED: 9}, last=Kind.LIMITED, failed_at=10.0)
TEN_LIMITS = FailureRecord(failures={Kind.LIMITED: 10}, last=Kind.LIMITED, failed_at=10.0)
OWN = FailureRecord(last=Kind.OWN, failed_at=10.0)
MAY_BE_ALL = FailureRecord(last=Kind.OWN, failed_at=10.0, may_be_all=True)
LATER, BEFORE = 11.0, 9.0


@pytest.mark.parametrize(
    ("record", "known", "expected"),
    [
        # 1. There was an outage.
        (ENOUGH, good(good_sent_at=LATER, outages=1), AGAIN),
        # 2. Nothing was ever answered.
        (BROKEN, EndpointRecord(), WAIT),
        (ENOUGH, EndpointRecord(), WAIT),
        (TWICE_USELESS, EndpointRecord(), WAIT),
        (NINE_LIMITS, EndpointRecord(), AGAIN),
        (OWN, EndpointRecord(all_alike=True), WAIT),
        (OWN, EndpointRecord(), CHARGED),
        (MAY_BE_ALL, EndpointRecord(), WAIT),
        # … and no row is left that was not asked: those that are being asked may still be answered.
        (BROKEN, EndpointRecord(has_fresh=False), WAIT),
        (BROKEN, EndpointRecord(has_fresh=False, has_others=False), AGAIN),
        (ENOUGH, EndpointRecord(has_fresh=False, has_others=False), CHARGED),
        (OWN, EndpointRecord(has_fresh=False, has_others=False, all_alike=True), CHARGED),
        (MAY_BE_ALL, EndpointRecord(has_fresh=False, has_others=False), AGAIN),
        (TEN_LIMITS, EndpointRecord(has_fresh=False, has_others=False), AGAIN),
        # … or the endpoint is down: rows are tried one after the other, those first that were not asked yet.
        (ENOUGH, EndpointRecord(is_down=True), WAIT),
        (ENOUGH, EndpointRecord(is_down=True, has_fresh=False), AGAIN),
        (OWN, EndpointRecord(is_down=True, has_fresh=False, has_others=False, all_alike=True), CHARGED),
        # 3. The failure says that the endpoint is up.
        (OWN, good(good_sent_at=BEFORE), CHARGED),
        (ONCE_USELESS, good(good_sent_at=BEFORE), AGAIN),
        (TWICE_USELESS, good(good_sent_at=BEFORE), CHARGED),
        (NINE_LIMITS, good(good_sent_at=BEFORE), AGAIN),
        # 4. Nobody was asked since, or nobody was answered.
        (BROKEN, good(good_sent_at=BEFORE), WAIT),
        (ENOUGH, good(good_sent_at=BEFORE), WAIT),
        (ENOUGH, good(good_sent_at=ENOUGH.failed_at), WAIT),
        (ENOUGH, good(good_sent_at=BEFORE, has_fresh=False, has_others=False), WAIT),
        (TWICE_REFUSED, good(good_sent_at=BEFORE), WAIT),
        (TEN_LIMITS, good(good_sent_at=BEFORE), WAIT),
        # 5. The endpoint is up.
        (BROKEN, good(good_sent_at=LATER), AGAIN),
        (ENOUGH, good(good_sent_at=LATER), CHARGED),
        (TWICE_REFUSED, good(good_sent_at=LATER), AGAIN),
        (THRICE_REFUSED, good(good_sent_at=LATER), CHARGED),
        (REFUSED_AND_BROKEN, good(good_sent_at=LATER), CHARGED),
        (TEN_LIMITS, good(good_sent_at=LATER), CHARGED),
    ],
)
def test_the_verdict(record: FailureRecord, known: EndpointRecord, expected: Verdict) -> None:
    assert verdict(record, known, max_attempts=5) is expected


@pytest.mark.parametrize("max_attempts", [1, 2, 7])
def test_a_row_has_as_many_attempts_as_the_config_says(max_attempts: int) -> None:
    for failures in range(1, max_attempts + 1):
        record = FailureRecord(failures={Kind.BROKEN: failures}, failed_at=10.0)
        expected = CHARGED if failures == max_attempts else AGAIN
        assert verdict(record, good(good_sent_at=LATER), max_attempts) is expected


def test_one_attempt_is_one_whatever_the_failure() -> None:
    for kind in (Kind.REFUSED, Kind.USELESS):
        record = FailureRecord(failures={kind: 1}, last=kind, failed_at=10.0)
        assert verdict(record, good(good_sent_at=LATER), max_attempts=1) is CHARGED


@pytest.mark.parametrize(
    ("at_least", "share", "most"),
    [
        (5, 0.0, 5),
        (5, 1 / 16, 5),
        (5, 0.25, 10),
        (5, 0.5, 20),
        (1, 0.5, 4),
        (2, 0.5, 8),
        (5, 15 / 16, 214.8),
        (5, 1.0, float("inf")),
    ],
)
def test_a_row_may_fail_more_often_where_known_good_ones_do(at_least: int, share: float, most: float) -> None:
    assert most_failures(at_least, share) == pytest.approx(most, rel=0.01)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8])
def test_evidence_finds_the_share_of_attempts_that_fail(share: float) -> None:
    draw, evidence, found = random.Random(7), Evidence(), []
    for number in range(2000):
        failures = 0
        while draw.random() < share:
            failures += 1
        evidence.answered(FailureRecord(failures={Kind.BROKEN: failures}) if failures else None)
        if number > 200:
            found.append(evidence.share(Kind.BROKEN))
    assert sum(found) / len(found) == pytest.approx(share, abs=0.02)
    assert max(found) <= share + 0.15
    assert evidence.share(Kind.USELESS) == 0


@pytest.mark.parametrize(
    ("before_each", "kind", "mean"),
    [
        # Where it was never met, the fewer answers there are the less is known: a useless answer is no sign of an outage.
        ([], Kind.BROKEN, 0),
        ([0], Kind.BROKEN, 0.4 / 2),
        ([0, 0, 0], Kind.REFUSED, 0.4 / 4),
        ([0, 0, 0], Kind.USELESS, 0),
        ([0, 0, 0], Kind.LIMITED, 0),
        # Else the mean, with one that is imagined to have come before them, after 0.4 failures or none …
        ([1], Kind.BROKEN, 1 / 2),
        ([1, 4], Kind.USELESS, 5 / 3),
        ([0, 1], Kind.BROKEN, (0.4 + 1) / 3),
        ([0, 1], Kind.REFUSED, (0.4 + 1) / 3),
        # … and after fifty mostly of the last ones.
        ([0] * 1000 + [1] * 50, Kind.BROKEN, 1 - 0.98**50),
    ],
)
def test_evidence_is_the_mean_of_what_came_before_an_answer(before_each: list[int], kind: Kind, mean: float) -> None:
    evidence = Evidence()
    for failures in before_each:
        evidence.answered(FailureRecord(failures={kind: failures}) if failures else None)
    assert evidence.share(kind) == pytest.approx(mean / (1 + mean), abs=0.001)


def test_the_first_answers_prove_little() -> None:
    evidence = Evidence()
    evidence.answered(None)
    assert evidence.share(Kind.BROKEN) > 1 / 16
    for _ in range(5):
        evidence.answered(None)
    assert evidence.share(Kind.BROKEN) < 1 / 16


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FAILED, Kind.BROKEN),
        (TIMEOUT, Kind.BROKEN),
        (RESET, Kind.BROKEN),
        (NO_CONNECTION, Kind.BROKEN),
        (BAD_CERTIFICATE, Kind.BROKEN),
        (NO_HTTP, Kind.BROKEN),
        (REFUSED, Kind.REFUSED),
        (WRONG_KEY, Kind.REFUSED),
        (LIMITED, Kind.LIMITED),
        (USELESS, Kind.USELESS),
        (BAD_REQUEST, Kind.OWN),
        (REDIRECT, Kind.OWN),
    ],
)
def test_what_a_failure_says(error: AttemptError, kind: Kind) -> None:
    assert kind_of(error) is kind


# --- what leads to it ---


@dataclass
class Story:
    """One row and what happens around it."""

    max_attempts: int = 5
    now: float = 1000.0
    lag_s: float = 0.0
    fresh: bool = True
    health: Health = field(init=False)
    record: FailureRecord | None = None
    #: Whether the endpoint is down, each time that this changed.
    changes: list[bool] = field(default_factory=list)
    begun: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.health = Health(has_fresh=lambda: self.fresh, clock=lambda: self.now, lag_s=lambda: self.lag_s)
        self.health.on_change = lambda: self.changes.append(self.health.known.is_down)
        self._others = count(1)

    def tell(self, words: str) -> Verdict | None:
        """Let things happen; return the verdict on the row."""
        for word in words.split():
            times, event = (int(word[:-1]), word[-1]) if word[:-1].isdigit() else (1, word)
            for _ in range(times):
                self._happens(event)
        return None if self.record is None else self.health.verdict(self.record, self.max_attempts)

    def after(self, words: str) -> Story:
        """Let things happen."""
        self.tell(words)
        return self

    def fails(self, error: AttemptError) -> Verdict:
        self.now += 1
        number = 1 if self.record is None else 2
        self.record = self.record or self.health.record()
        self.health.failed(self.record, Attempt(request(0), number, entered_at=self.now - 0.5), error)
        return self.health.verdict(self.record, self.max_attempts)

    def _happens(self, event: str) -> None:
        self.now += 1
        attempt = Attempt(request(next(self._others)), 1, entered_at=self.now - 0.5, wire_s=0.5)
        match event:
            case "f" | "l" | "r":
                self.fails({"f": FAILED, "l": LIMITED, "r": REFUSED}[event])
            case "s":
                self.health.answered(attempt)
            case "x":
                self.health.failed(self.health.record(), attempt, FAILED)
            case "c":
                self.health.control_answered(attempt)
            case "C":
                self.health.control_failed(FAILED)
            case "b":
                self.begun.append(attempt)
            case "e":
                self.health.answered(self.begun.pop(0))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("30s f", WAIT),
        ("30s f s", AGAIN),
        ("30s f s f s f s f s f", WAIT),
        ("30s f s f s f s f s f s", CHARGED),
        # A control request tells as much as a row.
        ("30s f c f c f c f c f c", CHARGED),
        # Rows that only fail tell nothing, however many.
        ("30s f 3x s f 3x s f 3x s f 3x s f 3x s", CHARGED),
        # An outage in between: it begins anew.
        ("30s f s f s 4x 6C c", AGAIN),
        ("30s f s f s f s f s 4x 6C c f s", AGAIN),
        ("30s f s 4x 6C c f s f s f s f s", AGAIN),
        ("30s f s 4x 6C c f s f s f s f s f s", CHARGED),
        # A 429 is answered by an endpoint that is up; nine are none of the row's own.
        ("30s 9l", AGAIN),
        ("30s 10l", WAIT),
        ("30s 10l s", CHARGED),
        # Nobody was ever answered.
        ("f", WAIT),
        ("f 3x s", AGAIN),
    ],
)
def test_a_row_that_fails(words: str, expected: Verdict) -> None:
    assert Story().tell(words) is expected


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("s 3x", CLOSED),
        ("s 4x", DOUBT),
        # One answer: it is up.
        ("s 4x s", CLOSED),
        ("s 2x s 3x", CLOSED),
        ("s 4x c", CLOSED),
        # Six that fail in a row: it is down, until one is answered.
        ("30s 4x 5C", DOUBT),
        ("30s 4x 5C c", CLOSED),
        ("30s 4x 6C", OPEN),
        ("30s 4x 30C", OPEN),
        ("30s 4x 6C c", CLOSED),
        # It begins anew behind an outage, whoever was answered.
        ("30s 4x 6C s 4x 5C", DOUBT),
        # What was sent before the first one failed says nothing; what was sent since does.
        ("s b 3x e x", DOUBT),
        ("s 2x b x e 3x", CLOSED),
        ("30s x b 3x 6C x e", CLOSED),
        # Before anything was answered there is nothing to ask.
        ("3x", CLOSED),
        ("4x", OPEN),
        ("4x s", CLOSED),
        ("b 4x e", CLOSED),
        ("b 4x e 3x", CLOSED),
    ],
)
def test_an_endpoint_that_is_in_doubt(words: str, state: State) -> None:
    story = Story()
    story.tell(words)
    assert story.health.state is state
    assert story.health.is_held is (state is not CLOSED)


@pytest.mark.parametrize(
    ("error", "where_it_worked", "at_the_start"),
    [
        (FAILED, DOUBT, OPEN),
        (TIMEOUT, DOUBT, OPEN),
        (RESET, DOUBT, OPEN),
        # Rows that are refused are no outage where nothing was ever answered: it may be the config.
        (REFUSED, DOUBT, CLOSED),
        # An endpoint that says so is up.
        (LIMITED, CLOSED, CLOSED),
        (USELESS, CLOSED, CLOSED),
        (BAD_REQUEST, CLOSED, CLOSED),
    ],
)
def test_which_failures_let_an_endpoint_be_doubted(error: AttemptError, where_it_worked: State, at_the_start: State) -> None:
    for words, expected in (("s", where_it_worked), ("", at_the_start)):
        health = Story().after(words).health
        assert refuse(health, *[error] * 6) == 0
        assert health.state is expected


def test_that_it_is_down_and_back_is_told_once_with_the_reason_and_the_time() -> None:
    story = Story().after("30s 4x")
    assert (story.health.reason, story.changes) == ("503 no", [])
    first = story.now + 1
    story.tell("9C")
    assert (story.health.opened_at, story.changes) == (first, [True])
    story.tell("c 4s")
    assert story.changes == [True, False]
    story = Story().after("4x")
    assert (story.health.reason, story.health.opened_at, story.changes) == ("503 no", story.now, [True])


def test_another_row_that_is_on_its_way_may_be_the_first_that_is_answered() -> None:
    story = Story(fresh=False)
    story.health.trying = 1
    assert story.fails(FAILED) is WAIT
    story.health.trying = 0
    assert story.tell("") is AGAIN


def test_a_late_answer_to_what_was_sent_early_tells_nothing_of_now() -> None:
    story = Story().after("b s")
    known_at = story.health.known.good_sent_at
    story.tell("e")
    assert story.health.known.good_sent_at == known_at


def test_what_a_row_met_before_or_in_an_outage_says_nothing_behind_it() -> None:
    story = Story().after("60s")
    other = story.health.record()
    other.failures[Kind.BROKEN] = 50
    story.tell("4x 6C c")
    story.health.answered(Attempt(request(1), 2, entered_at=story.now), other)
    assert story.health.known.evidence.share(Kind.BROKEN) < 1 / 16
    story = Story().after("30s")
    story.fails(USELESS)
    story.tell("4x 6C")
    assert story.fails(USELESS) is AGAIN
    # Nor where the endpoint was not up yet: the first row that is answered had failed often.
    story = Story().after("4x 20f")
    assert story.record is not None
    story.health.answered(Attempt(request(0), 20, entered_at=story.now), story.record)
    story.tell("5s")
    assert story.health.known.evidence.share(Kind.BROKEN) < 1 / 16


def test_a_redirect_at_the_start_is_no_failure_of_another_kind() -> None:
    story = Story(fresh=False)
    for _ in range(5):
        assert story.fails(REDIRECT) is AGAIN
    assert story.fails(FAILED) is AGAIN


def test_as_many_rows_must_fail_as_are_being_asked() -> None:
    story = Story()
    story.health.trying = 31
    story.tell("s 30x")
    assert story.health.state is CLOSED
    story.tell("x")
    assert story.health.state is DOUBT


def test_where_half_of_the_requests_fail_six_in_a_row_are_no_outage() -> None:
    story = Story()
    for _ in range(100):
        other = story.health.record()
        other.failures[Kind.BROKEN] = 1
        story.health.answered(Attempt(request(1), 2, entered_at=story.now), other)
    story.tell("4x 23C")
    assert story.health.state is DOUBT
    story.tell("C")
    assert story.health.state is OPEN


def test_failures_in_an_outage_say_nothing_of_an_endpoint_that_is_up() -> None:
    story = Story()
    story.tell("60s 4x 20C c")
    assert story.health.known.evidence.share(Kind.BROKEN) < 1 / 16


def test_an_answer_to_what_was_sent_before_the_outage_does_not_end_it() -> None:
    story = Story()
    story.tell("30s")
    early = Attempt(request(9), 1, entered_at=story.now)
    story.tell("4x 6C")
    story.health.answered(early)
    assert story.health.state is OPEN
    story.health.answered(Attempt(request(9), 1, entered_at=story.now + 1))
    assert story.health.state is CLOSED


@pytest.mark.parametrize(
    ("error", "lag_s", "failures"),
    [
        (TIMEOUT, 6.0, {}),
        (TIMEOUT, 4.0, {Kind.BROKEN: 1}),
        # The server said so itself.
        (FAILED, 6.0, {Kind.BROKEN: 1}),
    ],
)
def test_a_time_that_ran_out_while_this_program_stood_still(
    error: AttemptError, lag_s: float, failures: dict[Kind, int]
) -> None:
    story = Story(lag_s=lag_s)
    story.tell("s")
    story.fails(error)
    assert story.record is not None
    assert story.record.failures == failures


@pytest.mark.parametrize(
    ("error", "times", "reason"),
    [
        (WRONG_KEY, 2, "the endpoint refuses a request that it answered before: 401 no"),
        (BAD_REQUEST, 2, "the endpoint refuses a request that it answered before: 400 no"),
        (NO_QUOTA, 1, "^402 no"),
    ],
)
def test_a_control_request_that_is_refused_stops_the_run(error: AttemptError, times: int, reason: str) -> None:
    health = Story().after("30s 4x").health
    for _ in range(times - 1):
        health.control_failed(error)
    with pytest.raises(RunStopped, match=reason):
        health.control_failed(error)


def test_a_control_request_that_is_answered_with_429_finds_nothing_but_not_for_ever() -> None:
    story = Story().after("30s 4x")
    for _ in range(20):
        story.health.control_failed(LIMITED)
    assert (story.health.state, story.health.reason) == (DOUBT, "503 no")
    story.now += 600
    with pytest.raises(RunStopped, match="nothing but 429 for 600 s"):
        story.health.control_failed(LIMITED)


def test_two_requests_are_kept_those_that_were_answered_soonest() -> None:
    health = Health()
    for index, seconds in enumerate([3.0, 1.0, 2.0, 4.0]):
        health.answered(Attempt(request(index), 1, wire_s=seconds))
    asked = [health.control() for _ in range(4)]
    assert {one.unit.item_index for one in asked if one is not None} == {1, 2}
    assert asked[0] is not asked[1]
    assert asked[0] is asked[2]
    # One that is answered again is still the same.
    assert asked[1] is not None
    health.control_answered(Attempt(asked[1], 1, wire_s=0.5))
    assert {one.unit.item_index for one in (health.control(), health.control()) if one is not None} == {1, 2}


def test_a_quota_that_is_used_up_stops_the_run() -> None:
    story = Story()
    story.tell("30s")
    with pytest.raises(RunStopped, match="402 no"):
        story.fails(NO_QUOTA)


def test_nothing_but_429_stops_the_run_in_the_end() -> None:
    story = Story()
    story.tell("s l")
    story.now += 590
    story.tell("l")
    story.now += 10
    with pytest.raises(RunStopped, match=r"nothing but 429 for 600 s \(limits.give_up_after\): 429 no"):
        story.tell("l")


@pytest.mark.parametrize(("before", "behind"), [("s l s", "l"), ("s f", "f")])
def test_an_answer_or_a_failure_is_not_nothing_but_429(before: str, behind: str) -> None:
    story = Story().after(before)
    story.now += 600
    story.tell(behind)


# --- before anything was answered ---


def refuse(health: Health, *errors: AttemptError) -> int:
    """Let a row fail with each error; return how many it takes until the run is stopped, 0 where it is not."""
    for number, error in enumerate(errors, 1):
        try:
            health.failed(health.record(), Attempt(request(number), 1), error)
        except RunStopped:
            return number
    return 0


def said(words: str) -> AttemptError:
    return failed(ErrorType.REQUEST, 400, words, retry=False)


@pytest.mark.parametrize(
    ("errors", "stopped_at"),
    [
        ([BAD_REQUEST] * 20, 16),
        ([WRONG_KEY] * 20, 16),
        ([REDIRECT] * 20, 16),
        ([USELESS] * 20, 16),
        ([RESET] * 20, 16),
        ([NO_HTTP] * 20, 16),
        ([NO_CONNECTION] * 20, 3),
        ([CONNECT_TIMEOUT] * 20, 3),
        # What waiting may help, and what is not the same.
        ([FAILED] * 50, 0),
        ([TIMEOUT] * 50, 0),
        ([LIMITED] * 50, 0),
        ([*[BAD_REQUEST] * 15, WRONG_KEY] * 3, 0),
        ([said("no max_tokens"), said("no top_k")] * 20, 0),
        # The same words but for what is the row's.
        ([said(f"request {n} (id req_{n}a{n}f) is bad: 'question {n}', \"{n}\"") for n in range(20)], 16),
        ([said(f"the text “question {'x' * n}” is bad") for n in range(20)], 16),
        # Words of the network differ, and mean the same.
        ([failed(ErrorType.CONNECT, None, "x" * n) for n in range(20)], 16),
        ([failed(ErrorType.INVALID_RESPONSE, 200, "x" * n, once=True) for n in range(20)], 16),
        # A server error in between is no answer.
        ([*[BAD_REQUEST] * 8, FAILED, *[BAD_REQUEST] * 8], 17),
    ],
)
def test_a_run_that_nobody_can_win_stops(errors: list[AttemptError], stopped_at: int) -> None:
    assert refuse(Health(), *errors) == stopped_at


def test_after_an_answer_nothing_of_it_counts() -> None:
    for error in (BAD_REQUEST, USELESS, RESET):
        health = Health()
        assert refuse(health, *[error] * 15) == 0
        health.answered(Attempt(request(99), 1))
        assert refuse(health, *[error] * 40) == 0
    assert refuse(Story().after("s").health, *[NO_CONNECTION] * 40) == 0


def test_the_first_row_that_is_refused_may_not_be_the_only_one() -> None:
    story = Story()
    assert story.fails(BAD_REQUEST) is WAIT
    refuse(story.health, WRONG_KEY)
    assert story.tell("") is CHARGED


def test_what_is_on_its_way_may_still_be_answered() -> None:
    health = Health()
    health.trying = 2
    assert refuse(health, *[WRONG_KEY] * 18) == 0
    assert health.state is DOUBT, "nothing more is sent"
    health.trying = 0
    assert refuse(health, WRONG_KEY) == 1
    health = Health()
    health.trying = 1
    assert refuse(health, *[WRONG_KEY] * 18) == 0
    health.answered(Attempt(request(99), 1))
    assert health.state is CLOSED
    # Or it is refused in other words.
    health = Health()
    health.trying = 2
    assert refuse(health, *[WRONG_KEY] * 18, BAD_REQUEST) == 0
    assert health.state is CLOSED
    # Where nothing is reached there is no need to wait for it.
    health = Health()
    health.trying = 2
    assert refuse(health, *[NO_CONNECTION] * 5) == 3


def test_a_resumed_run_that_is_not_reached_stops_and_one_that_is_refused_asks() -> None:
    assert refuse(Health([request(1)]), *[NO_CONNECTION] * 5) == 3
    health = Health([request(1)])
    assert refuse(health, *[WRONG_KEY] * 20) == 0
    assert health.state is DOUBT
    health.trying = 50
    assert refuse(health, *[NO_CONNECTION] * 2) == 0
    assert health.state is DOUBT
