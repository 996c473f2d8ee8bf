"""The F1 of two bags of words: how much of each is in the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

__all__ = ["f1_of"]


def f1_of(words: Iterable[str], others: Iterable[str]) -> float:
    """Return the harmonic mean of the shares of common words. A word counts as often as both have it. Empty bags give 1.0."""
    mine, theirs = Counter(words), Counter(others)
    if not mine or not theirs:
        return float(mine == theirs)
    common = (mine & theirs).total()
    return 2 * common / (mine.total() + theirs.total())
