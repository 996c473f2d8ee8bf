"""Paths in a config, which are used as they are written: only a shell expands `~` and `$HOME`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["PathText"]

_OF_A_SHELL = re.compile(r"~(?=/|$)|\$([A-Za-z_]\w*)")


def _as_it_stands(path: str) -> str:
    """Return a path. Raises ValueError for an empty path, and for one that only a shell could expand."""
    if not path.strip():
        raise ValueError("is empty; name a path")
    if (found := _OF_A_SHELL.match(path)) is not None:
        meant = f"${{{found[1] or 'HOME'}}}{path[found.end() :]}"
        raise ValueError(f"{path!r} is used as it is written, because no shell expands it; write {meant}")
    return path


#: The path of a file or directory, or a URL.
PathText = Annotated[str, AfterValidator(_as_it_stands)]
