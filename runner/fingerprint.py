"""Fingerprints: 64 bits that stand for an item's name, because a million names take too much memory.

A name has the same fingerprint in every process, so a later start can compare its own with those in a journal's index. Among a
million names, the probability that two share a fingerprint is 3e-8.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["fingerprint_of"]

_BYTES = 8


def fingerprint_of(name: str) -> int:
    """Return the fingerprint of a name, from 1 to 2**64 - 1. So 0 can mean that there is none."""
    return int.from_bytes(blake2b(name.encode(errors="replace"), digest_size=_BYTES).digest(), "little") or 1
