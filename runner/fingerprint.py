"""Fingerprints: 64 bits that stand for an item's name, where a million names would be too many to hold.

They are the same in every process, so that those in a journal's index can be compared with those of a later start. Among a
million names two share one with a probability of 3e-8.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["fingerprint_of"]

_BYTES = 8


def fingerprint_of(name: str) -> int:
    """Return the fingerprint of a name: from 1 to 2**64 - 1, so that 0 can say that there is none."""
    return int.from_bytes(blake2b(name.encode(errors="replace"), digest_size=_BYTES).digest(), "little") or 1
