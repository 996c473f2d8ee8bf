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
def in_memory(otherwise: Path) -> Iterator[Path]:
    """Make a directory in memory for the block, or give the other one where there is no room."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="runner-test-", dir=_MEMORY) as directory:
        yield Path(directory)
