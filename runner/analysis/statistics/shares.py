"""Intervals of shares of right answers."""

from __future__ import annotations

import math

from runner.analysis.statistics.distributions import z_quantile

__all__ = ["bonett_price", "wilson"]


def wilson(share: float, n: float, critical: float) -> tuple[float, float]:
    """Return Wilson's interval of a share among n values; `critical` is the quantile for its level.

    It stays between 0 and 1, and has its coverage even with few values and shares near 0 or 1, unlike the normal interval.
    n may be an effective size, for values in clusters (Korn and Graubard 1998).
    """
    square = critical * critical
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = critical * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def bonett_price(pairs: int, only_a: int, only_b: int) -> tuple[float, float]:
    """Return the 95 % interval of B's share minus A's, over items that both runs have answered once.

    `only_a` and `only_b` are the numbers of items that only one run has right. Bonett and Price 2012: each number is raised by
    one, so that the interval agrees with the exact test if few items differ.
    """
    n = pairs + 2
    lost, won = (only_a + 1) / n, (only_b + 1) / n
    half = z_quantile(0.975) * math.sqrt((lost + won - (won - lost) ** 2) / n)
    return max(-1.0, won - lost - half), min(1.0, won - lost + half)
