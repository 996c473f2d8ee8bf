"""The plan: the order of all units of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.structs import Struct

__all__ = ["Plan", "units_of"]


class Plan(Struct, frozen=True):
    """The order of all units: by item, then sample, then task. The position of a unit is its slot."""

    #: The alias of each task and its number of samples, in the order in which tasks run.
    tasks: Sequence[tuple[str, int]]

    @property
    def width(self) -> int:
        """How many units an item has."""
        return sum(samples for _, samples in self.tasks)

    def offsets(self) -> dict[tuple[int, str], int]:
        """Return the position of each (sample, task) among the units of an item."""
        most = max((samples for _, samples in self.tasks), default=0)
        pairs = [(sample, alias) for sample in range(most) for alias, samples in self.tasks if sample < samples]
        return {pair: place for place, pair in enumerate(pairs)}


def units_of(tasks: Sequence[tuple[str, int]], item_index: int) -> Iterator[tuple[int, int, str]]:
    """Yield the units of an item, each as item index, sample index and alias."""
    return ((item_index, sample, alias) for alias, samples in tasks for sample in range(samples))
