"""The text around a number, and its meaning for the number: a sign, `%` or `million`; an operand, a reference."""

from __future__ import annotations

import re
from collections.abc import Mapping

from runner.reading.numerals import CODES, LETTER, SCALE, SCALES, Kind, Numeral
from runner.reading.plain import UNKNOWN

__all__ = ["CURRENCY", "EQUALS", "looked_at"]

CURRENCY = "$¢£¤¥֏؋৲৳૱௹฿៛₠-⃀﷼￠￡￥￦"
#: How many characters before a number are read.
_WINDOW = 32


def _backwards(words: str) -> str:
    return "|".join(word[::-1] for word in words.replace(" ", "|").split("|"))


# The text before a number is read backwards, from the number on.

#: A number after these words is the name of something; after the words of `_REMARKED` only in brackets.
_NAMED = _backwards(
    "step steps eq eqn equation equations fig figure table section theorem lemma part example question problem note"
)
_REMARKED = _backwards(
    "see page pages p pp line lines chapter source sources ref refs reference appendix note footnote case item"
)
_CODES = _backwards(f"{CODES}|Rs")
_BEFORE = re.compile(
    rf"""(?P<point>\.(?![\w.]))?
    (?: (?P<second>[-+])?
        (?P<money>\s?[{CURRENCY}](?:[A-Z]{{1,3}}(?![{LETTER}]))?(?!\s?\d)|\s?\.?(?:{_CODES})(?![{LETTER}])) )?
    (?: (?P<doubt>[-+](?=\s[\d)%]|-))
      | \s?(?P<spread>±)
      | (?P<sign>[-+](?![\w)\]}}%°+-]|[{CURRENCY}]\s?\d)) | \s(?P<apart>[-+])(?=\s?[=(≈~]|[\[{{$]) )?
    (?P<open>[(\[{{"\s]*+)
    (?P<outer>(?<=[(\[{{])-(?![\w)\]}}%°]) | (?<=\s)(?i:sunim|evitagen)(?![{LETTER}])(?!\s?\d) | 负)?""",
    re.VERBOSE,
)
_ROLE = re.compile(
    rf"""(?P<part>\^\s?(?:\.?[^\W\d_]{{2}}|[mshguLKJNVAW](?!\w)|\}}|(?<=\^)\[) | _(?!\d) | (?i:tseraen|fo\stuo)(?![{LETTER}])
        | (?i:(?:(?:na|a)\s)?(?:ton(?![{LETTER}])|t'n)) )
    | (?P<odd>=?[<>]\s[\w)] | [\^_@] | (?i:sunim)(?![{LETTER}]) | (?<=\()[A-Za-z])
    | (?P<ordinal>第)
    | (?P<operand>[+×÷·/]\s*+\S | (?i:semit)\s\d | [xX]\s?\d | \*(?=[\w)]) | (?<=[\s(])\*\s[\w)])
    | (?P<named>\.?(?i:{_NAMED})(?![{LETTER}]))
    | (?P<remarked>\.?(?i:{_REMARKED})(?![{LETTER}]))
    | (?P<cited>(?<=\[)[^:=]|(?<=\[\s)[^:=])
    | (?P<dash>-\s?[\d)}}%{CURRENCY}])""",
    re.VERBOSE,
)
_DASH_OF_OPERAND = re.compile(rf"-\s?[)%]*+[\d.,]++[({CURRENCY}]*+\s*+[-+*×÷·/]")

# The text after a number

_BEHIND = re.compile(
    rf"""(?P<part>(?:st|nd|rd|th)\s(?!place|position|spot)[^\W\d_] | [ -]?(?:decimal|significant|sig\b|d\.?p\b|s\.?f\b))
    | (?P<ordinal>\^?\{{{{0,2}}(?:st|nd|rd|th)(?![{LETTER}]))
    | (?P<scale>(?:{SCALE})+)
    | (?P<short>[ ]?[kKmMbBtT])(?![{LETTER}\d/^])
    | [ -]?(?P<percent>%|‰|(?i:per\s?cento?|pct|prozent|por\s?cien(?:to)?|pour\s?cent|procent|процент)|パーセント|퍼센트)
    | (?P<odd>[\^_] | [.\s]?{UNKNOWN} | [inxyz](?![{LETTER}\d]) | [(](?:-?\.?\d[\d.]*+\s?[-+*×/)]|[a-z]\s?[-+*×/^]))""",
    re.VERBOSE,
)
_OPERATOR = r"(?:[-+*×÷·/]|[xX](?=\s?\.?\d))(?!\*)"
#: A sum or product that continues after a number, or after its unit.
_GOES_ON = re.compile(
    rf"""[)}}%°]*+\s*+
    (?: (?:[^\W\d_]{{1,12}}+\s++)?{_OPERATOR}\s*+[(\[{{{CURRENCY}]*+\s*+[-+]?\.?[\d{UNKNOWN}]
      | {_OPERATOR}\s*+[b-hj-z](?![{LETTER}])
      | of\s[{CURRENCY}]?[\d.,]++\s?=
      | times\s\d | (?<=\s)[+×÷]\s*+\Z )""",
    re.VERBOSE,
)
EQUALS = re.compile(r"[)}$%°]*+\s*+(?:[^\W\d_]{1,12}+\s++)?[=≈]")
#: These letters are scales after money only; elsewhere some of them are units.
_LETTERS: Mapping[str, int] = {"k": 3, "m": 6, "b": 9, "t": 12}
_KINDS: Mapping[str, Kind] = {"ordinal": Kind.ORDINAL, "part": Kind.PART, "odd": Kind.ODD, "operand": Kind.OPERAND}
_PAIR = re.compile(r"\d++,(?:\d\d?|\d{4,}+)|0,\d++")
_THOUSANDS = re.compile(r"(?!0)\d{1,3}\.\d{3}")


