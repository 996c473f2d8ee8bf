"""The existing path that a mistyped path probably means."""

from __future__ import annotations

from pathlib import Path

__all__ = ["path_meant"]

#: How alike two names must be, as difflib counts it.
_ALIKE = 0.6


def path_meant(name: str | Path, below: Path = Path()) -> str:
    """Return `; did you mean PATH?` if each part of the path exists or resembles one that does; else an empty text.

    Both the name and the answer are relative to the directory `below`.
    """
    from difflib import get_close_matches  # only a mistyped path needs it

    way = below
    try:
        for part in Path(str(name).replace("\\", "/")).parts:
            step = way / part
            if not step.exists():
                near = get_close_matches(part, [one.name for one in way.iterdir()], n=1, cutoff=_ALIKE)
                if not near:
                    return ""
                step = way / near[0]
            way = step
    except (OSError, ValueError):
        return ""
    return f"; did you mean {way.relative_to(below) if below.parts else way}?"
