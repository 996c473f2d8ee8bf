"""The existing path, or the known name, that a mistyped one probably means."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

__all__ = ["name_meant", "path_meant"]

#: How alike two names must be, as difflib counts it.
_ALIKE = 0.6


def name_meant(name: str, known: Collection[str]) -> str:
    """Return `there is: A, B; did you mean B?`; the question is there if one resembles the name, whatever its case."""
    from difflib import get_close_matches  # only a mistyped name needs it

    alike = {one.strip().casefold(): one for one in known}
    near = get_close_matches(name.strip().casefold(), alike, n=1, cutoff=_ALIKE)
    meant = f"; did you mean `{alike[near[0]]}`?" if near else ""
    return f"there is: {', '.join(known) or 'nothing'}{meant}"


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
    meant = way.relative_to(below) if below.parts else way
    return f"; did you mean {meant}?" if meant != Path(name) else ""
