"""BLEU and F1 over NLTK's words, as Scale's SGP documents its metrics.

What is computed once, when the module is imported, does not count against the time limit of a row.
"""

from __future__ import annotations

import warnings

import punkt
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
from nltk.translate.bleu_score import sentence_bleu

from runner.foreign.overlap import f1_of

__all__ = ["bleu", "f1", "words_of"]


def bleu(candidate: str, references: list[str]) -> float:
    """Return NLTK's BLEU, from 0 to 1: n-grams of up to four words, with equal weights, unsmoothed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that the score of a text with no common 4-gram is almost 0
        return float(sentence_bleu([words_of(one) for one in references], words_of(candidate)))


def f1(candidate: str, references: list[str]) -> float:
    """Return the F1 of the words, regardless of case and order, for the best reference."""
    found = [word.lower() for word in words_of(candidate)]
    return max(f1_of(found, (word.lower() for word in words_of(one))) for one in references)


def words_of(text: str) -> list[str]:
    """Return the words that NLTK's `word_tokenize` finds in an English text."""
    return [word for sentence in _SENTENCES.tokenize(text) for word in _WORDS.tokenize(sentence)]


def _sentences() -> PunktSentenceTokenizer:
    """Return NLTK's sentence tokenizer with its data for English, which NLTK itself would have to download."""
    learned = punkt.load_model("english")
    parameters = PunktParameters()
    parameters.abbrev_types = set(learned.abbrev_types)
    parameters.collocations = set(learned.collocations)
    parameters.sent_starters = set(learned.sent_starters)
    parameters.ortho_context.update(learned.ortho_context)
    return PunktSentenceTokenizer(parameters)


_SENTENCES = _sentences()
_WORDS = NLTKWordTokenizer()
