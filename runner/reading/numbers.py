r"""Which number of a text is meant: `number` returns it, or None if there is none, or it is unclear which.

A stated number outranks any other: a number in `\boxed{…}`, then one after `####`, then one after "the answer is" (the last of
each counts), then one alone on the first line or in the first sentence, then the last number of the text. A number that belongs
to something else does not count: an exponent, a reference to a step, a remark, a reason, a check, a refusal, the question that
a model asks itself next.

    text ──► plain ──► numerals, surroundings ──► results ──► here ──► values
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Literal, TypeAlias

from runner.reading.boxes import boxed
from runner.reading.numerals import AMBIGUOUS, NUMERAL, Kind, Numeral
from runner.reading.plain import plain
from runner.reading.results import first_result, last_result, only_number, only_result, weighed
from runner.reading.statements import HAS_BOX, before_the_next_question, statements, without_checks
from runner.reading.values import Number
from runner.reading.written_calls import without_calls

__all__ = ["Number", "Percent", "Which", "number", "written"]

Percent: TypeAlias = Literal["as_is", "share"]
Which: TypeAlias = Literal["meant", "first", "last"]

#: Most references are only this, so they are read fast.
_NOTHING_ELSE = re.compile(r"-?\d{1,15}+(?:\.\d{1,15}+)?+")
_DIGIT = re.compile(r"\d")
#: The end of a sentence; but a number with a point may begin a list item.
_SENTENCE_END = re.compile(r"[.!?](?<!\d.)\s+(?=[A-Z])|。")
_BLANK = re.compile(r"(?:[\s*_`:]|\$\$|\\[\[(])*+")
#: Bold text in the middle of a line, which may be a result; not a heading.
_BOLD = re.compile(
    r"""(?<!\w)(?!(?i:the|these|was|were|for(?![ ]\*\*[$€£])|in|by|at|to|of|from|with|than|each|after)[ ])\w++
    [ ]\*\*([^*\n]{1,60}+)(?<!:)\*\*(?!:)""",
    re.VERBOSE,
)
#: Signs and words that lead to another result.
_LEADS_ON = re.compile(r"=|\b(?:but|so|then|now|leaving)\b")
_BULLET = re.compile(r"[ \t]*+[-*•][ \t]")
_HEADING = re.compile(r"[.):]\s++[^\W\d_]")
#: A number that is a sentence of its own at the beginning, as in "27. He had 12 and bought 15 more."; but "1." begins a list.
_SENTENCE_ALONE = re.compile(r"(?!\W*[01]\.\D)([^\w\n#>]{0,9}\d\S*(?: [^\W\d_]+)?)(?:[.!]\*{0,2}\s+(?=[^\W\d_])|。)")
_NOT_EXPLAINED = re.compile(r"(?i)=|\b(?:so|thus|hence|therefore|makes|total|altogether)\b|\n[ *#]*+\d++[.)]\s")
#: How many statements are tried, from the last one backwards.
_MOST_TRIED = 4
_LONGEST_ALONE = 60


def number(text: str, *, percent: Percent = "as_is", which: Which = "meant") -> Number | None:
    """Return the number that a text means, its first, or its last; for `20%` it is 20, or 0.2 as a share.

    A whole number or a fraction is exact (int, Fraction); any other number is a float.
    """
    if _NOTHING_ELSE.fullmatch(text):
        return float(text) if "." in text else int(text)
    found = _READERS[which](text)
    return None if found is None else found.value(share=percent == "share", first=which == "first")


def written(number: Number) -> str:
    """Return a number as a short text; a fraction becomes a decimal."""
    return str(number) if isinstance(number, int) else f"{float(number):.15g}"


def _at_an_end(text: str, step: Literal[1, -1]) -> Numeral | None:
    """Return the first number that stands for itself, or the last with the step -1; if there is none, a single ordinal."""
    ordinals = []
    for line in map(plain, text.split("\n")[::step]):
        for match in list(NUMERAL.finditer(line))[::step]:
            found = weighed(line, match, text)
            if found.kind is Kind.ORDINAL:
                ordinals.append(found)
            elif found.kind is not Kind.PART:
                return found
    return ordinals[0] if len(ordinals) == 1 else None


def _meant(text: str) -> Numeral | None:
    text = before_the_next_question(without_calls(text))
    found = _in_a_box(text) or _behind_hashes(text) or _behind_a_statement(text)
    found = found or _concluded(without_checks(text)) or _concluded(text)
    return None if found is None or found.kind is Kind.OPERAND else found


def _in_a_box(text: str) -> Numeral | None:
    if "\\" not in text or not HAS_BOX.search(text):
        return None
    inside = boxed(text)
    if inside is None:  # never closed: there may be more to it
        return AMBIGUOUS
    is_empty = not any(map(str.isalnum, inside))  # as in a prompt that is repeated
    return None if is_empty else only_result(plain(inside.replace("\n", " ")))


def _behind_hashes(text: str) -> Numeral | None:
    at = len(text)
    for _ in range(_MOST_TRIED):
        at = text.rfind("####", 0, at)
        if at < 0:
            return None
        line = _line_behind(text, at + 4)
        found = first_result(line, text)
        if found is not None and not _HEADING.match(line, found.end):
            return found
    return None


def _behind_a_statement(text: str) -> Numeral | None:
    stated = statements(text)
    if not stated:
        return None
    digit = _DIGIT.search(text[::-1])
    last_digit = -1 if digit is None else len(text) - digit.end()
    for statement in [one for one in stated if one.end() <= last_digit][: -_MOST_TRIED - 1 : -1]:
        end = statement.end()
        found = first_result(_line_behind(text, end), text, is_firm=statement["firm"] is not None) or _concluded(text[end:])
        if found is not None:
            return found
    return None


def _line_behind(text: str, at: int) -> str:
    """Return the rest of a line, or the next line that is not empty, in plain text."""
    blank = _BLANK.match(text, at)
    assert blank is not None
    end = text.find("\n", blank.end())
    return plain(text[blank.end() : None if end < 0 else end])


def _concluded(text: str) -> Numeral | None:
    """Return the last number, or the one that is alone on the first line, or in the first sentence, and explained after it."""
    text = text.strip()
    if "\n" in text:
        first, last = text[: text.index("\n")], text[text.rindex("\n") + 1 :]
        alone = only_number(plain(first)) if len(first) <= _LONGEST_ALONE else None
        if alone is not None and (_BULLET.match(last) or only_number(plain(last)) is None):
            return alone
    if (opening := _SENTENCE_ALONE.match(text)) and not _NOT_EXPLAINED.search(text, opening.end()):
        alone = only_number(plain(opening[1]))
        if alone is not None:
            return alone
    ordinals: list[Numeral] = []
    for sentence in _sentences_backwards(text):
        found = _in_bold(sentence) or last_result(plain(sentence), text, ordinals)
        if found is not None:
            return found
    return ordinals[0] if len(ordinals) == 1 else None


def _in_bold(sentence: str) -> Numeral | None:
    """Return the bold number that a sentence is about, as 18 in "She makes **$18** by selling 9"; None if there are two."""
    if "**" not in sentence:  # the pattern takes long for a long text
        return None
    read = ((bold, last_result(plain(bold[1]), bold[1], [])) for bold in _BOLD.finditer(sentence))
    numbers = list(islice(((bold, found) for bold, found in read if found is not None), 2))
    if len(numbers) != 1:
        return None
    bold, found = numbers[0]
    return None if found.kind is not Kind.NUMBER or _LEADS_ON.search(sentence, bold.end()) else found


def _sentences_backwards(text: str) -> Iterator[str]:
    for line in reversed(text.split("\n")):
        yield from reversed(_SENTENCE_END.split(line))


_READERS: Mapping[Which, Callable[[str], Numeral | None]] = {
    "meant": _meant,
    "first": lambda text: _at_an_end(text, 1),
    "last": lambda text: _at_an_end(text, -1),
}
