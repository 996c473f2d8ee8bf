"""The metric `cosine_similarity`: how similar two texts are in meaning, by the angle between their vectors."""

from __future__ import annotations

import math
from typing import Any

from runner import jsontext
from runner.errors import RowError
from runner.processes.pool import Calls
from runner.tasks.metrics.base import Settings, invalid_reference
from runner.types import ErrorType, Value

__all__ = ["cosine_similarity"]


async def cosine_similarity(candidate: Any, reference: Any, _settings: Settings, _calls: Calls) -> Value:
    """Return the cosine of the angle, from -1 to 1: 0 if a vector is all zeros, or if there is no candidate.

    Each side is the output of an `embedding` task, a list of numbers, or JSON text of one. A reference may be a list of
    vectors; then the nearest one counts.
    """
    wanted = _decoded(reference)
    wanted = wanted if isinstance(wanted, list) and wanted and isinstance(wanted[0], list) else [wanted]
    for one in wanted:
        if (why := _why_no_vector(one)) is not None:
            raise invalid_reference(why)
    if candidate is None or candidate in ("", []):
        return Value(0.0, None)
    found = _decoded(candidate)
    if (why := _why_no_vector(found)) is not None:
        raise RowError(ErrorType.TEMPLATE, f"configuration.candidate: {why}")
    if unlike := [len(one) for one in wanted if len(one) != len(found)]:
        raise invalid_reference(
            f"has {unlike[0]} numbers, the candidate {len(found)}: vectors of two models cannot be compared"
        )
    value = max(_cosine(found, one) for one in wanted)
    return Value(value, f"{value:.6g}")


def _decoded(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return jsontext.decode(value)
        except jsontext.JsonError:
            pass
    return value


def _why_no_vector(value: Any) -> str | None:
    if isinstance(value, list) and value and all(type(one) in {int, float} for one in value) and _has_length(value):
        return None
    return "is not a vector, which is a list of numbers; name an `embedding` task, such as `item.ALIAS`"


def _has_length(vector: list[float]) -> bool:
    """Return whether the length of a vector is finite, so that it can be computed with."""
    try:
        return math.isfinite(math.hypot(*vector))
    except OverflowError:
        return False


def _cosine(one: list[float], other: list[float]) -> float:
    lengths = math.hypot(*one), math.hypot(*other)
    if not all(lengths):
        return 0.0
    product = math.fsum(mine / lengths[0] * (theirs / lengths[1]) for mine, theirs in zip(one, other, strict=True))
    return max(-1.0, min(1.0, product))
