"""The value of a number as it is written: with groups of digits, a decimal comma, a fraction or power.

A whole number or a fraction is exact (int, Fraction); any other number is a float. The value is None if it is too large for a
float, or if the text is not clearly a number, such as `1.234.567`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TypeAlias

from runner.reading.plain import NARROW

__all__ = ["Number", "digits_of", "mixed", "power", "ratio", "shifted"]

Number: TypeAlias = int | float | Fraction

_INFINITE = float("inf")
#: Up to this many digits, every number and every difference of two is within the range of a float.
_LONGEST = 307
#: The form of a number, the separator of its thousands, and its decimal point. The first form that fits counts.
_FORMS = [
    (re.compile(r"\d++(?:\.\d++)?"), "", "."),
    (re.compile(r"(?!0)\d{1,3}(?:,\d{3})++(?:\.\d++)?"), ",", "."),
    (re.compile(r"(?!0)\d{1,3}(?:\.\d{3})++,\d++"), ".", ","),
    (re.compile(r"(?!0)\d\d?(?:,\d\d)+,\d{3}(?:\.\d++)?"), ",", "."),  # lakhs and crores
    (re.compile(r"\d++,\d++"), "", ","),
    *((re.compile(rf"(?!0)\d{{1,3}}(?:{gap}\d{{3}})++(?:[.,]\d++)?"), gap, ",") for gap in (" ", NARROW, "'", "_", "，")),
]
_LISTED = re.compile(r"\d{1,2}+(?:,\d{1,2}+){2,}+")


def digits_of(written: str, *, first: bool = False) -> str | None:
    """Return only the digits and the point of a number; for a list such as `1,2,3`, those of its last, or first, member."""
    if written.isdecimal():
        return written
    for form, gap, point in _FORMS:
        if form.fullmatch(written):
            return written.replace(gap, "").replace(point, ".")
    return written.split(",")[0 if first else -1] if _LISTED.fullmatch(written) else None


def shifted(digits: str, shift: int) -> Number | None:
    """Return a number times a power of ten."""
    if shift >= 0 and digits.isdecimal() and len(digits) + shift <= _LONGEST:
        return int(f"{digits}{'0' * shift}")
    number = float(f"{digits}e{shift}")
    return number if number < _INFINITE else None


def power(digits: str, exponent: int, shift: int) -> Number | None:
    """Return a power: 1024 for `2^10`."""
    base = _exact(digits)
    if base is None or (base == 0 and exponent < 0) or len(digits) * abs(exponent) > 3 * _LONGEST:
        return None
    return _fitting(Fraction(base**exponent), shift)


def ratio(over: str, under: str, shift: int) -> Number | None:
    """Return a fraction: 0.75 for `3/4`."""
    numerator, denominator = _exact(over), _exact(under)
    return None if numerator is None or not denominator else _fitting(numerator / denominator, shift)


def mixed(ones: str, over: str, under: str, shift: int) -> Number | None:
    """Return the value of a mixed number such as `2 1/2`."""
    whole, part = _exact(ones), ratio(over, under, 0)
    return None if whole is None or part is None or part >= 1 else _fitting(whole + Fraction(part), shift)


def _exact(digits: str) -> Fraction | None:
    return Fraction(digits) if len(digits) <= _LONGEST else None


def _fitting(number: Fraction, shift: int) -> Number | None:
    number *= Fraction(10) ** shift
    if number >= 10**_LONGEST:
        return None
    return number.numerator if number.denominator == 1 else number
