"""Paths to the values of a JSON or YAML document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

__all__ = ["KeyPath", "dotted", "leaves"]

KeyPath: TypeAlias = tuple[str | int, ...]


def dotted(path: KeyPath) -> str:
    """Return a path as messages and `--set` write it."""
    return ".".join(map(str, path))


def leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each value that is not a mapping or list with members, and its path."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not members:
        yield path, value
        return
    for key, member in members:
        yield from leaves(member, (*path, key))
