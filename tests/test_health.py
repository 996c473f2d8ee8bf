"""Whose fault a failure is: the row's when the endpoint works for others, nobody's when nobody can tell, or the run's.

What happens is written as words: `s` another row is answered, `x` another row fails, `f` the row itself fails, `l` it is
answered with 429, `r` it is refused with 403, `o` an outage begins and `b` it ends, `alone` no other row is left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count

import pytest

from runner.endpoint.circuit import Circuit
from runner.endpoint.health import Health, Trouble, Verdict
from runner.errors import AttemptError, RunStopped
from runner.types import ErrorType, Failure, Unit

AGAIN, CHARGED, UNDECIDED = Verdict.AGAIN, Verdict.CHARGED, Verdict.UNDECIDED


def unit(index: int) -> Unit:
    return Unit(f"row-{index}", index, 0, "answer")


def failed(
    error_type: ErrorType = ErrorType.SERVER,
    status: int | None = 503,
    *,
    retry: bool = True,
    once: bool = False,
    stops_run: str | None = None,
) -> AttemptError:
    failure = Failure(error_type=error_type, message=f"{status} no", status_code=status)
    return AttemptError(failure, retry=retry, once=once, stops_run=stops_run)


FAILED = failed()
LIMITED = failed(ErrorType.RATE_LIMIT, 429)
REFUSED = failed(ErrorType.AUTH, 403, retry=False, stops_run="first")
NOT_FOUND = failed(ErrorType.AUTH, 404, retry=False, stops_run="first")
NO_CONNECTION = failed(ErrorType.CONNECT, None, stops_run="first")
NO_QUOTA = failed(ErrorType.QUOTA, 402, retry=False, stops_run="always")


@dataclass
class Story:
    """One row and what happens around it."""

    max_attempts: int = 5
    now: float = 1000.0
    lag_s: float = 0.0
    circuit: Circuit = field(init=False)
    health: Health = field(init=False)
    trouble: Trouble | None = None
    verdict: Verdict | None = None

    def __post_init__(self) -> None:
        self.circuit = Circuit(clock=lambda: self.now)
        self.health = Health(self.circuit, clock=lambda: self.now, lag_s=lambda: self.lag_s)
        self._others = count(1)

    def tell(self, words: str) -> Verdict | None:
        """Let things happen; return the last verdict on the row."""
        for word in words.split():
            times, event = (int(word[:-1]), word[-1]) if word[:-1].isdigit() else (1, word)
            for _ in range(times):
                self._happens(event)
        return self.verdict

    def fails(self, error: AttemptError) -> Verdict:
        self.trouble = self.trouble or self.health.trouble(unit(0))
        self.verdict = self.health.failed(self.trouble, error, self.max_attempts)
        return self.verdict

    def _happens(self, event: str) -> None:
        match event:
            case "f" | "l" | "r":
                self.fails({"f": FAILED, "l": LIMITED, "r": REFUSED}[event])
                return
            case "s":
                self.health.succeeded()
            case "x":
                other = self.health.trouble(unit(next(self._others)))
                self.health.failed(other, FAILED, self.max_attempts)
            case "o":
                for index in range(21):
                    self.now += 0.1
                    self.circuit.failed(unit(index), "503")
                assert self.circuit.is_open
            case "b":
                self.circuit.answered(0.1)
            case "alone":
                self.health.nobody_else()
        if self.verdict is UNDECIDED:
            assert self.trouble is not None
            self.verdict = self.health.reconsider(self.trouble)


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        # It has more attempts.
        ("f", AGAIN),
        ("20s 4f", AGAIN),
        # Nobody knows how others fare …
        ("5f", UNDECIDED),
        # … now: that the endpoint worked before says nothing.
        ("1000s 5f", UNDECIDED),
        # It works for others.
        ("f 20s 4f", CHARGED),
        ("5f 20s", CHARGED),
        ("5f 9s", CHARGED),
        # One answer may have been under way already.
        ("5f s", UNDECIDED),
        ("f s 4f", UNDECIDED),
        # It fails for others as well.
        ("5f 20x", UNDECIDED),
        ("f 20x 4f", UNDECIDED),
        # It works for some: whoever is asked again may be lucky.
        ("5f 10x s", AGAIN),
        ("f 10x 10s 4f", UNDECIDED),
        ("f 10x 10s 4f s", AGAIN),
        ("f 10x 10s 4f s 14f", UNDECIDED),
        # So many failures are no bad luck any more, where half of them fail.
        ("f 10x 10s 25f", CHARGED),
        # Now and then one fails: the row is not one of those.
        ("f 3x 60s 4f", CHARGED),
        # Others had failed before it, or did later, and nobody was answered until all was over: it is asked once more …
        ("x 5f 9s", AGAIN),
        ("5f x 60s", AGAIN),
        # … and once only.
        ("x 5f 9s f", CHARGED),
        ("5f x 60s f", CHARGED),
        ("x s 5f 9s", CHARGED),
        # Nobody else is left.
        ("5f alone", CHARGED),
        ("alone s 5f", UNDECIDED),  # an answer: somebody is there again
        ("2f alone", AGAIN),
        ("2f alone 3f", CHARGED),
        # What others failed with may be their own fault too: they were never answered.
        ("f 10x 10s 4f alone", CHARGED),
    ],
)
def test_whose_fault_failures_are(words: str, verdict: Verdict) -> None:
    assert Story().tell(words) is verdict


def test_the_last_row_of_an_unreliable_endpoint_is_asked_on() -> None:
    """Others were answered after failures: so it may be, although nobody is left to compare it with."""
    story = Story()
    for index in range(100):
        other = story.health.trouble(unit(index))
        story.health.failed(other, FAILED, 5)
        story.health.succeeded(other)
    assert story.tell("5f alone") is AGAIN
    assert story.tell("8f") is AGAIN
    assert story.tell("10f") is CHARGED


@pytest.mark.parametrize("max_attempts", [1, 2, 7])
def test_a_row_has_as_many_attempts_as_the_config_says(max_attempts: int) -> None:
    story = Story(max_attempts=max_attempts)
    verdicts = []
    story.tell("f 20s") if max_attempts > 1 else story.tell("20s f 20s")
    while story.verdict is AGAIN:
        verdicts.append(story.tell("f"))
    assert story.verdict is CHARGED
    assert story.trouble is not None
    assert story.trouble.failures == max_attempts


@pytest.mark.parametrize(("max_attempts", "verdicts"), [(5, [AGAIN, CHARGED]), (1, [CHARGED])])
def test_a_useless_answer_is_asked_for_once_more(max_attempts: int, verdicts: list[Verdict]) -> None:
    useless = failed(ErrorType.INVALID_RESPONSE, 200, once=True)
    story = Story(max_attempts=max_attempts)
    assert [story.fails(useless) for _ in verdicts] == verdicts


def test_a_useless_answer_is_asked_for_more_often_where_that_helps_other_rows() -> None:
    """A gateway that garbles answers at random costs no row; one row's own bad answer costs two requests, not five."""
    useless = failed(ErrorType.INVALID_RESPONSE, 200, once=True)
    health = Health()
    for number in range(2):
        other = health.trouble(Unit(f"other-{number}", number, 0, "answer"))
        assert health.failed(other, useless, 5) is AGAIN
        health.succeeded(other)
    verdicts = [
        health.failed(trouble, useless, 5) for trouble in [health.trouble(Unit("row", 9, 0, "answer"))] for _ in range(5)
    ]
    assert verdicts == [AGAIN] * 4 + [CHARGED]
    # Rows that nothing helps outweigh those: from then on they have two again.
    for number in range(10, 13):
        bad = health.trouble(Unit(f"bad-{number}", number, 0, "answer"))
        verdicts = []
        while CHARGED not in verdicts:
            verdicts.append(health.failed(bad, useless, 5))
    assert verdicts == [AGAIN, CHARGED]


