"""What was probably meant by the path of something that is not there."""

from __future__ import annotations

from pathlib import Path

__all__ = ["path_meant"]

#: From here on a mistyped name looks like another.
_ALIKE = 0.6


def path_meant(name: str | Path, below: Path = Path()) -> str:
    """Return `; did you mean PATH?` for a path of which each part is there or looks like one that is; else nothing.

    It is taken from, and said as it is, `below` a directory.
    """
    from difflib import get_close_matches  # only who mistypes pays for it

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
