"""The summary: the totals of a run, counted over its results in dataset order in constant memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from runner.errors import common_words
from runner.reading.reasoning import split_reasoning
from runner.results.concurrency import Kept, found_in
from runner.results.costs import Costs
from runner.results.judging import Judges
from runner.results.scores import Scores
from runner.results.slots import SlotTimes
from runner.results.stragglers import Stragglers
from runner.storage.records import End
from runner.structs import Struct, field

__all__ = ["PERCENTILES", "Quantiles", "Summary"]

#: The percentiles of times, by their names in totals and gates.
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

_MOST_FAILED_ITEMS = 100
#: The most kinds of errors that are counted, and how many of them are reported.
_MOST_KINDS = 1000
_TOLD = 3
_SAMPLE = attrgetter("sample_index")


class Quantiles:
    """Quantiles of any number of positive numbers, to within 1 %: a histogram of logarithms."""

    _STEP = math.log(1.01)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count a number."""
        self._counts[round(math.log(max(value, 1e-6)) / self._STEP)] += 1

    def counts(self) -> list[tuple[float, int]]:
        """Return the numbers that were counted, to within 1 %, from the smallest on, each with how many there are."""
        return [(math.exp(bucket * self._STEP), count) for bucket, count in sorted(self._counts.items())]

    def at(self, share: float) -> float | None:
        """Return the number below which a share of all numbers lies, or None if there are no numbers."""
        wanted, seen = share * self._counts.total(), 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return round(math.exp(bucket * self._STEP), 6)
        return None


class Failures(Struct):
    """Errors of one kind: of the same task and type, with similar messages."""

    first: End
    count: int = 0

    def report(self) -> dict[str, Any]:
        """Return how many there are, and the first of them."""
        first = self.first
        return {
            "count": self.count,
            "task": first.task,
            "error_type": first.error_type,
            "message": first.message,
            "item_id": first.item_id,
        }