def test_a_failure_of_another_kind_is_no_useless_answer() -> None:
    story = Story()
    story.tell("f 20s")
    assert story.fails(failed(ErrorType.INVALID_RESPONSE, 200, once=True)) is AGAIN


def test_what_no_attempt_can_help_is_the_rows_own() -> None:
    assert Story().fails(failed(ErrorType.REQUEST, 400, retry=False)) is CHARGED


# --- outages ---


@pytest.mark.parametrize(
    ("words", "verdict", "failures"),
    [
        # What waits for news hears of an outage, and begins anew.
        ("5f o", AGAIN, 0),
        ("4f o b f", AGAIN, 0),
        ("4f o b f f", AGAIN, 1),
        # Probes that fail are no failures, however many, and however alone the row is.
        ("f o 50f", AGAIN, 0),
        ("alone f o 50f", AGAIN, 0),
        ("alone f o 50f b 4f", AGAIN, 4),
        # After it the row may still be a bad one.
        ("f o 5f b 5f 20s", CHARGED, 5),
    ],
)
def test_an_outage_is_nobodys_fault(words: str, verdict: Verdict, failures: int) -> None:
    story = Story()
    assert story.tell(words) is verdict
    assert story.trouble is not None
    assert story.trouble.failures == failures


@pytest.mark.parametrize(
    ("error", "lag_s", "failures"),
    [
        (failed(ErrorType.TIMEOUT, None), 6.0, 0),
        (failed(ErrorType.TIMEOUT, None), 4.0, 1),
        # The server said so itself.
        (failed(ErrorType.SERVER, 503), 6.0, 1),
    ],
)
def test_a_time_that_ran_out_while_this_program_stood_still(error: AttemptError, lag_s: float, failures: int) -> None:
    story = Story(lag_s=lag_s)
    assert story.fails(error) is AGAIN
    assert story.trouble is not None
    assert story.trouble.failures == failures


