"""What a number of items can show at all."""

from __future__ import annotations

from runner.analysis.statistics.distributions import z_quantile

__all__ = ["detectable_difference"]


def detectable_difference(stderr: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true difference that a test at `alpha` finds with this power, by the difference's standard error."""
    return (z_quantile(1 - alpha / 2) + z_quantile(power)) * stderr
