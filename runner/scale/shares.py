"""Shares: the limits of a run, divided among its workers so that the sum is the whole; and what they cannot share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.config.model import Config, LimitsConfig
from runner.datasets import Dataset

__all__ = ["share", "stamps_of", "unfit", "workers_of"]


def workers_of(limits: LimitsConfig, wanted: int) -> int:
    """Return how many workers can be used: each needs a request in flight, and a token a minute where those are limited."""
    return min(wanted, limits.concurrency, limits.tokens_per_minute or wanted)


def share(limits: LimitsConfig, number: int, of: int) -> Mapping[str, int | float | None]:
    """Return the part of one of so many workers, from 0: rates in equal parts, whole numbers in parts that sum up."""
    tokens = limits.tokens_per_minute
    return {
        "concurrency": _part(limits.concurrency, number, of),
        "requests_per_second": None if limits.requests_per_second is None else limits.requests_per_second / of,
        "requests_per_minute": None if limits.requests_per_minute is None else limits.requests_per_minute / of,
        "tokens_per_minute": None if tokens is None else _part(tokens, number, of),
    }


def unfit(config: Config, dataset: Dataset) -> Iterator[str]:
    """Yield why many processes cannot have the rows, or keep the recordings."""
    for copy in dataset.copies.values():
        yield f"{copy.of}: is a pipe, and workers read the dataset themselves; put it into a file"
    record = config.endpoint.record
    if record is not None and record.endswith(".jsonl"):
        yield f"endpoint.record: {record!r} is one file, and workers would write it side by side; name a directory"


def stamps_of(dataset: Dataset) -> Mapping[str, str]:
    """Return what tells each file from what it was before: workers that read it have to find the same."""
    return {str(file): repr(stamp) for file, stamp in dataset.stamps.items()}


def _part(whole: int, number: int, of: int) -> int:
    return whole * (number + 1) // of - whole * number // of
