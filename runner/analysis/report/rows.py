"""The rows of a report's table of items: one for each item and sample, in columns that take little memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from heapq import nsmallest

from runner.results.grouping import group_in
from runner.storage.records import End

__all__ = ["CACHED", "EMPTY", "ERROR", "NO_ANSWER", "SKIPPED", "TRUNCATED", "Rows"]

#: Flags of a row, as bits; browser.js has the same.
ERROR = 1
TRUNCATED = 2
EMPTY = 4
NO_ANSWER = 8
CACHED = 16
SKIPPED = 32


class Rows:
    """The columns, each with one value a row; an unknown value is NaN, or -1 for tokens."""

    def __init__(self, tables: int) -> None:
        """Take how many tables of groups there are."""
        self.item_ids: list[str] = []
        self.item_indices = array("q")
        self.sample_indices = array("i")
        self.flags = array("B")
        #: The latencies of all requests of a row in seconds, summed, and their completion tokens.
        self.latencies = array("f")
        self.tokens = array("q")
        #: Characters of all answers of a row.
        self.lengths = array("q")
        #: The values of each metric that has given any, by its alias.
        self.values: dict[str, array[float]] = {}
        #: For each table the names of its groups, and the number of each row's group.
        self.groups: list[dict[str, int]] = [{} for _ in range(tables)]
        self.codes: list[array[int]] = [array("i") for _ in range(tables)]

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.item_ids)

    def add_item(self, ends: Sequence[End], groups: Sequence[str]) -> None:
        """Add the rows of one item, with the name of its group in each table."""
        samples: dict[int, list[End]] = {}
        for end in ends:
            samples.setdefault(end.sample_index, []).append(end)
        codes = [names.setdefault(group_in(names, group), len(names)) for names, group in zip(self.groups, groups, strict=True)]
        for sample_index, own in samples.items():
            self._add(sample_index, own)
            for column, code in zip(self.codes, codes, strict=True):
                column.append(code)

    def _add(self, sample_index: int, ends: Sequence[End]) -> None:
        flags, latency, tokens, letters = 0, math.nan, -1, 0
        values: dict[str, float] = {}
        for end in ends:
            if end.error_type is not None:
                flags |= ERROR
            elif end.skipped:
                flags |= SKIPPED
            elif end.task_type == "metric":
                if end.value is not None:
                    values[end.task] = end.value
                    flags |= NO_ANSWER if end.value == 0 and not end.output else 0
            else:
                flags |= _flags_of(end)
                letters += len(end.output or "")
                if end.latency_s is not None:
                    latency = end.latency_s + (0.0 if math.isnan(latency) else latency)
                if end.completion_tokens is not None:
                    tokens = max(0, tokens) + end.completion_tokens
        for alias in [alias for alias in values if alias not in self.values]:
            self.values[alias] = array("d", [math.nan]) * len(self)
        self.item_ids.append(ends[0].item_id)
        self.item_indices.append(ends[0].item_index)
        self.sample_indices.append(sample_index)
        self.flags.append(flags)
        self.latencies.append(latency)
        self.tokens.append(tokens)
        self.lengths.append(letters)
        for alias, column in self.values.items():
            column.append(values.get(alias, math.nan))

    def by_hash(self, numbers: Iterable[int], most: int) -> list[int]:
        """Return the first `most` rows in an order that is random, but the same each time."""

        def rank(number: int) -> bytes:
            name = f"{self.sample_indices[number]} {self.item_ids[number]}"
            return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()

        return nsmallest(most, numbers, rank)

    def wrong_values(self, lower_is_better: Collection[str]) -> dict[str, float | None]:
        """Return by metric the value of a wrong answer; None if answers are not just right or wrong."""
        return {
            alias: (1.0 if alias in lower_is_better else 0.0)
            if all(value in {0.0, 1.0} or math.isnan(value) for value in values)
            else None
            for alias, values in self.values.items()
        }


def _flags_of(end: End) -> int:
    return (TRUNCATED if end.finish_reason == "length" else 0) | (EMPTY if end.is_empty else 0) | (CACHED if end.cached else 0)
