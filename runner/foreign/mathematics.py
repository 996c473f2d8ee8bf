"""Mathematics: whether two expressions mean the same, by math-verify, which may compute for ever.

The time of a call begins after this module is loaded. So everything that loads slowly is loaded with it, once in a process.
"""

from __future__ import annotations

import logging
from typing import Any

from math_verify import parse, verify

__all__ = ["are_readable", "equal"]

_LONGEST_SHOWN = 300

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limits are off; the caller has one


def are_readable(texts: list[str]) -> list[bool]:
    """Return for each text whether it contains an expression."""
    return [bool(_parsed(text)[0]) for text in texts]


def equal(references: list[str], text: str) -> tuple[bool, str | None]:
    """Return whether a text means the same as any reference, and the expression found in it; None if there is none."""
    found, written = _parsed(text)
    right = bool(found) and any(verify(_parsed(one)[0], found, timeout_seconds=None) for one in references)
    return right, written


def _parsed(text: str) -> tuple[list[Any], str | None]:
    """Return the expressions in a text, and how they are written there."""
    found = parse(text, parsing_timeout=None)
    expressions = [one for one in found if not isinstance(one, str)]
    written = [one[:_LONGEST_SHOWN] for one in found if isinstance(one, str)]
    return expressions, written[-1] if expressions and written else None


equal(["$x^2 + 2x + 1$"], "$(x + 1)^2$")
