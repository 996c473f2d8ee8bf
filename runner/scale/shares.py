"""Shares: the limits of each endpoint, divided among workers so that the sum is the whole; and configs unfit for workers.

An endpoint is named as in the config; "" is the `endpoint` of the config itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from runner.config.file import literals
from runner.config.model import Config
from runner.datasets import Dataset
from runner.keypaths import dotted
from runner.pipeline.resume import Asked
from runner.secrets.redaction import secrets_in
from runner.storage.buckets import is_bucket

__all__ = ["Shares", "shares_of", "stamps_of", "unfit", "unfit_elsewhere", "with_shares", "workers_of"]

#: By endpoint, a part of its limits, by their names.
Shares: TypeAlias = Mapping[str, Mapping[str, int | float]]

_WHOLE = frozenset({"concurrency", "max_concurrency", "tokens_per_minute"})
_SHARED = _WHOLE | {"requests_per_second", "requests_per_minute"}


def workers_of(config: Config, wanted: int) -> int:
    """Return how many workers have work: each needs one request in flight at every endpoint, and one token a minute."""
    whole = (value for limits in _limits(config).values() for name, value in limits.items() if name in _WHOLE)
    return min(wanted, *map(int, whole))


def shares_of(config: Config, number: int, of: int) -> Shares:
    """Return the shares of worker `number`, from 0, of `of` workers. Shares of whole numbers are whole."""
    return {
        endpoint: {name: (_part if name in _WHOLE else _part_of_rate)(value, number, of) for name, value in limits.items()}
        for endpoint, limits in _limits(config).items()
    }


def with_shares(config: Config, shares: Shares, **others: Any) -> Config:
    """Return a config with these shares as its limits; `others` are limits that only the whole run has."""
    endpoints = {
        name: endpoint.model_copy(update={"limits": endpoint.limits.model_copy(update=dict(shares.get(name, {})))})
        for name, endpoint in config.endpoints.items()
    }
    limits = config.limits.model_copy(update={**shares[""], **others})
    return config.model_copy(update={"endpoints": endpoints, "limits": limits})


def _limits(config: Config) -> Shares:
    """Return, for each endpoint that is asked, the limits to divide; those of `limits` apply where it sets none."""
    limits = config.limits
    of_run = limits.model_dump(include={*_SHARED} - {"concurrency" if limits.finds_concurrency else "max_concurrency"})
    named = {name: config.endpoints[name].limits.model_dump() for name in config.asking if name is not None}
    return {
        endpoint: {name: value for name, value in known.items() if value is not None}
        for endpoint, known in {"": of_run, **named}.items()
    }


def _part(whole: float, number: int, of: int) -> int:
    return int(whole) * (number + 1) // of - int(whole) * number // of


def _part_of_rate(rate: float, number: int, of: int) -> float:
    """Return a part of a rate, whole if possible: with a fraction, some seconds have one request more than others."""
    return rate / of if rate < of else _part(rate, number, of) + (rate % 1 if number == 0 else 0.0)


def unfit(config: Config, dataset: Dataset) -> Iterator[str]:
    """Yield why workers cannot read the rows or write the recordings."""
    for copy in dataset.copies.values():
        yield f"{copy.of}: is a pipe, and workers read the dataset themselves; put it into a file"
    for place, endpoint in config.all_endpoints.items():
        if endpoint.record is not None and endpoint.record.endswith(".jsonl"):
            what = f"{endpoint.record!r} is one file, and workers would write it at the same time; name a directory"
            yield f"{dotted(place)}.record: {what}"


def unfit_elsewhere(asked: Asked) -> Iterator[str]:
    """Yield why workers on other machines, which read the copy of the config in the run directory, cannot run it."""
    file, dataset = asked.file, asked.dataset
    if isinstance(dataset, Dataset):
        yield from unfit(asked.config, dataset)
    if is_bucket(asked.config.output):
        yield f"{file.place(('output',))}: output: {asked.config.output}: other machines write into a directory that all share"
    for place, _ in secrets_in(literals(file.document)):
        what = "holds a secret as text, and other machines read a copy of the config without it"
        yield f"{file.place(place)}: {dotted(place)}: {what}; put it into a variable, and write ${{NAME}} in its place"


def stamps_of(dataset: Dataset) -> Mapping[str, str]:
    """Return a stamp of each file, the same on all machines: its size, and its time or the version that its store gives."""
    return {
        str(file): repr(stamp and stamp[-2:] if isinstance(file, Path) else (file.found.size, file.found.content))
        for file, stamp in dataset.stamps.items()
    }
