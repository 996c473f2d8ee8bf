"""`take`: the steps from a candidate's text to the answer in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from runner.errors import RowError
from runner.fields import StrictModel
from runner.foreign.patterns import shown
from runner.processes.pool import CallError, Calls
from runner.reading.boxes import boxed
from runner.reading.fences import code_block, json_part
from runner.reading.lines import after, first_line, last_line
from runner.reading.reasoning import names_a_mark, without_reasoning
from runner.templates import is_template
from runner.types import ErrorType

__all__ = ["Regex", "Step", "cannot_match", "checked_pattern", "look_for_reasoning", "take"]


def checked_pattern(pattern: str) -> str:
    """Return a regular expression of the config. Raises ValueError for what is none."""
    if is_template(pattern):
        raise ValueError("is the same for all rows; no locator or template can stand here")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


class After(StrictModel):
    """What stands behind the last place where a text stands."""

    after: Annotated[str, Field(min_length=1)]
    """The text, as `####` or `Answer:`; marks of Markdown around it do not count."""


class Json(StrictModel):
    """A part of the JSON in the text."""

    json_: Annotated[str, Field(alias="json")]
    """Where: keys and places in lists with dots between them, as `result.0.name`; an empty one means all of it."""


class Regex(StrictModel):
    """What a regular expression finds."""

    regex: str
    """The first group that took part in the match, or the whole match where there is no group. Blank matches are none."""
    which: Literal["first", "last"] = "last"
    """Which match is taken."""
    ignore_case: bool | None = None
    """Default: the metric's `ignore_case`."""

    _compiles = field_validator("regex")(checked_pattern)


Named: TypeAlias = Literal["without_reasoning", "boxed", "first_line", "last_line", "code_block"]
Step: TypeAlias = Named | After | Json | Regex

#: The steps that need nothing but the text.
_NAMED: Mapping[str, Callable[[str], str | None]] = {
    "without_reasoning": without_reasoning,
    "boxed": boxed,
    "first_line": first_line,
    "last_line": last_line,
    "code_block": code_block,
}


async def take(text: str | None, steps: Sequence[Step], calls: Calls, *, ignore_case: bool) -> str | None:
    """Return what the steps make of a text, one after the other; None, which is no answer, once one of them finds nothing."""
    for step in steps:
        if text is None:
            return None
        match step:
            case After():
                text = after(step.after, text, ignore_case=ignore_case)
            case Json():
                text = json_part(text, step.json_)
            case Regex():
                text = await _found(step, text, calls, ignore_case=ignore_case)
            case name:
                text = _NAMED[name](text)
    return text


def look_for_reasoning(steps: Sequence[Step]) -> bool:
    """Whether a step looks for a mark of reasoning itself."""
    return any(isinstance(step, Regex) and names_a_mark(step.regex) for step in steps)


async def _found(step: Regex, text: str, calls: Calls, *, ignore_case: bool) -> str | None:
    """Return what a regular expression finds. Raises RowError where it cannot be told."""
    any_case = ignore_case if step.ignore_case is None else step.ignore_case
    try:
        found: str | None = await calls.call(
            "runner.foreign.patterns:find_answer", step.regex, text, step.which == "last", any_case
        )
    except CallError as error:
        raise cannot_match([step.regex], error) from error
    return found


def cannot_match(patterns: list[str], error: CallError) -> RowError:
    """Return the error of a row whose text patterns could not be matched with."""
    which = f"the regular expression {shown(patterns[0])}" if len(patterns) == 1 else "one of the regular expressions"
    what = f"{which} cannot be decided for this text: {error} (nested repeats?)"
    return RowError(ErrorType.TEMPLATE, what)