def looked_at(line: str, match: re.Match[str]) -> Numeral:
    """Return the numeral for a match of `NUMERAL` in a line."""
    start, end = match.span()
    before = _BEFORE.match(line[max(0, start - _WINDOW) : start][::-1])
    assert before is not None
    left = before.string[before.end() :]
    is_equal = left[:1] in {"=", "≈"}
    kind, scale, percent = None, 0, "%" if left[:1] == "之" and left.startswith("之分百") else None
    if (behind := _BEHIND.match(line, end)) is not None:
        kind = _KINDS.get(behind.lastgroup or "")
        percent = behind["percent"] or percent
        scale, is_unit = _scale(behind, is_money=before["money"] is not None)
        if percent or scale:
            end = behind.end()
        if is_unit:
            kind = Kind.ODD
        if kind is Kind.ORDINAL and is_equal:
            kind = Kind.NUMBER
    if match["odd"] is not None or before["doubt"] or _is_unclear(line, match, before):
        kind = Kind.ODD
    return Numeral(
        kind or _kind_among(line, match, before, left, end),
        match,
        end,
        is_equal,
        before.end() > 0 and (_is_negative(before) or _is_debit(line, before, left, end)),
        before["point"] is not None,
        scale,
        percent,
    )


def _is_unclear(line: str, match: re.Match[str], before: re.Match[str]) -> bool:
    """Return whether `(3,4)` may be two numbers or one, or `1.234 €` thousands or a fraction."""
    start, end = match.span()
    if "," in match[0]:
        is_bracketed = before["open"][:1] in {"(", "["} and line[end : end + 1] in {")", "]"}
        return is_bracketed and _PAIR.fullmatch(match[0]) is not None
    if "." not in match[0] or not _THOUSANDS.fullmatch(match[0]):
        return False
    beside = line[max(0, start - 5) : end + 5]
    return "€" in beside or "EUR" in beside


def _kind_among(line: str, match: re.Match[str], before: re.Match[str], left: str, end: int) -> Kind:
    """Return the kind of a number by the signs and words around it. Of two numbers with a dash between, the second counts."""
    if before["spread"]:
        return Kind.PART if any(map(str.isdecimal, left)) else Kind.ODD
    role = _ROLE.match(before.string, before.end())
    name = "" if role is None else role.lastgroup or ""
    if role is not None and name in {"named", "remarked"}:
        rest = before["open"] + before.string[role.end() :]
        is_aside = "(" in rest.partition(")")[0] or "[" in rest.partition("]")[0] or not rest.strip(" #*>-")
        return Kind.PART if is_aside else Kind.ODD if name == "named" else Kind.NUMBER
    if name == "part" or (name == "cited" and line[end : end + 1] == "]"):
        return Kind.PART
    if _GOES_ON.match(line, end) or (name == "dash" and _is_subtracted(line, match, before, left, end)):
        return Kind.OPERAND
    return _KINDS.get(name, Kind.NUMBER)


def _is_subtracted(line: str, match: re.Match[str], before: re.Match[str], left: str, end: int) -> bool:
    """Return whether the dash before a number is a minus, not a range: `10 - 3 = 7`, `2 - 1/2`, `3 - -5`."""
    is_signed = before["sign"] is not None or match["under"] is not None
    return is_signed or _DASH_OF_OPERAND.match(left) is not None or EQUALS.match(line, end) is not None


def _scale(behind: re.Match[str], *, is_money: bool) -> tuple[int, bool]:
    """Return how many zeros a word or letter stands for, and whether the letter may be a unit as well."""
    if behind["scale"]:
        return sum(SCALES[word] for word in re.findall(r"[^\W\d_]+", behind["scale"].lower())), False
    letter = behind["short"] or ""
    if letter and (is_money or letter == "k"):
        return _LETTERS[letter.strip().lower()], False
    return 0, letter in {"K", "M", "B"}


def _is_negative(before: re.Match[str]) -> bool:
    signs = (before["sign"] or before["apart"], before["second"], before["outer"] and "-")
    return signs.count("-") % 2 == 1


def _is_debit(line: str, before: re.Match[str], left: str, end: int) -> bool:
    """Return whether an amount in brackets stands alone: for accountants `($5)` is less than zero."""
    if before["money"] is None or before["open"][:1] != "(" or line[end : end + 1] != ")":
        return False
    is_alone = not left or left[0] in ":=|" or left.startswith("si ")
    return is_alone and not line[end + 1 : end + _WINDOW].strip(" .*_)|")
