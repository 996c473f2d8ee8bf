"""How many connections the limit of open files allows, after raising it as far as the system permits."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from runner.logs import logger

__all__ = ["room_for"]

_log = logger(__name__)
#: Descriptors for everything else: journals, the dataset, name look-ups in threads, connections that await their last bytes.
_OTHER_FILES = 40


def room_for(connections: int) -> int:
    """Return how many connections may be open at once, at least one. Warn if they are fewer than wanted."""
    needed = connections + _OTHER_FILES + _open_files()
    limit = _raised(needed)
    if needed <= limit:
        return connections
    room = max(1, connections - (needed - limit))
    _log.warning("only %d files may be open: %d connections instead of %d (see `ulimit -n`)", limit, room, connections)
    return room


def _raised(needed: int) -> int:
    """Raise the soft limit as needed, at most to the hard one; return the resulting limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if wanted <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # some systems have a further limit besides the hard one
        return soft
    return wanted


def _open_files() -> int:
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        return 0
