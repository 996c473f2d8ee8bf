"""Errors grouped by type and message, in which numbers and ids do not count."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from runner.service.standing import Standings
from runner.service.store import Record
from runner.storage.records import End
from runner.structs import Struct

__all__ = ["Group", "groups_of"]

_LONGEST_S = 1.0
_READ_AT_ONCE = 200
_MOST_GROUPS = 50
_LONGEST_PATTERN = 200
#: The parts of messages that vary within a group: numbers, and ids that contain digits.
_VARIES = re.compile(r"\b(?=\w*\d)[\w-]{8,}\b|\d+")


class Group(Struct):
    """Errors of the same type and pattern."""

    kind: str
    pattern: str
    #: The message, the row and the task of the first error.
    example: str
    row: int
    alias: str
    count: int = 0
    #: In microseconds since the epoch.
    first_at: int = 0
    last_at: int = 0

    @property
    def first(self) -> str:
        """The time of the first error, in ISO format."""
        return _said(self.first_at)

    @property
    def last(self) -> str:
        """The time of the last error."""
        return _said(self.last_at)


def _said(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="seconds")


def groups_of(standings: Standings, record: Record) -> tuple[Sequence[Group], int | None]:
    """Return the groups, the largest first; and, if time was too short for all rows, how many were read.

    Raises StorageError.
    """
    until, groups, at = time.monotonic() + _LONGEST_S, dict[tuple[str, str], Group](), -1
    while time.monotonic() < until:
        with standings.of(record) as standing:
            failed = standing.states().failed
            for _ in range(_READ_AT_ONCE):
                if (at := failed.find(1, at + 1)) < 0:
                    return _largest(groups), None
                for alias, end in standing.ends(at).items():
                    if end.error_type is not None:
                        _note(groups, at, alias, end)
    return _largest(groups), at + 1


def _note(groups: dict[tuple[str, str], Group], row: int, alias: str, end: End) -> None:
    kind, message, at = end.error_type or "", end.message or "", end.completed_at
    pattern = _VARIES.sub("…", message)[:_LONGEST_PATTERN]
    group = groups.setdefault((kind, pattern), Group(kind, pattern, message[:1000], row, alias, first_at=at))
    group.count += 1
    group.first_at, group.last_at = min(group.first_at, at), max(group.last_at, at)


def _largest(groups: dict[tuple[str, str], Group]) -> list[Group]:
    return sorted(groups.values(), key=lambda group: -group.count)[:_MOST_GROUPS]
