"""Which of several options an answer chooses: by its letter, or by its text.

Among all letters in an answer, the one that is chosen most strongly counts. If several are equally strong, none counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from runner.reading.boxes import boxed
from runner.reading.labels import labels_of
from runner.reading.mentions import Mention, Rank, is_denied, mentions
from runner.reading.phrases import UNSPACED, codes, plain
from runner.reading.written_calls import without_calls

__all__ = ["as_words", "choice_text", "chosen_letter", "chosen_letters"]


def chosen_letter(text: str, labels: Sequence[str], choices: Sequence[str] = ()) -> str | None:
    """Return the label that an answer chooses, or None if it chooses none, or more than one.

    If no letter is stated, and the answer contains the text of one of the choices, that choice is chosen.
    """
    found = _chosen(text, tuple(labels), choices, several=False)
    return next(iter(found)) if len(found) == 1 else None


def chosen_letters(text: str, labels: Sequence[str], choices: Sequence[str] = ()) -> frozenset[str] | None:
    """Return all the labels that an answer chooses, or None if it chooses none, or says "A or B"."""
    return frozenset(_chosen(text, tuple(labels), choices, several=True)) or None


def choice_text(text: str, choices: Sequence[str], labels: Sequence[str]) -> str | None:
    """Return the label of the one choice whose text an answer contains as whole words; None if there is none, or two.

    If a choice is part of a longer one, only the longer one counts. Case and punctuation do not count.
    """
    found = _by_text(text, choices, labels)
    return next(iter(found)) if len(found) == 1 else None


#: The point at which a model that was shown examples continues with a question of its own.
_QUESTION = re.compile(
    r"\n[ \t#*]*+(?:question|q|frage|pregunta|pergunta|domanda|вопрос|问题|問題|質問|질문)[ \t]*+\d*+[ \t]*+[:.：]",
    re.IGNORECASE,
)
#: "A: C" at the end, which repeats the `A:` of a prompt with "Q:" and "A:".
_ECHOED = re.compile(r"(?m:^)[ *]*+A[ *]*+:(?=[ *]*+\(?[A-Z]\)?[ *.]*+\Z)")

#: A box, a tick or a cross before an option that begins its line, as in `- [x] B`.
_MARKED = re.compile(
    r"^[ \t*+•>\d.)-]*+(\[[xX✓✔ ]\]|[✓✔✅☑✗✘✖❌❎☐])[ \t]+([*_(]*\w\d?[*_]*(?:[).:\]].*|[ \t]*))$", re.MULTILINE
)
#: The beginning or the end of a formula, and its first sign; `$5` is money. Words after it show that it has ended.
_FORMULA, _WORDS = re.compile(r"(?<!\\)(\\[()\[\]]|\$\$?)(?=([A-Za-z\\]?))"), re.compile(r"(?<!\\)\b[a-z]{2,} [a-z]{2,}")


def _chosen(text: str, labels: tuple[str, ...], choices: Sequence[str], *, several: bool) -> set[str]:
    known, parts = labels_of(labels), _parts(text)
    found: list[Mention] = []
    for part in parts:
        found = mentions(_MARKED.sub(_marked_behind, plain(part)), known, several=several)
        if any(mention.rank >= Rank.LEADING for mention in found):
            return _strongest(found, several=several)
    named = next(filter(None, (_by_text(part, choices, labels) for part in parts)), set())
    if _breaks_off(text):  # the variables of formulas are only mentioned
        found = [mention for mention in found if mention.rank >= Rank.JUDGED]
    return named if len(named) == 1 or (named and several) else _strongest(found, several=several)


def _parts(text: str) -> list[str]:
    """Return the parts that are searched for a choice, in order: a box, the text before a next question, and all of it."""
    parts = [text := _ECHOED.sub("Answer:", without_calls(text))]
    if (following := _QUESTION.search(text)) is not None and not _QUESTION.match(f"\n{text[:40].lstrip()}"):
        parts.insert(0, text[: following.start()])
    if (inside := boxed(text)) is not None:
        parts.insert(0, inside)
    return parts


def _marked_behind(option: re.Match[str]) -> str:
    """Return the line of an option with its mark at the end, as in `B ✅`; with an empty box it says nothing."""
    return "" if option[1] in {"[ ]", "☐"} else f"{option[2]} {'✅' if '[' in option[1] else option[1]}"


def _breaks_off(text: str) -> bool:
    """Return whether a text ends within a formula."""
    marks = list(_FORMULA.finditer(text))
    if not marks or _WORDS.search(text, marks[-1].end()):
        return False
    mark, first = marks[-1].groups()
    return mark in {r"\(", r"\["} or (mark[0] == "$" and first != "" and [one[1] for one in marks].count(mark) % 2 == 1)


# Which letter counts

#: Codes of the text between two listed options that are both meant: in one line, or each on its own line.
_IN_LINE = r"[^.?ARCNnEWB\n]*[&|,][ol,&|]*\(?"
_LISTED, _LISTED_LINES = re.compile(_IN_LINE), re.compile(rf"{_IN_LINE}|[^?ACNEW:]*\n+[:o(]*")
_LONGEST_OPTION = 240
#: Words with which a writer starts again, at the beginning of a sentence or anywhere.
_CORRECTED = re.compile(
    r"""
    (?:\A|[.!?…\n—-]) \W{0,9}+
        (?:actually | correction | sorry | hmm | nein | nope | no(?=[,.!;:…—-]|\s+(?:wait|it|the|sorry))) \b
    | \b(?:wait | scratch\ that | on\ second\ thought | let\ me\ re\w+) \b
    | 不对 | 等等
    """,
    re.IGNORECASE | re.VERBOSE,
)


def _strongest(found: Sequence[Mention], *, several: bool) -> set[str]:
    """Return the letters that are chosen most strongly."""
    found = _since_correction(found)
    best = _best(found)
    return _last(found, best, several=several) if best >= Rank.CHOSEN else _undisputed(found, several=several)


def _last(found: Sequence[Mention], best: Rank, *, several: bool) -> set[str]:
    """Return the letters of the last statement, and of the options that are listed after it."""
    index = max(index for index, mention in enumerate(found) if mention.rank is best)
    stated = _with_others(found, index, several=several)
    if several:
        return _together(stated)
    labels = _labels(stated)
    if len(labels) > 1 and best is Rank.STATED:  # "it is A or B", and later which one
        later = [mention.labels for mention in found[index + len(stated) :] if mention.rank >= Rank.SAID]
        return next((one for one in reversed(later) if len(one) == 1 and one < labels), labels)
    return labels


def _undisputed(found: Sequence[Mention], *, several: bool) -> set[str]:
    """Return all the letters that are mentioned most strongly."""
    _demote(found, several=several)
    best = _best(found)
    if best is Rank.DENIED:
        return set()
    strongest = [mention for mention in found if mention.rank is best]
    if several:
        return _together(strongest)
    if best <= Rank.SAID and _are_several(strongest):
        strongest = [mention for mention in found if mention.is_named and mention.rank > Rank.PASSING] or strongest
    return _labels(strongest)


def _together(found: Sequence[Mention]) -> set[str]:
    return set() if any(mention.is_either for mention in found) else _labels(found)


def _best(found: Sequence[Mention]) -> Rank:
    return max([mention.rank for mention in found if mention.labels], default=Rank.DENIED)


def _since_correction(found: Sequence[Mention]) -> Sequence[Mention]:
    """Return the mentions without those before a "wait, no" that a statement follows."""
    if len(found) <= 1 or not _are_several(mention for mention in found if mention.rank >= Rank.SAID):
        return found
    start, is_corrected = 0, False
    for index, mention in enumerate(found):
        is_corrected |= index > 0 and _CORRECTED.search(mention.before) is not None
        if is_corrected and mention.rank >= Rank.SAID:
            start, is_corrected = index, False
    return found[start:]


def _demote(found: Sequence[Mention], *, several: bool) -> None:
    """Lower the mentions that say little compared with the others.

    They are mentions of options that are denied elsewhere, options that are listed as in the question, and several options that
    are "true", because the question may then be which one is not.
    """
    denied = _labels(mention for mention in found if mention.rank is Rank.DENIED)
    is_list = _are_several(mention for mention in found if mention.is_listed and mention.rank <= Rank.LEADING)
    is_torn = not several and _are_several(mention for mention in found if mention.rank is Rank.JUDGED)
    for mention in found:
        if Rank.PASSING <= mention.rank <= Rank.SAID:
            mention.labels -= denied
        if is_list and mention.is_listed and mention.rank in {Rank.MENTIONED, Rank.LEADING}:
            mention.rank = Rank.PASSING
        if is_torn and mention.rank is Rank.JUDGED:
            mention.rank = Rank.MENTIONED


def _labels(found: Iterable[Mention]) -> set[str]:
    return set().union(*[mention.labels for mention in found])


def _are_several(found: Iterable[Mention]) -> bool:
    return len(_labels(found)) > 1


def _with_others(found: Sequence[Mention], index: int, *, several: bool) -> list[Mention]:
    """Return a statement with the options that are listed after it: "B) Paris and C) Rome"."""
    between = _LISTED_LINES if several or found[index].opens_line else _LISTED
    listed = [found[index]]
    for following in found[index + 1 :]:
        is_next = following.is_listed and Rank.PASSING <= following.rank <= Rank.LEADING and listed[-1].is_listed
        if not is_next or len(following.before) > _LONGEST_OPTION or not between.fullmatch(codes(following.before)):
            break
        listed.append(following)
    return listed


# Texts of options

#: Signs between words: all signs except those within numbers.
_BETWEEN = re.escape("\"'“”„‘’«»‹›()[]{}<>,.;:!?*_`|~$—…¿¡。、「」『』《》【】・·؟،؛।") + r"\s"
_WORD = re.compile(rf"[{UNSPACED}]|(?:[^{_BETWEEN}{UNSPACED}]++|(?<=\d)[.,](?=\d))++")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–−", "-"))


def as_words(text: str) -> str:
    """Return a text as its words in one case, each between two spaces, so that `in` finds whole words."""
    return "".join([f" {word} " for word in _WORD.findall(plain(text).casefold().translate(_DASHES))])


def _by_text(text: str, choices: Sequence[str], labels: Sequence[str]) -> set[str]:
    """Return the labels of the choices whose texts an answer contains."""
    if not choices:
        return set()
    wanted: dict[str, list[tuple[str, str]]] = {}
    for choice, label in zip(choices, labels, strict=False):
        wanted.setdefault(as_words(choice), []).append((choice, label))
    left, found = as_words(text), list[tuple[str, str]]()
    for words in sorted(filter(None, wanted), key=len, reverse=True):
        if words in left:
            found += wanted[words]
            left = left.replace(words, " \0 ")
    if len(found) == 1:
        before, it, behind = plain(text).lower().partition(plain(found[0][0]).lower().strip())
        if it and is_denied(before, behind):
            return set()
    return {label for _, label in found}