class Summary(Struct):
    """Everything that is counted over the results of a run."""

    results: int = 0
    #: How many of them were not run because their condition did not hold.
    skipped: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    empty: int = 0
    without_usage: int = 0
    text_repaired: int = 0
    #: Answers with reasoning in their text, and how many of them were cut off within it.
    reasoning_in_text: int = 0
    cut_off_in_reasoning: int = 0
    requests: int = 0
    #: Answers for which nothing was sent.
    cached: int = 0
    attempts: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    latency: Quantiles = field(default_factory=Quantiles)
    ttft: Quantiles = field(default_factory=Quantiles)
    slots: SlotTimes = field(default_factory=SlotTimes)
    stragglers: Stragglers = field(default_factory=Stragglers)
    scores: Scores = field(default_factory=Scores)
    costs: Costs = field(default_factory=Costs)
    judges: Judges = field(default_factory=Judges)
    #: Items of which every result is an answer, and items with at least one error.
    items_successful: int = 0
    items_failed: int = 0
    failed_items: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[tuple[str, str, str], Failures] = field(default_factory=dict)
    #: By task the request of the first item, or None once another differs, and how many requests there were.
    same: dict[str, tuple[str | None, int]] = field(default_factory=dict)

    def fold(self, ends: Iterable[End], units_per_item: int) -> Iterator[End]:
        """Count results, which come in dataset order, and yield them."""
        item: list[End] = []
        for end in ends:
            if item and item[0].item_index != end.item_index:
                self._add_item(item, units_per_item)
                item = []
            item.append(end)
            self._add(end)
            yield end
        if item:
            self._add_item(item, units_per_item)

    def _add(self, end: End) -> None:
        self.attempts += end.attempts
        self.costs.add(end)
        if end.is_answered:
            self._add_paid(end)
        if end.error_type is not None:
            self.errors[end.error_type] += 1
            self._add_failure(end, end.error_type)
            return
        self.results += 1
        self.skipped += end.skipped
        if end.request is None:
            return
        self.empty += end.is_empty
        answer, reasoning = split_reasoning(end.output or "")
        self.reasoning_in_text += reasoning is not None
        self.cut_off_in_reasoning += answer is None

    def _add_paid(self, end: End) -> None:
        """Count the usage of an answer, even of one without a verdict."""
        self.requests += not end.cached
        self.cached += end.cached
        if end.sample_index == 0:
            first, count = self.same.get(end.task, (end.request, 0))
            self.same[end.task] = (first if first == end.request else None, count + 1)
        self.text_repaired += end.text_repaired
        self.truncated += end.finish_reason == "length"
        self.without_usage += end.total_tokens is None and end.completion_tokens is None
        self._add_tokens(end)
        if end.latency_s is not None:
            self.latency.add(end.latency_s)
        if end.ttft_s is not None:
            self.ttft.add(end.ttft_s)

    def _add_tokens(self, end: End) -> None:
        tokens = self.tokens
        if end.cached:  # nothing was spent, but there was an answer
            tokens.update(dict.fromkeys(("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens"), 0))
            return
        tokens["prompt_tokens"] += (prompt := end.prompt_tokens or 0)
        tokens["completion_tokens"] += (completion := end.completion_tokens or 0)
        tokens["reasoning_tokens"] += end.reasoning_tokens or 0
        tokens["cached_tokens"] += end.cached_tokens or 0
        if end.used_tokens is not None:
            tokens["estimated_tokens"] += max(0, end.used_tokens - prompt - completion)

    def _add_failure(self, end: End, error_type: str) -> None:
        kind = (end.task, error_type, common_words(end.message or ""))
        if kind in self.failures or len(self.failures) < _MOST_KINDS:
            self.failures.setdefault(kind, Failures(end)).count += 1

    def _add_item(self, ends: list[End], units_per_item: int) -> None:
        failed = [end for end in ends if end.error_type is not None]
        if failed:
            self.items_failed += 1
            if len(self.failed_items) < _MOST_FAILED_ITEMS:
                first = failed[0]
                self.failed_items.append({"item_id": first.item_id, "error": first.message, "error_type": first.error_type})
        elif len(ends) == units_per_item:
            self.items_successful += 1
        for _, of_sample in groupby(ends, _SAMPLE):
            sample = list(of_sample)
            self.slots.add_sample(sample)
            self.stragglers.add_sample(sample)
        self.scores.add_item(ends)
        self.judges.add_item(ends)

    def totals(
        self, *, wall_s: float, slot_s: float, limits: Kept = (), starts: Sequence[tuple[int, float]] = ()
    ) -> dict[str, Any]:
        """Return the totals as they stand in evaluation.json.

        `wall_s` is the time that all starts of the run took together, `slot_s` that time multiplied by the concurrency of each.
        `limits` and `starts` are the journal's lines about a concurrency that was found, and the times of the starts.
        """
        found = found_in(limits, starts)
        full = self.slots.full(slot_s)
        commonest = sorted(self.failures.values(), key=lambda one: -one.count)
        return {
            "results": self.results,
            "skipped": self.skipped,
            "errors": dict(sorted(self.errors.items())),
            "commonest_errors": [one.report() for one in commonest[:_TOLD]],
            "requests": self.requests,
            "cached": self.cached,
            "attempts": self.attempts,
            "truncated": self.truncated,
            "empty": self.empty,
            "without_usage": self.without_usage,
            "text_repaired": self.text_repaired,
            "reasoning_in_text": self.reasoning_in_text,
            "cut_off_in_reasoning": self.cut_off_in_reasoning,
            "tokens": dict(self.tokens),
            "latency_s": {name: self.latency.at(share) for name, share in PERCENTILES.items()},
            "ttft_s": {name: self.ttft.at(share) for name, share in PERCENTILES.items()},
            "wall_s": round(wall_s, 3),
            "requests_per_s": round(self.requests / wall_s, 3) if wall_s > 0 else None,
            "slots_full": None if full is None else round(full, 4),
            "bound_by": self.slots.bound_by(slot_s=slot_s, wall_s=wall_s),
            "slowest": self.stragglers.report(wall_s),
            "same_request": {task: count for task, (first, count) in sorted(self.same.items()) if first is not None},
            "metrics": self.scores.report(),
            "judges": self.judges.report(),
            **({} if found is None else {"concurrency": found}),
        }
