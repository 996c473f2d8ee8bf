"""The summary's figures are held against numpy and against the formulas as a textbook writes them, over the same results."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.analysis.statistics.distributions import t_quantile
from runner.analysis.statistics.shares import wilson
from runner.results.closing import Report
from runner.results.slots import SlotTimes
from runner.results.summary import Quantiles, Summary
from runner.storage.records import End
from tests.records import failure, result

VALUES = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


def summary_of(ends: Iterable[End], width: int = 1) -> Summary:
    summary = Summary()
    ends = list(ends)
    assert list(summary.fold(ends, width)) == ends
    return summary


def totals_of(ends: Iterable[End], width: int = 1, *, wall_s: float = 1.0, slot_s: float = 1.0) -> dict[str, Any]:
    return summary_of(ends, width).totals(wall_s=wall_s, slot_s=slot_s)


def value(item: int, value: float | None, sample: int = 0, task: str = "correct") -> End:
    return result(item, task, sample, task_type="metric", value=value, request=None, output=None, attempts=0)


def metric_of(clusters: Sequence[Sequence[float]], errors: int = 0) -> dict[str, Any]:
    """Return what is said of a metric whose items have these values, one for each sample."""
    ends = [value(item, one, sample) for item, values in enumerate(clusters) for sample, one in enumerate(values)]
    ends += [failure(len(clusters) + n, "correct", task_type="metric", request=None) for n in range(errors)]
    found: dict[str, Any] = totals_of(ends)["metrics"]["correct"]
    return found


# --- quantiles ---


@given(st.lists(st.floats(1e-4, 1e6), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_within_one_percent_of_the_real_one(numbers: list[float], share: float) -> None:
    quantiles = Quantiles()
    for number in numbers:
        quantiles.add(number)
    exact = sorted(numbers)[math.ceil(share * len(numbers) - 1e-9) - 1]
    assert quantiles.at(share) == pytest.approx(exact, rel=0.01)


def test_quantiles_of_many_numbers_are_those_of_numpy() -> None:
    draw = random.Random(4)
    numbers = [draw.lognormvariate(-1, 1.5) for _ in range(50_000)]
    quantiles = Quantiles()
    for number in numbers:
        quantiles.add(number)
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        assert quantiles.at(share) == pytest.approx(float(np.quantile(numbers, share)), rel=0.015)
    assert len(quantiles._counts) < 2500, "memory does not grow with the numbers"


def test_there_is_no_quantile_of_nothing() -> None:
    assert Quantiles().at(0.5) is None


def test_a_quantile_of_zeros_is_no_error() -> None:
    quantiles = Quantiles()
    quantiles.add(0.0)
    assert quantiles.at(0.5) == pytest.approx(0, abs=1e-5)


# --- metrics ---


@given(st.lists(VALUES, min_size=2, max_size=200))
def test_of_single_samples_mean_and_error_are_numpys(values: list[float]) -> None:
    found = metric_of([[one] for one in values])
    stderr = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    assert found["n"] == len(values)
    assert found["mean"] == pytest.approx(float(np.mean(values)))
    assert found["stderr"] == pytest.approx(stderr, abs=1e-6)
    if {*values} <= {0.0, 1.0}:
        assert found["interval"] == "wilson"
        effective = len(values) - (0 < found["mean"] < 1)  # of which the error is that of a sample's, with n - 1
        assert found["ci95"] == pytest.approx(wilson(found["mean"], effective, 1.959964), abs=1e-5)
    else:
        half = t_quantile(0.975, len(values) - 1) * stderr
        assert found["interval"] == "t"
        assert found["ci95"] == pytest.approx([max(0, found["mean"] - half), min(1, found["mean"] + half)], abs=1e-5)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=5), min_size=2, max_size=40))
def test_of_several_samples_the_error_is_that_of_clusters(clusters: list[list[float]]) -> None:
    """The formula as written: residuals are summed within each item, squared, and summed over the items."""
    everything = [one for values in clusters for one in values]
    mean = float(np.mean(everything))
    squares = sum(sum(one - mean for one in values) ** 2 for values in clusters)
    count = len(clusters)
    stderr = math.sqrt(count / (count - 1) * squares) / len(everything)
    found = metric_of(clusters)
    assert found["mean"] == pytest.approx(mean)
    assert found["stderr"] == pytest.approx(stderr, abs=1e-6)


def test_samples_that_always_agree_are_worth_no_more_than_one() -> None:
    once = metric_of([[float(item % 3 == 0)] for item in range(60)])
    often = metric_of([[float(item % 3 == 0)] * 8 for item in range(60)])
    assert often["n"] == 8 * once["n"]
    assert often["stderr"] == pytest.approx(once["stderr"])


@pytest.mark.parametrize(
    ("clusters", "errors", "expected"),
    [
        # Values, errors, and then: n, mean, bounds.
        ([[1.0], [1.0], [0.0], [1.0]], 0, (4, 0.75, [0.75, 0.75])),
        ([[1.0], [1.0], [0.0]], 1, (3, 2 / 3, [0.5, 0.75])),
        ([[1.0]], 3, (1, 1.0, [0.25, 1.0])),
        ([], 4, (0, None, [0.0, 1.0])),
        ([[0.5, 1.0], [0.0, 0.0]], 1, (4, 0.375, [0.3, 0.5])),
    ],
)
def test_bounds_say_what_the_mean_would_be_if_every_error_was_wrong_or_right(
    clusters: list[list[float]], errors: int, expected: tuple[int, float | None, list[float]]
) -> None:
    found = metric_of(clusters, errors)
    assert (found["n"], found["mean"]) == (expected[0], expected[1] if expected[1] is None else pytest.approx(expected[1]))
    assert found["bounds"] == pytest.approx(expected[2])
    assert found["errors"] == errors


@pytest.mark.parametrize("clusters", [[[1.0]], [[1.0, 0.0, 1.0]]])
def test_a_single_item_has_no_spread(clusters: list[list[float]]) -> None:
    found = metric_of(clusters)
    assert (found["stderr"], found["ci95"]) == (None, None)


def test_the_mean_of_a_score_may_be_beyond_1_and_has_no_bounds() -> None:
    found = metric_of([[9.0], [10.0], [2.0]], errors=1)
    assert (found["mean"], found["bounds"]) == (7.0, None)
    assert found["ci95"][1] > 10


def test_values_that_are_all_equal_have_no_error_and_no_root_of_a_negative() -> None:
    found = metric_of([[0.1]] * 1000)
    assert found["stderr"] == pytest.approx(0, abs=1e-9)


def test_metrics_are_told_apart() -> None:
    ends = [value(item, float(task == "right"), task=task) for item in range(3) for task in ("right", "wrong")]
    metrics = totals_of(ends, 2)["metrics"]
    assert {alias: metric["mean"] for alias, metric in metrics.items()} == {"right": 1.0, "wrong": 0.0}


# --- what is probably not meant ---


def closing_lines(ends: Iterable[End]) -> list[str]:
    totals = totals_of(ends)
    report = Report(
        run=Path("r"), stopped=None, totals=totals, results=totals["results"], errors=0, expected=None, status="completed"
    )
    return report.text().splitlines()


@pytest.mark.parametrize(
    ("values", "output", "doubt"),
    [
        ([0.0] * 12, None, "`correct` found no answer in any of 12 candidates"),
        ([0.0], "", "`correct` found no answer in any of 1 candidates"),
        ([0.0] * 12, "x", "`correct` is 0 for all 12 candidates: is this intended?"),
        ([0.0] * 9, "x", None),
        ([0.0] * 11 + [1.0], "x", None),
        ([1.0, 0.0], None, None),
    ],
)
def test_a_metric_that_finds_nothing_or_nothing_right_is_doubted(
    values: list[float], output: str | None, doubt: str | None
) -> None:
    ends = [
        result(item, "correct", task_type="metric", value=one, output=output, request=None) for item, one in enumerate(values)
    ]
    doubts = [line for line in closing_lines(ends) if "is this intended" in line]
    assert len(doubts) == (doubt is not None)
    assert doubt is None or doubt in doubts[0]


@pytest.mark.parametrize(("requests", "is_doubted"), [(["a"] * 12, True), (["a"] * 9, False), (["a"] * 12 + ["b", "a"], False)])
def test_requests_that_are_all_the_same_are_doubted(requests: list[str], is_doubted: bool) -> None:
    lines = closing_lines(result(item, request=one) for item, one in enumerate(requests))
    assert (
        any("the requests of `answer` are the same for all 12 items: is this intended?" in line for line in lines) is is_doubted
    )


def test_the_commonest_errors_are_told_with_their_first_item() -> None:
    ends = [failure(n, message=f"rows.jsonl:{n}: `x{n}` is not there") for n in range(5)]
    ends += [failure(n, message=f"no {n}") for n in range(5, 8)]
    ends += [failure(8, message="bad\n" * 200), failure(9, message="rare")]
    told = totals_of(ends)["commonest_errors"]
    assert [(one["count"], one["item_id"], one["message"][:18]) for one in told] == [
        (5, "row-0", "rows.jsonl:0: `x0`"),
        (3, "row-5", "no 5"),
        (1, "row-8", "bad\nbad\nbad\nbad\nba"),
    ]
    lines = [line for line in closing_lines(ends) if line.startswith("  errors")]
    assert lines[0] == "  errors     5 server of `answer`, the first row-0: rows.jsonl:0: `x0` is not there"
    assert len(lines) == 3
    assert len(lines[2]) < 300


def test_a_place_is_said_once() -> None:
    lines = closing_lines(
        [failure(0, item_id="rows.csv:3", error_type="dataset", message="rows.csv:3: has 1 cells, the header has 2")]
    )
    assert "  errors     1 dataset of `answer`, the first rows.csv:3: has 1 cells, the header has 2" in lines


def test_what_others_say_stays_in_its_line() -> None:
    line = next(line for line in closing_lines([failure(1, message="a\nb\x1b[2J\x85c")]) if line.startswith("  errors"))
    assert line.endswith("the first row-1: a b [2J c")


def test_reasoning_in_answers_is_counted() -> None:
    ends = [result(n, output=text) for n, text in enumerate(["<think>a</think>b", "<think>a", "b", "a</think>b"])]
    totals = totals_of(ends)
    assert (totals["reasoning_in_text"], totals["cut_off_in_reasoning"]) == (3, 1)
    assert "3 reasoning in text · 1 cut off in reasoning" in closing_lines(ends)[1]


# --- counts ---


def test_what_is_counted() -> None:
    ends = [
        result(0, prompt_tokens=10, completion_tokens=5, total_tokens=15, reasoning_tokens=2, cached_tokens=1),
        result(1, finish_reason="length", prompt_tokens=10, completion_tokens=7, total_tokens=17),
        result(2, output="", completion_tokens=0, total_tokens=3),
        result(3, output=None, total_tokens=3),
        result(4, output=None, tool_calls="[]", total_tokens=3),
        result(5, output=None, refusal="no", total_tokens=3, attempts=4),
        result(6, text_repaired=True),
        failure(7, attempts=5),
        failure(8, error_type="template", attempts=0, request=None),
        failure(9, error_type="server"),
    ]
    totals = totals_of(ends)
    assert (totals["results"], totals["errors"]) == (7, {"server": 2, "template": 1})
    assert (totals["requests"], totals["attempts"]) == (7, 16)
    assert (totals["truncated"], totals["empty"], totals["without_usage"]) == (1, 2, 1)
    assert totals["text_repaired"] == 1
    assert totals["tokens"] == {"prompt_tokens": 20, "completion_tokens": 12, "reasoning_tokens": 2, "cached_tokens": 1}


def test_what_the_server_did_not_tell_is_estimated_and_said_apart() -> None:
    ends = [
        result(0, prompt_tokens=10, completion_tokens=5, total_tokens=15),
        result(1, used_tokens=40),
        result(2, prompt_tokens=10, used_tokens=17),
    ]
    assert totals_of(ends)["tokens"]["estimated_tokens"] == 40 + 7
    assert "estimated_tokens" not in totals_of(ends[:1])["tokens"]


def test_a_metric_is_no_request_and_no_empty_answer() -> None:
    totals = totals_of([result(0, total_tokens=1), value(0, 0.0)], 2)
    assert (totals["requests"], totals["empty"], totals["without_usage"]) == (1, 0, 0)


def test_nothing_at_all_gives_figures_that_are_unknown_and_not_zero() -> None:
    totals = totals_of([], wall_s=0.0, slot_s=0.0)
    assert totals["latency_s"] == {"p50": None, "p90": None, "p99": None}
    assert totals["requests_per_s"] is None
    assert (totals["slots_full"], totals["bound_by"], totals["metrics"]) == (None, None, {})


def test_latencies_of_errors_do_not_count() -> None:
    ends = [result(index, latency_s=1.0) for index in range(9)] + [failure(9, latency_s=100.0), result(10, latency_s=None)]
    assert totals_of(ends)["latency_s"]["p99"] == pytest.approx(1.0, rel=0.01)


# --- items ---


@pytest.mark.parametrize(
    ("ends", "width", "successful", "failed"),
    [
        ([result(0), result(1)], 1, 2, 0),
        ([result(0), failure(1)], 1, 1, 1),
        # Of two tasks, one result is not yet a finished item, and one error is a failed one.
        ([result(0), value(0, 1.0), result(1)], 2, 1, 0),
        ([failure(0), failure(0, "correct"), result(1), failure(1, "correct")], 2, 0, 2),
        # Three samples, of which one failed.
        ([result(0, sample=0), failure(0, sample=1), result(0, sample=2)], 3, 0, 1),
        ([result(0, sample=0), result(0, sample=1), result(0, sample=2)], 3, 1, 0),
        # Items in between that have no result at all.
        ([result(0), result(5), failure(9)], 1, 2, 1),
        ([], 1, 0, 0),
    ],
)
def test_an_item_is_successful_once_every_result_of_it_is_an_answer(
    ends: list[End], width: int, successful: int, failed: int
) -> None:
    summary = summary_of(ends, width)
    assert (summary.items_successful, summary.items_failed) == (successful, failed)


def test_the_first_hundred_failed_items_are_named() -> None:
    summary = summary_of([failure(index, message=f"no. {index}") for index in range(250)])
    assert summary.items_failed == 250
    assert len(summary.failed_items) == 100
    assert summary.failed_items[7] == {"item_id": "row-7", "error": "no. 7", "error_type": "server"}


# --- where the time went ---


@pytest.mark.parametrize(
    ("wire_s", "queue_s", "backoff_s", "full", "bound_by"),
    [
        # Of 100 s that slots could have been full.
        (90.0, 0.0, 0.0, 0.9, "endpoint"),
        (20.0, 70.0, 0.0, 0.2, "rate limit"),
        (20.0, 10.0, 60.0, 0.2, "back-off"),
        (20.0, 45.0, 30.0, 0.2, "rate limit"),
        (20.0, 0.0, 600.0, 0.2, "back-off"),
        (10.0, 5.0, 0.0, 0.1, "rows"),
        (0.0, 0.0, 0.0, 0.0, "rows"),
        # Rounding can make the parts more than the whole.
        (101.0, 5.0, 0.0, 1.0, "endpoint"),
    ],
)
def test_what_the_slots_waited_for(wire_s: float, queue_s: float, backoff_s: float, full: float, bound_by: str) -> None:
    ends = [result(0, wire_s=wire_s / 2, queue_s=queue_s, backoff_s=backoff_s), result(1, wire_s=wire_s / 2)]
    totals = totals_of(ends, wall_s=10.0, slot_s=100.0)
    assert totals["slots_full"] == pytest.approx(full)
    assert totals["bound_by"] == bound_by
    assert totals["requests_per_s"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("samples", "ended_s", "replays", "bound_by"),
    [
        # 10 slots for 10 s, of which 30 are on the wire: two samples for each slot, which all end at the end.
        (20, [10.0] * 20, False, "client"),
        (20, [10.0] * 20, True, "replay"),
        # Half of the slots had nothing more to do since the beginning, nearly.
        (20, [0.5] * 15 + [10.0] * 5, False, "tail"),
        # Who ends earlier is no tail where the slot has something else to do.
        (40, [0.5] * 30 + [10.0] * 10, False, "client"),
        (4, [10.0] * 4, False, "rows"),
    ],
)
def test_what_slots_had_nothing_to_do_for(samples: int, ended_s: list[float], replays: bool, bound_by: str) -> None:
    summary = Summary(slots=SlotTimes(replays=replays))
    ends = [result(n, wire_s=30.0 / samples, completed_at=int(1e15 + at * 1e6)) for n, at in enumerate(ended_s)]
    list(summary.fold([*ends, *(value(n, 1.0) for n in range(samples))], 1))
    assert summary.totals(wall_s=10.0, slot_s=100.0)["bound_by"] == bound_by


def test_tasks_and_samples_of_an_item_share_a_slot_or_do_not() -> None:
    tasks = (("a", int(1e15)), ("b", int(1e15) + 7))
    ends = [result(0, task, sample, completed_at=at) for sample in range(3) for task, at in tasks]
    summary = summary_of(ends, 6)
    assert (summary.slots.samples, summary.slots.answered) == (3, 6)


def test_what_was_waited_for_an_endpoint_that_was_down_is_the_endpoints() -> None:
    ends = [result(0, wire_s=20.0, queue_s=70.0, held_s=60.0), result(1)]
    totals = totals_of(ends, wall_s=10.0, slot_s=100.0)
    assert (totals["slots_full"], totals["bound_by"]) == (pytest.approx(0.2), "endpoint")


def test_time_spent_on_errors_counts_too() -> None:
    assert totals_of([result(0, wire_s=1.0), failure(1, wire_s=8.0)], slot_s=10.0)["slots_full"] == pytest.approx(0.9)
