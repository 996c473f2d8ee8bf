"""Statistics are held against tables of right values, against brute force, and against what they promise to cover."""

from __future__ import annotations

import importlib.util
import json
import math
import random
from collections.abc import Sequence
from itertools import combinations, product
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.analysis.statistics.agreement import (
    cohen_kappa,
    fleiss_kappa,
    position_bias,
    weighted_kappa,
)
from runner.analysis.statistics.bootstrap import bootstrapped
from runner.analysis.statistics.distributions import binomial_tails, t_quantile, t_two_sided, z_quantile
from runner.analysis.statistics.families import adjusted
from runner.analysis.statistics.means import ClusteredMean
from runner.analysis.statistics.pairs import (
    mcnemar,
    paired_difference,
    sign_flips,
    sign_flips_of_integers,
    unpaired_difference,
)
from runner.analysis.statistics.power import detectable_difference, pairs_needed, power_of, questions_needed
from runner.analysis.statistics.samples import majority_at_k, pass_at_k, pass_hat_k
from runner.analysis.statistics.shares import bonett_price, wilson
from tests import statistics_adapter
from tests.shared import SHARED
from tests.statistics_adapter import alpha_of, counted, mean_of

REFERENCE = SHARED / "reference"
needs_tables = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the tables of right values are not at hand")


