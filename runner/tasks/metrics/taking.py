"""What of a candidate is taken for the answer: its text without reasoning, and what the steps of `take` make of it."""

from __future__ import annotations

from typing import Any

from runner import jsontext
from runner.errors import RowError
from runner.foreign.patterns import shown
from runner.output import Output
from runner.processes.pool import CallError, Calls
from runner.reading.fences import json_part
from runner.reading.lines import after
from runner.reading.reasoning import without_reasoning
from runner.tasks.metrics.base import Settings
from runner.tasks.metrics.named import NAMED
from runner.tasks.metrics.steps import Found
from runner.types import ErrorType

__all__ = ["cannot_match", "extracted"]


async def extracted(candidate: Any, settings: Settings, calls: Calls) -> str | None:
    """Return the answer in the candidate as text; None where there is none. Raises RowError."""
    text = _text_of(candidate)
    if text is not None and not settings.keep_reasoning:
        answer = without_reasoning(text)
        text = text if answer is not None and settings.looks_for_reasoning else answer
    for step in settings.steps:
        if text is None:
            return None
        text = await _found(step, text, settings, calls) if isinstance(step, Found) else NAMED[step](text, settings)
    return text


def _text_of(candidate: Any) -> str | None:
    """Return a candidate as text, of an answer all that the server sent."""
    if isinstance(candidate, Output):
        return candidate.content
    if candidate is None or isinstance(candidate, str):
        return candidate
    return jsontext.encode_str(candidate)


async def _found(step: Found, text: str, settings: Settings, calls: Calls) -> str | None:
    """Return what a step finds. Raises RowError where that cannot be told."""
    if step.after is not None:
        return after(step.after, text, ignore_case=settings.ignore_case)
    if step.json_ is not None:
        return json_part(text, step.json_)
    assert step.regex is not None
    any_case = settings.ignore_case if step.ignore_case is None else step.ignore_case
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
