"""How often an interval that says 95 % holds the truth: simulated runs whose true share is known."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from runner.analysis.statistics.means import ClusteredMean
from runner.analysis.statistics.shares import bonett_price
from tests.reliability.figures import Measured

__all__ = ["measure_coverage"]

_SHARES, _ITEMS = (0.1, 0.5, 0.7, 0.9, 0.95), (30, 100, 240)
#: Samples of an item, and how far items differ beside chance: 0 not at all.
_SAMPLES = ((1, 0.0), (4, 0.5), (8, 2.0))
_LOWEST, _HIGHEST = 0.93, 0.98
_MOST_RUNS = 4000


def measure_coverage(_directory: Path, seconds: float) -> Measured:
    """Count how often an interval covers: of shares, of shares of items with samples, of means, of differences."""
    sets = [*product(_SHARES, _ITEMS, _SAMPLES)]
    until, draw, runs = time.monotonic() + seconds, random.Random(95), 0
    hits, means = [0] * len(sets), [0] * len(_ITEMS)
    differences = [0] * len(_ITEMS)
    while runs < _MOST_RUNS and time.monotonic() < until:
        runs += 1
        for index, (share, items, (samples, spread)) in enumerate(sets):
            hits[index] += _covers_a_share(share, items, samples, spread, draw)
        for index, items in enumerate(_ITEMS):
            means[index] += _covers_a_mean(items, draw)
            differences[index] += _covers_a_difference(items, draw)
    found = [hit / runs for hit in (*hits, *means, *differences)]
    least, most = min(found), max(found)
    # What is counted so often is off by so much by chance.
    chance = 3 * (0.95 * 0.05 / runs) ** 0.5
    outside = [
        (*one, f"{hit / runs:.1%}") for one, hit in zip(sets, hits, strict=True) if not _LOWEST <= hit / runs <= _HIGHEST
    ]
    value = f"{least:.1%} to {most:.1%} of {runs} runs of each of {len(found)} sets; shares outside: {outside or 'none'}"
    return Measured(value, met=least >= _LOWEST - chance and most <= _HIGHEST + chance)


def _covers(mean: ClusteredMean, truth: float) -> bool:
    interval = mean.interval()
    return interval is not None and interval[0] <= truth <= interval[1]


def _covers_a_share(truth: float, items: int, samples: int, spread: float, draw: random.Random) -> bool:
    mean = ClusteredMean()
    for _ in range(items):
        share = draw.betavariate(truth / spread, (1 - truth) / spread) if spread else truth
        mean.add([float(draw.random() < share) for _ in range(samples)])
    return _covers(mean, truth)


def _covers_a_mean(items: int, draw: random.Random) -> bool:
    """Values of a score from 0 to 100 that come near its ends."""
    mean = ClusteredMean()
    for _ in range(items):
        mean.add([100 * draw.betavariate(2, 1)])
    return _covers(mean, 100 * 2 / 3)


def _covers_a_difference(items: int, draw: random.Random) -> bool:
    """Two runs of which each item is right in both with 0.6, in A alone with 0.08, in B alone with 0.12."""
    kinds: Sequence[str] = draw.choices(["both", "a", "b", "none"], [0.6, 0.08, 0.12, 0.2], k=items)
    low, high = bonett_price(items, kinds.count("a"), kinds.count("b"))
    return low <= 0.04 <= high
