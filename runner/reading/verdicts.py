"""The verdict of a judge: the choice that an answer names, or None if that is not clear.

A guessed verdict is worse than none, because it would count like a real one. So a text that names two choices, denies one, or
is cut off has no verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from runner.reading.fences import code_block, unfenced
from runner.reading.reasoning import without_reasoning

__all__ = ["MEMBER", "plain_choice", "verdict_in"]

#: The member that holds the verdict if a judge is asked for JSON.
MEMBER = "verdict"
_AROUND = " \t\r\n\"'`*_“”„‘’‚«»()[]"
_BEHIND = ".,;:!?。！？、।؟✅❌✓✗✔✘\ufe0f"
#: Words that deny the words after them, or grant them only in part.
_DENIED = re.compile(
    r"""(?:\b(?:not|never|no|hardly|neither|nor|without|cannot|fails?|almost|nearly|mostly|largely|partly|partially|somewhat)
    |n['’]t)\s+(?:\w+\s+){0,3}$""",
    re.IGNORECASE | re.VERBOSE,
)
#: How many letters before a choice are read: enough for three words and the word that denies them.
_LOOKED_BACK = 80
#: The end of a clause that is not a question; or words about the choice that is preferred.
_CLAUSE_ENDS = re.compile(
    r"""[\"'`*_”’»)\]}]*(?:\s*(?:[.,;:!。！、，।—–(<✅❌✓✗✔✘\n]|-\s|$)
    |\s(?:is|was)\s(?:\w+ly\s|much\s)?(?:the\s)?(?:better|best|superior|winner)\b)|[\"`*_”»]""",
    re.VERBOSE,
)
#: Words that announce a verdict on its line.
_ANNOUNCED = re.compile(
    r"\W*(?:(?:so|my|the|final|overall)\W+)*(?:verdict|answer|judge?ment|decision|conclusion|choice|rating|score|grade)\W*(?:is\W)?",
    re.IGNORECASE,
)
_ORDINALS = {"first", "second"}


def plain_choice(text: str) -> str:
    """Return a choice, or a possible choice, without the differences that do not count: case, quotes, final punctuation."""
    words = " ".join(text.split())
    while (shorter := words.strip(_AROUND).rstrip(_BEHIND)) != words:
        words = shorter
    return words.casefold() or text.strip()


def verdict_in(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice that an answer names, as written in the choices, or None. The first case that fits decides.

    1. Nothing is left without the reasoning: None.
    2. JSON with the member `verdict`, maybe in a fence after other words: that member is the choice, or else None. A text that
       begins like an object but is not JSON was cut off.
    3. The whole text is a choice.
    4. Its last line is a choice, maybe after "Verdict:".
    5. It contains exactly one choice, as whole words that nothing denies, and the choice ends a clause.
    """
    answer = unfenced((without_reasoning(text) or "").strip()).strip()
    named = {plain_choice(choice): choice for choice in choices}
    if not answer:
        return None
    for said in (answer, (code_block(answer) or "").strip()):
        if said.startswith("{"):
            return _in_json(said, named)
    last = answer.splitlines()[-1]
    announced = _ANNOUNCED.match(last)
    for whole in (answer, last, last[announced.end() :] if announced else ""):
        if (found := named.get(plain_choice(whole))) is not None:
            return found
    return _only_one(answer, named)


def _in_json(answer: str, named: Mapping[str, str]) -> str | None:
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    verdict = said.get(MEMBER) if isinstance(said, dict) else None
    if isinstance(verdict, int | float):
        verdict = json.dumps(int(verdict) if isinstance(verdict, float) and verdict.is_integer() else verdict)
    return named.get(plain_choice(verdict)) if isinstance(verdict, str) else None


def _only_one(answer: str, named: Mapping[str, str]) -> str | None:
    """Return the choice that a text states. A choice within another, such as `correct` in `partially correct`, does not count.

    A choice may be an everyday word: `no` in "no doubt", `A` as an article, `first` in "the first answer is wrong". So one of
    its occurrences has to end a clause, and a single letter has to be in its own case.
    """
    words = sorted(named, key=len, reverse=True)
    text = "\n".join(" ".join(line.split()) for line in answer.splitlines())
    pattern = re.compile(rf"(?<![\w\-−])(?<!\d[.,/])(?:{'|'.join(map(re.escape, words))})(?![\w\-]|[.,/]\d)", re.IGNORECASE)
    places = [place for place in pattern.finditer(text) if len(place[0]) > 1 or place[0] in named.values()]
    found = {named.get(place[0].casefold()) for place in places}
    if len(found) != 1 or any(_is_denied(text, place) for place in places):
        return None
    return found.pop() if any(_ends_a_clause(text, place) for place in places) else None


def _is_denied(text: str, place: re.Match[str]) -> bool:
    return _DENIED.search(text, max(0, place.start() - _LOOKED_BACK), place.start()) is not None


def _ends_a_clause(text: str, place: re.Match[str]) -> bool:
    """Return whether nothing follows a choice, or the end of a clause. But `First, …` begins a list."""
    behind = _CLAUSE_ENDS.match(text, place.end())
    begins_a_list = behind is not None and "," in behind[0] and place[0].casefold() in _ORDINALS
    return behind is not None and not begins_a_list
