"""Fingerprints: 64 bits that stand for an item's name, where a million names would be too many to hold.

They are the same in every process, so that those in a journal's index can be compared with those of a later start. Among a
million names two share one with a probability of 3e-8.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

__all__ = ["fingerprint_of"]

_BYTES = 8
#: A name is asked for when its row is read and when it is answered, with as many others between as are in flight. More than a
#: few thousand would take megabytes for what is soon computed again.
_REMEMBERED = 1 << 11
#: A whole prompt may be a name: of such ones the memory would be full.
_LONGEST_REMEMBERED = 128


def fingerprint_of(name: str) -> int:
    """Return the fingerprint of a name: from 1 to 2**64 - 1, so that 0 can say that there is none."""
    return _remembered(name) if len(name) <= _LONGEST_REMEMBERED else _computed(name)


def _computed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(errors="replace"), digest_size=_BYTES).digest(), "little") or 1


_remembered = lru_cache(maxsize=_REMEMBERED)(_computed)
