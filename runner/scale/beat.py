"""What a worker and the coordinator tell each other: reports, and orders that answer them; a JSON text on a line each.

    worker ──► Report   how far it is, once a second, and at once where it has no rows left
    worker ◄── Orders   rows, what may be spent, and when to stop

Rows are named by their indexes: the worker reads them itself. Rows and answers never go this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.datasets import Mark
from runner.pipeline.error_rate import Outcome
from runner.storage.records import End
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
    """What a worker has to know at its start."""

    #: The path of the config, or its content; and what overrides it.
    config: str | dict[str, Any]
    overrides: Sequence[str]
    #: Rows that take the place of the config's.
    rows: Sequence[dict[str, Any]] | None
    #: Where the run is kept, and its id.
    run: str
    run_id: str
    #: A hash of each value of the config that decides what is asked: a worker that has others is no worker of this run.
    identity: Mapping[str, str]
    #: What tells each file of the dataset from what it was before, or will be later.
    stamps: Mapping[str, str]
    engine: str
    #: The worker's place, from 0.
    slot: int
    #: Its part of the limits of each endpoint, by their names; "" is the config's own endpoint.
    shares: Mapping[str, Mapping[str, int | float]]
    #: Where relative paths are taken from.
    cwd: str
    #: The variable whose key whoever gives out rows has; a worker has to have one too.
    key_variable: str | None = None
    #: The machine that it is on, where that may be another one.
    machine: str | None = None

    @property
    def worker(self) -> str:
        """The worker, as it is named to people."""
        return f"worker {self.slot}" if self.machine is None else f"worker {self.slot} on {self.machine}"


class Lease(Struct, frozen=True, omit_defaults=True):
    """Rows that a worker is to work on."""

    #: Ranges of indexes, each from its first to before its last.
    runs: Sequence[tuple[int, int]]
    #: The names that depend on other rows, and why rows are bad for having another's.
    names: Mapping[int, str] = field(default_factory=dict)
    bad: Mapping[int, str] = field(default_factory=dict)
    #: What is known already of these rows.
    known: Sequence[End] = ()
    #: Places in the files from which they can be read without the rows before.
    marks: Sequence[Mark] = ()


class Stop(Struct, frozen=True):
    """The run is to end."""

    reason: str
    #: Seconds for which what is in flight may go on; None: as long as it takes. 0 drops it.
    within: float | None


class Orders(Struct, frozen=True, omit_defaults=True):
    """What a worker is to do."""

    leases: Sequence[Lease] = ()
    #: Whether there will be no more.
    closed: bool = False
    #: Up to how many tokens, and dollars, this worker may use in all; None: any number.
    tokens: float | None = None
    cost: float | None = None
    stop: Stop | None = None
    #: By endpoint the seconds for which nothing is to be sent: it has said so to another worker.
    pauses: Mapping[str, float] = field(default_factory=dict)
    #: By endpoint how many requests at each of its servers another worker has found best; without them this one finds it.
    concurrency: Mapping[str, Sequence[int]] = field(default_factory=dict)
    #: The tasks whose endpoint is down and to be looked for by this worker; and those whose endpoint has answered another one.
    may_probe: Sequence[str] = ()
    back: Sequence[str] = ()


class Ended(Struct, frozen=True):
    """How a worker came to its end by itself."""

    #: Why it stopped; None where all its rows are done.
    reason: str | None = None
    #: Whether that was for the endpoint; `own` tells that it is only this worker, `leaving` that it was told to go.
    hurry: bool = False
    own: bool = False
    leaving: bool = False


class Report(Struct, frozen=True, omit_defaults=True):
    """How far a worker is. All counts are since its start."""

    #: The numbers of its segments: one, unless that has grown as far as it may; none where it has not begun.
    segments: Sequence[int] = ()
    #: Leases that have come, items of them that were begun, that were not, and samples being worked on.
    leases: int = 0
    begun: int = 0
    ahead: int = 0
    active: int = 0
    #: Requests in flight, and samples that wait.
    in_flight: int = 0
    waiting: int = 0
    #: Results that are synced to disk, and what their answers have used and cost.
    ok: int = 0
    errors: int = 0
    retries: int = 0
    tokens: int = 0
    cost: float = 0.0
    #: How many values the first metric has given, and their sum.
    values: int = 0
    value_sum: float = 0.0
    #: What all answers have used and cost, those too that are not synced.
    used: int = 0
    spent: float = 0.0
    #: By endpoint the seconds for which it wishes that nothing is sent (`Retry-After`).
    pauses: Mapping[str, float] = field(default_factory=dict)
    #: By endpoint how many requests are to be in flight at each of its servers, where that is found while the run goes on.
    concurrency: Mapping[str, Sequence[int]] = field(default_factory=dict)
    #: The tasks whose endpoint is down.
    down: Sequence[str] = ()
    #: By task what became of its last rows since the report before.
    outcomes: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    #: How late its event loop was at worst, in seconds.
    loop_lag_s: float = 0.0
    ended: Ended | None = None
    #: The prices that were used, at the end.
    prices: dict[str, Any] | None = None


_ENCODE = msgspec.json.Encoder().encode


def line_of(message: Job | Report | Orders) -> bytes:
    """Return a message as a line."""
    return _ENCODE(message) + b"\n"


#: What reads a line. Each raises ValueError.
read_job = msgspec.json.Decoder(Job).decode
read_report = msgspec.json.Decoder(Report).decode
read_orders = msgspec.json.Decoder(Orders).decode
