"""Servers with so many slots, over real sockets: how near `concurrency: auto` comes to the best number, and several as one."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.reliability.endpoint import Behaviour, Endpoint, endpoint
from tests.reliability.figures import Measured, finish, project_at

__all__ = ["measure_auto_run", "measure_several"]

#: So much of each run is for finding the number.
_FIRST_S = 30.0
#: More rows than any of these servers answers in a second of its life.
_ROWS_PER_S = 400
_LATENCY = (0.1, 0.3)
#: Each kind of server, and the number in flight at which it is just busy: the fewest of the best.
_SHAPES = {
    "slots and a queue": (Behaviour(latency=_LATENCY, slots=24), 25),
    "a batch that grows": (Behaviour(latency=(0.05, 0.15), slots=48, longer=0.04), 49),
    "503 where it is full": (Behaviour(latency=_LATENCY, slots=24, room=36), 25),
}
#: Two servers, which are asked as one.
_SIZES = (8, 24)


@dataclass(frozen=True)
class _Came:
    """What came of a run behind its first seconds; refusals are those of the whole run."""

    answers: int
    p99_s: float
    refused: float


def measure_auto_run(directory: Path, seconds: float) -> Measured:
    """Run each server with the best fixed number and with `auto`, both at the same time."""
    each_s = max(_FIRST_S + 10, seconds / len(_SHAPES))
    values, met = [], True
    for number, (name, (behaviour, best)) in enumerate(_SHAPES.items()):
        with ThreadPoolExecutor(2) as beside:
            limits: Sequence[Any] = (best, "auto")
            runs = [beside.submit(_run, directory / f"{number}-{limit}", behaviour, limit, each_s) for limit in limits]
            fixed, auto = (run.result() for run in runs)
        throughput, p99 = auto.answers / fixed.answers, auto.p99_s / fixed.p99_s
        values.append(f"{name}: {throughput:.3f}, p99 {p99:.2f}, refused {auto.refused:.1%}")
        met = met and throughput >= 0.95 and p99 <= 2 and auto.refused <= 0.01
    return Measured("; ".join(values), met=met)


def _run(directory: Path, behaviour: Behaviour, concurrency: Any, seconds: float) -> _Came:
    with endpoint(behaviour) as served:
        project = project_at(directory, served, int(seconds * _ROWS_PER_S), concurrency=concurrency)
        with project.started() as process:
            _wait_for_first(served)
            began = time.time()
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            finish(process, 120)
        statuses = served.stats()["statuses"]
    rows = pq.read_table(project.run_dir / "results.parquet", columns=["completed_at", "latency_s"])
    at = pc.divide(pc.cast(rows["completed_at"], "int64"), 1e6)
    late = rows.filter(pc.and_(pc.greater(at, began + _FIRST_S), pc.less(at, began + seconds)))
    latencies = sorted(late["latency_s"].to_pylist())
    return _Came(len(latencies), latencies[int(len(latencies) * 0.99)], statuses.get("503", 0) / sum(statuses.values()))


def measure_several(directory: Path, seconds: float) -> Measured:
    """Ask two servers of unlike size as one, and kill the larger one when half of the time is over."""
    half_s, each_s = max(10.0, seconds / 2), sum(_LATENCY) / 2
    small, large = (Behaviour(latency=_LATENCY, slots=slots) for slots in _SIZES)
    with endpoint(small) as lives, endpoint(large) as dies:
        project = project_at(directory, lives, int(2 * half_s * _ROWS_PER_S), concurrency=sum(_SIZES) + 8)
        both = replace(project, more={"endpoint": {"base_url": [lives.url, dies.url]}})
        with both.started() as process:
            _wait_for_first(lives)
            time.sleep(half_s / 4)
            before, began = lives.answers() + dies.answers(), time.monotonic()
            time.sleep(half_s * 3 / 4)
            answers, took_s = lives.answers() + dies.answers() - before, time.monotonic() - began
            dies.kill()
            died = time.monotonic()
            time.sleep(half_s)
            process.send_signal(signal.SIGINT)
            ended = time.monotonic()
            finish(process, 120)
        stats = lives.stats()
    used = answers / took_s / (sum(_SIZES) / each_s)
    alone = sum(died <= at <= ended for at in stats["answered_at"].values())
    idle_s = max(0.0, ended - died - alone / (_SIZES[0] / each_s))
    lost = len(both.errors())
    value = f"{used:.1%} of their sum; the larger one killed: {lost} rows lost, the other one idle for {idle_s:.1f} s"
    return Measured(value, met=used >= 0.95 and lost == 0 and idle_s <= 1)


def _wait_for_first(served: Endpoint) -> None:
    until = time.monotonic() + 30
    while not served.answers() and time.monotonic() < until:
        time.sleep(0.02)
