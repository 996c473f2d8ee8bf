"""A directory in memory, for tests in which a fake decides what a disk does: a real one would only be waited for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["in_memory"]

_MEMORY = Path("/dev/shm")
#: Bytes that must be free there; these tests need a few megabytes.
_ROOM = 256 << 20


@contextmanager
def in_memory(otherwise: Path | None = None) -> Iterator[Path]:
    """Make a directory in memory for the block; where there is no room, give the other one, or make one on the disk."""
    has_room = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM
    if not has_room and otherwise is not None:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="runner-test-", dir=_MEMORY if has_room else None) as directory:
        yield Path(directory)
