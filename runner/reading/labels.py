"""Finds the labels of options in a text, such as `B`, `(b)`, `3`, `iv` or `乙`, but not as a word or a part of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from runner.reading.phrases import UNSPACED, WORDS, plain
from runner.structs import Struct

__all__ = ["Labels", "bare", "labels_of"]

_LATIN = "0-9A-Za-z\u00c0-\u024f"
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
#: A label stands alone if the characters next to it are of another block: Chinese, too, has no space before `B`.
_BLOCKS = (_LATIN, "\u3040-\u309f", "\u30a0-\u30ff", _HAN, "\u1100-\u11ff", "\uac00-\ud7af", "\u0e00-\u0e7f", r"\w")
#: Letters of scripts with spaces.
_LETTER = "A-Za-z\u00c0-\u04ff\u0590-\u06ff\u0900-\u0dff"
#: Capitals that are words in some language, such as "A" and "I". Before another word they are not labels …
_ALSO_WORDS = "AEIOUYАВИКОСУЯ"
#: … except before these words, and before words that link, join or give a reason.
_BEHIND_LABEL = "fails seems can't cannot doesn't over rather instead but nor noch ni né sondern sino"
#: The same for "I" and for small letters.
_BEHIND_PRONOUN = "is isn't or and because since as fails over rather"
#: Nouns that are followed by a letter or a number that is not a label.
_NAMED = (
    "vitamin hepatitis plan type group class grade point figure table part section step phase team question row column vertex "
    "angle appendix line page"
)
#: Signs by which a letter is only a part: "C's", "C++", "<b>", "B_1", "B-12", "e.g.", "B = 3", "6 J"; `{0}` matches the letter.
_NO_PART_AHEAD = r"(?!'(?!(?:s|[dt][ıiuü]r)\b)[A-Za-z\u00c0-\u024f]|\+(?!\w)|(?<=[a-z])>|#|_[A-Za-z0-9]|-[a-z\d]|\.\w\b|\s?=)"
_NO_PART_BEHIND = r"(?<![A-Za-z\u00c0-\u024f]'{0})(?<![°\\]{0})(?<![A-Za-z0-9]_{0})(?<!\b\w\.{0})(?<!\d (?=\D){0})"
#: Signs that make a digit a part of a number, or of a sum.
_NO_NUMBER = r"(?:(?<!\d)|(?<!\d[.,:]{0})(?<![$€£^−+/×÷-]{0})(?![.,:]\d|\s?[%°×÷^<>]|\s?[-+*/]\s?\d))"


class Labels(Struct, frozen=True):
    """The labels of a question, and the patterns that find them."""

    #: Patterns for the forms that are not words, then for all forms. Each has one group, so that it can split a text.
    patterns: Sequence[re.Pattern[str]]
    #: The label of each form in which it may be written.
    by_form: Mapping[str, str]
    #: The forms that may also be words or numbers.
    weak: frozenset[str]

    def meant_by(self, found: str) -> set[str]:
        """Return the labels that a match stands for: `AC` for two, a word that consists of labels by chance for none."""
        if found in self.by_form:
            return {self.by_form[found]}
        return {self.by_form[one] for one in found} if list(found) == sorted(set(found)) else set()


def bare(label: str) -> str:
    """Return a label without the signs around it, as in `(A)` and `B.`."""
    text = plain(label)
    return text.strip(" \t\n()[]{}.:*\"'`") or text


@lru_cache(maxsize=64)
def labels_of(labels: tuple[str, ...]) -> Labels:
    """Return the labels with the patterns that find them."""
    by_form: dict[str, str] = {}
    for label in labels:
        by_form.setdefault(bare(label), label)
    for form, label in list(by_form.items()):
        for other in (form.upper(), form.lower(), form.capitalize()):
            by_form.setdefault(other, label)
    weak = frozenset(form for form in by_form if not form.isupper())
    strong = by_form.keys() - weak
    return Labels([_pattern(forms) for forms in ([strong, by_form] if strong and weak else [by_form])], by_form, weak)


def _pattern(forms: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of the forms, the longest first."""
    alike: dict[tuple[int, str], list[str]] = {}
    for form in sorted(forms):
        block = next((block for block in _BLOCKS if re.match(f"[{block}]", form)), r"\w")
        alike.setdefault((len(form), block), []).append(form)
    ways = (_alone(some, length, block) for (length, block), some in sorted(alike.items(), reverse=True))
    return re.compile(f"({'|'.join(ways)})", re.DOTALL)


def _alone(forms: Sequence[str], length: int, block: str) -> str:
    """Return a pattern for forms of one length and block that stand alone."""
    form = f"[{''.join(map(re.escape, forms))}]" if length == 1 else f"(?:{_any_of(forms)})"
    itself = f".{{{length}}}"
    if _is_unspaced(forms[0]):
        left = "" if block == _HAN else f"(?<![{block}]{itself})"
        return f"{form}{left}(?:(?![{block}])|(?={_any_of(filter(_is_unspaced, WORDS))}))"
    if block != _LATIN:
        return f"{form}(?!\\w)(?<!\\w{itself}){_no_word(forms, '')}"
    upper = "".join(one for one in forms if length == 1 and one.isupper())
    parts = [
        f"{form}(?![a-z])(?<![{_LATIN}]{itself})",
        _NO_NUMBER.format(itself),
        _NO_PART_BEHIND.format(itself),
        *(f"(?<!(?i:{noun}) {itself})" for noun in _NAMED.split()),
        f"[{upper}]*+" if upper else "",
        f"(?![{_LATIN}])",
        _NO_PART_AHEAD,
        _no_word(forms, upper),
    ]
    return "".join(parts)


def _no_word(forms: Sequence[str], upper: str) -> str:
    """Return a pattern for the text after a label, which shows that the label is not a word."""
    links = (word for word, code in WORDS.items() if code in "=v&|B" and word.isalpha() and not _is_unspaced(word))
    never_words = "".join(one for one in upper if one not in _ALSO_WORDS)
    ways = [
        f"(?<=[{never_words}])" if never_words else "(?!)",
        f"(?![^\\S\\n]++[{_LETTER}])",
        f"(?<=[A-ZА-Я])(?=\\s++(?:{_any_of(forms)})(?!\\w))",
        f"(?=\\s++(?:{_any_of(one for one in forms if not one.isupper()) or '(?!)'})(?!\\w))",
        f"(?<=[A-HJ-ZА-Я])(?=\\s++(?:{_any_of([*_BEHIND_LABEL.split(), *links])})\\b)",
        f"(?=\\s++(?:{_any_of(_BEHIND_PRONOUN.split())})\\b)",
        # in the middle of a sentence "A" is not an article
        *(f"(?<=\\b{before} A)" for before in ("is", "be", "[Oo]ption", "[Cc]hoice")),
    ]
    return f"(?:{'|'.join(ways)})"


def _any_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, words))


def _is_unspaced(word: str) -> bool:
    return re.match(f"[{UNSPACED}]", word) is not None
