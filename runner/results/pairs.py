"""Figures of pairwise judges: how often both orders agree, which position wins, and how often the longer answer wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from runner.analysis.statistics.agreement import position_bias
from runner.errors import RowError
from runner.storage.records import End
from runner.tasks.base import tasks_of
from runner.tasks.pairing import Pairing, pairing_of

__all__ = ["Pairs", "pairings_of"]


def pairings_of(document: Mapping[str, Any]) -> list[Pairing]:
    """Return the pairwise tasks of a config's document."""
    found = (pairing_of(alias, task) for alias, task in tasks_of(document).items())
    return [pairing for pairing in found if pairing is not None]


class Pairs:
    """The figures of one pairwise task."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self.alias = pairing.alias
        #: The outcomes of the pairs: a, b, tie or inconsistent.
        self._outcomes: Counter[str] = Counter()
        #: How many of the inconsistent pairs the first position has won.
        self._first = 0
        #: Wins in pairs with answers of unequal length, and how many of them the longer answer has.
        self._unequal = self._longer = 0

    def add(self, beside: Mapping[str, End], row: Mapping[str, Any]) -> None:
        """Count the results of one sample."""
        end = beside.get(self.alias)
        if end is None or end.error_type is not None or end.skipped or end.output is None:
            return
        self._outcomes[end.output] += 1
        if end.output == "inconsistent":
            first = self._pairing.choices[0]
            verdicts = [beside[judge].output for judge in self._pairing.judges if judge in beside]
            # A pair with `tie` in one order and a winner in the other counts as a win for the winner's position.
            self._first += first in verdicts
        elif end.output in {"a", "b"}:
            self._add_lengths(end.output, {**row, **{alias: one.read_back for alias, one in beside.items()}})

    def _add_lengths(self, who: str, item: Mapping[str, Any]) -> None:
        try:
            a, b = (len(one) if isinstance(one, str) else 0 for one in self._pairing.answers.render(item))
        except RowError:
            return
        if a != b:
            self._unequal += 1
            self._longer += (a > b) is (who == "a")

    def report(self) -> dict[str, Any]:
        """Return the figures, as they stand in `totals.judges.pairwise`."""
        n, inconsistent = self._outcomes.total(), self._outcomes["inconsistent"]
        share, interval, p = position_bias(self._first, inconsistent)
        swapped = {
            "consistent": (n - inconsistent) / n if n else None,
            "first_place": {"n": inconsistent, "won": self._first, "share": share, "ci95": interval and list(interval), "p": p},
        }
        longer = {"n": self._unequal, "won": self._longer, "share": self._longer / self._unequal if self._unequal else None}
        return {
            "n": n,
            "outcomes": {name: self._outcomes[name] for name in ("a", "b", "tie", "inconsistent")},
            "swap": self._pairing.swap,
            **(swapped if self._pairing.swap else {"consistent": None, "first_place": None}),
            "longer": longer,
        }
