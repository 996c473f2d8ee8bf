"""Many tests at once: p-values adjusted for the number of tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

__all__ = ["Adjustment", "adjusted"]

Adjustment: TypeAlias = Literal["holm", "benjamini_hochberg", "bonferroni"]


def adjusted(values: Sequence[float | None], method: Adjustment) -> list[float | None]:
    """Return p-values adjusted for their number, in the given order; None stays None, and does not count.

    Holm and Bonferroni bound the chance of any false alarm, Benjamini and Hochberg the share of false ones among the alarms.
    """
    order = sorted((value, index) for index, value in enumerate(values) if value is not None)
    found: list[float | None] = [None] * len(values)
    for (_, index), value in zip(order, _METHODS[method]([value for value, _ in order]), strict=True):
        found[index] = min(1.0, value)
    return found


def _holm(ascending: Sequence[float]) -> list[float]:
    return list(accumulate((value * (len(ascending) - rank) for rank, value in enumerate(ascending)), max))


def _benjamini_hochberg(ascending: Sequence[float]) -> list[float]:
    raised = [value * len(ascending) / rank for rank, value in enumerate(ascending, 1)]
    return list(accumulate(reversed(raised), min))[::-1]


def _bonferroni(ascending: Sequence[float]) -> list[float]:
    return [value * len(ascending) for value in ascending]


_METHODS: Mapping[Adjustment, Callable[[Sequence[float]], list[float]]] = {
    "holm": _holm,
    "benjamini_hochberg": _benjamini_hochberg,
    "bonferroni": _bonferroni,
}
