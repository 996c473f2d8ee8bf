"""Directories in memory: a disk would only be waited for, where it is not what is tested."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["MEMORY", "has_room", "in_memory"]

MEMORY = Path("/dev/shm")
#: Bytes that must be free there; few tests need more than some megabytes, and one after the other.
_ROOM = 1 << 30


def has_room() -> bool:
    """Whether directories can be made in memory."""
    return os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= _ROOM


@contextmanager
def in_memory(otherwise: Path | None = None) -> Iterator[Path]:
    """Make a directory in memory for the block; where there is no room, give the other one, or make one on the disk."""
    is_possible = has_room()
    if not is_possible and otherwise is not None:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="runner-test-", dir=MEMORY if is_possible else None) as directory:
        yield Path(directory)
