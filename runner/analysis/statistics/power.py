"""The difference that a number of items can show, and the number that a difference needs."""

from __future__ import annotations

import math

from runner.analysis.statistics.distributions import z_quantile

__all__ = ["detectable_difference", "pairs_needed", "power_of", "questions_needed"]


def detectable_difference(stderr: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true difference that a test at `alpha` finds with this power, by the difference's standard error."""
    return _reach(alpha, power) * stderr


def pairs_needed(sd: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return how many pairs show a difference, by the standard deviation of the pairs' differences."""
    return math.ceil((_reach(alpha, power) * sd / difference) ** 2)


def questions_needed(
    between: float,
    within: tuple[float, float],
    samples: tuple[int, int],
    *,
    difference: float,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Return how many questions show a difference (Miller 2024, arXiv 2411.00640).

    `between` is the variance of the questions' true differences, `within` the variance of one answer's value in each run, and
    `samples` how often each run asks a question.
    """
    spread = between + within[0] / samples[0] + within[1] / samples[1]
    return math.ceil(_reach(alpha, power) ** 2 * spread / (difference * difference))


def power_of(stderr: float, difference: float, alpha: float = 0.05) -> float:
    """Return how likely a test at `alpha` finds a true difference of this size."""
    critical, distance = z_quantile(1 - alpha / 2), difference / stderr
    return (math.erfc((critical - distance) / math.sqrt(2)) + math.erfc((critical + distance) / math.sqrt(2))) / 2


def _reach(alpha: float, power: float) -> float:
    return z_quantile(1 - alpha / 2) + z_quantile(power)
