"""Shares: the limits of a run, divided among its workers so that the sum is the whole; and what they cannot share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.config.file import literals
from runner.config.model import Config
from runner.config.sections import LimitsConfig
from runner.datasets import Dataset
from runner.keypaths import dotted
from runner.pipeline.resume import Asked
from runner.secrets.redaction import secrets_in
from runner.storage.buckets import is_bucket

__all__ = ["share", "stamps_of", "unfit", "unfit_elsewhere", "workers_of"]


def workers_of(limits: LimitsConfig, wanted: int) -> int:
    """Return how many workers can be used: each needs a request in flight, and a token a minute where those are limited."""
    return min(wanted, limits.most_in_flight, limits.tokens_per_minute or wanted)


def share(limits: LimitsConfig, number: int, of: int) -> Mapping[str, int | float | None]:
    """Return the part of one of so many workers, from 0: rates in equal parts, whole numbers in parts that sum up."""
    tokens = limits.tokens_per_minute
    return {
        "max_concurrency" if limits.finds_concurrency else "concurrency": _part(limits.most_in_flight, number, of),
        "requests_per_second": None if limits.requests_per_second is None else limits.requests_per_second / of,
        "requests_per_minute": None if limits.requests_per_minute is None else limits.requests_per_minute / of,
        "tokens_per_minute": None if tokens is None else _part(tokens, number, of),
    }


def unfit(config: Config, dataset: Dataset) -> Iterator[str]:
    """Yield why many processes cannot have the rows, or keep the recordings."""
    for copy in dataset.copies.values():
        yield f"{copy.of}: is a pipe, and workers read the dataset themselves; put it into a file"
    for name, endpoint in config.endpoints.items():
        if endpoint.limits.model_dump(exclude_none=True):
            yield f"endpoints.{name}.limits: workers divide only `limits` among them; leave it out, or run in one process"
    record = config.endpoint.record
    if record is not None and record.endswith(".jsonl"):
        yield f"endpoint.record: {record!r} is one file, and workers would write it side by side; name a directory"


def unfit_elsewhere(asked: Asked) -> Iterator[str]:
    """Yield why other machines, which read the run's own copy of the config, cannot do what it says."""
    file, dataset = asked.file, asked.dataset
    if isinstance(dataset, Dataset):
        yield from unfit(asked.config, dataset)
    if is_bucket(asked.config.output):
        yield f"{file.place(('output',))}: output: {asked.config.output}: other machines write into a directory that all share"
    for place, _ in secrets_in(literals(file.document)):
        what = "holds a secret as text, and other machines read a copy of the config that has none"
        yield f"{file.place(place)}: {dotted(place)}: {what}; put it into a variable, and write ${{NAME}} in its place"


def stamps_of(dataset: Dataset) -> Mapping[str, str]:
    """Return what tells each file from what it was before: its size and time, which are the same on all machines."""
    return {str(file): repr(stamp and stamp[-2:]) for file, stamp in dataset.stamps.items()}


def _part(whole: int, number: int, of: int) -> int:
    return whole * (number + 1) // of - whole * number // of
