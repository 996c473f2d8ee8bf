"""The messages between a worker and the coordinator: reports, and the orders that answer them; one line of JSON each.

    worker ──► Report   its progress, once a second, and at once if few or no rows are left
    worker ◄── Orders   rows, bounds for tokens and cost, and when to stop

Orders name rows by their indexes, and results of earlier starts by their places in the journal. The worker reads both itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.datasets import Mark
from runner.pipeline.error_rate import Outcome
from runner.storage.offsets import Place
from runner.structs import Struct, field

__all__ = [
    "BEAT_EVERY_S",
    "Ended",
    "Job",
    "Lease",
    "Orders",
    "Report",
    "Stop",
    "line_of",
    "read_job",
    "read_orders",
    "read_report",
]

#: How often a worker reports, in seconds.
BEAT_EVERY_S = 1.0


class Job(Struct, frozen=True, kw_only=True):
    """The settings that a worker starts with."""

    #: The path of the config, or its content; and its overrides.
    config: str | dict[str, Any]
    overrides: Sequence[str]
    #: Rows that replace the dataset of the config.
    rows: Sequence[dict[str, Any]] | None
    #: The run directory, and the id of the run.
    run: str
    run_id: str
    #: A hash of each value of the config that decides what is asked: a worker with other hashes must not take part.
    identity: Mapping[str, str]
    #: A stamp of each file of the dataset, which changes if the file changes.
    stamps: Mapping[str, str]
    engine: str
    #: The number of the worker, from 0.
    slot: int
    #: By endpoint, the share of its limits that this worker has; "" is the `endpoint` of the config itself.
    shares: Mapping[str, Mapping[str, int | float]]
    #: The directory that relative paths start from.
    cwd: str
    #: The environment variable that holds the API key here; the worker must have it set too.
    key_variable: str | None = None
    #: The machine of the worker, if that may be another one.
    machine: str | None = None

    @property
    def worker(self) -> str:
        """The name of the worker in messages."""
        return f"worker {self.slot}" if self.machine is None else f"worker {self.slot} on {self.machine}"


class Lease(Struct, frozen=True, omit_defaults=True):
    """Rows that a worker is to ask."""

    #: Ranges of indexes, without the end of each.
    runs: Sequence[tuple[int, int]]
    #: By index, the names that depend on other rows; and why a row is bad because its name clashes with that of another row.
    names: Mapping[int, str] = field(default_factory=dict)
    bad: Mapping[int, str] = field(default_factory=dict)
    #: The units of these rows that have a result already (item index, sample index, task), and its place in the journal.
    known: Sequence[tuple[tuple[int, int, str], Place]] = ()
    #: Positions in the files from which the rows can be read without the rows before them.
    marks: Sequence[Mark] = ()


class Stop(Struct, frozen=True):
    """The run is to end."""

    reason: str
    #: How many seconds the requests in flight have to finish; None: as long as they take; 0 drops them.
    within: float | None


class Orders(Struct, frozen=True, omit_defaults=True):
    """What a worker is to do next."""

    leases: Sequence[Lease] = ()
    #: Whether no more rows will come.
    closed: bool = False
    #: How many tokens and dollars this worker may use in all; None: no bound.
    tokens: float | None = None
    cost: float | None = None
    stop: Stop | None = None
    #: By endpoint, for how many seconds nothing may be sent, because another worker received a `Retry-After`.
    pauses: Mapping[str, float] = field(default_factory=dict)
    #: By endpoint, how many requests in flight at each server another worker has found best; without it this worker searches.
    concurrency: Mapping[str, Sequence[int]] = field(default_factory=dict)
    #: By endpoint, by how many requests a second this worker may go faster at each server: another one had them and is done.
    faster: Mapping[str, Sequence[float]] = field(default_factory=dict)
    #: The tasks whose endpoint is down and is probed by this worker; and those whose endpoint has answered another worker.
    may_probe: Sequence[str] = ()
    back: Sequence[str] = ()


class Ended(Struct, frozen=True):
    """How a worker ended by itself."""

    #: Why it stopped; None if all its rows are done.
    reason: str | None = None
    #: `hurry`: because of the endpoint or the clock; `own`: only this worker has the trouble; `leaving`: it got a SIGTERM.
    hurry: bool = False
    own: bool = False
    leaving: bool = False


class Report(Struct, frozen=True, omit_defaults=True):
    """The progress of a worker. All counts are since its start."""

    #: The numbers of its segments: one, or more if one has reached its largest size; none before it has begun.
    segments: Sequence[int] = ()
    #: How many leases have come, how many of their items were begun and how many were not, and how many samples are active.
    leases: int = 0
    begun: int = 0
    ahead: int = 0
    active: int = 0
    #: How many requests are in flight, and how many samples wait.
    in_flight: int = 0
    waiting: int = 0
    #: The results that are synced to disk, and the tokens and dollars of their answers.
    ok: int = 0
    errors: int = 0
    retries: int = 0
    tokens: int = 0
    cost: float = 0.0
    #: The number of values of the first metric, and their sum.
    values: int = 0
    value_sum: float = 0.0
    #: The tokens and dollars of all answers, also of those that are not synced yet.
    used: int = 0
    spent: float = 0.0
    #: By endpoint, for how many seconds it wants no request (`Retry-After`).
    pauses: Mapping[str, float] = field(default_factory=dict)
    #: By endpoint, how many requests are to be in flight at each of its servers, if the run finds that number itself.
    concurrency: Mapping[str, Sequence[int]] = field(default_factory=dict)
    #: By endpoint, the pace that 429s have shown at each of its servers, in requests a second; 0 where none came.
    paces: Mapping[str, Sequence[float]] = field(default_factory=dict)
    #: By task whose endpoint is down, whether there is a control request: a request that was answered before.
    down: Mapping[str, bool] = field(default_factory=dict)
    #: By task, the outcomes of its last rows since the previous report.
    outcomes: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    #: The longest delay of its event loop, in seconds.
    loop_lag_s: float = 0.0
    ended: Ended | None = None
    #: The prices that were used, at the end.
    prices: dict[str, Any] | None = None


_ENCODE = msgspec.json.Encoder().encode


def line_of(message: Job | Report | Orders) -> bytes:
    """Return a message as a line of JSON."""
    return _ENCODE(message) + b"\n"


#: These decode a line. Each raises ValueError.
read_job = msgspec.json.Decoder(Job).decode
read_report = msgspec.json.Decoder(Report).decode
read_orders = msgspec.json.Decoder(Orders).decode
