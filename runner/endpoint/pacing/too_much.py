"""How much is too much at once for an endpoint: a ceiling that falls after a refusal, and which failures count as refusals.

The ceiling comes back like TCP's CUBIC: soon near what was too much, long about there, then beyond. It rises with answers, not
with time: to reach that height again costs about as many refusals as the last time, and these should stay few among the
answers.

Some endpoints fail at any load. So failures count only if they are many more than with less in flight.
"""

from __future__ import annotations

__all__ = ["Ceiling", "UsualFailures"]

#: After this many answers for each refusal, a ceiling is back where it fell from.
_ANSWERS_TO_A_REFUSAL = 300
#: This many failures are too many if none are usual; each usual one raises that number by this much.
_FEWEST = 3
_MORE_THAN_USUAL = 3.0
#: The weight of a round, compared with the round after it.
_REMEMBERED = 0.8


class Ceiling:
    """The highest limit now, as a logarithm."""

    def __init__(self, top: float) -> None:
        """Begin at `top`, which is never exceeded."""
        self._top = self._fell_from = top
        #: How far it fell, as a logarithm; for how many answers it stays below; how many have come since.
        self._less = 0.0
        self._answers_below = self._answers = 0.0

    @property
    def height(self) -> float:
        """The height now; never below one in flight."""
        if not self._less:
            return self._top
        way = self._answers / self._answers_below - 1
        return max(0.0, min(self._top, self._fell_from + self._less * way**3))

    def answered(self) -> None:
        """Note an answer."""
        self._answers += 1

    def fall(self, fell_from: float, less: float, refusals: float) -> None:
        """Fall to `less` below `fell_from`, which was too much, as `refusals` have shown."""
        self._fell_from, self._less = fell_from, less
        self._answers_below, self._answers = _ANSWERS_TO_A_REFUSAL * refusals, 0

    def rise(self, less: float) -> None:
        """Be at most `less` below what was too much: the limit now is not too much."""
        self._less = min(self._less, less)

    def lift(self) -> None:
        """Go to the top again: nothing is known to be too much."""
        self._less = 0.0

    def widen(self, top: float) -> None:
        """Let the top be higher."""
        self._top = max(self._top, top)


class UsualFailures:
    """The share of attempts that fails with less in flight, by the latest rounds."""

    def __init__(self) -> None:
        self._failures = self._attempts = 0.0

    @property
    def share(self) -> float:
        """The share of attempts that fails."""
        return self._failures / self._attempts if self._attempts else 0.0

    def are_fewer_than(self, failures: int, attempts: int) -> bool:
        """Return whether so many failures among so many attempts are more than usual."""
        return failures >= _FEWEST + _MORE_THAN_USUAL * self.share * attempts

    def note(self, failures: int, attempts: int) -> None:
        """Note what a round with less in flight has shown."""
        self._failures = _REMEMBERED * self._failures + failures
        self._attempts = _REMEMBERED * self._attempts + attempts
