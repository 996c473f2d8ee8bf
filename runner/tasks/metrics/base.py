"""What all metrics share: their settings, their shape, and how the candidate's text is found."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator

from runner import jsontext
from runner.errors import RowError
from runner.fields import VerbatimModel
from runner.foreign.patterns import shown
from runner.processes.pool import CallError, Calls
from runner.reading.numbers import Percent, Which
from runner.templates import is_template
from runner.types import ErrorType, Value

__all__ = ["Metric", "Settings", "cannot_match", "extracted", "no_sense"]


class Settings(VerbatimModel):
    """How both sides are looked at before they are compared."""

    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_whitespace: bool = True
    """Whether runs of white space in texts count as one space, and none at the ends."""
    extract: str | None = None
    """A regular expression that finds the answer in the candidate: its first group, or the whole match."""
    extract_from: Literal["first", "last"] = "last"
    """Which match of `extract` is taken. No match makes the candidate wrong."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """numeric: the largest absolute difference that is still right."""
    relative_tolerance: Annotated[float, Field(ge=0)] = 1e-9
    """numeric: the same as a share of the reference. Whole numbers and fractions must be equal unless it is more than 1e-9."""
    percent: Percent = "as_is"
    """numeric: whether 20% is 20 (as_is) or 0.2 (share), in answers and references."""
    which: Which = "meant"
    """numeric: which number of an answer counts: the one that it states or ends with (meant), the first, or the last."""
    letters: Annotated[str, Field(pattern="^[A-Z]{2,26}$")] = "ABCDEFGHIJ"
    """choice: the letters that an answer may be."""
    ignore_arguments: bool | list[str] = False
    """tool_call_match: true compares the names of the functions only; a list leaves these arguments out of every call."""

    @field_validator("extract")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            if is_template(pattern):
                raise ValueError("is the same for all rows; no locator or template can stand here")
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"is no regular expression: {error}") from error
        return pattern


#: Takes the candidate, the reference, the settings, and what calls functions apart. Raises RowError (template) for a reference
#: that makes no sense.
Metric: TypeAlias = Callable[[Any, Any, Settings, Calls], Awaitable[Value]]


def no_sense(message: str) -> RowError:
    """Return the error of a row whose reference cannot be compared with anything."""
    return RowError(ErrorType.TEMPLATE, f"configuration.reference: {message}")


def cannot_match(patterns: list[str], error: CallError) -> RowError:
    """Return the error of a row whose text patterns could not be matched with."""
    which = f"the regular expression {shown(patterns[0])}" if len(patterns) == 1 else "one of the regular expressions"
    what = f"{which} cannot be decided for this text: {error} (nested repeats?)"
    return RowError(ErrorType.TEMPLATE, what)


async def extracted(candidate: Any, settings: Settings, calls: Calls) -> str | None:
    """Return the candidate's text, or what `extract` finds in it; None where there is nothing. Raises RowError."""
    if candidate is None:
        return None
    text = str(candidate) if isinstance(candidate, str) else jsontext.encode_str(candidate)
    if settings.extract is None:
        return text
    last = settings.extract_from == "last"
    try:
        found: str | None = await calls.call("runner.foreign.patterns:find_answer", settings.extract, text, last)
    except CallError as error:
        raise cannot_match([settings.extract], error) from error
    return found
