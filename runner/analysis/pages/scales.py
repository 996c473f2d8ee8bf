"""Scales of a plot: the position of a value, the marks on the axis, and the format of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runner.structs import Struct

__all__ = ["Scale", "bins_of", "shown"]

_STEPS = (1, 2, 5, 10)
_MOST_MARKS = 6
_MANY_DECADES = 3
_MOST_BARS = 40
#: With fewer bars, empty ones are added: a single bar would fill the whole plot.
_FEWEST_BARS = 6


class Scale(Struct, frozen=True):
    """A linear or a logarithmic scale from one value to another, drawn between two positions."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value; a value beyond the scale is at its end."""
        low, high = self._of(self.low), self._of(self.high)
        share = 0.5 if high == low else (self._of(value) - low) / (high - low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self.is_log else value

    def marks(self) -> list[float]:
        """Return the round values that are marked on the axis."""
        if self.is_log:
            return self._log_marks()
        step = _step((self.high - self.low) / _MOST_MARKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]

    def _log_marks(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        of_a_decade = (1,) if last - first > _MANY_DECADES else (1, 2, 5)
        every = max(1, (last - first) // _MOST_MARKS)
        marks = [digit * 10.0**power for power in range(first, last + 1, every) for digit in of_a_decade]
        return [mark for mark in marks if self.low * 0.999 <= mark <= self.high * 1.001]


def _step(least: float) -> float:
    if least <= 0 or not math.isfinite(least):
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * 0.999)


def bins_of(counts: Sequence[tuple[float, int]]) -> list[tuple[float, float, int]]:
    """Return bars as (low, high, count): one for each value if they are few whole numbers, else with ends of equal ratios.

    `counts` are values from 0 on, in order, each with how many there are. A bar between others may count 0.
    """
    if not counts:
        return []
    least, largest = counts[0][0], counts[-1][0]
    is_whole = all(value == int(value) for value, _ in counts)
    if is_whole and largest - least < _MOST_BARS:
        known, more = dict(counts), max(0, _FEWEST_BARS - int(largest - least)) // 2
        whole = range(max(0, int(least) - more), int(largest) + more + 1)
        return [(value - 0.5, value + 0.5, known.get(value, 0)) for value in whole]
    least, largest = (max(end, 0.5 if is_whole else 1e-6) for end in (least, largest))  # 0 has no logarithm
    if largest / least < 1.02:  # noqa: PLR2004  closer than the values are exact
        return [(least * 0.99, largest * 1.01, sum(count for _, count in counts))]
    # A value is exact to within 1 %: narrower bars would mean nothing.
    number = min(_MOST_BARS, max(1, int(math.log(largest / least) / math.log(1.02))))
    ratio = (largest / least) ** (1 / number)
    bars = [0] * number
    for value, count in counts:
        bars[min(number - 1, int(math.log(max(value, least) / least) / math.log(ratio) + 1e-9))] += count
    return [(least * ratio**place, least * ratio ** (place + 1), count) for place, count in enumerate(bars)]


def shown(value: float | None, digits: int = 4) -> str:
    """Return a number as people write it; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:  # noqa: PLR2004  a float holds every whole number below
        return f"{int(value):,}"
    if abs(value) >= 1000:  # noqa: PLR2004  decimals do not matter there
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"
