"""The metric `choice`: whether a text chooses the right letter of a multiple-choice question."""

from __future__ import annotations

import re
from typing import Any

from runner.processes.pool import Calls
from runner.tasks.metrics.base import Settings, no_sense
from runner.tasks.metrics.text import of_text

__all__ = ["choice", "chosen_letter"]

#: Where two repeats could share a run of white space, no answer may make them try every way to do so: `*+` gives nothing back.
_STATED = r"(?:answer|choice|option)\b(?:\s++is)?\s*+[:=]?\s*+[*(\[]*+([{letters}])\b(?!(?-i:(?<=a)\s+[A-Za-z]))"
_LEADING = r"^[\W_]*([{letters}])(?:[\W_]*$|[).:*\]]|\s*[-–]\s)"
_LONE = r"(?<![\w'’])([{letters}])(?![\w'’])(?!(?<=[AI])\s+[a-z])"


@of_text
async def choice(text: str, references: list[Any], settings: Settings, _calls: Calls) -> tuple[bool, str | None]:
    """Judge whether the text chooses the reference's letter."""
    wanted = {str(one).strip().strip("().").upper() for one in references}
    if not all(len(letter) == 1 and letter in settings.letters for letter in wanted):
        raise no_sense(f"{references!r} is none of the letters {settings.letters}")
    found = chosen_letter(text, settings.letters)
    return found in wanted, found


def chosen_letter(text: str, letters: str) -> str | None:
    """Return the letter that an answer chooses: a stated one ("answer is B"), a leading one ("B) …"), or the last alone."""
    stated = re.findall(_STATED.format(letters=letters + letters.lower()), text, re.IGNORECASE)
    if stated:
        return str(stated[-1]).upper()
    if leading := re.search(_LEADING.format(letters=letters + letters.lower()), text):
        return leading[1].upper()
    alone = re.findall(_LONE.format(letters=letters), text)
    return str(alone[-1]) if alone else None
