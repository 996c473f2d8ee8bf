"""Measurements of runs in many processes: rows a second beside one process, Ray beside processes, plan and merge."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from pathlib import Path

from runner.pipeline.budget import Budget
from runner.scale.beat import Report
from runner.scale.coordinator import Coordinator
from tests.benchmarks.jobs import Job, runner_command, write_config
from tests.benchmarks.lab import ROOT, Lab, Run, watched_command
from tests.benchmarks.processes import ProcessError, do
from tests.benchmarks.table import MissingError, Row, middle, spread

__all__ = ["beat", "memory", "merge", "plan", "processes", "ray"]

#: A core for each of two workers, for who gives them rows, and for the endpoint.
_ENOUGH_CORES = 4
_ONE_WORKER, _TWO_WORKERS, _RAY = 0.95, 1.5, 0.9
_PLAN_US_A_ROW, _FIRST_LEASE_S = 10, 0.3
_MERGE_US_A_ROW, _MOST_MERGE_MB = 30, 300
_MOST_MORE_MIB = 5
_FEW, _MANY, _BEAT_US = 10, 1_000, 30


def processes(lab: Lab) -> Row:
    job = Job(rows=5_000 if lab.quick else 40_000, concurrency=64)
    with lab.scratch() as directory:
        alone, one = lab.in_turn(lambda: _run(lab, directory, job), lambda: _run(lab, directory, job, "--processes", "1"))
        two = [_run(lab, directory, job, "--processes", "2") for _ in range(lab.rounds)]
    single, of_one, of_two = (middle(map(_rows_per_s, runs)) for runs in (alone, one, two))
    has_cores = len(lab.cores) >= _ENOUGH_CORES
    lacking = "" if has_cores else f"; that is for {_ENOUGH_CORES} cores, and here are {len(lab.cores)}"
    return Row(
        measure=f"rows a second, no latency, {job.rows:,} rows; 1 and 2 workers",
        runner=f"{of_one:,.0f} and {of_two:,.0f}",
        reference=f"one process {spread([_rows_per_s(run) for run in alone], ',.0f')}",
        ratio=f"{of_one / single:.2f} and {of_two / single:.2f}",
        reached=of_one / single >= _ONE_WORKER and (of_two / single >= _TWO_WORKERS or not has_cores),
        note=f"two workers are to reach {_TWO_WORKERS} times one process{lacking}",
    )


def ray(lab: Lab) -> Row:
    if find_spec("ray") is None:
        raise MissingError("needs Ray: pip install -e '.[ray]'")
    job = Job(rows=5_000 if lab.quick else 40_000, concurrency=64)
    on_ray = ("--engine", "ray", "--workers", "2", "--address", "local")
    with lab.scratch() as directory:
        theirs, ours = lab.in_turn(
            lambda: _run(lab, directory, job, "--processes", "2"), lambda: _run(lab, directory, job, *on_ray)
        )
    ratio = middle(map(_rows_per_s, ours)) / middle(map(_rows_per_s, theirs))
    return Row(
        measure=f"rows a second of 2 workers on Ray, no latency, {job.rows:,} rows",
        runner=spread([_rows_per_s(run) for run in ours], ",.0f"),
        reference=f"2 worker processes: {spread([_rows_per_s(run) for run in theirs], ',.0f')}",
        ratio=f"{ratio:.2f}",
        reached=ratio >= _RAY,
    )


def plan(lab: Lab) -> Row:
    few, many = Job(rows=1_000, concurrency=64), Job(rows=100_000 if lab.quick else 1_000_000, concurrency=64)
    with lab.scratch() as directory:
        planned = watched_command("plan", str(_config(lab, directory / "plan", many)))
        small, large = (_first_request_s(lab, directory / f"{job.rows}", job) for job in (few, many))
    us = planned.wall_s / many.rows * 1e6
    return Row(
        measure=f"plan of {many.rows:,} rows, us a row; seconds to the first request of 2 workers",
        runner=f"{us:.1f} us; {large:.2f} s",
        reference=f"2 workers, {few.rows:,} rows: {small:.2f} s",
        ratio=f"{large - small:+.2f} s",
        reached=us <= _PLAN_US_A_ROW and large - small <= _FIRST_LEASE_S,
    )


def merge(lab: Lab) -> Row:
    rows = 100_000 if lab.quick else 1_000_000
    with lab.scratch() as directory:
        config = _config(lab, directory / "merge", Job(rows=rows, concurrency=64))
        run = watched_command("plan", str(config)).output.strip()
        do([sys.executable, "-m", "tests.benchmarks.oldrun", str(config), str(rows), run], ROOT)
        process = watched_command("merge", run)
    if f"{rows} results, 0 errors" not in process.output:
        raise ProcessError("it did not merge all results", process.output)
    us = process.wall_s / rows * 1e6
    return Row(
        measure=f"merge of {rows:,} results: seconds of the whole process",
        runner=f"{process.wall_s:.1f} s, {process.cpu_s:.1f} s of CPU, {process.peak_mib:.0f} MiB",
        reached=us <= _MERGE_US_A_ROW and process.peak_mib * 1.048576 <= _MOST_MERGE_MB,
    )


def memory(lab: Lab) -> Row:
    """The largest of two workers and of who gives them rows, which the system counts together, beside one process."""
    job = Job(rows=10_000 if lab.quick else 200_000, concurrency=64)
    with lab.scratch() as directory:
        alone, many = (_run(lab, directory, job, *options).process.peak_mib for options in ((), ("--processes", "2")))
    return Row(
        measure=f"peak memory of the largest process, MiB; {job.rows:,} rows, 2 workers",
        runner=f"{many:.0f}",
        reference=f"one process {alone:.0f}",
        ratio=f"{many - alone:+.0f} MiB",
        reached=many - alone <= _MOST_MORE_MIB,
    )


def beat(lab: Lab) -> Row:
    """A report of each worker, and its orders, as it goes on in the middle of a run."""
    rounds = 20 if lab.quick else 200
    few, many = ([_beat_us(workers, rounds) for _ in range(lab.rounds)] for workers in (_FEW, _MANY))
    return Row(
        measure=f"a worker's report and its orders, us; {_MANY:,} workers",
        runner=spread(many, ".1f"),
        reference=f"{_FEW} workers {spread(few, '.1f')}",
        ratio=f"{middle(many) / middle(few):.2f}",
        reached=middle(many) <= _BEAT_US,
    )


def _beat_us(workers: int, rounds: int) -> float:
    now = 0.0
    coordinator = Coordinator(clock=lambda: now, budget=Budget(max_tokens=10**12, max_error_rate=0.5), tokens_left=1e12)
    coordinator.add([(0, 10**9)])
    for slot in range(workers):
        coordinator.join(slot, 16)
        coordinator.beat(slot, Report(segments=[slot + 2]))
    spent = 0.0
    for number in range(rounds):
        now += 1
        for slot in range(workers):
            report = Report(segments=[slot + 2], leases=number, begun=16 * number, ahead=32, active=16, ok=16, tokens=800)
            began = time.process_time()
            coordinator.beat(slot, report)
            coordinator.orders(slot)
            spent += time.process_time() - began
    return spent / rounds / workers * 1e6


def _config(lab: Lab, directory: Path, job: Job) -> Path:
    directory.mkdir()
    return write_config(directory, job, base_url=lab.endpoint.base_url(**job.settings), dataset=lab.dataset(job.rows))


def _run(lab: Lab, directory: Path, job: Job, *options: str) -> Run:
    """Run a job on all cores: one is not enough for workers."""
    with lab.scratch() as own:
        command = runner_command(_config(lab, own / "run", job), *options)
        return lab.watched(" ".join(options) or "one process", job, command, directory, own_core=False)


def _rows_per_s(run: Run) -> float:
    return run.job.rows / run.span_s


def _first_request_s(lab: Lab, directory: Path, job: Job) -> float:
    """Return when the first request of two workers came; what comes after does not matter, and is left out."""
    command = runner_command(_config(lab, directory, job), "--processes", "2", "--limit", "1000")
    return lab.watched("2 workers", job, command, directory, own_core=False, expected=1_000).startup_s