def rows_of(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((REFERENCE / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


# --- against the tables ---


@pytest.mark.long
@needs_tables
def test_eighteen_tables(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("check", REFERENCE / "check.py")
    assert spec is not None
    assert spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    assert check.main(statistics_adapter.__file__, []) == 0, capsys.readouterr().out


@needs_tables
def test_the_power_of_a_number_of_items() -> None:
    for row in rows_of("power"):
        if row["kind"] == "n_pairs":
            found: float = pairs_needed(row["sd_of_differences"], row["difference"], row["alpha"], row["power"])
        elif row["kind"] == "mde_binary":
            found = detectable_difference(math.sqrt(row["discordant_share"] / row["n_pairs"]), row["alpha"], row["power"])
        elif row["kind"] == "n_questions_miller":
            within, samples = (row["sigma2_a"], row["sigma2_b"]), (row["k_a"], row["k_b"])
            more = {name: row[name] for name in ("difference", "alpha", "power")}
            found = questions_needed(row["omega2"], within, samples, **more)
        elif row["kind"] == "power":
            found = power_of(row["stderr"], row["difference"], row["alpha"])
        else:
            continue
        assert found == pytest.approx(row["expected"], rel=1e-9), row


@needs_tables
def test_how_far_raters_agree() -> None:
    for row in rows_of("judges"):
        expected = row["expected"]
        if "a" in row:
            found = cohen_kappa(counted(row["a"], row["b"]))
            assert found.agreement == pytest.approx(expected["agreement"])
            assert found.kappa == (None if expected["kappa"] is None else pytest.approx(expected["kappa"]))
            assert found.stderr == (
                None if expected["kappa_stderr"] is None else pytest.approx(expected["kappa_stderr"], abs=1e-9)
            )
            for name, squared in (("kappa_linear", False), ("kappa_quadratic", True)):
                if name in expected:
                    assert weighted_kappa(counted(row["a"], row["b"]), row["categories"], squared=squared) == pytest.approx(
                        expected[name]
                    )
        elif "counts_per_item" in row:
            assert fleiss_kappa(row["counts_per_item"]) == pytest.approx(expected["fleiss_kappa"])
        elif "units" in row:
            alpha = expected["alpha_nominal"]
            assert alpha_of(row["units"]) == (None if alpha is None else pytest.approx(alpha))
        else:
            share, interval, p = position_bias(row["first_chosen"], row["not_consistent"])
            assert share == (None if expected["share_first"] is None else pytest.approx(expected["share_first"]))
            assert interval == (None if expected["wilson95"] is None else pytest.approx(expected["wilson95"]))
            assert p == pytest.approx(expected["p_two_sided"])


# --- by hand and by brute force ---


@pytest.mark.parametrize(
    ("share", "df", "value"),
    [
        (0.975, None, 1.959963984540054),
        (0.975, 1, 12.706204736),
        (0.975, 30, 2.042272456),
        (0.5, 4, 0.0),
        (0.025, 30, -2.042272456),
    ],
)
def test_quantiles(share: float, df: float | None, value: float) -> None:
    assert t_quantile(share, df) == pytest.approx(value, abs=1e-8)


@given(st.floats(0.5001, 0.9999), st.integers(1, 500))
def test_a_quantile_has_its_own_tail(share: float, df: int) -> None:
    assert t_two_sided(t_quantile(share, df), df) == pytest.approx(2 * (1 - share), rel=1e-9)


@given(st.integers(0, 40), st.integers(0, 40))
def test_tails_of_the_binomial(successes: int, failures: int) -> None:
    trials = successes + failures
    whole = 2.0**trials
    at_least = sum(math.comb(trials, one) for one in range(successes, trials + 1)) / whole
    at_most = sum(math.comb(trials, one) for one in range(successes + 1)) / whole
    assert binomial_tails(successes, trials) == pytest.approx((at_least, at_most))


@pytest.mark.parametrize(
    ("right", "n", "interval"),
    [(19, 20, (0.7639, 0.9911)), (0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (78, 240, (0.2690, 0.3866))],
)
def test_wilson(right: int, n: int, interval: tuple[float, float]) -> None:
    assert wilson(right / n, n, z_quantile(0.975)) == pytest.approx(interval, abs=5e-4)


def test_values_near_a_billion_do_not_cancel() -> None:
    draw = random.Random(3)
    small = [[draw.gauss(0, 1) for _ in range(2)] for _ in range(200)]
    near_nothing, near_a_billion = ClusteredMean(), ClusteredMean()
    for values in small:
        near_nothing.add(values)
        near_a_billion.add([1e9 + value for value in values])
    assert near_a_billion.stderr == pytest.approx(near_nothing.stderr, rel=1e-6)


def test_one_cluster_has_no_error_and_no_interval() -> None:
    mean = mean_of([1.0, 0.0, 1.0], ["a", "a", "a"])
    assert mean.mean == pytest.approx(2 / 3)
    assert (mean.stderr, mean.interval()) == (None, None)
    assert (ClusteredMean().mean, ClusteredMean().interval()) == (None, None)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0, 3.0]), min_size=1, max_size=9))
def test_sign_flips_are_all_flips(differences: list[float]) -> None:
    seen = math.fsum(differences)
    flips = [
        math.fsum(sign * one for sign, one in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    greater, less = fmean(one >= seen - 1e-9 for one in flips), fmean(one <= seen + 1e-9 for one in flips)
    found = sign_flips(differences)
    assert found is not None
    assert found == pytest.approx((min(1.0, 2 * min(greater, less)), greater, less))


@given(st.integers(0, 30), st.integers(0, 30))
def test_sign_flips_of_single_answers_are_mcnemars_test(only_a: int, only_b: int) -> None:
    flips = sign_flips_of_integers({1: only_a, -1: only_b, 0: 7})
    assert flips == pytest.approx(mcnemar(only_a, only_b))


def test_too_many_flips_are_not_enumerated() -> None:
    assert sign_flips([1.5] * 20 + [-0.7]) is None


@pytest.mark.parametrize("count", [1, 7, 20, 21, 40])
def test_where_all_went_the_same_way_only_one_flip_is_as_far(count: int) -> None:
    alone = 0.5**count
    assert sign_flips([0.1] * count + [0.0]) == pytest.approx((2 * alone, alone, 1.0))
    assert sign_flips([-0.1] * count + [0.0]) == pytest.approx((2 * alone, 1.0, alone))


def test_differences_without_a_spread_have_no_test() -> None:
    found = paired_difference([[0.25]] * 8)
    assert found.interval == pytest.approx((0.25, 0.25))
    assert (found.difference, found.t, found.p) == (0.25, None, None)
    for a, b in (([1.0, 1.0], [0.0, 0.0]), ([1.0], [0.0, 0.5])):
        unpaired = unpaired_difference(mean_of(a), mean_of(b))
        assert (unpaired.interval, unpaired.p) == (None, None), "one of no width would say that it is certain"


def test_runs_without_a_common_item_have_clusters_too() -> None:
    a, b = ([draw.gauss(at, 1) for _ in range(12)] for draw, at in ((random.Random(5), 0.0), (random.Random(6), 1.0)))
    first, second = (mean_of([one for one in values for _ in range(2)], [n // 2 for n in range(24)]) for values in (a, b))
    found, alone = unpaired_difference(first, second), unpaired_difference(mean_of(a), mean_of(b))
    assert (found.stderr, found.p, found.df) == pytest.approx((alone.stderr, alone.p, alone.df))


@pytest.mark.parametrize(("only_a", "only_b", "excludes_0"), [(0, 5, False), (0, 7, True), (4, 20, True), (10, 12, False)])
def test_the_interval_of_a_difference_agrees_with_the_exact_test(only_a: int, only_b: int, *, excludes_0: bool) -> None:
    low, high = bonett_price(240, only_a, only_b)
    assert (low > 0 or high < 0) is excludes_0
    assert (mcnemar(only_a, only_b).two_sided < 0.05) is excludes_0


@given(st.lists(st.sampled_from("ABC") | st.none(), min_size=1, max_size=7), st.integers(1, 7), st.booleans())
def test_a_majority_is_that_of_all_choices(answers: list[str | None], k: int, strict: bool) -> None:
    def share(chosen: Sequence[str | None]) -> float:
        counts = {name: chosen.count(name) for name in "ABC"}
        top = max(counts.values())
        first = [name for name in counts if counts[name] == top]
        return 0.0 if not top or (strict and 2 * top <= k) else fmean(name == "A" for name in first)

    expected = None if k > len(answers) else pytest.approx(fmean(map(share, combinations(answers, k))))
    assert majority_at_k(answers, {"A"}, k, strict=strict) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 8))
def test_one_of_k_and_all_of_k(right: list[bool], k: int) -> None:
    chosen = list(combinations(right, k))
    n, count = len(right), sum(right)
    assert pass_at_k(n, count, k) == (pytest.approx(fmean(map(any, chosen))) if chosen else None)
    assert pass_hat_k(n, count, k) == (pytest.approx(fmean(map(all, chosen))) if chosen else None)


def test_adjusted_values_leave_out_what_was_not_tested() -> None:
    assert adjusted([0.01, None, 0.04], "holm") == [pytest.approx(0.02), None, pytest.approx(0.04)]
    assert adjusted([0.04, 0.03], "holm") == [pytest.approx(0.06)] * 2
    assert adjusted([0.04, 0.03], "benjamini_hochberg") == [pytest.approx(0.04)] * 2
    assert adjusted([0.04, 0.6], "bonferroni") == [pytest.approx(0.08), 1.0]


def test_a_corpus_figure_is_drawn_alike_each_time() -> None:
    draw = random.Random(1)
    values = [draw.random() for _ in range(200)]
    stderr, (low, high) = bootstrapped(values, fmean)
    assert bootstrapped(values, fmean) == (stderr, (low, high))
    exact = ClusteredMean()
    for value in values:
        exact.add([value])
    assert stderr == pytest.approx(exact.stderr or 0.0, rel=0.1)
    assert (low, high) == pytest.approx(exact.t_interval(), abs=0.01)


# --- what an interval promises ---


def covers(truth: float, items: int, samples: int, spread: float, draw: random.Random) -> bool:
    """Draw a run of items whose samples depend on each other, and tell whether its interval holds the true share."""
    mean = ClusteredMean()
    for _ in range(items):
        # The more the items differ, the more their samples agree.
        share = draw.betavariate(truth / spread, (1 - truth) / spread) if spread else truth
        mean.add([float(draw.random() < share) for _ in range(samples)])
    interval = mean.interval()
    assert interval is not None
    return interval[0] <= truth <= interval[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("truth", "items", "samples", "spread"),
    [(0.5, 30, 1, 0.0), (0.9, 30, 1, 0.0), (0.95, 60, 1, 0.0), (0.3, 240, 1, 0.0), (0.7, 60, 4, 0.5), (0.4, 200, 8, 2.0)],
)
def test_an_interval_covers_what_it_says(truth: float, items: int, samples: int, spread: float) -> None:
    draw = random.Random(f"{truth} {items} {samples}")
    runs = 600
    covered = sum(covers(truth, items, samples, spread, draw) for _ in range(runs)) / runs
    assert 0.93 - 0.02 <= covered <= 0.98 + 0.02  # of so few runs two hundredths are chance


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize(("others", "counts_once"), [(0, True), (1, True), (4, True), (5, False), (9, False)])
def test_where_few_clusters_differ_each_counts_once(others: int, *, counts_once: bool, is_reversed: bool) -> None:
    """One wrong sample of 240 is no reason to take all 240 for independent: it hides how alike the samples of an item are."""
    mean = ClusteredMean()
    for number in range(30):
        values = [1.0] * 7 + [0.0 if number < others else 1.0]
        mean.add([1.0 - value for value in values] if is_reversed else values)
    assert mean.mean is not None
    share = mean.mean
    once = wilson(share, 30, t_quantile(0.975, 29))
    assert (mean.interval() == pytest.approx(once)) is counts_once
