"""The states of whole items, from the states of their units: computed at once, with integers of a million bytes."""

from __future__ import annotations

from collections.abc import Callable

from runner.storage.index import ANSWERED, FAILED
from runner.structs import Struct

__all__ = ["ItemStates", "item_states"]


def _where(bit: int) -> bytes:
    return bytes(int(bool(state & bit)) for state in range(256))


_IS_FAILED, _IS_DONE = _where(FAILED), _where(ANSWERED)


class ItemStates(Struct, frozen=True):
    """A byte for each item: 1 if the item is in that state."""

    #: At least one unit has an error.
    failed: bytes
    #: Each unit has a result, and none of them is an error.
    successful: bytes
    #: Each unit has a result.
    done: bytes

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many items are successful, have failed, and are neither yet."""
        successful, failed = self.successful.count(1), self.failed.count(1)
        return successful, failed, len(self.failed) - successful - failed


def item_states(states: bytes | bytearray, width: int, items: int) -> ItemStates:
    """Return the states of the first `items` items, each of which has `width` units."""
    whole = bytes(states[: items * width]).ljust(items * width, b"\0")
    failed = _combined(whole, width, _IS_FAILED, lambda one, other: one | other)
    done = _combined(whole, width, _IS_DONE, lambda one, other: one & other)
    return ItemStates(*(found.to_bytes(items, "little") for found in (failed, done & ~failed, done)))


def _combined(states: bytes, width: int, table: bytes, combine: Callable[[int, int], int]) -> int:
    columns = [int.from_bytes(states[place::width].translate(table), "little") for place in range(width)]
    found = columns[0]
    for column in columns[1:]:
        found = combine(found, column)
    return found
