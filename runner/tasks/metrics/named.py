"""The steps of `take` that have a name: each a function from a text and the settings to what it finds, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runner.reading.boxes import boxed
from runner.reading.fences import code_block
from runner.reading.lines import first_line, last_line
from runner.reading.numbers import number, written
from runner.reading.reasoning import without_reasoning
from runner.tasks.metrics.base import Settings
from runner.tasks.metrics.steps import Named

__all__ = ["NAMED"]


def _number(text: str, settings: Settings) -> str | None:
    found = number(text, percent=settings.percent, which=settings.which)
    return None if found is None else written(found)


def _letter(text: str, settings: Settings) -> str | None:
    # late: the words of so many languages take a while to be made ready, and few runs need them
    from runner.reading.letters import chosen_letter
    from runner.tasks.metrics.options import options_of

    return chosen_letter(text, options_of(settings).labels)


def _choice_text(text: str, settings: Settings) -> str | None:
    from runner.reading.letters import choice_text
    from runner.tasks.metrics.options import options_of

    options = options_of(settings)
    return choice_text(text, options.texts, options.labels)


NAMED: Mapping[Named, Callable[[str, Settings], str | None]] = {
    "without_reasoning": lambda text, _: without_reasoning(text),
    "boxed": lambda text, _: boxed(text),
    "first_line": lambda text, _: first_line(text),
    "last_line": lambda text, _: last_line(text),
    "code_block": lambda text, _: code_block(text),
    "number": _number,
    "letter": _letter,
    "choice_text": _choice_text,
}
