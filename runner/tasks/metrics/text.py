"""Metrics that compare texts: `exact_match`, `contains` and `regex`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from runner.jsontext import as_text
from runner.processes.pool import CallError, Calls
from runner.reading.texts import NORMALIZATIONS, composed, is_edge, stands_in, without_punctuation
from runner.tasks.metrics.base import Metric, Settings, invalid_reference
from runner.tasks.metrics.patterns import check_pattern
from runner.tasks.metrics.taking import cannot_match, extracted
from runner.types import Value

__all__ = [
    "TextMetric",
    "check_patterns",
    "contains",
    "exact_match",
    "folded",
    "normal",
    "of_text",
    "references_of",
    "regex",
]

#: Takes the candidate, the references (any one is right), the settings, and the caller of functions in other processes. Returns
#: whether the candidate is right, and the candidate as it was read.
TextMetric: TypeAlias = Callable[[str, list[Any], Settings, Calls], Awaitable[tuple[bool, str | None]]]


def of_text(metric: TextMetric) -> Metric:
    """Return a metric of the candidate's text. An empty text is wrong, whatever the reference."""

    async def judge(candidate: Any, reference: Any, settings: Settings, calls: Calls) -> Value:
        text = await extracted(candidate, settings, calls)
        references = [one for one in references_of(reference) if one != ""]
        if not references:
            raise invalid_reference("is empty, so no answer can be right")
        right, found = await metric(text or "", references, settings, calls)
        if not text:  # only now, so that the reference is checked in any case
            return Value(0.0, text)
        return Value(float(right), found)

    return judge


def references_of(reference: Any) -> list[Any]:
    """Return the right answers of a reference, without nulls."""
    return [one for one in (reference if isinstance(reference, list) else [reference]) if one is not None]


def normal(text: str, settings: Settings) -> str:
    """Return a text without the differences that do not count."""
    text = folded(text, settings)
    return " ".join(text.split()) if settings.ignore_whitespace else text


def folded(text: str, settings: Settings) -> str:
    """Return a text without the differences that do not count, except white space."""
    text = composed(text)
    for name in settings.normalize:
        text = NORMALIZATIONS[name](text)
    if settings.ignore_case:
        text = text.casefold()
    if settings.ignore_punctuation:
        text = without_punctuation(text)
    return text


def _all_normal(references: list[Any], settings: Settings) -> list[str]:
    """Return the references as texts; a whole number such as 42.0, as in columns with gaps, is also 42."""
    whole = [int(one) for one in references if isinstance(one, float) and one.is_integer()]
    wanted = [normal(as_text(one), settings) for one in [*references, *whole]]
    if not all(wanted):
        raise invalid_reference(f"nothing is left of {references!r} once it is normalised")
    return wanted


@of_text
async def exact_match(text: str, references: list[Any], settings: Settings, _calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the text is the reference, or begins or ends with it."""
    found = normal(text, settings)
    return any(_is_at(settings.at, one, found) for one in _all_normal(references, settings)), found


def _is_at(place: str | None, part: str, text: str) -> bool:
    if place == "begin":
        return text.startswith(part) and is_edge(text, len(part))
    if place == "end":
        return text.endswith(part) and is_edge(text, len(text) - len(part))
    return text == part


@of_text
async def contains(text: str, references: list[Any], settings: Settings, _calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the text contains the reference."""
    found = normal(text, settings)
    wanted = _all_normal(references, settings)
    return any(stands_in(one, found) if settings.whole_words else one in found for one in wanted), found


def check_patterns(reference: Any) -> None:
    """Raise RowError for a reference that is not a regular expression, or hardly the one that was meant."""
    for pattern in references_of(reference):
        try:
            check_pattern(str(pattern))
        except ValueError as error:
            raise invalid_reference(str(error)) from error


@of_text
async def regex(text: str, references: list[Any], settings: Settings, calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the reference, a regular expression, matches somewhere in the text."""
    patterns = [str(one) for one in references]
    try:
        match: str | None = await calls.call("runner.foreign.patterns:find_first", patterns, text, settings.ignore_case)
    except CallError as error:
        if error.reason == "raised":
            raise invalid_reference(str(error)) from error
        raise cannot_match(patterns, error) from error
    return match is not None, match
