"""How many variations of a test are tried: some of each kind by the test command, all of them by the campaign."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, TypeVar

import pytest

__all__ = ["CAMPAIGN", "EXAMPLES", "crossed", "some"]

T = TypeVar("T")

#: Whether everything is to be tried, as `python -m tests.reliability --only tests` does.
CAMPAIGN = "CAMPAIGN" in os.environ
#: How many examples Hypothesis draws for a test.
EXAMPLES = int(os.environ.get("CAMPAIGN", "15"))


def crossed(*kinds: Mapping[str, Any]) -> list[Any]:
    """Cross the values of several kinds, by their names: each with each, or as few as have each value once."""
    combinations = list(product(*kinds))
    if not CAMPAIGN:
        most = max(map(len, kinds))
        combinations = [tuple(list(kind)[number % len(kind)] for kind in kinds) for number in range(most)]
    return [
        pytest.param(*(kind[name] for kind, name in zip(kinds, names, strict=True)), id="-".join(names))
        for names in combinations
    ]


def some(cases: Sequence[T], count: int) -> Sequence[T]:
    """Return the first so many cases, of which each stands for a kind; or all of them."""
    return cases if CAMPAIGN else cases[:count]
