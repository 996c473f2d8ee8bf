r"""Words and signs that state an answer: "the answer is", "Answer:", `\boxed`, `####`; and checks or questions after it."""

from __future__ import annotations

import re
from functools import lru_cache

from runner.reading.numerals import LETTER

__all__ = ["HAS_BOX", "before_the_next_question", "statements", "without_checks"]

#: Words that state an answer, in lower case.
_WORDS = (
    *("answer", "ans", "final result", "respuesta", "réponse", "reponse", "antwort", "risposta", "resposta", "antwoord"),
    *("svar", "odpowiedź", "odpověď", "válasz", "răspuns", "cevap", "jawaban", "đáp án", "ответ", "відповідь", "απάντηση"),
    *("答案", "答え", "答", "답", "الجواب", "الإجابة", "उत्तर"),
)
_ASCII_WORDS = tuple(filter(str.isascii, _WORDS))
#: The link from the word to the answer: firm, or like a heading, after which a whole derivation may come.
_LINK = rf"""(?:s|n|en|et|ul|ı|i)?(?![{LETTER}])
    (?:\s(?:final|finale|correcta|correta|corretta|correcte))?\.?[ "'*_)\]]{{0,4}}+(?:\([^()\n]{{0,40}}+\)[ *_]{{0,3}}+)?
    (?: (?P<firm> (?:(?:to|for|in|of)\s[^.:;\n]{{1,60}}?\s)?
            (?:is|are|equals|(?:would|should|must|will)\sbe|comes\s(?:out\s)?to)(?![{LETTER}])
          | (?:es|est|ist|lautet|beträgt|è|é|är|er|jest|je|adalah|là|это)(?![{LETTER}])
          | [是为為はが은는이가] )
      | [:：=>→⇒] | -> | [-–—](?=\s) | (?P<alone>(?=\n)) )"""
#: Texts that may come before the word if it is alone on its line.
_TITLES = frozenset(["", "final", "the", "the final"])
_LONGEST_TITLE = 20
HAS_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_MARK = re.compile(rf"{HAS_BOX.pattern}|####")
_DIGIT = re.compile(r"\d")
_NEXT_QUESTION = re.compile(
    r"\n[ \t\r*#>]*+(?i:question|q|problem|exercise|instruction|user|human|问题|题目|問題|问)\s?\d*+[*_\s]*+[:：]"
)
#: A check of an answer: from its heading, or its first words, to the end of its paragraph or a new conclusion.
_CHECK = re.compile(
    r"""(?: ^[ \t]*+(?:[#]++[ ])?+(?:\*\*|__)?+ | (?<=[.!?][ ]) | (?<=。) )
    (?i: (?:(?:let['’]?s|let[ ](?:me|us)|we[ ]can|to|now|quick|double)[ -])*+
         (?:check|verify|verification|probe|vérification|verificación|comprobación|verifica|验证|检验|検算|검산)(?![^\W_]) )
    (?:[ *_:：]*+\n\s*+)?+ (?:(?!\b(?:So|Thus|Therefore|Hence|The[ ]answer)\b|\n\s*?\n).)*+""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
#: The signs with which models end their turns.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>")


def statements(text: str) -> list[re.Match[str]]:
    """Return the matches that state an answer in words. The answer should follow the match; if `firm` matched, it does."""
    small = text.lower()
    if len(small) != len(text):  # a letter became two; positions must be the same
        small = text
    words = tuple([word for word in (_ASCII_WORDS if small.isascii() else _WORDS) if word in small])
    if not words:
        return []
    return [one for one in _statement(words).finditer(small) if one["alone"] is None or _is_title(small, one.start())]


@lru_cache(maxsize=64)
def _statement(words: tuple[str, ...]) -> re.Pattern[str]:
    # The lookbehind follows the word, so that the search is for the word.
    stems = "|".join(rf"{re.escape(word)}(?<![{LETTER}/]{re.escape(word)})" for word in words)
    return re.compile(rf"(?:{stems}){_LINK}", re.VERBOSE)


def _is_title(text: str, start: int) -> bool:
    return text[max(0, start - _LONGEST_TITLE) : start].rpartition("\n")[2].strip(" #*_") in _TITLES


def before_the_next_question(text: str) -> str:
    """Cut off the questions that a model asks itself after its answer. A question that it repeats before its answer stays."""
    if "<|" in text:
        text = text[: min((at for end in _TURN_ENDS if (at := text.find(end)) >= 0), default=len(text))]
    question = _NEXT_QUESTION.search(text)
    if question is None:
        return text
    marks = [mark.end() for mark in (*statements(text)[:1], *_MARK.finditer(text))]
    if marks:
        stated = _DIGIT.search(text, min(marks))
        question = stated and _NEXT_QUESTION.search(text, stated.end())
    elif not _DIGIT.search(text[: question.start()].rstrip().rpartition("\n")[2]):
        return text
    return text if question is None else text[: question.start()]


def without_checks(text: str) -> str:
    """Leave out the paragraphs in which a model checks its answer, as in "Check: 3·5 + 5 = 20 ✓"."""
    return _CHECK.sub("", text)
