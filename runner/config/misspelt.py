"""Finds texts that are nearly locators, and suggests what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner.keypaths import KeyPath
from runner.tasks.base import tasks_in
from runner.templates.compile import TemplateMistake, compile_template, is_template
from runner.templates.locators import steps_of, written

__all__ = ["AROUND", "QUOTES", "meant_by", "mistakes_of_metrics", "no_locator", "shortened", "why_no_locator"]

QUOTES = "\"'`“”„‘’‚«»"
#: Characters that may stand around a name by mistake.
AROUND = rf"[\s$<(){{}}>{QUOTES}]*+"
_BEGINNING = re.compile(rf"{AROUND}items?\s*+(?:\.\s*+(?=\S)|(?=\[))", re.IGNORECASE)
_CURLY = re.compile("\\s*+[“”„‘’‚«].*[“”„‘’‚»]\\s*+", re.DOTALL)
#: Signs of an expression: a text that holds one does not name a column.
_COMPUTING = re.compile(r"[|+~:(]")
#: The keys of the values that a metric compares.
_VALUES = frozenset({"candidate", "candidates", "reference"})
_LONGEST_SHOWN = 60


def mistakes_of_metrics(tasks: Any) -> Iterator[tuple[KeyPath, str]]:
    """Find values that are nearly locators, and candidates that read nothing, so that nothing would be judged."""
    for index, task, settings in tasks_in(tasks):
        for key in sorted(_VALUES & settings.keys()) if task.get("task_type") == "metric" else ():
            value, place = settings[key], ("tasks", index, "configuration", key)
            members: list[tuple[KeyPath, Any]] = [(place, value)]
            members += [((*place, number), one) for number, one in enumerate(value if isinstance(value, list) else ())]
            wrong = [(path, why) for path, one in members if isinstance(one, str) and (why := why_no_locator(one))]
            yield from wrong
            if key != "reference" and not wrong and not _reads(value):
                meant = meant_by(value) if isinstance(value, str) and value and not is_template(value) else "item.ALIAS"
                yield place, f"reads nothing, so it would be the same for every row; write {meant}"


def _reads(value: Any) -> bool:
    try:
        return bool(compile_template(value).references)
    except TemplateMistake:
        return True  # reported when all templates are compiled


def why_no_locator(text: str) -> str | None:
    """Return why a value that was meant to read the row does not; None if it does, or may be literal text."""
    if is_template(text):
        return "the quotation marks around it would be a part of the value; leave them out" if _CURLY.fullmatch(text) else None
    return no_locator(text) if _BEGINNING.match(text) else None


def no_locator(text: str) -> str:
    """Return the message about a text that is nearly a locator."""
    meant = f"write {meant_by(text)}; literal text is written {{{{ '…' }}}}"
    return f"{shortened(text)!r} is not a locator, so it would be the same for every row; {meant}"


def meant_by(text: str) -> str:
    """Return the locator or template that a text was probably meant to be."""
    begun = _BEGINNING.match(text)
    rest = text[begun.end() if begun else 0 :].strip(f" \t\r\n.$<>(){{}}{QUOTES}")
    locator = f"item{rest}" if rest.startswith("[") else f"item.{rest}"
    if steps_of(locator) is not None:
        return locator
    return f"{{{{ {locator} }}}}" if _COMPUTING.search(rest) else written(rest)


def shortened(text: str) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
