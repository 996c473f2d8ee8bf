"""Intervals of figures of a whole corpus, such as BLEU or F1 over classes, which are not means of items."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["bootstrapped"]

_T = TypeVar("_T")


def bootstrapped(
    clusters: Sequence[_T], figure: Callable[[Sequence[_T]], float], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Return the standard error of a figure and its percentile interval, over clusters drawn with replacement.

    The same seed gives the same figures.
    """
    drawing = random.Random(seed)  # noqa: S311  not a secret
    found = sorted(figure(drawing.choices(clusters, k=len(clusters))) for _ in range(draws))
    mean = math.fsum(found) / draws
    stderr = math.sqrt(math.fsum((value - mean) ** 2 for value in found) / (draws - 1))
    low, high = ((1 - level) / 2, (1 + level) / 2)
    return stderr, (found[math.ceil(low * draws) - 1], found[math.ceil(high * draws) - 1])
