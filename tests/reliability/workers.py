"""Runs in worker processes of which some are killed at any moment, and now and then all, with who gives them rows."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.crowds import lives, workers_of
from tests.reliability.endpoint import Behaviour, endpoint
from tests.reliability.figures import Measured, finish, keys_of, project_at

__all__ = ["measure_workers"]

#: 25 kills over 60,000 rows, if nobody wants more or fewer.
ROWS_PER_KILL, CONCURRENCY = 2_400, 64
_KILL_S = 4.0
#: Of so many kills one is of the program itself.
_A_DRIVER_EVERY = 5
_GONE_WITHIN_S = 1.0
#: Rows a second that even a busy machine does.
_SLOWEST = 50


@dataclass
class _Kills:
    draw: random.Random
    most: int
    workers: int = 0
    drivers: int = 0
    #: Workers that outlived the program.
    late: int = 0

    @property
    def count(self) -> int:
        return self.workers + self.drivers

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill until it is the program's turn, or there are enough."""
        while self.count < self.most and process.poll() is None:
            time.sleep(self.draw.uniform(0.3, 1.5))
            workers = workers_of(process.pid)
            if self.count % _A_DRIVER_EVERY == _A_DRIVER_EVERY - 1:
                self.drivers += 1
                process.kill()
                process.wait()
                time.sleep(_GONE_WITHIN_S)
                self.late += sum(map(lives, workers))
            elif workers:
                self.workers += 1
                os.kill(self.draw.choice(workers), signal.SIGKILL)


def measure_workers(directory: Path, seconds: float) -> Measured:
    """Kill until the kills are used up, then let the run end and count."""
    kills = _Kills(random.Random(20261127), max(5, int(seconds / _KILL_S)))
    rows = ROWS_PER_KILL * kills.most
    code, said = -signal.SIGKILL, ""
    with endpoint(Behaviour(latency=(0.03, 0.07))) as served:
        project = project_at(directory, served, rows, concurrency=CONCURRENCY)
        while code in {-signal.SIGKILL, 3}:  # three kills of a worker that only starts are taken for its own fault
            with project.started("--resume", "--processes", str(kills.draw.choice((2, 3)))) as process:
                kills.kill(process)
                code, _, said = finish(process, 300 + rows // _SLOWEST)
        answered = served.stats()["answered"]
    if code != 0:
        return Measured(f"the run did not come to its end: exit {code}, {said[-300:]}", met=False)
    keys = Counter(keys_of(project.run_dir))
    missing, double = rows - len(keys), keys.total() - len(keys)
    mean = (sum(answered.values()) - len(answered)) / max(1, kills.count)
    value = (
        f"{kills.workers} kills of workers and {kills.drivers} of the program over {rows:,} rows: {missing} missing / "
        f"{double} twice; paid twice: mean {mean:.1f} of {CONCURRENCY}; {kills.late} workers lived on"
    )
    return Measured(value, met=not (missing or double or kills.late) and mean <= CONCURRENCY)
