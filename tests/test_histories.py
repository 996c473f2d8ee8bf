"""Bad rows and outages are told apart: whole runs in virtual time, the known hard ones by name and others by chance."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import AttemptError
from tests.histories import REFUSED, RESET, SERVER, TIMEOUT, History, broken_promises, drawn, live
from tests.plain_requests import request
from tests.variations import crossed

SCATTERED = frozenset(random.Random(1).sample(range(400), 200))
CONCURRENCY = {str(concurrency): concurrency for concurrency in (1, 8, 32, 256)}
HOW = {"500": SERVER, "timeout": TIMEOUT, "reset": RESET, "403": REFUSED}
BAD = {
    "first": frozenset(range(12)),
    "a block": frozenset(range(100, 300)),
    "last": frozenset(range(370, 400)),
    "every other": frozenset(range(0, 400, 2)),
    "scattered": SCATTERED,
}


@pytest.mark.parametrize(("concurrency", "how", "bad"), crossed(CONCURRENCY, HOW, BAD))
def test_rows_that_always_fail_end_no_run_and_keep_no_good_row_from_being_asked(
    concurrency: int, how: AttemptError, bad: frozenset[int]
) -> None:
    history = History(rows=400, concurrency=concurrency, bad=bad, how=how)
    lived = live(history)
    assert broken_promises(history, lived) == []
    assert lived.charged == bad
    assert lived.stopped is None


@pytest.mark.parametrize("concurrency", [1, 8, 32, 256])
def test_many_rows_that_only_fail_may_come_first(concurrency: int) -> None:
    history = History(rows=400, concurrency=concurrency, bad=frozenset(range(150)))
    lived = live(history)
    assert (lived.charged, lived.stopped) == (set(history.bad), None)


@pytest.mark.parametrize(
    ("concurrency", "length"), crossed(CONCURRENCY, {f"{length} s": length for length in (0.2, 2.0, 8.0, 60.0)})
)
def test_an_outage_costs_no_row(concurrency: int, length: float) -> None:
    history = History(rows=300 + 20 * concurrency, concurrency=concurrency, outages=[(0.3, 0.3 + length)])
    lived = live(history)
    assert broken_promises(history, lived) == []
    assert lived.charged == set()
    assert lived.requests["in an outage"] <= 2 * concurrency + 20


@pytest.mark.parametrize("concurrency", [1, 8, 32, 256])
def test_an_endpoint_that_stays_down_costs_no_row_and_few_requests(concurrency: int) -> None:
    history = History(rows=300 + 20 * concurrency, concurrency=concurrency, outages=[(0.3, 1e9)], give_up_after=20)
    lived = live(history)
    assert (lived.charged, lived.stopped is None) == (set(), False)
    assert lived.requests["in an outage"] <= 2 * concurrency + 20


@pytest.mark.parametrize("concurrency", [1, 8, 32])
def test_half_of_the_answers_fail_and_no_row_is_lost(concurrency: int) -> None:
    history = History(rows=400, concurrency=concurrency, flaky=0.5)
    lived = live(history)
    assert broken_promises(history, lived) == []
    assert lived.requests["answered"] + lived.requests["failed"] <= 2.3 * history.rows


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_two_servers_that_take_turns_blame_no_row_for_the_broken_one(concurrency: int) -> None:
    """A control request that always meets the one, and the row that always meets the other, would."""
    lost = sum(
        len(live(History(rows=60, concurrency=concurrency, turns=True, seed=seed)).charged) for seed in range(5)
    )  # fmt: skip
    assert lost == 0


def test_control_requests_are_few() -> None:
    """They are paid for: some seconds' worth of one at a time, however many rows fail."""
    for bad in (SCATTERED, frozenset(range(300, 400))):
        lived = live(History(rows=400, concurrency=32, bad=bad))
        assert 0 < lived.requests["control"] <= 20


def test_no_control_request_is_sent_where_nothing_fails() -> None:
    assert live(History(rows=400, concurrency=32)).requests["control"] == 0


def test_a_resume_asks_again_what_was_answered() -> None:
    """All rows that are left fail, and nothing was answered in this start: what an earlier one had answered tells."""
    history = History(rows=40, concurrency=32, bad=frozenset(range(40)))
    lived = live(history, [request(9999)])
    assert (lived.charged, lived.stopped) == (set(history.bad), None)
    assert 0 < lived.requests["control"] <= 20


def test_rows_that_are_refused_hide_no_outage_from_the_start() -> None:
    """Three rows meet the outage, too few to tell it; but two others have failed before them, refused."""
    history = drawn(4941)
    assert (history.rows, len(history.bad), history.how) == (5, 2, REFUSED)
    assert broken_promises(history, live(history)) == []


@given(st.integers(0, 2**32))
def test_both_promises_hold_in_any_history(seed: int) -> None:
    history = drawn(seed)
    lived = live(history)
    assert broken_promises(history, lived) == [], history
