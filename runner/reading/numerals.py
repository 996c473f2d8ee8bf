"""The forms of a number in a line of plain text: digits, fraction or power; and text that only looks like a number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto

from runner.reading.plain import NARROW, UNKNOWN
from runner.reading.values import Number, digits_of, mixed, power, ratio, shifted
from runner.structs import Struct

__all__ = ["AMBIGUOUS", "CODES", "LETTER", "NUMERAL", "SCALE", "SCALES", "Kind", "Numeral"]

#: The names of currencies before a number.
CODES = "USD|EUR|GBP|JPY|CNY|RMB|INR|CHF|AUD|CAD|NZD|HKD|SGD|KRW|RUB|BRL|MXN|SEK|NOK|DKK|PLN|CZK|TRY|ZAR|ILS|THB"
#: The letters of scripts with spaces: a digit after such a letter belongs to the word.
LETTER = "A-Za-zªµºÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿ"
_SCALES: Mapping[int, str] = {
    2: "hundred",
    3: "thousand thousands tausend тыс",
    4: "万 萬",
    5: "lakh lakhs",
    6: "million millions mn mio millionen millones millón milhões milhão milioni млн",
    7: "crore crores",
    8: "亿 億",
    9: "billion billions bn mrd milliard milliards milliarden млрд",
    12: "trillion trillions",
}
#: How many zeros a word stands for.
SCALES: Mapping[str, int] = {word: zeros for zeros, words in _SCALES.items() for word in words.split()}
SCALE = rf"[ {{-]{{0,3}}+(?i:{'|'.join(sorted(SCALES, key=len, reverse=True))})\.?(?![{LETTER}])"
#: Two units of one measure: `1 hour and 30 minutes`.
_MEASURE = r"\s?(?:years?|months?|weeks?|days?|hours?|hrs?|h|minutes?|mins?|feet|foot|ft|m|pounds?|lbs?|dollars?|degrees?)"
_SMALLER = r"\s?(?:months?|weeks?|days?|hours?|minutes?|mins?|m|seconds?|secs?|s|inch(?:es)?|in|cm|ounces?|oz|cents?)"
#: The first digit of a number: not within a word or after one (`x1`, `COVID-19`), nor after a point (`v1.2`).
_START = rf"[\d{UNKNOWN}](?:(?<![{LETTER}\d_].)|(?<=(?:{CODES}).)|(?<=Rs.))(?<!\d[.'].)(?<![{LETTER}]-.)"

#: A number, or something `odd`: a root or π, a hexadecimal number, a time or ratio, a date, several measures, a telephone
#: number, a mixture of digits and letters. The group `digits` has a plain number without its first digit.
NUMERAL = re.compile(
    rf"""{_START}
    (?: (?P<odd>
          (?<={UNKNOWN})(?:_\{{?+\w++\}}?+)?+\s*+[({{]?+\s*+[\d.,]*+
        | (?<=0)[xX][\da-fA-F]++
        | \d*+(?: (?::\d\d?(?!\d))++ | [ ]:[ ]\d++ | (?:-\d++){{2,}}+ | (?:/\d++){{2,}}+
                | \s?[年月]\s?\d++\s?[月日](?:\s?\d++\s?日)?+
                | [€$£]\d\d(?!\d) | {_MEASURE}(?:,?\s(?:and\s)?)?\d++{_SMALLER}\b | {SCALE}\s?(?:and\s)?\d[\d.,]*+ )
        | \d{{3}}-(?:0\d|1[0-2])(?!\d)
        | (?<=\+.)\d{{0,2}}+(?:[ ()-]{{1,2}}+\d{{2,3}}(?!\d))++[ ()-]{{1,2}}+\d{{4,}}+
        | \d\d(?:(?P<gap>[-. ])\d{{3}}(?P=gap)|-)\d{{4}}(?!\d)
        | [\d.,]*+(?![eE][-+]?\d{{1,4}}+(?![.,]?\w)|[xX]\d)[A-Za-z]++\d\w*+ )
      | \d*+[ {NARROW}](?P<part>\d++/\d++)(?![\d/])
      | (?P<digits>\d{{0,2}}+(?:[ ]\d{{3}})++(?![ ]?\d)(?:[.,]\d++)?+ | \d*+(?:[.,'_{NARROW}]\d++|，\d{{3}}(?!\d))*+)
        (?: [eE](?P<exponent>[-+]?\d{{1,4}}+)(?![.,]?\w)
          | (?P<ten>\s?[×xX*·]\s?10)?+\s?(?:\^|\*\*)\s?[{{(]?+\s?(?P<power>[-+]?\d{{1,4}}+)\s?[)}}]?+(?![.,/]?\d)
          | \s?/\s?(?P<under>\d++(?:[.,]\d++)*+)(?!\s?/\s?\d) )?+ )""",
    re.VERBOSE,
)


class Kind(Enum):
    """The kind of a number in a text."""

    NUMBER = auto()
    #: A member of a sum or product, which is not its result.
    OPERAND = auto()
    #: An ordinal, or the number of a list item: meant only if there is no other number.
    ORDINAL = auto()
    #: An exponent, an index, a reference, a number of decimal places: it belongs to something else.
    PART = auto()
    #: Something other than the numbers in it, or something unclear.
    ODD = auto()


class Numeral(Struct, frozen=True):
    """A number in a line, or a text that looks like one."""

    kind: Kind
    match: re.Match[str]
    #: The position where it ends, with its `%` or `million`.
    end: int
    #: Whether it follows `=`.
    is_equal: bool
    is_negative: bool
    has_point: bool
    #: How many zeros a word such as `million` stands for.
    scale: int
    percent: str | None

    def value(self, *, share: bool, first: bool = False) -> Number | None:
        """Return its value; None if it is unclear. With `share` 20 % is 0.2, with `first` `1,2,3` is 1."""
        if self.kind is Kind.ODD:
            return None
        shift = self.scale
        if share and self.percent:
            shift -= 3 if self.percent == "‰" else 2
        value = self._size(shift, first=first)
        return -value if value is not None and self.is_negative else value

    def _size(self, shift: int, *, first: bool) -> Number | None:
        match = self.match
        if part := match["part"]:
            over, _, under = part.partition("/")
            return mixed(match[0][: -len(part) - 1], over, under, shift)
        digits = digits_of(match[0][0] + match["digits"], first=first)
        if digits is None or (self.has_point and not digits.isdecimal()):
            return None
        if self.has_point:
            digits = f".{digits}"
        if match["under"]:
            under = digits_of(match["under"])
            return None if under is None else ratio(digits, under, shift)
        if match["power"] and not match["ten"]:
            return power(digits, int(match["power"]), shift)
        return shifted(digits, shift + int(match["exponent"] or match["power"] or 0))


_NO_MATCH = re.match("", "")
assert _NO_MATCH is not None
#: Stands for a number that is unclear.
AMBIGUOUS = Numeral(Kind.ODD, _NO_MATCH, 0, False, False, False, 0, None)
