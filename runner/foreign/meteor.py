"""METEOR, as Scale's SGP documents it: that of NLTK, with NLTK's words, Porter's stems and WordNet's synonyms.

WordNet is loaded with the module. This takes two seconds, which do not count against the time limit of a row.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import nltk.data
from nltk.corpus import wordnet
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import meteor_score

from runner.foreign.wordnet import own_directory
from runner.foreign.words import words_of

__all__ = ["meteor"]

_CATEGORIES = 45


def meteor(candidate: str, references: list[str]) -> float:
    """Return METEOR, from 0 to 1; that of the best reference."""
    listed = [words_of(one) for one in references]
    score = meteor_score(listed, words_of(candidate), stemmer=_STEMMER, wordnet=_WORDNET, alpha=0.9, beta=3.0, gamma=0.5)
    return float(score)


class _Files(WordNetCorpusReader):  # type: ignore[misc]  # the package ships no types
    """Only the files of WordNet, as Debian has them: without a list of categories, which is not used here."""

    def open(self, file: str) -> Any:
        if file == "lexnames":
            return io.StringIO("".join(f"{number} category{number} 0\n" for number in range(_CATEGORIES)))
        return super().open(file)

    def map_wn(self, version: str = "wordnet") -> None:
        """Map nothing: there are no other languages."""


def _loaded() -> Any:
    directory = own_directory()
    if directory is None:
        wordnet.ensure_loaded()
        return wordnet
    nltk.data.path.insert(0, directory)  # NLTK opens no files elsewhere
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that there are no other languages
        return _Files(directory, None)


_STEMMER = PorterStemmer()
_WORDNET = _loaded()
