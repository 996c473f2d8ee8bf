"""How much memory a run takes, and how much more with ten times the rows."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path

from tests.commands import ROOT, Project
from tests.reliability.endpoint import Behaviour, endpoint
from tests.reliability.figures import Measured, project_at

__all__ = ["measure_memory"]

FEW, MANY = 100_000, 1_000_000
#: Rows a second that a run does at least, by far.
_RATE = 1200
_LOOK_EVERY_S = 0.02


def measure_memory(directory: Path, seconds: float) -> Measured:
    """Run ten times as many rows; where there is no time for a million, a tenth of what there is time for, and that."""
    many = min(MANY, max(10_000, int(seconds * _RATE)))
    few = many // 10
    with endpoint(Behaviour(latency=(0.005, 0.01))) as served:
        peaks = [_peak_mb(_project(directory / str(rows), served.url, rows), 30 + rows / _RATE * 5) for rows in (few, many)]
    more = peaks[1] - peaks[0]
    value = f"{more:+.0f} MB: {peaks[0]:.0f} MB at {few:,} rows, {peaks[1]:.0f} MB at {many:,}"
    return Measured(value, met=more <= 20 if many == MANY else None)


def _project(directory: Path, url: str, rows: int) -> Project:
    project = project_at(directory, url, 1, concurrency=64)
    with project.dataset.open("w") as file:
        file.writelines(json.dumps({"id": f"row-{n}", "question": f"question {n}"}) + "\n" for n in range(rows))
    return project


def _peak_mb(project: Project, patience: float) -> float:
    """Run to the end; return the most memory that the process ever had, up to its last moments.

    What `wait4` says of a process begins with what its parent had when it was started, which may be more.
    """
    peak = 0
    with (project.directory / "said").open("w") as said:
        process = subprocess.Popen(project.arguments(), cwd=ROOT, stdout=said, stderr=said)
        killer = threading.Timer(patience, process.kill)
        killer.start()
        began = time.monotonic()
        while process.poll() is None:
            peak = max(peak, _high_water_kib(process.pid))
            time.sleep(_LOOK_EVERY_S)
        killer.cancel()
    if process.returncode != 0:
        took, last = time.monotonic() - began, (project.directory / "said").read_text()[-300:]
        raise RuntimeError(f"exit {process.returncode} after {took:.0f} s: {last}")
    return peak / 1024


def _high_water_kib(process: int) -> int:
    """Return the most memory that a process has had since it began; 0 where it has just ended."""
    status = Path(f"/proc/{process}/status").read_text()
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
