"""Two runs on the same items: their difference, and how likely chance alone gives one as large.

No random numbers are drawn: the same answers give the same figures.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from runner.analysis.statistics.distributions import binomial_tails, t_quantile, t_two_sided
from runner.analysis.statistics.means import ClusteredMean

__all__ = [
    "Difference",
    "Tails",
    "grouped",
    "mcnemar",
    "paired_difference",
    "sign_flips",
    "sign_flips_of_integers",
    "unpaired_difference",
]

#: Sums that differ by less than this share of all differences are equal: only the order of adding differs.
_TIE = 1e-9
_MOST_ENUMERATED = 20


class Tails(NamedTuple):
    """How likely chance alone gives a difference at least as large, on both sides, and on each side."""

    two_sided: float
    greater: float
    less: float


class Difference(NamedTuple):
    """A difference of two means, B minus A."""

    difference: float
    stderr: float | None
    #: The 95 % interval.
    interval: tuple[float, float] | None
    #: Student's t and its two-sided p; None if there is no spread.
    t: float | None
    p: float | None
    df: float | None


def mcnemar(only_a: int, only_b: int) -> Tails:
    """Return McNemar's exact test of the items that only one run has right; a small `greater` speaks for A."""
    return _tails(*binomial_tails(only_a, only_a + only_b))


def _tails(greater: float, less: float) -> Tails:
    greater, less = min(1.0, greater), min(1.0, less)
    return Tails(min(1.0, 2 * min(greater, less)), greater, less)


def sign_flips(sums: Sequence[float]) -> Tails | None:
    """Return the sign-flip test of clusters' sums, over all 2^n flips; None if more than 20 are not 0, with both signs.

    By chance alone each sum could as well have the other sign. The flips whose total is at least as extreme as the observed
    total are counted.
    """
    moving = [abs(value) for value in sums if value]
    if len(moving) > _MOST_ENUMERATED:
        signs = {value > 0 for value in sums if value}
        if len(signs) > 1:
            return None
        alone = 0.5 ** len(moving)  # no other flip is as extreme on this side
        return _tails(alone, 1.0) if True in signs else _tails(1.0, alone)
    tie, seen = _TIE * math.fsum(moving), math.fsum(sums)
    left, right = _all_flips(moving[::2]), sorted(_all_flips(moving[1::2]))
    count = len(left) * len(right)
    at_most = sum(bisect_right(right, seen + tie - value) for value in left)
    below = sum(bisect_left(right, seen - tie - value) for value in left)
    return _tails((count - below) / count, at_most / count)


def _all_flips(sizes: Sequence[float]) -> list[float]:
    found = [0.0]
    for size in sizes:
        found = [value + sign * size for value in found for sign in (1, -1)]
    return found


def sign_flips_of_integers(counts: Mapping[int, int]) -> Tails:
    """Return the sign-flip test of differences that are whole numbers, each with how often it occurs; exact by convolution."""
    sizes: Counter[int] = Counter()
    for value, count in counts.items():
        sizes[abs(value)] += count
    seen = sum(value * count for value, count in counts.items())
    chances = {0: 1.0}
    for size, count in sizes.items():
        if size:
            chances = _convolved(chances, size, count)
    greater = math.fsum(chance for value, chance in chances.items() if value >= seen)
    less = math.fsum(chance for value, chance in chances.items() if value <= seen)
    return _tails(greater, less)


def _convolved(chances: Mapping[int, float], size: int, count: int) -> dict[int, float]:
    """Return the chances of sums after `count` flips of one size are added."""
    whole = 1 << count
    steps = [(size * (2 * up - count), math.comb(count, up) / whole) for up in range(count + 1)]
    found: dict[int, float] = {}
    for value, chance in chances.items():
        for step, share in steps:
            found[value + step] = found.get(value + step, 0.0) + chance * share
    return found


def paired_difference(clusters: Iterable[Sequence[float]]) -> Difference:
    """Return the mean of the items' differences, given cluster by cluster, with its clustered error, interval and t test."""
    mean = ClusteredMean()
    for values in clusters:
        mean.add(values)
    assert mean.mean is not None
    stderr, df = mean.stderr, float(mean.clusters - 1)
    if stderr is None:
        return Difference(mean.mean, None, None, None, None, None)
    if stderr <= _TIE * abs(mean.mean) * 1e-3:
        return Difference(mean.mean, stderr, mean.t_interval(), None, None, df)
    t = mean.mean / stderr
    return Difference(mean.mean, stderr, mean.t_interval(), t, t_two_sided(t, df), df)


def grouped(values: Sequence[float], clusters: Sequence[Hashable] | None) -> list[list[float]]:
    """Return the values of each cluster; without clusters each value is its own cluster."""
    if clusters is None:
        return [[value] for value in values]
    members: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        members.setdefault(cluster, []).append(value)
    return list(members.values())


def unpaired_difference(a: ClusteredMean, b: ClusteredMean) -> Difference:
    """Return the difference of two means without common items (Welch 1947); without any spread it has no interval."""
    assert a.mean is not None
    assert b.mean is not None
    difference = b.mean - a.mean
    if (not a.stderr and not b.stderr) or a.stderr is None or b.stderr is None:
        return Difference(difference, None, None, None, None, None)
    errors = [a.stderr**2, b.stderr**2]
    stderr = math.sqrt(sum(errors))
    df = sum(errors) ** 2 / (errors[0] ** 2 / (a.clusters - 1) + errors[1] ** 2 / (b.clusters - 1))
    half, t = t_quantile(0.975, df) * stderr, difference / stderr
    return Difference(difference, stderr, (difference - half, difference + half), t, t_two_sided(t, df), df)
