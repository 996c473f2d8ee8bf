"""ROUGE as Google's `rouge_score` computes it, from 0 to 1: the F-measure for the best reference.

Its words consist of a to z and digits only: nothing is left of texts in other scripts.
"""

from __future__ import annotations

from functools import lru_cache

from rouge_score.rouge_scorer import RougeScorer

__all__ = ["rouge1", "rouge2", "rouge_l"]


def rouge1(candidate: str, references: list[str], stemmer: bool) -> float:
    """Compare single words."""
    return _score("rouge1", candidate, references, stemmer)


def rouge2(candidate: str, references: list[str], stemmer: bool) -> float:
    """Compare pairs of words."""
    return _score("rouge2", candidate, references, stemmer)


def rouge_l(candidate: str, references: list[str], stemmer: bool) -> float:
    """Compare the longest sequence of words that both have in the same order."""
    return _score("rougeL", candidate, references, stemmer)


def _score(kind: str, candidate: str, references: list[str], stemmer: bool) -> float:
    return float(_scorer(kind, stemmer).score_multi(references, candidate)[kind].fmeasure)


@lru_cache
def _scorer(kind: str, stemmer: bool) -> RougeScorer:
    return RougeScorer([kind], use_stemmer=stemmer)
