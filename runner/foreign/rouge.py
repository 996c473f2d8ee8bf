"""ROUGE as Google's `rouge_score` computes it, from 0 to 1: the F-measure for the best reference.

Its words consist of a to z and digits only: nothing is left of texts in other scripts.
"""

from __future__ import annotations

from functools import lru_cache, partial

from rouge_score.rouge_scorer import RougeScorer

__all__ = ["rouge1", "rouge2", "rouge_l"]


@lru_cache
def _scorer(kind: str, stemmer: bool) -> RougeScorer:
    return RougeScorer([kind], use_stemmer=stemmer)


def _score(kind: str, candidate: str, references: list[str], stemmer: bool) -> float:
    return float(_scorer(kind, stemmer).score_multi(references, candidate)[kind].fmeasure)


#: Compares single words.
rouge1 = partial(_score, "rouge1")
#: Compares pairs of words.
rouge2 = partial(_score, "rouge2")
#: Compares the longest sequence of words that both have in the same order.
rouge_l = partial(_score, "rougeL")
