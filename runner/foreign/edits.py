"""The share of a text that stays when it is edited into another, computed by `rapidfuzz` from Levenshtein's distance."""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein

__all__ = ["similarity"]


def similarity(candidate: str, references: list[str]) -> float:
    """Return 1 minus the edits of letters for each letter of the longer text; that of the best reference."""
    return max(Levenshtein.normalized_similarity(candidate, one) for one in references)
