"""`take`: the steps from a candidate's text to the answer in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from runner.errors import RowError
from runner.fields import StrictModel
from runner.foreign.patterns import shown
from runner.patterns import check_pattern
from runner.processes.pool import CallError, Calls
from runner.reading.boxes import boxed
from runner.reading.fences import code_block, json_part
from runner.reading.lines import after, first_line, last_line
from runner.reading.reasoning import names_a_mark, without_reasoning
from runner.templates import is_template
from runner.types import ErrorType

__all__ = ["Found", "Step", "cannot_match", "checked_pattern", "look_for_reasoning", "take"]


def checked_pattern(pattern: str) -> str:
    """Return a regular expression of the config. Raises ValueError for what is none."""
    if is_template(pattern):
        raise ValueError("is the same for all rows; no locator or template can stand here")
    check_pattern(pattern)
    return pattern


class Found(StrictModel):
    """A step that looks for something: what it looks for is its one key, `which` and `ignore_case` go with `regex`."""

    after: Annotated[str, Field(min_length=1)] | None = None
    """What stands behind the last place of this text, as `####` or `Answer:`; marks of Markdown around it do not count."""
    json_: Annotated[str | None, Field(alias="json")] = None
    """A part of the JSON in the text: keys and places in lists with dots between them, as `result.0.name`; empty for all."""
    regex: Annotated[str, AfterValidator(checked_pattern)] | None = None
    """What a regular expression finds: the first group that took part in it, or the whole match. Blank matches are none."""
    which: Literal["first", "last"] = "last"
    """Which match is taken."""
    ignore_case: bool | None = None
    """Default: the metric's `ignore_case`."""

    @model_validator(mode="after")
    def _looks_for_one_thing(self) -> Self:
        if sum(one is not None for one in (self.after, self.json_, self.regex)) != 1:
            raise ValueError("has one of the keys `after`, `json` and `regex`")
        return self


Named: TypeAlias = Literal["without_reasoning", "boxed", "first_line", "last_line", "code_block"]
Step: TypeAlias = Annotated[
    Annotated[Named, Tag("[named]")] | Annotated[Found, Tag("[found]")],
    Discriminator(lambda step: "[found]" if isinstance(step, dict | Found) else "[named]"),
]

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
        if isinstance(step, str):
            text = _NAMED[step](text)
        elif step.after is not None:
            text = after(step.after, text, ignore_case=ignore_case)
        elif step.json_ is not None:
            text = json_part(text, step.json_)
        else:
            text = await _match(step, text, calls, ignore_case=ignore_case)
    return text


def look_for_reasoning(steps: Sequence[Step]) -> bool:
    """Whether a step looks for a mark of reasoning itself."""
    return any(isinstance(step, Found) and step.regex is not None and names_a_mark(step.regex) for step in steps)


async def _match(step: Found, text: str, calls: Calls, *, ignore_case: bool) -> str | None:
    """Return what a regular expression finds. Raises RowError where it cannot be told."""
    assert step.regex is not None
    any_case = ignore_case if step.ignore_case is None else step.ignore_case
    last = step.which == "last"
    try:
        found: str | None = await calls.call("runner.foreign.patterns:find_answer", step.regex, text, last, any_case)
    except CallError as error:
        raise cannot_match([step.regex], error) from error
    return found


def cannot_match(patterns: list[str], error: CallError) -> RowError:
    """Return the error of a row whose text patterns could not be matched with."""
    which = f"the regular expression {shown(patterns[0])}" if len(patterns) == 1 else "one of the regular expressions"
    what = f"{which} cannot be decided for this text: {error} (nested repeats?)"
    return RowError(ErrorType.TEMPLATE, what)
