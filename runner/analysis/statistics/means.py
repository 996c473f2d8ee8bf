"""Means of values in clusters, such as the samples of one item, or the questions about one text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runner.analysis.statistics.distributions import t_quantile
from runner.analysis.statistics.shares import wilson

__all__ = ["ClusteredMean"]


_BINARY = frozenset({0.0, 1.0})
#: Fewer clusters than this are too few.
_FEW = 5


class ClusteredMean:
    """A mean with its clustered standard error and interval, in constant memory, one cluster after the other.

    Values of one cluster are not independent evidence: the error is that of a mean of clusters (CR1, with the factor
    C / (C - 1)). It sums differences to the first value; otherwise values near a billion with a spread of 1 would cancel.
    """

    def __init__(self) -> None:
        self.n = 0
        self.clusters = 0
        #: Whether all values are 0 or 1, and whether a cluster has more than one value.
        self.is_binary = True
        self.has_large_clusters = False
        #: In how many clusters a value is 0, and in how many one is 1.
        self._with_0 = self._with_1 = 0
        self._total = self._first = self._sum = 0.0
        self._squares = self._products = self._sizes_squared = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Add all values of one cluster."""
        if not values:
            return
        if not self.clusters:
            self._first = values[0]
        first = self._first
        size, total = len(values), math.fsum([value - first for value in values])
        self.n += size
        self.clusters += 1
        self.is_binary = self.is_binary and _BINARY.issuperset(values)
        self._with_0 += 0.0 in values
        self._with_1 += 1.0 in values
        self.has_large_clusters = self.has_large_clusters or size > 1
        self._total += math.fsum(values)
        self._sum += total
        self._squares += total * total
        self._products += total * size
        self._sizes_squared += size * size

    @property
    def mean(self) -> float | None:
        """The mean; None if there are no values."""
        return None if not self.n else self._total / self.n

    @property
    def stderr(self) -> float | None:
        """The standard error of the mean; None, and not 0, with only one cluster: its spread is unknown."""
        if self.clusters < 2:  # noqa: PLR2004  see above
            return None
        mean = self._sum / self.n
        spread = self._squares - 2 * mean * self._products + mean * mean * self._sizes_squared
        return math.sqrt(max(0.0, spread) * self.clusters / (self.clusters - 1)) / self.n

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the mean: Wilson's for shares, else Student's; None if no error is known."""
        return self.wilson_interval() if self.is_binary else self.t_interval()

    def t_interval(self) -> tuple[float, float] | None:
        """Return mean ± t·stderr, with one degree of freedom less than there are clusters."""
        mean, stderr = self.mean, self.stderr
        if mean is None or stderr is None:
            return None
        half = t_quantile(0.975, self.clusters - 1) * stderr
        return mean - half, mean + half

    def wilson_interval(self) -> tuple[float, float] | None:
        """Return Wilson's interval of a share, for the number of independent values that would have the same error.

        If only a few clusters have the rarer value, the dependence of the values within a cluster is unknown: then
        each cluster counts once.
        """
        mean, stderr = self.mean, self.stderr
        if mean is None or stderr is None:
            return None
        effective = min(self.n, mean * (1 - mean) / (stderr * stderr)) if stderr else self.n
        others = self._with_0 if mean >= 0.5 else self._with_1  # noqa: PLR2004  the rarer value
        if others < min(_FEW, self.clusters):
            effective = min(effective, self.clusters)
        return wilson(mean, effective, t_quantile(0.975, self.clusters - 1 if self.has_large_clusters else None))
