"""What translations are measured with, as `sacrebleu` computes it for one sentence: BLEU, chrF and TER, from 0 to 100.

Each takes several references in its own way.
"""

from __future__ import annotations

from functools import lru_cache

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

__all__ = ["bleu", "chrf", "ter"]


def bleu(candidate: str, references: list[str], tokenize: str) -> float:
    """Return BLEU; a text of fewer than four words is measured by as many as it has."""
    return float(_bleu(tokenize).sentence_score(candidate, references).score)


def chrf(candidate: str, references: list[str], word_order: int) -> float:
    """Return chrF, or chrF++ where rows of two words count too."""
    return float(_chrf(word_order).sentence_score(candidate, references).score)


def ter(candidate: str, references: list[str]) -> float:
    """Return the edits for each hundred words of the reference: less is better, and there is no upper end."""
    return float(_ter().sentence_score(candidate, references).score)


@lru_cache
def _bleu(tokenize: str) -> BLEU:
    return BLEU(tokenize=tokenize, effective_order=True)


@lru_cache
def _chrf(word_order: int) -> CHRF:
    return CHRF(word_order=word_order)


@lru_cache
def _ter() -> TER:
    return TER()
