"""How far raters agree, beyond what chance would bring about."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from runner.analysis.statistics.distributions import binomial_tails, z_quantile
from runner.analysis.statistics.shares import wilson

__all__ = ["Kappa", "cohen_kappa", "fleiss_kappa", "krippendorff_alpha", "position_bias", "weighted_kappa"]


class Kappa(NamedTuple):
    """Cohen's kappa: 1 where two raters always agree, 0 where they do so as often as chance would."""

    #: The share of equal ratings.
    agreement: float
    #: None where chance leaves no room to disagree: all is of one category.
    kappa: float | None
    stderr: float | None


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> Kappa:
    """Return the agreement of two raters of the same things, with the error of Fleiss, Cohen and Everitt 1969."""
    n = len(a)
    both, by_a, by_b = Counter(zip(a, b, strict=True)), Counter(a), Counter(b)
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


def weighted_kappa(
    a: Sequence[Hashable], b: Sequence[Hashable], order: Sequence[Hashable], *, squared: bool = False
) -> float | None:
    """Return kappa of ratings that have an order: what is near counts less than what is far; None where chance has no room."""
    place = {name: index for index, name in enumerate(order)}

    def far(one: Hashable, other: Hashable) -> float:
        distance = abs(place[one] - place[other])
        return float(distance * distance if squared else distance)

    seen = sum(far(one, other) for one, other in zip(a, b, strict=True)) / len(a)
    chance = _mean_over_all(a, b, far)
    return None if not chance else 1 - seen / chance


def _mean_over_all(a: Sequence[Hashable], b: Sequence[Hashable], far: Callable[[Hashable, Hashable], float]) -> float:
    by_a, by_b = Counter(a), Counter(b)
    total = sum(count * more * far(one, other) for one, count in by_a.items() for other, more in by_b.items())
    return total / (len(a) * len(b))


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float | None:
    """Return the agreement of many raters: for each item how many chose each category, the same number for all."""
    raters, items = sum(counts[0]), len(counts)
    seen = sum(sum(count * (count - 1) for count in row) for row in counts) / (items * raters * (raters - 1))
    shares = [sum(column) / (items * raters) for column in zip(*counts, strict=True)]
    chance = sum(share * share for share in shares)
    return None if chance == 1 else (seen - chance) / (1 - chance)


def krippendorff_alpha(units: Sequence[Sequence[Hashable | None]]) -> float | None:
    """Return Krippendorff's alpha of nominal ratings; None is a missing one, and a unit with one rating says nothing.

    None where all ratings are equal: chance leaves no room to disagree.
    """
    rated = [[value for value in unit if value is not None] for unit in units]
    pairable = [unit for unit in rated if len(unit) > 1]
    totals = Counter(value for unit in pairable for value in unit)
    n = totals.total()
    unlike = sum(
        (len(unit) ** 2 - sum(count * count for count in Counter(unit).values())) / (len(unit) - 1) for unit in pairable
    )
    expected = (n * n - sum(count * count for count in totals.values())) / (n - 1) if n > 1 else 0.0
    return None if not expected else 1 - unlike / expected


def position_bias(first: int, pairs: int) -> tuple[float | None, tuple[float, float] | None, float]:
    """Return, of the pairs whose verdict changed with their order, the share that the first place won, its interval, and p."""
    greater, less = binomial_tails(first, pairs)
    if not pairs:
        return None, None, 1.0
    share = first / pairs
    return share, wilson(share, pairs, z_quantile(0.975)), min(1.0, 2 * min(greater, less))
