"""Several answers to one question: how often at least one of k is right, all of k are, or the majority of k is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeAlias

__all__ = ["majority_at_k", "pass_at_k", "pass_hat_k"]

#: How many answers are chosen, how many different ones are tied for the most votes, and how many of these are right.
_State: TypeAlias = tuple[int, int, int]


def pass_at_k(n: int, right: int, k: int) -> float | None:
    """Return how likely at least one of k answers is right, if `right` of n are (Chen et al. 2021); None if n < k."""
    return None if n < k else 1 - math.comb(n - right, k) / math.comb(n, k)


def pass_hat_k(n: int, right: int, k: int) -> float | None:
    """Return how likely all of k answers are right, if `right` of n are; None if n < k."""
    return None if n < k else math.comb(right, k) / math.comb(n, k)


def majority_at_k(
    answers: Sequence[Hashable | None], right: Collection[Hashable], k: int, *, strict: bool = False
) -> float | None:
    """Return how likely the most frequent of k answers is right, over all choices of k of them; None if there are fewer.

    Each answer is a vote for its text; None is not a vote. If answers are tied for the most votes, each counts in equal parts.
    With `strict` an answer needs the votes of more than half of k.
    """
    if len(answers) < k:
        return None
    votes = Counter(answer for answer in answers if answer is not None)
    silent = len(answers) - votes.total()
    won = sum(_won_with(top, votes, right, k, silent, strict=strict) for top in range(1, k + 1))
    return won / math.comb(len(answers), k)


def _won_with(
    top: int, votes: Mapping[Hashable, int], right: Collection[Hashable], k: int, silent: int, *, strict: bool
) -> float:
    """Return how many choices of k have `top` as the most votes, each weighted by the share of right answers in the tie."""
    if strict and 2 * top <= k:
        return 0.0
    ways: dict[_State, int] = {(0, 0, 0): 1}
    for answer, count in votes.items():
        found: dict[_State, int] = {}
        for (taken, tied, tied_right), so_far in ways.items():
            for more in range(min(count, top, k - taken) + 1):
                is_first = more == top
                state = (taken + more, tied + is_first, tied_right + (is_first and answer in right))
                found[state] = found.get(state, 0) + so_far * math.comb(count, more)
        ways = found
    return math.fsum(
        count * math.comb(silent, k - taken) * tied_right / tied for (taken, tied, tied_right), count in ways.items() if tied
    )
