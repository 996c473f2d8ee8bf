"""How strongly an answer chooses each of the letters in it, by the words before and after the letter.

The words are read as codes (see `phrases`), so that their meaning is a table of patterns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

from runner.reading.labels import Labels
from runner.reading.phrases import WORDS, codes
from runner.structs import Struct

__all__ = ["Mention", "Rank", "is_denied", "mentions"]


class Rank(IntEnum):
    """How strongly a letter is chosen."""

    #: Not at all: "not B", "B is wrong".
    DENIED = -1
    #: In a reason or a doubt, or as one of several listed options.
    PASSING = 0
    #: "Option B has …"
    MENTIONED = 1
    #: "The largest is B"
    SAID = 2
    #: "B is true"
    JUDGED = 3
    #: "B) Paris"
    LEADING = 4
    #: "I choose B", "so B", or B alone on its line. The last one counts.
    CHOSEN = 5
    #: "The answer is B", "B is the right option". The last one counts.
    STATED = 6


class Mention(Struct):
    """A letter in an answer, or several that are joined, and the text around them."""

    labels: set[str]
    before: str
    behind: str
    #: Whether the letters may also be words or numbers, so that they say little alone.
    is_weak: bool
    #: Whether only one of them is meant, and it is unclear which.
    is_either: bool = False
    #: Whether the text of the option follows, as in "B) Paris".
    is_listed: bool = False
    #: Whether it stands at the beginning of its line.
    opens_line: bool = False
    #: Whether it is called an option, or is in brackets, unlike a letter of a formula.
    is_named: bool = False
    rank: Rank = Rank.PASSING


#: How many characters are read before a letter, after it, and between two letters that may be joined.
_BEFORE, _BEHIND, _BETWEEN = 120, 60, 24
_SENTENCE = re.compile(r"(?:[^.!?\n。]++|\.(?=\d))*+[.!?\n。]?")
_OPENERS, _CLOSERS = "([{<\"'“‘„「『【《`*_$", ")]}>\"'”’“」』】》`*_$"
#: The signs between a letter and the text of its option; the second pattern also in the middle of a line.
_DELIMITER = re.compile(r"[*_`'\"”’)\]}>]*[).:\]、-]|\s++[-–—]\s|\s++\("), re.compile(r"[*_`'\"”’]*[)\]:]")
#: Words about one choice, not about all choices that commas join: "A, B is wrong".
_OF_ONE = re.compile(r"[)\]*]*\s++(?!(?:are|were|aren't|fail|seem|have|do|don't|both|all|sind|sont|son|são|sono)\b)[^\W\d_]")
_NAME = re.compile(r"(?:^|\s)([A-Z][a-z]+) \Z"), re.compile(r"\. [A-Z][a-z]")

#: Between a word and the letter there are only other words of the table; in the second pattern, also nothing that parts them.
_NEAR, _BESIDE = r"[^x.?\n]*\Z", r"[^x,(.?\n]*\(?\Z"
#: The rank of a letter by the codes before it: the first pattern that matches counts.
_BEFORE_IT: Sequence[tuple[re.Pattern[str], Rank]] = [
    (re.compile("|".join(ways)), rank)
    for rank, *ways in (
        # "not B", "rather than B"
        (Rank.DENIED, rf"N(?![lo]*R[^x,(.?\n]*[=:]){_BESIDE}", rf"n(?:[=v]{_BESIDE}|l?\(?\Z)", r"[EX][loAR&]*\(?\Z"),
        # "if B", "the wrong one is B", "what is not true is B", "since B"
        (Rank.PASSING, f"(?:[DW]|N[lo]*R){_BESIDE}", r"B[^xACR,(.?\n]*\(?\Z"),
        # "if it were cold, the answer would be B", "some might say that the answer is B"
        (Rank.SAID, r"D(?!E)[^C.?\n]*[AR][^.?\n]*=[lo]*\(?\Z"),
        # "the answer to this is B", "the answer is Paris, option B"
        (Rank.STATED, rf"(?:A(?!o)|R)[^B.?\n]*=(?:[^B.?\n]*[,(:])?{_NEAR}", rf"(?:A(?!o)|R)[^B.?\n]*:{_NEAR}"),
        # "Answer:" or "Answer" as the line before
        (Rank.STATED, r"(?:A(?!o)|R)[^.?\n]*[=:]\n+[o:]*\Z", r"\n[oCl:]*[AR][oCl:AR]*\n+[o:]*\Z"),
        # "so the largest is B", "No, B"
        (Rank.CHOSEN, r"C[^xB.?\n]*\Z", rf"C[^B.?\n]*[=:]{_NEAR}", r"[nN],\Z"),
        # "the largest is B", "the answer is found when B"
        (Rank.SAID, r"[=:][lo]*\(?\Z", r"[AR][^B.?\n]*[=:][^B.?\n]*\Z"),
        (Rank.MENTIONED, ""),
    )
]
#: "Answer B", if the sentence ends after it.
_NAMED_ANSWER, _ENDS = re.compile(r"[AR][ARCo]*\Z"), re.compile(r"[.?,:(B&\n]")
#: "B is wrong", "B is factually wrong", "B can't be", "B doğru değil"; "B nicht."; "B: wrong."
_IS_WRONG = re.compile(
    r"[=vloC]*(?:W|=[lo]*xW|[=v]l*[NE]|[AR]+N[=.,:&B\n])|[Nn][lo]*[=vAR.?,\n]|[^.?\n]*[,:(][=vlo]*(?:W|N[=vlo]*R)[.,:(B\n]"
)
#: "all except B are wrong", "all are wrong except B", "rule out all but B"; "none except B is true"; `@` stands for B.
_ONLY_RIGHT = re.compile(
    r"(?:\A|[.?\n])[^DNn.?\n]*(?:[EW][^NR.?\n]*X[lo]*\(?@|X[lo]*\(?@,?[=vlo]*(?:[EW]|[Nn][=vlo]*R))"
    r"|[Nn][^.?\n]*(?:R[^.?\n]*X[lo]*\(?@|[CX][lo]*\(?@[=vlo]*R)"
)
#: "B is true", "B: true."; "B) Paris is correct."; and "B is the right option".
_IS_RIGHT = re.compile(r"[=vloC]*[AR]|[^.?\n]*[,:(][=vlo]*R[.,:(B\n]")
_IS_RIGHT_WITH_TEXT = re.compile(r"[xlo]*=[lo]*R[.,:(B\n]")
_IS_RIGHT_ONE = re.compile(r"[=vlC]*(?:A|R[Rl]*[Ao])")
#: "B. Correct", but not "B. It is not A".
_IS_VERDICT = re.compile(r"[lo=]*N?[lo]*[RW]")
#: The verdict at the end of an option's line: "A) Paris, in France ✗", "B) Rome - yes", "C) Berlin [x]".
_MARK = re.compile(
    r"""(?: (?:[-–—:→←]\s|\()\**(?i:(?P<right>yes|true|correct|right)|no|false|incorrect|wrong)
      | (?P<tick>[✓✔✅☑]|(?<=\s)\[[xX✓✔]\]) | [✗✘✖❌❎] )
    \ufe0f?[ *_.!)\]]*\Z""",
    re.VERBOSE,
)
_LONGEST_MARK = 24
_OPENS_LINE, _ENDS_LINE = re.compile(r"\n[o:]*\(?\Z"), re.compile(r"[.?]?\n")
#: A number is a choice in "option 3", "the answer is 3" or "3) Paris", but not in "the answer is about 3".
_NUMBERED = re.compile(r"[ARCo][^x.?\n]*\Z|[AR][^.?\n]*[=:][^x.?\n]*\Z|\n[o:]*\(?\Z")


def mentions(text: str, labels: Labels, *, several: bool) -> list[Mention]:
    """Return the letters of a text with their ranks: those that cannot be words, or all letters if these say little."""
    found: list[Mention] = []
    for pattern in labels.patterns:
        found = _ranked(_joined(pattern.split(text), labels), several=several)
        if any(mention.rank >= Rank.LEADING for mention in found):
            break
    return found


def is_denied(before: str, behind: str) -> bool:
    """Return whether the text around a choice rejects it: "not Paris", "Paris is wrong"."""
    said_before, said_behind = _codes_before(before, is_first=True), codes(_first_sentence(behind)[:_BEHIND])
    rank = _rank(said_before, said_behind, is_listed=False, is_one=True, is_only=False, is_asked=False)
    return rank is Rank.DENIED


def _joined(pieces: Sequence[str], labels: Labels) -> list[Mention]:
    """Return the letters of a text that was split at them. Joined letters are one mention."""
    found: list[Mention] = []
    for index in range(1, len(pieces), 2):
        before, form, behind = pieces[index - 1 : index + 2]
        joint = _joint(before, behind) if found else None
        if joint is None:
            found.append(Mention(labels.meant_by(form), before, behind, form in labels.weak))
        else:
            last = found[-1]
            last.labels |= labels.meant_by(form)
            last.behind = behind
            last.is_weak &= form in labels.weak
            last.is_either |= joint == "|"
    return found


def _joint(between: str, behind: str) -> str | None:
    """Return how the text between two letters joins them: as `&`, as `|`, or not at all."""
    if len(between) > _BETWEEN:
        return None
    bare, said = between.strip(), codes(between).replace("(", "")
    is_of_one = _OF_ONE.match(behind) is not None and codes(behind[:_BETWEEN])[:1] in {"x", "=", "v"}
    if bare in {"-", "–", "—"} and "\n" not in between and not is_of_one:  # a range
        return "|"
    if not said.strip("\n:"):
        is_closed_and_opened = len(bare) > 1 and bare[0] in _CLOSERS and bare[-1] in _OPENERS
        return "&" if not bare or "\n" in said or (is_closed_and_opened and not said) else None
    if said.strip("&|,ol") or not ("&" in said or "|" in said or said == ","):
        return None
    if "," in said and "|" not in said and is_of_one:
        return None
    return "|" if "|" in said else "&"


def _ranked(found: list[Mention], *, several: bool) -> list[Mention]:
    """Return the letters with their ranks, from the last stated letter on: earlier ones do not count."""
    for index in range(len(found) - 1, -1, -1):
        mention = found[index]
        before = _codes_before(mention.before, is_first=index == 0)
        mention.opens_line = _OPENS_LINE.search(before) is not None
        mention.is_listed = _DELIMITER[not mention.opens_line].match(mention.behind) is not None
        is_bracketed = mention.before.endswith(("(", "[", "*")) and mention.behind.startswith((")", "]", "*"))
        mention.is_named = is_bracketed or before.endswith("o")
        behind, is_asked = _codes_behind(mention, is_last=index == len(found) - 1)
        mention.rank = _rank(
            before,
            behind,
            is_listed=mention.is_listed,
            is_one=several or len(mention.labels) == 1,
            is_only=len(found) == 1,
            is_asked=is_asked,
        )
        if _is_chance(mention, before):
            mention.labels, mention.rank = set(), Rank.PASSING
        elif mention.rank is Rank.STATED:
            return found[index:]
    return found


def _codes_before(text: str, *, is_first: bool) -> str:
    """Return the codes of the sentence before a letter, and of the line before if the letter opens a line."""
    end = len(text.rstrip(_OPENERS + " \n"))
    start = max(text.rfind(". ", 0, end), text.rfind("? ", 0, end), text.rfind("! ", 0, end), text.rfind("\n", 0, end))
    opening = text[end:]
    said = codes(text[max(start, end - _BEFORE, 0) : end])
    said += "\n" * ("\n" in opening) + "(" * ("(" in opening)
    return "\n" + said if is_first and start < 0 and end <= _BEFORE else said


def _codes_behind(mention: Mention, *, is_last: bool) -> tuple[str, bool]:
    """Return the codes of the sentence after a letter, and whether it is a question."""
    sentence = _first_sentence(mention.behind)
    said = codes(sentence[:_BEHIND])
    if mention.opens_line and said == ".":
        verdict = codes(_first_sentence(mention.behind, len(sentence))[:_BEHIND])
        said = verdict if _IS_VERDICT.match(verdict) else said + verdict
    if mention.opens_line and mention.is_listed:
        line = mention.behind.partition("\n")[0]
        mark = _MARK.search(line, max(0, len(line) - _LONGEST_MARK))
        if mark is not None and any(map(str.isalnum, line[: mark.start()])):
            said = "R" if mark["right"] or mark["tick"] else "W"
    if is_last and len(sentence) == len(mention.behind):
        said += "\n"
    return said, sentence.endswith("?")


def _first_sentence(text: str, start: int = 0) -> str:
    found = _SENTENCE.match(text, start)
    return found[0] if found is not None else ""


@lru_cache(maxsize=4096)
def _rank(before: str, behind: str, *, is_listed: bool, is_one: bool, is_only: bool, is_asked: bool) -> Rank:
    """Return how strongly a letter is chosen, by the codes before and after it."""
    if not is_asked and _ONLY_RIGHT.search(f"{before}@{behind}"):
        return Rank.JUDGED
    rank = next(rank for pattern, rank in _BEFORE_IT if pattern.search(before))
    is_text = is_listed and (is_only or rank >= Rank.SAID) and behind[:1] in {"N", "n", "W"}  # "the answer is (B) False"
    if rank is Rank.DENIED or (_IS_WRONG.match(behind) and not is_text):
        return Rank.DENIED
    if is_asked or rank is Rank.PASSING:
        return Rank.PASSING
    if _IS_RIGHT.match(behind) or (is_listed and _IS_RIGHT_WITH_TEXT.match(behind)):
        return max(rank, Rank.MENTIONED if not is_one else Rank.STATED if _IS_RIGHT_ONE.match(behind) else Rank.JUDGED)
    link = before.rstrip("(")[-1:]
    if behind[:1] in {"=", "v"} and link != "=":  # it begins a clause of its own
        return min(rank, Rank.SAID if link == ":" else Rank.MENTIONED)
    return max(rank, _rank_by_place(before, behind, is_listed=is_listed))


def _rank_by_place(before: str, behind: str, *, is_listed: bool) -> Rank:
    """Return how strongly a letter is chosen by its position alone."""
    if _NAMED_ANSWER.search(before) and (is_listed or _ENDS.match(behind)):
        return Rank.STATED
    if not _OPENS_LINE.search(before):
        return Rank.PASSING
    if _ENDS_LINE.match(behind):
        return Rank.CHOSEN
    return Rank.LEADING if is_listed or behind[:1] in {"B", ","} else Rank.PASSING


def _is_chance(mention: Mention, before: str) -> bool:
    """Return whether a letter is hardly meant as a choice: it may be a word, a number or an initial."""
    if not mention.labels:
        return True
    if Rank.MENTIONED <= mention.rank <= Rank.SAID and _NAME[1].match(mention.behind):
        name = _NAME[0].search(mention.before[-_BETWEEN:])
        return name is not None and name[1].lower() not in WORDS
    if not mention.is_weak or mention.rank is Rank.DENIED:
        return False
    is_enclosed = mention.before.endswith(tuple(_OPENERS)) and mention.behind.startswith(tuple(_CLOSERS))
    if any(label.isdigit() for label in mention.labels):
        return _NUMBERED.search(before) is None and not (is_enclosed and mention.rank >= Rank.SAID)
    return mention.rank < Rank.SAID and not is_enclosed and not mention.is_named