# --- refusals ---


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("s r", AGAIN),
        ("s 2r", AGAIN),
        ("s 3r", UNDECIDED),
        ("s 3r s", CHARGED),
        ("s r s 2r", CHARGED),
        ("s 3r alone", CHARGED),
        # A failure between them begins the count anew.
        ("s 2r f r", AGAIN),
    ],
)
def test_one_row_that_is_refused_while_others_are_answered(words: str, verdict: Verdict) -> None:
    assert Story().tell(words) is verdict


def refusals(health: Health, error: AttemptError, rows: str) -> int:
    """Let the rows of these digits be refused; return after how many refusals the run stops."""
    troubles = {row: health.trouble(unit(int(row))) for row in rows}
    for number, row in enumerate(rows, 1):
        try:
            health.failed(troubles[row], error, 5)
        except RunStopped:
            return number
    return 0


@pytest.mark.parametrize(
    ("rows", "stops_after"),
    [("012", 3), ("0011", 0), ("00112", 5), ("0000000", 0)],
)
def test_three_rows_that_are_refused_in_a_row_stop_the_run(rows: str, stops_after: int) -> None:
    health = Health()
    health.succeeded()
    assert refusals(health, REFUSED, rows) == stops_after


def test_an_answer_between_them_begins_the_row_anew() -> None:
    health = Health()
    for _ in range(10):
        health.succeeded()
        assert refusals(health, REFUSED, "01") == 0


def test_the_reason_says_how_many_were_refused() -> None:
    health = Health()
    health.succeeded()
    refusals(health, REFUSED, "01")
    with pytest.raises(RunStopped, match=r"^3 rows in a row were refused: 403 no$"):
        health.failed(health.trouble(unit(2)), REFUSED, 5)


