"""Which of the numbers in a line is its result: the one that it begins with, ends with, or consists of."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from runner.reading.numerals import AMBIGUOUS, CODES, LETTER, NUMERAL, Kind, Numeral
from runner.reading.surroundings import CURRENCY, EQUALS, looked_at
from runner.structs import replace

__all__ = ["first_result", "last_result", "only_number", "only_result", "weighed"]

#: A unit: up to two words, with their powers.
_UNIT = r"(?:[^\W\d_]{1,15}+(?:[\s/^{}]|\d(?!\d))*+){0,2}"
#: Text before a stated number: signs, brackets, `x =`, `approximately`.
_LEADS = re.compile(
    rf"""(?: [\s*_~≈:=>|#+"'(\[{{}}$.,-] | [{CURRENCY}] | [A-Z]{{1,3}}(?=[{CURRENCY}]|\s?[-\d])
       | [A-Za-z](?:_\{{?\w\}}?)?(?=\s?[=≈])
       | (?i:about|around|approx(?:imately)?|roughly|exactly|equals?|equal\sto|simply|just|only|a\stotal\sof)(?![{LETTER}])
       | (?i:thus|therefore|hence|then|now|given\sby|is|be|circa|约|約)(?![{LETTER}]) )*+""",
    re.VERBOSE,
)
#: The same on a line with only the number, and the text after the number on such a line.
_LEADS_ALONE = re.compile(rf"(?:[\s*_~≈#\"'(\[{{$+.{CURRENCY}-]|(?:{CODES}|Rs)\.?|[A-Z]{{1,3}}(?=[{CURRENCY}]))*+")
_TRAILS_ALONE = re.compile(rf"[\s{CURRENCY})\]}}*_°\"]*+{_UNIT}+[\s.!)*_$\"\]}}]*+")
_DIGIT = re.compile(r"\d")
#: Text after a number and its unit that ends the statement.
_ENDS = re.compile(rf"[\s{CURRENCY})\]}}*_°\"]*+{_UNIT}?(?:[.,;:!?#(\[<。，；（]|because\b|since\b|as\b|\Z)")
#: Joins two numbers, neither of which is the answer alone.
_JOINS = re.compile(
    rf"""[\s)}}\]*_%°]*+(?:[,;、&]|(?:or|and|to|oder|und|ou|et|o|y|e|или|и)(?![{LETTER}])|或|或者|和)
    [\s(*_{CURRENCY}+-]*+(?:[A-Za-z]\s?=\s?-?)?""",
    re.VERBOSE,
)
#: Joins two forms of one number.
_AGAIN = re.compile(rf"[\s){{}}\]*_%°]*+,?\s*+(?:or|i\.e\.,?|that\sis,?|oder|ou|o|или|或)\s[\s({{}}*_{CURRENCY}]*+")
_EQUATES = re.compile(rf"[\s)}}$%°]*+[=≈][\s({{${CURRENCY}+-]*+")
#: Makes a number a remark on the one before it: `42 in 3 days`, `3,400 in 1998`, `$24 to buy 3 pens`, `4 days for 3 men`.
_QUALIFIES = re.compile(
    rf"""[\s)$°*]*+(?: (?:(?!(?:and|or|but|so|then)\s)[^\W\d_]{{1,15}}+\s+){{0,2}}?
        (?:in|per|over|within|after|each|every|with|of|at|on|to\s[^\W\d_]++|von|sur|su|sobre|van|op|av|из|(?<=\d\s)(?:de|em))\s
        (?:the\s|about\s|a\stotal\sof\s|den\s|insgesamt\s|les\s|los\s|cada\s|de\s)?[{CURRENCY}]?
      | (?:[^\W\d_]{{1,15}}+\s+){{1,3}}?for\s(?:the\s|about\s)? )""",
    re.VERBOSE,
)
#: A year in brackets behind a number and its unit: `330 million (2020)`. A round number may be a quantity.
_YEAR = re.compile(r"[\s*%°]*+(?:[^\W\d_]++[\s*]++)?\((?:[^\d()]*\s)?(?!\d\d00)(?:1[6-9]|20)\d\d(?!\d)")
#: Comes before a number that is known or part of a name, and so no result: "the 3 books in 5 days", "Apollo 11 landed in 1969".
_KNOWN = re.compile(rf"\b(?:(?i:the|all|his|her|their|its|these|in|after|at|every)|[A-Z][a-z]++)\s[{CURRENCY}]?\Z")
#: Text before a result, and the rest of its clause, in which any other number is a remark on it: "= 8 pens for each of 3 boys".
_IS = re.compile(rf"\b(?:is|are|was|were)\s(?:about\s)?[*{CURRENCY}]*+\Z")
_CLAUSE = re.compile(r"(?:(?!\b(?:and|or|so|but|then|which|to(?=\s\W?\Z))\b)[^,;:=→])*+")
#: Makes it a remark on any number before it in its sentence: "45 after giving away 15", "18 by selling 9", "more than 40".
_REMARKS = re.compile(
    rf"""\b(?: (?:after|before|by|from|without|when|while|for)\s\w+ing | (?:out\s)?of\s(?:the|all|his|her|their|its)
          | than | compared\s(?:to|with) )
    (?:\s[^\W\d]++){{0,3}}\s[{CURRENCY}]?\Z""",
    re.VERBOSE | re.IGNORECASE,
)
#: Begins a reason for a number, or a condition of one: "27, because he had 12", "3 when 17 is divided by 7". Neither does if a
#: conclusion follows, as a clause or a sum.
_REASON = re.compile(r",?\s(?:(?P<firm>because|since|given\sthat|weil|parce\sque|porque)|when|if|where)\s")
_CONCLUDES = re.compile(r",|\d\s?=|\b(?:but|so|thus|hence|therefore|leaving)\b")
#: A clause in which a model has no answer, and the numbers are those of the question: "I cannot solve the 3 equations".
_REFUSAL = re.compile(
    r"(?:\A|(?<=[,;:，]) ?)(?i:(?:but |unfortunately |i'm afraid )?"
    r"(?:(?:I|we)(?:'m|'re| am| are)? (?:can(?: ?no|')t|could(?: no|n')t|won't|(?:un|not )able|do(?: no|n')t know)\b"
    r"|[^,;:]*\b(?:cannot be (?:determined|solved|answered)|not enough information|impossible to (?:say|tell))\b"
    r"|ich kann\b(?=[^,;:]*\bnicht\b)|(?:je ne peux pas|no puedo|n[ãa]o posso|non posso|(?:я )?не могу)\b|我?无法))"
    r"(?:(?!\b(?:but|so|than|only|apart|except)\b|[.!?] )[^,;:，。]|,(?= (?:because|since|as|and|or|which)\b))*+"
)
#: A price and the goods that it is for: `$64 for 16 glasses`.
_PRICED = re.compile(rf"[{CURRENCY}][\d.,]++[\s*]*+(?:each\s)?for\s(?:the\s|all\s)?")
_WIDEST_REMARK, _MOST_REMARKS = 60, 4
#: Signs that make the content of a box more than a number: a comparison, a factorial, a variable.
_NO_NUMBER = re.compile(rf"[<>|!]|\d(?:[abcdfijknopqruvwxyz]|e(?![-+\d]))(?![{LETTER}])")
_ITEM = re.compile(r"^[ \t#>*_(-]*+(\d{1,3})[ *_]*[.)、](?=\s+\S)", re.MULTILINE)
#: Repeats a result in another unit: `60 mph (about 97 km/h)`.
_ABOUT = re.compile(r"\(\s*+(?:about|approx|around|roughly|nearly|or\b|[≈~])", re.IGNORECASE)
#: How far from one bracket the other one is searched for.
_WIDEST = 200


def weighed(line: str, match: re.Match[str], text: str) -> Numeral:
    """Return a number as it is in its line. If it only counts the items of a list in the text, it is an ordinal."""
    found = looked_at(line, match)
    return replace(found, kind=Kind.ORDINAL) if _is_item(line, match, text) else found


def _is_item(line: str, match: re.Match[str], text: str) -> bool:
    """Return whether a number begins a list item: it is 1, or the number before it begins an item of the text as well."""
    item = _ITEM.match(line)
    if item is None or item.start(1) != match.start():
        return False
    return int(item[1]) <= 1 or int(item[1]) - 1 in _counted(text)


@lru_cache(maxsize=1)
def _counted(text: str) -> frozenset[int]:
    return frozenset(int(item[1]) for item in _ITEM.finditer(text))


# A line that begins with its result


def first_result(line: str, text: str, *, is_firm: bool = True) -> Numeral | None:
    """Return the number that a line begins with, or the result of the sum that it begins with; else None.

    If it is not firm, as after "Answer:", a number in a sentence or a sum may only lead to the answer: the result is None.
    """
    first = NUMERAL.search(line)
    if first is None or not _LEADS.fullmatch(line, 0, first.start()) or _is_item(line, first, text):
        return None
    is_sum, matches = False, NUMERAL.finditer(line)
    for match in matches:
        found = looked_at(line, match)
        if found.kind is Kind.OPERAND or (is_sum and not found.is_equal):
            if not is_firm:
                return None
            is_sum = True
        elif found.kind is not Kind.PART:
            others = [looked_at(line, match) for match, _ in zip(matches, range(2), strict=False)]
            if others and others[0].kind is Kind.NUMBER and _is_the_same(line, found, others[0]):
                found, *others = others
            if others and _is_joined(line, found, others[0]):
                return AMBIGUOUS
            return found if is_firm or (_ENDS.match(line, found.end) and not found.is_equal) else None
    return AMBIGUOUS


def _is_the_same(line: str, one: Numeral, other: Numeral) -> bool:
    """Return whether two numbers are forms of one number: `3/4 = 0.75`, `3/8, or 37.5%`."""
    between = (one.end, other.match.start())
    return _EQUATES.fullmatch(line, *between) is not None or (
        _is_equal(one, other) and _AGAIN.fullmatch(line, *between) is not None
    )


def _is_equal(one: Numeral, other: Numeral) -> bool:
    values = [found.value(share=True) for found in (one, other)]
    return None not in values and len({float(value) for value in values if value is not None}) == 1


def _is_joined(line: str, one: Numeral, other: Numeral) -> bool:
    """Return whether there are two answers, and not two forms of one, as in `3/4 or 0.75`."""
    if other.kind is Kind.PART or one.value(share=False) == other.value(share=False):
        return False
    return _JOINS.fullmatch(line, one.end, other.match.start()) is not None


# A line that is all number


def only_result(inside: str) -> Numeral:
    """Return the number that a whole text means, such as the content of a box."""
    line = f"={inside}"  # so that `- 5` is less than zero
    found = [one for match in NUMERAL.finditer(line) if (one := looked_at(line, match)).kind is not Kind.PART]
    results = [one for one in found if one.kind is not Kind.OPERAND]
    if not results or _NO_NUMBER.search(line) or not all(_is_the_same(line, *pair) for pair in pairwise(results)):
        return AMBIGUOUS
    result = results[-1]
    is_result = len(found) == len(results) or result.is_equal or EQUALS.match(line, result.end)
    return result if is_result else AMBIGUOUS


def only_number(line: str) -> Numeral | None:
    """Return the number of a line that has nothing else, except its unit."""
    match = NUMERAL.search(line)
    if match is None or _ITEM.match(line) or not _LEADS_ALONE.fullmatch(line, 0, match.start()):
        return None
    found = looked_at(line, match)
    return found if _TRAILS_ALONE.fullmatch(line, found.end) else None


# A line that ends with its result


def last_result(line: str, text: str, ordinals: list[Numeral]) -> Numeral | None:
    """Return the last number of a line, without reasons, operands of sums and remarks. Ordinals go into `ordinals`."""
    if _DIGIT.search(line) is not None:  # else there is nothing to leave out, and looking for it takes long
        line = _REFUSAL.sub("", line)
    reason = _REASON.search(line)
    if reason is not None and not _CONCLUDES.search(line, reason.end()):
        said = _last_number(line[: reason.start()], text, [])
        if said is not None and said.kind is Kind.NUMBER and (reason["firm"] or _is_stated(line, said)):
            return said
    return _last_number(line, text, ordinals)


def _last_number(line: str, text: str, ordinals: list[Numeral]) -> Numeral | None:
    matches = list(NUMERAL.finditer(line))
    index, is_sum = len(matches), False
    while index:
        index -= 1
        found: Numeral | None = weighed(line, matches[index], text)
        assert found is not None
        if found.kind is Kind.PART:
            continue
        if found.kind is Kind.ORDINAL:
            ordinals.append(found)
            continue
        if (opening := _opening(line, found)) is not None:
            before = index
            while before and matches[before - 1].start() > opening:
                before -= 1
            said = looked_at(line, matches[before - 1]) if before else None
            found = _bracketed(line, found, opening, said, is_alone=before == index)
            if found is None:
                index = before
                continue
        if found.kind is not Kind.OPERAND:
            if is_sum:
                return found if EQUALS.match(line, found.end) else AMBIGUOUS
            return _qualified(line, found, matches[:index])
        is_sum = True
    return AMBIGUOUS if is_sum else None


def _opening(line: str, found: Numeral) -> int | None:
    """Return the position of the bracket that opens around a number."""
    start = found.match.start()
    closing = line.find(")", found.end, found.end + _WIDEST)
    if closing < 0:
        return None
    opening = line.rfind("(", max(0, start - _WIDEST), start)
    return None if opening < 0 or "(" in line[found.end : closing] or ")" in line[opening:start] else opening


def _bracketed(line: str, found: Numeral, opening: int, said: Numeral | None, *, is_alone: bool) -> Numeral | None:
    """Return the last number in brackets, or AMBIGUOUS; None if the brackets only hold a remark on the number before."""
    if said and found.kind is Kind.ODD and said.kind is Kind.NUMBER:
        return None  # as in "160 minutes (2 hours and 40 minutes)"
    if not is_alone or found.kind is Kind.OPERAND:
        if "=" in line[opening : found.end]:
            return found
        return None if said else AMBIGUOUS
    is_remark = said and (_YEAR.match(line, said.end) or _QUALIFIES.fullmatch(line, opening + 1, found.match.start()))
    if said and is_remark and not _KNOWN.search(line, 0, said.match.start()):
        return None
    behind = line[found.end : line.find(")", found.end)]
    beside = line[opening : found.match.start()] + behind
    if said and (_is_equal(said, found) or (_ABOUT.match(line, opening) and any(map(str.isalpha, behind)))):
        return None
    is_unclear = any(map(str.isalpha, beside)) or line[:opening].rstrip()[-1:].isdecimal()
    return AMBIGUOUS if said and is_unclear else found


def _qualified(line: str, found: Numeral, earlier: list[re.Match[str]]) -> Numeral:
    """Return the result that a number is only a remark on: 42 of `= 42 in 3 days`, 45 of `45 left of the 60`."""
    for match in earlier[: -_MOST_REMARKS - 1 : -1]:
        result = looked_at(line, match)
        if found.is_equal or result.kind is not Kind.NUMBER:
            break
        start = found.match.start()
        is_remark = (
            (_is_stated(line, result) and _CLAUSE.fullmatch(line, result.end, start))
            or (_QUALIFIES.fullmatch(line, result.end, start) and not _KNOWN.search(line, 0, result.match.start()))
            or _PRICED.fullmatch(line, max(0, result.match.start() - 1), start)
            or (_is_equal(result, found) and _AGAIN.fullmatch(line, result.end, start))
            or _REMARKS.search(line, max(result.end, start - _WIDEST_REMARK), start)
        )
        if not is_remark:
            break
        found = result
    return found


def _is_stated(line: str, found: Numeral) -> bool:
    return found.is_equal or _IS.search(line, 0, found.match.start()) is not None
