"""The verdict of a judge: which of the choices an answer names, or none where that is not plain.

A verdict that is guessed is worse than none: it would count as one. So a text that names two choices, denies one, or is cut
off has no verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from runner.reading.fences import unfenced
from runner.reading.reasoning import without_reasoning

__all__ = ["MEMBER", "plain_choice", "verdict_in"]

#: The member that holds the verdict where a judge is asked for JSON.
MEMBER = "verdict"
_AROUND = " \t\r\n\"'`*_“”„‘’‚«»()[]"
_BEHIND = ".,;:!?。！？、"
#: What denies the words behind it.
_DENIED = re.compile(r"(?:\b(?:not|never|no|hardly|neither|nor|without|cannot)|n['’]t)\s+(?:\w+\s+){0,2}$", re.IGNORECASE)


def plain_choice(text: str) -> str:
    """Return a choice, or a text that may be one, without what makes no difference: case, quotes, punctuation behind it."""
    words = " ".join(text.split())
    while (shorter := words.strip(_AROUND).rstrip(_BEHIND)) != words:
        words = shorter
    return words.casefold() or text.strip()


def verdict_in(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice that an answer names, as it stands among the choices, or None. The first case that fits decides.

    1. Nothing is left without the reasoning.
    2. JSON with the member `verdict`: that is the choice, or there is none. What begins as an object and is none is cut off.
    3. The whole text is a choice.
    4. Its last line is.
    5. Exactly one choice stands in it, as whole words that nothing denies.
    """
    answer = unfenced((without_reasoning(text) or "").strip()).strip()
    named = {plain_choice(choice): choice for choice in choices}
    if not answer:
        return None
    if answer.startswith("{"):
        return _in_json(answer, named)
    for whole in (answer, answer.splitlines()[-1]):
        if (found := named.get(plain_choice(whole))) is not None:
            return found
    return _only_one(answer, named)


def _in_json(answer: str, named: Mapping[str, str]) -> str | None:
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    verdict = said.get(MEMBER) if isinstance(said, dict) else None
    if isinstance(verdict, int | float) and not isinstance(verdict, bool):
        verdict = json.dumps(verdict)
    return named.get(plain_choice(verdict)) if isinstance(verdict, str) else None


def _only_one(answer: str, named: Mapping[str, str]) -> str | None:
    """Return the choice that stands in a text; one within another, as `correct` in `partially correct`, is not there."""
    words = sorted(named, key=len, reverse=True)
    text = " ".join(answer.split()).casefold()
    pattern = re.compile(rf"(?<![\w\-−])(?<!\d[.,/])(?:{'|'.join(map(re.escape, words))})(?![\w\-]|[.,/]\d)")
    places = list(pattern.finditer(text))
    found = {named[place[0]] for place in places}
    if len(found) != 1 or any(_DENIED.search(text, 0, place.start()) for place in places):
        return None
    return found.pop()