@pytest.mark.parametrize("error", [REFUSED, NOT_FOUND, NO_CONNECTION])
@pytest.mark.parametrize(
    ("rows", "trying", "stops_after"),
    [
        ("012", 5, 3),
        # One row three times is enough only when no other is being tried.
        ("000", 0, 3),
        ("00000", 1, 0),
        ("0011", 1, 0),
    ],
)
def test_fatal_answers_before_the_first_success(error: AttemptError, rows: str, trying: int, stops_after: int) -> None:
    health = Health()
    health.trying = trying
    assert refusals(health, error, rows) == stops_after


def test_an_overloaded_server_is_not_a_fatal_answer() -> None:
    assert refusals(Health(), FAILED, "0123456789") == 0


@pytest.mark.parametrize("has_succeeded", [False, True])
def test_a_used_up_quota_stops_the_run_at_any_time(has_succeeded: bool) -> None:
    health = Health(has_succeeded=has_succeeded)
    health.succeeded()
    assert refusals(health, NO_QUOTA, "0") == 1


@pytest.mark.parametrize(
    ("error", "stops_after"),
    [
        # The model is there, as results show: what is not found is the row's.
        (NOT_FOUND, 0),
        (NO_CONNECTION, 3),
        (REFUSED, 3),
    ],
)
def test_a_run_that_is_resumed_with_results(error: AttemptError, stops_after: int) -> None:
    assert refusals(Health(has_succeeded=True), error, "012") == stops_after


def test_a_row_that_is_refused_waits_longer_each_time() -> None:
    health, trouble = Health(), Trouble(unit(0))
    waits = []
    for refused in range(1, 12):
        trouble.refused = refused
        waits.append(health.hold_s(trouble))
    assert waits[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert waits[-1] == 30.0


# --- rate limits ---


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("9l", AGAIN),
        # Everybody is sent away: nobody is charged.
        ("10l", UNDECIDED),
        ("9l 20s l", UNDECIDED),
        # Others are answered more than twice as often, again and again.
        ("9l 21s l", CHARGED),
        # It is asked again before it is charged with what was before.
        ("10l s", AGAIN),
        ("10l 30s", AGAIN),
        ("10l 30s l", CHARGED),
        ("9l f 30s 9l", AGAIN),
        # Nobody else is left, and the others were answered.
        ("10l s l alone", AGAIN),
        ("10l s l alone l", CHARGED),
        ("10l alone 50l", AGAIN),
    ],
)
def test_a_429_is_charged_only_to_a_row_that_alone_gets_it(words: str, verdict: Verdict) -> None:
    story = Story()
    assert story.tell(words) is verdict
    assert story.trouble is not None


def test_a_429_is_no_failure() -> None:
    story = Story(max_attempts=1)
    assert story.tell("9l") is AGAIN
    assert story.trouble is not None
    assert story.trouble.failures == 0


def test_nothing_but_429_for_too_long_stops_the_run() -> None:
    story = Story()
    story.tell("l")
    story.now += 599
    assert story.tell("l") is AGAIN
    story.now += 1
    with pytest.raises(RunStopped, match=r"nothing but 429 for 600 s \(limits\.give_up_after\): 429 no"):
        story.tell("l")


def test_an_answer_begins_the_time_of_429s_anew() -> None:
    story = Story()
    story.tell("l")
    story.now += 599
    story.tell("s l")
    story.now += 599
    assert story.tell("l") is AGAIN


# --- who waits ---


async def test_news_wake_everybody_who_waits() -> None:
    health = Health()
    for happens in (
        health.succeeded,
        health.nobody_else,
        lambda: health.failed(health.trouble(unit(0)), FAILED, 5),
    ):
        waiting = [asyncio.create_task(health.news()) for _ in range(3)]
        await asyncio.sleep(0)
        happens()
        await asyncio.wait_for(asyncio.gather(*waiting), 20)


async def test_whoever_was_cancelled_while_it_waited_is_not_woken() -> None:
    health = Health()
    waiting = asyncio.create_task(health.news())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    health.tell()


def test_undecided_rows_are_counted() -> None:
    health = Health()
    with health.waiting(), health.waiting():
        assert health.undecided == 2
    assert health.undecided == 0
