"""A run on a Ray cluster of which workers, a node and the program itself are killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from tests.clusters import Cluster, cluster
from tests.crowds import lives
from tests.reliability.endpoint import Behaviour, endpoint
from tests.reliability.figures import Measured, finish, keys_of, project_at

__all__ = ["measure_ray"]

ROWS, CONCURRENCY, WORKERS = 20_000, 64, 3
#: What is killed, in this order.
KILLS = ("worker", "worker", "node", "worker", "program", "worker", "worker")
_GONE_WITHIN_S = 5.0


def measure_ray(directory: Path, seconds: float) -> Measured:
    """Kill one after the other, while the run goes on; then let it end and count."""
    if find_spec("ray") is None:
        return Measured("not measured: Ray is not installed", met=None)
    draw = random.Random(20261127)
    left, late = list(KILLS), 0
    rows = min(ROWS, int(ROWS * seconds / 120))
    with cluster() as nodes, endpoint(Behaviour(latency=(0.15, 0.35))) as served:
        nodes.add("127.0.0.3", cpus=1)
        project = project_at(directory, served, rows, concurrency=CONCURRENCY)
        code, said = -signal.SIGKILL, ""
        while code == -signal.SIGKILL:
            words = ["--resume", "--engine", "ray", "--address", nodes.address, "--workers", str(WORKERS)]
            with project.started(*words) as process:
                while left and process.poll() is None:
                    _wait_for_workers(nodes)
                    time.sleep(draw.uniform(1.0, 3.0))
                    what = left.pop(0)
                    if what == "program":
                        before = nodes.workers
                        process.kill()
                        process.wait()
                        time.sleep(_GONE_WITHIN_S)
                        late += sum(map(lives, before))
                        break
                    _kill(nodes, what, draw)
                code, _, said = finish(process, 300)
        answered = served.stats()["answered"]
    if code != 0 or left:
        return Measured(f"the run did not come to its end: exit {code}, {len(left)} kills left, {said[-300:]}", met=False)
    keys = Counter(keys_of(project.run_dir))
    missing, double = rows - len(keys), keys.total() - len(keys)
    mean = (sum(answered.values()) - len(answered)) / len(KILLS)
    value = (
        f"{len(KILLS)} kills ({', '.join(KILLS)}) over {rows:,} rows: {missing} missing / {double} twice; "
        f"paid twice: mean {mean:.1f} of {CONCURRENCY}; {late} workers lived on"
    )
    return Measured(value, met=not (missing or double or late) and mean <= CONCURRENCY)


def _wait_for_workers(nodes: Cluster) -> None:
    until = time.monotonic() + 60
    while len(nodes.workers) < WORKERS and time.monotonic() < until:
        time.sleep(0.1)


def _kill(nodes: Cluster, what: str, draw: random.Random) -> None:
    if what == "node":
        nodes.nodes[-1].kill()
        nodes.add("127.0.0.4", cpus=1)
    elif nodes.workers:
        os.kill(draw.choice(nodes.workers), signal.SIGKILL)
