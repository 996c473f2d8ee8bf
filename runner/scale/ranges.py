"""Rows that wait for a worker: ranges of indexes, in the order in which they are given out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

__all__ = ["Ranges", "ranges_of"]


class Ranges:
    """Ranges of indexes, without the end of each, and the number of indexes in them."""

    def __init__(self) -> None:
        self._ranges: deque[tuple[int, int]] = deque()
        self.count = 0

    def add(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Append ranges."""
        for first, last in ranges:
            self.count += last - first
            if self._ranges and self._ranges[-1][1] == first:
                first = self._ranges.pop()[0]  # noqa: PLW2901  the two ranges are joined
            self._ranges.append((first, last))

    def put_back(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Put ranges at the front."""
        for first, last in reversed(ranges):
            self.count += last - first
            self._ranges.appendleft((first, last))

    def take(self, most: int) -> list[tuple[int, int]]:
        """Remove up to `most` indexes from the front; return them as ranges."""
        taken = []
        while most > 0 and self._ranges:
            first, last = self._ranges.popleft()
            if last - first > most:
                self._ranges.appendleft((first + most, last))
                last = first + most
            taken.append((first, last))
            most -= last - first
            self.count -= last - first
        return taken


def ranges_of(indexes: Iterable[int]) -> list[tuple[int, int]]:
    """Return sorted indexes as ranges."""
    found: list[tuple[int, int]] = []
    for index in indexes:
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found
