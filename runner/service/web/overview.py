"""The values of the list of evaluations, and of the head of the page of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from runner.service.asking import Service
from runner.service.store import RUNNING, Record
from runner.structs import Struct

__all__ = ["Line", "duration", "line_of", "metrics_of", "models_of", "totals_of", "verdicts_of"]


class Line(Struct, frozen=True):
    """An evaluation in the list."""

    record: Record
    successful: int
    failed: int
    pending: int
    #: Results per second, and the remaining time at that rate; None unless it runs.
    per_second: float | None
    eta: str | None
    tokens: int | None
    #: The alias, the mean and the interval of its first metric.
    metric: str | None
    models: Sequence[str]
    age: str

    @property
    def total(self) -> int:
        """The number of its items."""
        return self.record.rows

    @property
    def status(self) -> str:
        """Its status; `waits` if it waits to run."""
        return "waits" if self.record.status == RUNNING and self.per_second is None else self.record.status


def line_of(service: Service, record: Record) -> Line:
    """Return the line of an evaluation. Raises StorageError."""
    if record.progress is not None:
        items = record.progress["items"]
        counts = items["successful"], items["failed"], items["pending"]
    else:
        with service.standings.of(record) as standing:
            counts = standing.states().counts
    samples = service.watch.of(record.id)
    rate = list(service.watch.rates(record.id))[-1][1] if len(samples) > 1 else 0.0 if samples else None
    left = record.rows * len(record.tasks) - samples[-1].done if samples else 0
    totals = totals_of(record)
    first = next(metrics_of(totals), None)
    used = totals.get("tokens") or {}
    return Line(
        record,
        *counts,
        per_second=rate,
        eta=duration(left / rate) if rate and left > 0 else None,
        tokens=samples[-1].tokens if samples else sum(used.get(f"{kind}_tokens") or 0 for kind in ("prompt", "completion")),
        metric=None if first is None else f"{first['alias']} {first['mean']:.4f}{first['interval']}",
        models=models_of(record),
        age=duration(record.age_s),
    )


def models_of(record: Record) -> list[str]:
    """Return the models of an evaluation, by the names that its client used."""
    named = (task["configuration"].get("model") for task in record.tasks)
    return list(dict.fromkeys(one for one in named if isinstance(one, str)))


def totals_of(record: Record) -> dict[str, Any]:
    """Return the totals of an evaluation that has ended; an empty object while it runs."""
    path = record.path / "evaluation.json"
    try:
        return {} if record.status == RUNNING else _totals_in(path, path.stat().st_mtime_ns)
    except (OSError, msgspec.MsgspecError):  # it is being written
        return {}


@lru_cache(maxsize=512)
def _totals_in(path: Path, _changed: int) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes()).get("totals") or {}
    return found


def metrics_of(totals: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the metrics that have a mean, each with its interval as text."""
    for alias, metric in (totals.get("metrics") or {}).items():
        if metric["mean"] is not None:
            low, high = metric["ci95"] or (None, None)
            interval = "" if low is None else f" ({low:.4f} to {high:.4f})"
            yield {**metric, "alias": alias, "interval": interval}


def verdicts_of(totals: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, int, float]]]]:
    """Yield the verdicts of each judge, each with its count and its share."""
    for alias, judge in ((totals.get("judges") or {}).get("by_task") or {}).items():
        count = sum(judge["verdicts"].values()) or 1
        yield alias, [(name, times, times / count) for name, times in judge["verdicts"].items()]


def duration(seconds: float) -> str:
    """Return a duration as text: `12 s`, `3 min 05`, `1 h 04`, `2 d 03`."""
    whole = round(seconds)
    for size, name, below in ((86400, "d", 3600), (3600, "h", 60), (60, "min", 1)):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below:02}"
    return f"{whole} s"
