"""Metrics that compare texts: `exact_match`, `contains` and `regex`."""

from __future__ import annotations

import string
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from runner import jsontext
from runner.processes.pool import CallError, Calls
from runner.tasks.metrics.base import Metric, Settings, cannot_match, extracted, no_sense
from runner.types import Value

__all__ = ["TextMetric", "as_text", "contains", "exact_match", "folded", "of_text", "regex"]

#: Takes the candidate, the references, any one of which is right, the settings, and what calls functions apart; returns whether
#: the candidate is right and what it was taken for.
TextMetric: TypeAlias = Callable[[str, list[Any], Settings, Calls], Awaitable[tuple[bool, str | None]]]

_PUNCTUATION = str.maketrans("", "", string.punctuation + "«»“”„‘’…–—¿¡。，、！？；：")


def of_text(metric: TextMetric) -> Metric:
    """Return a metric that looks at the candidate's text, of which an empty one is wrong whatever the reference."""

    async def judge(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
        text = await extracted(candidate, settings, calls)
        references = reference if isinstance(reference, list) else [reference]
        if not references or any(one is None or one == "" for one in references):
            raise no_sense("is empty, so no answer can be right")
        right, found = await metric(text or "", references, settings, calls)
        if not text:  # the reference was looked at all the same
            return Value(0.0, text)
        return Value(float(right), found)

    return judge


def as_text(value: Any) -> str:
    """Return a reference as text."""
    return value if isinstance(value, str) else jsontext.encode_str(value)


def folded(text: str, settings: Settings) -> str:
    """Return text without the case and punctuation that do not count."""
    if settings.ignore_case:
        text = text.casefold()
    if settings.ignore_punctuation:
        text = text.translate(_PUNCTUATION)
    return text


def _normal(text: str, settings: Settings) -> str:
    text = folded(text, settings)
    return " ".join(text.split()) if settings.ignore_whitespace else text


def _all_normal(references: list[Any], settings: Settings) -> list[str]:
    wanted = [_normal(as_text(one), settings) for one in references]
    if not all(wanted):
        raise no_sense(f"nothing is left of {references!r} once it is normalised")
    return wanted


@of_text
async def exact_match(text: str, references: list[Any], settings: Settings, _calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the text is the reference."""
    found = _normal(text, settings)
    return found in _all_normal(references, settings), found


@of_text
async def contains(text: str, references: list[Any], settings: Settings, _calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the reference stands in the text."""
    found = _normal(text, settings)
    return any(one in found for one in _all_normal(references, settings)), found


@of_text
async def regex(text: str, references: list[Any], settings: Settings, calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the reference, a regular expression, matches somewhere in the text."""
    patterns = [str(one) for one in references]
    try:
        match: str | None = await calls.call("runner.foreign.patterns:find_first", patterns, text, settings.ignore_case)
    except CallError as error:
        if error.reason == "raised":
            raise no_sense(str(error)) from error
        raise cannot_match(patterns, error) from error
    return match is not None, match
