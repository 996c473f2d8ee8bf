"""The answer in a candidate: its text without reasoning, and the result of the steps of `take`.

A step with a name is a function from a text and the settings to the text that it finds, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runner import jsontext
from runner.errors import RowError
from runner.foreign.patterns import shown
from runner.output import Output
from runner.processes.pool import CallError, Calls
from runner.reading.boxes import boxed
from runner.reading.fences import code_block, json_part
from runner.reading.lines import after, first_line, last_line
from runner.reading.numbers import number, written
from runner.reading.reasoning import without_reasoning
from runner.tasks.metrics.base import Settings
from runner.tasks.metrics.steps import Found, Named
from runner.types import ErrorType

__all__ = ["cannot_match", "extracted"]


async def extracted(candidate: Any, settings: Settings, calls: Calls) -> str | None:
    """Return the answer in the candidate as text; None if there is none. Raises RowError."""
    text = _text_of(candidate)
    if text is not None and not settings.keep_reasoning:
        answer = without_reasoning(text)
        text = text if answer is not None and settings.looks_for_reasoning else answer
    for step in settings.steps:
        if text is None:
            return None
        text = await _found(step, text, settings, calls) if isinstance(step, Found) else _NAMED[step](text, settings)
    return text


def _text_of(candidate: Any) -> str | None:
    """Return a candidate as text; of an answer, the whole content that the server sent."""
    if isinstance(candidate, Output):
        return candidate.content
    if candidate is None or isinstance(candidate, str):
        return candidate
    return jsontext.encode_str(candidate)


async def _found(step: Found, text: str, settings: Settings, calls: Calls) -> str | None:
    """Return what a step finds. Raises RowError if its regular expression takes too long."""
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
    """Return the error of a row whose text could not be matched with patterns."""
    which = f"the regular expression {shown(patterns[0])}" if len(patterns) == 1 else "one of the regular expressions"
    what = f"{which} cannot be matched with this text: {error} (nested repeats?)"
    return RowError(ErrorType.TEMPLATE, what)


def _number(text: str, settings: Settings) -> str | None:
    found = number(text, percent=settings.percent, which=settings.which)
    return None if found is None else written(found)


def _letter(text: str, settings: Settings) -> str | None:
    # imported late: the words of so many languages take time to prepare, and few runs need them
    from runner.reading.letters import chosen_letter
    from runner.tasks.metrics.options import options_of

    return chosen_letter(text, options_of(settings).labels)


def _choice_text(text: str, settings: Settings) -> str | None:
    from runner.reading.letters import choice_text
    from runner.tasks.metrics.options import options_of

    options = options_of(settings)
    return choice_text(text, options.texts, options.labels)


_NAMED: Mapping[Named, Callable[[str, Settings], str | None]] = {
    "without_reasoning": lambda text, _: without_reasoning(text),
    "boxed": lambda text, _: boxed(text),
    "first_line": lambda text, _: first_line(text),
    "last_line": lambda text, _: last_line(text),
    "code_block": lambda text, _: code_block(text),
    "number": _number,
    "letter": _letter,
    "choice_text": _choice_text,
}
