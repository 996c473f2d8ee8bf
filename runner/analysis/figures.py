"""A figure of two runs: a metric, a share or a time, for A and for B, with their difference and its p-value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeAlias

from runner.analysis.statistics.means import ClusteredMean
from runner.analysis.statistics.pairs import (
    grouped,
    mcnemar,
    paired_difference,
    sign_flips,
    sign_flips_of_integers,
    unpaired_difference,
)
from runner.analysis.statistics.power import detectable_difference, pairs_needed
from runner.analysis.statistics.shares import bonett_price
from runner.structs import Struct

__all__ = ["Figure", "Pair", "Subject", "estimate", "label_of", "paired", "unpaired"]

#: What a figure is about: an alias or another name, a group, and a statistic.
Subject: TypeAlias = tuple[str, str | None, str | None]

_MOST_OF_A_SUM = 2000
_MOST_SAMPLES = 100


class Pair(Struct, frozen=True, gc=False):
    """An item's value in both runs: the mean of its samples, how many there are, and the cluster of the item."""

    a: float
    b: float
    samples: tuple[int, int]
    cluster: Hashable


class Figure(Struct, kw_only=True):
    """One figure of two runs, and their difference in it."""

    #: Both values, over the items that are compared; None if a run has no value.
    a: float | None
    b: float | None
    difference: float | None
    #: The 95 % interval of the difference.
    interval: tuple[float, float] | None = None
    #: B's own value, over all its items, and its 95 % interval.
    own_b: float | None = None
    interval_b: tuple[float, float] | None = None
    #: The p-value of the difference, and the same adjusted for the number of tests.
    p: float | None = None
    p_adjusted: float | None = None
    test: str | None = None
    stderr: float | None = None
    #: How many items are compared, and in how many B's value is larger, or smaller.
    pairs: int = 0
    higher: int = 0
    lower: int = 0
    #: The difference if all values that B lacks were 0, or 1; None if it lacks none.
    bounds: tuple[float, float] | None = None
    #: Whether it has an interval if there are enough items.
    has_interval: bool = True
    #: Whether a smaller value is better.
    less_is_better: bool = False
    is_paired: bool = True

    @property
    def is_unchanged(self) -> bool:
        """Whether no item's value differs."""
        return self.is_paired and self.pairs > 0 and not self.higher and not self.lower

    @property
    def detectable(self) -> float | None:
        """The smallest true difference that this many items would show in four of five cases."""
        return None if not self.stderr else detectable_difference(self.stderr)

    def items_needed(self, difference: float) -> int | None:
        """Return how many items are needed to show a difference, if they vary like these."""
        return pairs_needed(self.stderr * math.sqrt(self.pairs), difference) if self.stderr and difference else None

    def outcome(self, alpha: float) -> str:
        """Return `better`, `worse` or `cannot tell`, by the adjusted p, or `unchanged`."""
        if self.is_unchanged:
            return "unchanged"
        if self.p_adjusted is None or self.p_adjusted >= alpha or not self.difference:
            return "cannot tell"
        return "better" if (self.difference > 0) is not self.less_is_better else "worse"


def label_of(subject: Subject) -> str:
    """Return the name of a subject in gates."""
    name, group, stat = subject
    return f"{name}{'' if group is None else f'[{group}]'}{'' if stat is None else f'.{stat}'}"


def estimate(a: float | None, b: float | None) -> Figure:
    """Return a figure without an interval, such as a quantile."""
    difference = None if a is None or b is None else b - a
    return Figure(a=a, b=b, difference=difference, own_b=b, has_interval=False, less_is_better=True)


def paired(pairs: Sequence[Pair], *, by_cluster: bool, less_is_better: bool = False) -> Figure:
    """Return a figure of the items that both runs have answered; each counts once.

    If each item was answered once, right or wrong: Bonett and Price's interval, and p by McNemar's exact test. Otherwise:
    Student's interval, and p by sign flips of the clusters' sums, if these can be enumerated or are whole numbers; else by
    Student's t.
    """
    if not pairs:
        return Figure(a=None, b=None, difference=None, less_is_better=less_is_better)
    differences = [pair.b - pair.a for pair in pairs]
    clusters = grouped(differences, [pair.cluster for pair in pairs] if by_cluster else None)
    found = paired_difference(clusters)
    higher, lower = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    figure = Figure(
        a=math.fsum(pair.a for pair in pairs) / len(pairs),
        b=math.fsum(pair.b for pair in pairs) / len(pairs),
        difference=found.difference,
        interval=found.interval,
        stderr=found.stderr,
        pairs=len(pairs),
        higher=higher,
        lower=lower,
        less_is_better=less_is_better,
    )
    if not by_cluster and all(pair.samples == (1, 1) and {pair.a, pair.b} <= {0.0, 1.0} for pair in pairs):
        figure.interval = None if len(pairs) < 2 else bonett_price(len(pairs), lower, higher)  # noqa: PLR2004  1 has no spread
        figure.p, figure.test = mcnemar(lower, higher).two_sided, "McNemar, exact"
    else:
        figure.p, figure.test = _p_of(list(map(math.fsum, clusters)), pairs, found.p)
    return figure


def _p_of(sums: Sequence[float], pairs: Sequence[Pair], p_of_t: float | None) -> tuple[float | None, str | None]:
    if (flips := sign_flips(sums)) is not None:
        return flips.two_sided, "sign flips, exact"
    unit = math.lcm(*{samples for pair in pairs for samples in pair.samples})
    scaled = [one * unit for one in sums]
    if unit <= _MOST_SAMPLES and all(abs(one - round(one)) < 1e-6 for one in scaled):  # noqa: PLR2004  rounding
        counts = Counter(map(round, scaled))
        if sum(abs(value) * count for value, count in counts.items()) <= _MOST_OF_A_SUM:
            return sign_flips_of_integers(counts).two_sided, "sign flips, exact"
    return p_of_t, "Student's t"


def unpaired(a: ClusteredMean, b: ClusteredMean, *, less_is_better: bool = False) -> Figure:
    """Return a figure of runs that share no item (Welch)."""
    figure = Figure(a=a.mean, b=b.mean, difference=None, less_is_better=less_is_better, is_paired=False)
    if a.n and b.n:
        found = unpaired_difference(a, b)
        figure.difference, figure.interval, figure.stderr = found.difference, found.interval, found.stderr
        figure.p, figure.test = found.p, "Welch, unpaired"
    return figure
