"""What many workers share of an endpoint: a rate, a budget of tokens, and what a server allows that nobody has configured."""

from __future__ import annotations

import os
import random
import signal
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from tests.crowds import workers_of
from tests.reliability.endpoint import Behaviour, endpoint
from tests.reliability.figures import Measured, finish, project_at

__all__ = ["measure_shares"]

_RATE, _BURST = 200, 20
_MAX_TOKENS, _CONCURRENCY = 60_000, 32
#: Of the seconds that there are, each of five runs has a part.
_PARTS = 5
_LATENCY = (0.05, 0.1)


def measure_shares(directory: Path, seconds: float) -> Measured:
    """Run one after the other: with a rate, with a budget, and with neither by 1, 2 and 4 workers."""
    rows = max(1000, int(seconds / _PARTS * _RATE))
    found = [_capped(directory / "rate", rows), _budgeted(directory / "tokens")]
    found += [_learnt(directory / f"learnt-{workers}", rows, workers) for workers in (1, 2, 4)]
    return Measured("; ".join(one.value for one in found), met=all(one.met for one in found))


def _capped(directory: Path, rows: int) -> Measured:
    """Keep a rate with two workers, one of which is killed in the middle."""
    with endpoint(Behaviour(latency=_LATENCY)) as served:
        project = project_at(directory, served, rows, concurrency=64, requests_per_second=_RATE)
        with project.started("--processes", "2") as process:
            while process.poll() is None and served.answers() < rows / 2:
                time.sleep(0.02)
            for worker in random.Random(1).sample(workers_of(process.pid), 1):
                os.kill(worker, signal.SIGKILL)
            code, _, _ = finish(process, 120 + rows)
        arrivals = served.stats()["arrivals"]
    used, most = _used(arrivals), _most_in_a_second(arrivals)
    value = f"{_RATE}/s, one of 2 workers killed: {used:.1%} used, at most {most} in a second"
    return Measured(value, met=code == 0 and used >= 0.9 and most <= _RATE + 2)


def _budgeted(directory: Path) -> Measured:
    """Use up a budget of tokens with two workers."""
    with endpoint(Behaviour(latency=_LATENCY)) as served:
        project = project_at(directory, served, 20_000, concurrency=_CONCURRENCY, max_tokens=_MAX_TOKENS)
        with project.started("--processes", "2") as process:
            code, _, _ = finish(process, 300)
    each = [row["prompt_tokens"] + row["completion_tokens"] for row in project.results()]
    beyond = sum(each) - _MAX_TOKENS
    return Measured(
        f"max_tokens {_MAX_TOKENS:,}: {beyond:+,} (an answer has {max(each)})",
        met=code == 3 and 0 <= beyond <= _CONCURRENCY * max(each),
    )


def _learnt(directory: Path, rows: int, workers: int) -> Measured:
    """Find out what a server allows, each worker by itself."""
    with endpoint(Behaviour(latency=_LATENCY, rate=_RATE, burst=_BURST)) as served:
        project = project_at(directory, served, rows, concurrency=64)
        with project.started("--processes", str(workers)) as process:
            code, _, _ = finish(process, 120 + rows)
        stats = served.stats()
    refused, asked = stats["statuses"].get("429", 0), len(stats["arrivals"])
    used = _used(stats["arrivals"]) * (asked - refused) / asked
    errors = len(project.errors()) if code in {0, 1} else -1
    value = f"{_RATE}/s allowed, {workers} of them: {used:.1%} used, {refused / asked:.1%} × 429, {errors} rows lost"
    return Measured(value, met=errors == 0 and used >= 0.93 and refused <= 0.04 * asked)


def _used(arrivals: Sequence[float]) -> float:
    return len(arrivals) / (max(arrivals) - min(arrivals)) / _RATE


def _most_in_a_second(arrivals: Sequence[float]) -> int:
    times = sorted(arrivals)
    return max(bisect_left(times, at + 1) - place for place, at in enumerate(times))
