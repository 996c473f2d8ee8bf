"""The normal distribution, Student's t and the binomial: quantiles, and tails that are exact even if tiny."""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["binomial_tails", "t_quantile", "t_two_sided", "z_quantile"]

_TINY = 1e-300
_CLOSE = 1e-16
_MOST_STEPS = 10_000


def z_quantile(share: float) -> float:
    """Return the value below which a share of the normal distribution lies."""
    from statistics import NormalDist  # late: it imports decimal and fractions, which a run only needs at its end

    return NormalDist().inv_cdf(share)


def t_two_sided(t: float, df: float | None) -> float:
    """Return the probability that Student's t is at least as far from 0; `df` None is the normal distribution."""
    if df is None:
        return math.erfc(abs(t) / math.sqrt(2))
    return _beta_share(df / 2, 0.5, df / (df + t * t))


@lru_cache(maxsize=4096)
def t_quantile(share: float, df: float | None) -> float:
    """Return the value below which a share of Student's t lies; `df` None is the normal distribution."""
    if df is None:
        return z_quantile(share)
    if share < 0.5:  # noqa: PLR2004  the middle
        return -t_quantile(1 - share, df)
    wanted = 2 * (1 - share)
    low, high = 0.0, 1.0
    while t_two_sided(high, df) > wanted:
        low, high = high, 2 * high
    while high - low > _CLOSE * high:
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if t_two_sided(middle, df) > wanted else (low, middle)
    return (low + high) / 2


def binomial_tails(successes: int, trials: int) -> tuple[float, float]:
    """Return the probability of at least this many successes, and of at most this many, if success has probability 1/2."""
    at_least = 1.0 if successes == 0 else _beta_share(successes, trials - successes + 1, 0.5)
    at_most = 1.0 if successes == trials else _beta_share(trials - successes, successes + 1, 0.5)
    return at_least, at_most


def _beta_share(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for step in range(1, _MOST_STEPS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
