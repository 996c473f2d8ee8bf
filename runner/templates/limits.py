"""The limits of one rendering of a template: steps, memory and time, so that none can loop for ever or fill the memory.

Memory is counted in units: one for a character, sixteen for a member of a list or a dict, in addition to its content. Too much
of anything is a `template` error of that row, which names the limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from runner.errors import RowError
from runner.types import ErrorType

__all__ = [
    "CONTAINERS",
    "LARGEST_VALUE",
    "LONGEST_S",
    "MEMBER",
    "MOST_BITS",
    "MOST_BUILT",
    "MOST_STEPS",
    "MOST_WORK",
    "Allowance",
    "check_size",
    "check_work",
    "refusal",
    "weigh",
]

#: Units of a member of a list or a dict, in addition to its content.
MEMBER = 16
#: Iterations of loops and calls of macros and methods.
MOST_STEPS = 100_000
#: Units of one text, list or dict.
LARGEST_VALUE = 16 << 20
#: Units of everything that one rendering builds, including what it does not keep.
MOST_BUILT = 128 << 20
#: Bits of a whole number.
MOST_BITS = 1 << 16
#: Characters that one operation may copy. It cannot be interrupted; so many take a second or two.
MOST_WORK = 20_000_000_000
#: Seconds of CPU time, checked now and then, and after each large operation.
LONGEST_S = 1.0

#: Plain types: a check for an abstract type would cost more than everything else.
CONTAINERS: tuple[type, ...] = (list, tuple, dict, set, frozenset, type({}.keys()), type({}.values()), type({}.items()))
#: The clock is checked once in this many steps; work on this many units counts as one more step.
_LOOK_EVERY = 16
_UNITS_A_STEP = 1 << 12


def refusal(what: str) -> RowError:
    """Return the error of a template that exceeds a limit."""
    return RowError(ErrorType.TEMPLATE, f"the template {what}")


def check_size(units: float) -> None:
    """Raise RowError (template) if a value is, or would be, too large."""
    if units > LARGEST_VALUE:
        raise refusal(f"builds a text or list larger than {LARGEST_VALUE >> 20} MiB")


def check_work(characters: float) -> None:
    """Raise RowError (template) if an operation would take too long."""
    if characters > MOST_WORK:
        raise refusal("has an operation that takes too long for a text or list of this size")


def weigh(value: Any) -> int:
    """Return the units of a value with its whole content, each part as often as it would be printed. Raises RowError."""
    if isinstance(value, str | bytes):
        return len(value)
    return _weigh(value, {}) if isinstance(value, CONTAINERS) else 0


def _weigh(container: Any, known: dict[int, int]) -> int:
    """Weigh a container only once, even if it occurs several times in others."""
    units = known.get(id(container), 0)
    if units:
        return units
    for members in _members(container):
        units += MEMBER * len(members)
        check_size(units)
        for member in members:
            if isinstance(member, str):
                units += len(member)
            elif isinstance(member, CONTAINERS):
                units += _weigh(member, known)
    check_size(units)
    known[id(container)] = units
    return units


def _members(container: Any) -> Iterable[Any]:
    """Return one or two sized collections with the whole content of a container."""
    return (container.keys(), container.values()) if isinstance(container, dict) else (container,)


class Allowance:
    """What the current rendering has used; renderings are never concurrent."""

    __slots__ = ("_began", "_built", "_looks", "_steps")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start counting for a new rendering."""
        self._steps = self._built = 0
        self._looks = _LOOK_EVERY
        self._began = time.thread_time()

    def step(self, count: int = 1) -> None:
        """Count steps. Raises RowError (template)."""
        self._steps += count
        if self._steps > MOST_STEPS:
            raise refusal(f"takes more than {MOST_STEPS:,} steps (iterations of loops and calls)")
        self._looks -= count
        if self._looks < 0:
            self._look_at_the_clock()

    def go_through(self, units: int) -> None:
        """Count the work of reading a large value. Raises RowError (template)."""
        self._looks -= units // _UNITS_A_STEP
        if self._looks < 0:
            self._look_at_the_clock()

    def build(self, units: int) -> None:
        """Count a value that was built. Raises RowError (template)."""
        if units > LARGEST_VALUE:
            check_size(units)
        self._built += units
        if self._built > MOST_BUILT:
            raise refusal(f"builds more than {MOST_BUILT >> 20} MiB of texts and lists in all")
        self._looks -= 1 + units // _UNITS_A_STEP
        if self._looks < 0:
            self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        self._looks = _LOOK_EVERY
        if time.thread_time() - self._began > LONGEST_S:
            raise refusal(f"computes for more than {LONGEST_S:g} s")
