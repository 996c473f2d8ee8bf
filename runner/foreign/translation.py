"""Measures of translations, as `sacrebleu` computes them for one sentence: BLEU and chrF, from 0 to 100, and TER, from 0.

Each treats several references in its own way.
"""

from __future__ import annotations

from functools import lru_cache

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

__all__ = ["bleu", "chrf", "ter"]


def bleu(candidate: str, references: list[str], tokenize: str) -> float:
    """Return BLEU. A text of fewer than four words is measured by n-grams of the words that it has."""
    return float(_bleu(tokenize=tokenize, effective_order=True).sentence_score(candidate, references).score)


def chrf(candidate: str, references: list[str], word_order: int) -> float:
    """Return chrF, or chrF++ if word bigrams count too (`word_order` 2)."""
    return float(_chrf(word_order=word_order).sentence_score(candidate, references).score)


def ter(candidate: str, references: list[str]) -> float:
    """Return the edits for each hundred words of the reference: less is better, and there is no upper limit."""
    return float(_ter().sentence_score(candidate, references).score)


#: Each measure is made once for each of its settings.
_bleu, _chrf, _ter = map(lru_cache, (BLEU, CHRF, TER))
