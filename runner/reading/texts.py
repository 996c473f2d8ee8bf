"""Normalizes texts before they are compared: differences that are only in the form do not count."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

__all__ = ["NORMALIZATIONS", "Normalization", "composed", "in_form", "is_edge", "stands_in", "without_punctuation"]

Normalization: TypeAlias = Literal["accents", "articles", "compatibility"]

#: Invisible characters: soft hyphens, characters of zero width, marks of the writing direction, variants of emoji, and the
#: byte order mark.
_RANGES = (range(0x200B, 0x2010), range(0x202A, 0x202F), range(0x2060, 0x2070), range(0xFE00, 0xFE10))
_INVISIBLE = {chr(code): "" for code in [0xAD, 0x61C, 0x180E, 0xFEFF, *(code for codes in _RANGES for code in codes)]}
#: Full-width letters, and Japanese half-width letters.
_WIDTH = {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in [0x3000, *range(0xFF01, 0xFFEF)]}
_ALIKE = _WIDTH | _INVISIBLE
_SUCH = re.compile(f"[{re.escape(''.join(_ALIKE))}]")

_ARTICLE = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)


#: Chunks of a text. Each is cut before a letter that does not combine with the one before it, if there is such a letter. The
#: time to normalise a run of accents grows with the square of its length.
_PIECE = re.compile(r"[\s\S]{1,1000}(?![\u0300-\u036f\u1100-\u11ff\u3099\u309a])|[\s\S]{1,1000}")


def in_form(form: Literal["NFC", "NFD", "NFKC"], text: str) -> str:
    """Return a text in one of Unicode's normal forms, in a time that grows with its length."""
    return "".join([unicodedata.normalize(form, piece) for piece in _PIECE.findall(text)])


def composed(text: str) -> str:
    """Return a text with its letters composed (NFC), in their usual width, and without invisible marks."""
    if text.isascii():
        return text
    return in_form("NFC", _SUCH.sub(lambda letter: _ALIKE[letter[0]], text))


def _without_accents(text: str) -> str:
    """Remove accents from letters: é becomes e. The vowel signs of Indic and Arabic scripts stay."""
    if text.isascii():
        return text
    apart = in_form("NFD", text)
    return in_form("NFC", "".join(letter for letter in apart if not 0x300 <= ord(letter) <= 0x36F))  # noqa: PLR2004


#: The normalizations that `normalize` can name.
NORMALIZATIONS: Mapping[Normalization, Callable[[str], str]] = {
    "accents": _without_accents,
    "articles": lambda text: _ARTICLE.sub(" ", text),
    "compatibility": lambda text: in_form("NFKC", text),
}

# --- punctuation ---


class _Punctuation(dict[int, int | None]):
    """What each letter becomes if punctuation does not count: nothing, or itself. Filled on the first use of a letter."""

    def __missing__(self, code: int) -> int | None:
        letter = chr(code)
        is_one = letter in "|~" or unicodedata.category(letter) in _PUNCTUATION_CATEGORIES
        self[code] = found = None if is_one else code
        return found


#: For all scripts: connectors, dashes, brackets, quotes and other marks; currency signs; accents that stand alone.
_PUNCTUATION_CATEGORIES = frozenset({"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sc", "Sk"})
_PUNCTUATION = _Punctuation()
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:[,'’]\d{3})++(?![\d,])")
_GROUP_MARKS = str.maketrans("", "", ",'’")
_DASHES = str.maketrans("\u2212\u2010\u2011\u2013\uff0d", "-----")
#: Punctuation that belongs to the text next to it.
_KEPT = re.compile(
    r"""
    (?<!\w)[-\u2212](?=[.,]?\d)     # the sign of a number
    | (?<!\w)\.(?=\d)               # its point, as in .5
    | (?<=\d)[^\w\s](?=\d)          # any mark between digits: 1.25, 3:45, 1/2
    | (?<=\w)\#(?!\w)               # the # of C#
    | (?<=\b[A-Za-z])-(?=\s*+\Z)    # and A- from A
    """,
    re.VERBOSE,
)


def without_punctuation(text: str) -> str:
    """Return a text without the punctuation of all scripts, but keep the sign and the point of a number, and the # of C#."""
    text = _GROUPED.sub(lambda number: number[0].translate(_GROUP_MARKS), text)
    pieces: list[str] = []
    at = 0
    for kept in _KEPT.finditer(text):
        pieces += [text[at : kept.start()].translate(_PUNCTUATION), kept[0].translate(_DASHES)]
        at = kept.end()
    return "".join([*pieces, text[at:].translate(_PUNCTUATION)])


# --- words ---

#: Thai to Lao, Burmese, Hangul, Khmer, all from Chinese radicals to Hangul syllables, and the rarer Chinese characters: they
#: have no spaces between words, or before endings.
_NO_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u2e80-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")


def stands_in(part: str, text: str) -> bool:
    """Return whether a text contains a part as whole words."""
    at = text.find(part)
    while at >= 0:
        if is_edge(text, at) and is_edge(text, at + len(part)):
            return True
        at = text.find(part, at + 1)
    return False


#: A position at a point or comma within a number, or after its sign.
_IN_NUMBER = re.compile(r"(?<=\d[.,])(?=\d)|(?<=\d)(?=[.,]\d)|(?<![\w)\]%-][-−])(?<=[-−])(?=\.?\d)")


def is_edge(text: str, at: int) -> bool:
    """Return whether no word and no number continues across a position in a text."""
    if at <= 0 or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if before.isalnum() and after.isalnum():
        return _NO_SPACES.match(before) is not None or _NO_SPACES.match(after) is not None
    return _IN_NUMBER.match(text, at) is None
