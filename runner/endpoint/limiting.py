"""Builds the rate limiter of an endpoint from `limits`."""

from __future__ import annotations

import math
from collections.abc import Callable

from runner.config.sections import LimitsConfig
from runner.endpoint.pacing.auto import AutoLimit
from runner.endpoint.pacing.rate_limiter import RateLimiter, TokenBudget
from runner.endpoint.pacing.slots import Slots

__all__ = ["auto_limit", "limiter_of", "per_second_of"]


def limiter_of(limits: LimitsConfig, left: Callable[[], float] = lambda: math.inf) -> RateLimiter:
    """Return the rate limiter for the rates and the concurrency of `limits`; `left` returns how many results are missing."""
    tokens = None if limits.tokens_per_minute is None else TokenBudget(limits.tokens_per_minute)
    slots = Slots(limits.most_in_flight)
    limiter = RateLimiter(requests_per_second=per_second_of(limits), tokens=tokens, slots=slots, left=left)
    if limits.finds_concurrency:
        slots.follow(auto_limit(limits, limiter.clock()))
    return limiter


def auto_limit(limits: LimitsConfig, now: float) -> AutoLimit:
    """Return the search for the best number of requests in flight; `now` is the time of its clock, in seconds."""
    return AutoLimit(limits.most_in_flight, first=limits.first_in_flight, now=now)


def per_second_of(limits: LimitsConfig) -> float | None:
    """Return how many requests a second are allowed; None means no limit."""
    per_minute = limits.requests_per_minute
    return limits.requests_per_second if per_minute is None else per_minute / 60
