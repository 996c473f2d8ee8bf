"""The limit that finds itself (`limits.concurrency: auto`), held against the best fixed number of 1,000 simulated servers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from runner.endpoint.pacing.auto import AutoLimit
from tests.reliability.figures import Measured
from tests.simulated_servers import KINDS, Server, best_fixed, drive, servers

__all__ = ["measure_auto"]

_SERVERS = 1000
#: What a server takes on one CPU, by the figures that were measured.
_SERVER_S = 0.7
_MOST = 1024


@dataclass(frozen=True)
class _Held:
    """A run with the limit that finds itself, by the best fixed number's."""

    kind: str
    throughput: float
    p99: float
    refused: float


def _hold(server: Server) -> _Held:
    _, best = best_fixed(server, most=_MOST)
    run = drive(server, AutoLimit(_MOST, now=0.0))
    return _Held(server.kind, run.answers_per_s / best.answers_per_s, run.p99_s / best.p99_s, run.refused_share)


def measure_auto(_directory: Path, seconds: float) -> Measured:
    """Run as many servers as there is time for, of all kinds in turn."""
    workers = os.cpu_count() or 1
    count = max(len(KINDS), min(_SERVERS, int(seconds * workers / _SERVER_S)))
    with ProcessPoolExecutor(workers) as pool:
        held = list(pool.map(_hold, servers(count), chunksize=4))
    throughput = [one.throughput for one in held]
    median, tenth = _at(throughput, 0.5), _at(throughput, 0.1)
    p99, refused = [one.p99 for one in held], [one.refused for one in held]
    waits, refuses = _share(one <= 2 for one in p99), _share(one <= 0.01 for one in refused)
    value = (
        f"{count} servers: throughput {median:.3f} / {tenth:.3f}; "
        f"p99 {_at(p99, 0.5):.2f} (p90 {_at(p99, 0.9):.2f}), ≤ 2 for {waits:.1%}; "
        f"refused {_at(refused, 0.5):.2%} (p90 {_at(refused, 0.9):.2%}), ≤ 1 % for {refuses:.1%}"
    )
    for kind in KINDS:
        value += "; " + _said(kind, [one for one in held if one.kind == kind])
    return Measured(value, met=median >= 0.95 and tenth >= 0.9 and waits >= 0.95 and refuses >= 0.9)


def _said(kind: str, held: Sequence[_Held]) -> str:
    throughput = [one.throughput for one in held]
    waits, refuses = _share(one.p99 <= 2 for one in held), _share(one.refused <= 0.01 for one in held)
    return f"{kind} {_at(throughput, 0.5):.3f} / {_at(throughput, 0.1):.3f}, {waits:.0%}, {refuses:.0%}"


def _at(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _share(holds: Iterable[bool]) -> float:
    found = list(holds)
    return sum(found) / len(found)
