"""Paths to the values of a document, as JSON and YAML have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

__all__ = ["KeyPath", "dotted", "leaves"]

KeyPath: TypeAlias = tuple[str | int, ...]


def dotted(path: KeyPath) -> str:
    """Return a path as it is written in messages and in `--set`."""
    return ".".join(map(str, path))


def leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yield what is no mapping and no list, or an empty one, with its path."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not members:
        yield path, value
        return
    for key, member in members:
        yield from leaves(member, (*path, key))
