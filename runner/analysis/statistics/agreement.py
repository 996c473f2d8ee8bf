"""How far raters agree, beyond chance.

The functions take counts: many ratings in few categories need little memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from runner.analysis.statistics.distributions import z_quantile
from runner.analysis.statistics.pairs import mcnemar
from runner.analysis.statistics.shares import wilson

__all__ = [
    "Alpha",
    "Kappa",
    "cohen_kappa",
    "fleiss_kappa",
    "position_bias",
    "weighted_kappa",
]

T = TypeVar("T", bound=Hashable)
#: How often each pair of ratings was given.
Pairs: TypeAlias = Mapping[tuple[T, T], int]


class Kappa(NamedTuple):
    """Cohen's kappa: 1 if two raters always agree, 0 if they agree as often as by chance."""

    #: The share of equal ratings.
    agreement: float
    #: None if all ratings are in one category: then chance agreement is 1.
    kappa: float | None
    stderr: float | None


def cohen_kappa(pairs: Pairs[T]) -> Kappa:
    """Return the agreement of two raters, with the standard error of Fleiss, Cohen and Everitt 1969."""
    both, n = Counter(pairs), sum(pairs.values())
    by_a, by_b = _margins(pairs)
    agreement = sum(count for (one, other), count in both.items() if one == other) / n
    chance = sum(by_a[name] * by_b[name] for name in by_a) / (n * n)
    if chance == 1:
        return Kappa(agreement, None, None)
    kappa = (agreement - chance) / (1 - chance)
    alike = sum(
        both[name, name] / n * (1 - (by_a[name] + by_b[name]) / n * (1 - kappa)) ** 2 for name in by_a.keys() | by_b.keys()
    )
    unlike = sum(count / n * ((by_b[one] + by_a[other]) / n) ** 2 for (one, other), count in both.items() if one != other)
    spread = alike + (1 - kappa) ** 2 * unlike - (kappa - chance * (1 - kappa)) ** 2
    return Kappa(agreement, kappa, math.sqrt(max(0.0, spread) / n) / (1 - chance))


def weighted_kappa(pairs: Pairs[T], order: Sequence[T], *, squared: bool = False) -> float | None:
    """Return kappa for ordered ratings: near ones disagree less than far ones; None if all ratings are in one category."""
    place = {name: index for index, name in enumerate(order)}

    def far(one: T, other: T) -> float:
        distance = abs(place[one] - place[other])
        return float(distance * distance if squared else distance)

    n, (by_a, by_b) = sum(pairs.values()), _margins(pairs)
    seen = sum(count * far(one, other) for (one, other), count in pairs.items()) / n
    chance = sum(count * more * far(one, other) for one, count in by_a.items() for other, more in by_b.items()) / (n * n)
    return None if not chance else 1 - seen / chance


def _margins(pairs: Pairs[T]) -> tuple[Counter[T], Counter[T]]:
    """Return how often each rating was given by the first rater, and by the second."""
    by_a, by_b = Counter[T](), Counter[T]()
    for (one, other), count in pairs.items():
        by_a[one] += count
        by_b[other] += count
    return by_a, by_b


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float | None:
    """Return the agreement of many raters, from how many chose each category, item by item, with equal sums."""
    raters, items = sum(counts[0]), len(counts)
    seen = sum(sum(count * (count - 1) for count in row) for row in counts) / (items * raters * (raters - 1))
    shares = [sum(column) / (items * raters) for column in zip(*counts, strict=True)]
    chance = sum(share * share for share in shares)
    return None if chance == 1 else (seen - chance) / (1 - chance)


class Alpha:
    """Krippendorff's alpha for nominal ratings, unit by unit."""

    def __init__(self) -> None:
        #: Units with two ratings or more; others do not count.
        self.units = 0
        self._totals: Counter[Hashable] = Counter()
        self._unlike = 0.0

    def add(self, unit: Iterable[Hashable | None]) -> None:
        """Add the ratings of one unit; None is a missing rating."""
        rated = Counter(value for value in unit if value is not None)
        if (n := rated.total()) > 1:
            self.units += 1
            self._totals += rated
            self._unlike += (n * n - sum(count * count for count in rated.values())) / (n - 1)

    @property
    def value(self) -> float | None:
        """Alpha; None if all ratings are equal: then chance agreement is 1."""
        n = self._totals.total()
        expected = (n * n - sum(count * count for count in self._totals.values())) / (n - 1) if n > 1 else 0.0
        return None if not expected else 1 - self._unlike / expected


def position_bias(first: int, pairs: int) -> tuple[float | None, tuple[float, float] | None, float]:
    """Return the share of inconsistent pairs that the first position won, its 95 % interval, and p."""
    if not pairs:
        return None, None, 1.0
    share = first / pairs
    return share, wilson(share, pairs, z_quantile(0.975)), mcnemar(first, pairs - first).two_sided
