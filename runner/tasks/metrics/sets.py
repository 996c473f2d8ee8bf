"""The metric `set_match`: whether an answer names the right things, all of them and no others, in whatever order."""

from __future__ import annotations

import re
from typing import Any

from runner import jsontext
from runner.jsontext import as_text
from runner.processes.pool import Calls
from runner.reading.fences import unfenced
from runner.tasks.metrics.base import Settings, as_label, invalid_reference
from runner.tasks.metrics.taking import extracted
from runner.tasks.metrics.text import normal
from runner.types import Value

__all__ = ["set_match"]

_BETWEEN = re.compile(r"[,;\n]")


async def set_match(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
    """Judge whether both sides are the same set; the candidate's is kept as a JSON list.

    Each is a list, JSON text of one, or a text that is split at commas, semicolons and line breaks. A reference that is a list
    of lists has several sets, of which any one is right.
    """
    several = isinstance(reference, list) and reference != [] and all(isinstance(one, list) for one in reference)
    wanted = [_set_of(_members(one), settings) for one in (reference if several else [reference])]
    if not all(wanted):
        raise invalid_reference("is empty, so no answer can be right")
    listed = isinstance(candidate, list) and not settings.steps
    text = candidate if listed else await extracted(candidate, settings, calls)
    if text is None:
        return Value(0.0, None)
    found = _set_of(_members(text), settings)
    return Value(float(found in wanted), jsontext.encode_str(sorted(found)))


def _members(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if value is None:
        return []
    text = unfenced(as_text(value))
    if text.lstrip().startswith("["):
        try:
            listed = jsontext.decode(text.encode())
        except jsontext.JsonError:
            pass
        else:
            return listed if isinstance(listed, list) else [listed]
    return _BETWEEN.split(text)


def _set_of(members: list[Any], settings: Settings) -> set[str]:
    """Return the members as they are compared; what is empty is none."""
    return {text for one in members if one is not None and (text := normal(as_label(one), settings)).strip()}
