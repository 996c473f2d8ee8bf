"""Measurements of size: memory over many rows, many requests in flight, a long run resumed, a rate kept."""

from __future__ import annotations

import resource
import sys
from bisect import bisect_left
from collections.abc import Sequence

from tests.benchmarks.endpoint import arrivals_endpoint
from tests.benchmarks.jobs import Job, runner_command, write_config
from tests.benchmarks.lab import ROOT, Lab, Run
from tests.benchmarks.processes import ProcessError, do
from tests.benchmarks.standstill import Standstill
from tests.benchmarks.table import MissingError, Row

__all__ = ["in_flight", "memory", "rate", "resume"]

_FEW_ROWS = 1_000
_USUAL_OPEN_FILES = 1_024
_MOST_MEMORY = 1.15


def memory(lab: Lab) -> Row:
    few, many = (Job(rows=rows, concurrency=64) for rows in (_FEW_ROWS, 10_000 if lab.quick else 100_000))
    with lab.scratch() as directory:
        small, large = (lab.runner(directory, job).process.peak_mib for job in (few, many))  # it varies little: once is enough
    ratio = large / small
    return Row(
        measure=f"peak memory, MiB; {many.rows:,} rows against {few.rows:,}",
        runner=f"{large:.0f}",
        reference=f"itself, {few.rows:,} rows: {small:.0f}",
        ratio=f"{ratio:.2f}",
        reached=ratio <= _MOST_MEMORY,
    )


def in_flight(lab: Lab) -> Row:
    job = Job(rows=12_000 if lab.quick else 30_000, concurrency=10_000, latency_ms=5_000)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < job.concurrency * 1.05:
        raise MissingError(
            f"this machine allows a process {most} open files (ulimit -Hn), and more than {job.concurrency} are needed"
        )
    refused = ""
    with lab.scratch() as directory:
        theirs = lab.reference(directory, job)
        try:
            run = lab.runner(directory, job, open_files=_USUAL_OPEN_FILES)
        except ProcessError as error:
            refused = f"; failed with {_USUAL_OPEN_FILES:,} open files allowed ({error.reason}), measured with {most:,}"
            run = lab.runner(directory, job)
    peak = run.stats["peak_inflight"]
    return Row(
        measure=f"{job.concurrency:,} requests in flight, 5 s latency, {job.rows:,} rows, ulimit -Sn {_USUAL_OPEN_FILES}",
        runner=f"{peak:,} at once, {run.process.peak_mib:.0f} MiB, slots full {run.slots_full:.2f}",
        reference=f"raw_tuned {theirs.process.peak_mib:.0f} MiB, slots full {theirs.slots_full:.2f}",
        ratio=f"{run.slots_full / theirs.slots_full:.2f}",
        reached=not refused and peak == job.concurrency and run.slots_full >= 0.9 and run.process.peak_mib * 1.048576 <= 600,
        note=f"{run.cpu_us:.0f} us of CPU a request; first request after {run.startup_s:.1f} s,"
        f" wall {run.process.wall_s:.1f} s{refused}",
    )


def resume(lab: Lab) -> Row:
    finished, left = (100_000 if lab.quick else 1_000_000), 1_000
    small_job = Job(rows=_FEW_ROWS, concurrency=64)
    with lab.scratch() as directory:
        small = lab.runner(directory, small_job)
        run = _resumed(lab, Job(rows=finished + left, concurrency=64), left)
    ratio = run.process.peak_mib / small.process.peak_mib
    of_a_million_s = small.startup_s + (run.startup_s - small.startup_s) * 1_000_000 / finished
    return Row(
        measure=f"resume of {finished:,} finished rows and {left:,} open ones, the last: seconds to the first new request",
        runner=f"{run.startup_s:.1f} s, {run.process.peak_mib:.0f} MiB",
        reference=f"a run of {_FEW_ROWS:,} rows: {small.process.peak_mib:.0f} MiB",
        ratio=f"memory {ratio:.2f}",
        reached=of_a_million_s <= 10 and ratio <= _MOST_MEMORY,
        note=f"wall to the end, Parquet of all rows included: {run.process.wall_s:.1f} s"
        + (f"; for 1,000,000 rows the first request would come after {of_a_million_s:.0f} s" if lab.quick else ""),
    )


def _resumed(lab: Lab, job: Job, left: int) -> Run:
    """Make a run of which so many rows are left, and resume it."""
    with lab.scratch() as directory:
        dataset = lab.dataset(job.rows)
        config = write_config(directory, job, base_url=lab.endpoint.base_url(), dataset=dataset)
        do([sys.executable, "-m", "tests.benchmarks.oldrun", str(config), str(job.rows - left)], ROOT)
        run = lab.watched("resumed runner", job, runner_command(config, "--resume"), directory, expected=left)
        dataset.unlink()
        if f"finished: {job.rows} results, 0 errors" not in run.process.output:
            raise ProcessError(f"the resumed run did not end with {job.rows:,} results", run.process.output)
    return run


def rate(lab: Lab) -> Row:
    per_second, seconds = 200, (5 if lab.quick else 30)
    job = Job(rows=per_second * (seconds + 2), concurrency=64, requests_per_second=per_second)
    with lab.scratch() as directory, arrivals_endpoint(lab.endpoint_core) as endpoint:
        with Standstill() as standstill:
            lab.runner(directory, job, endpoint=endpoint)
        moments: list[float] = endpoint.ask("/arrivals")
    got_through = bisect_left(moments, moments[0] + seconds)
    most, fullest = _most_within(moments, 1.0)
    share = got_through / (per_second * seconds)
    return Row(
        measure=f"rate limit of {per_second}/s for {seconds} s: share of the allowed that arrived; most in any second",
        runner=f"{share:.3f}; {most}",
        reached=share >= 0.98 and most <= per_second,
        note=f"as the endpoint saw them arrive; the fullest second began {fullest - moments[0]:.2f} s after the first request;"
        f" the machine stood still {standstill}",
    )


def _most_within(moments: Sequence[float], seconds: float) -> tuple[int, float]:
    """Return the largest number of moments that lie within so many seconds, and the first of them."""
    counts = [bisect_left(moments, moment + seconds) - index for index, moment in enumerate(moments)]
    return max(counts), moments[counts.index(max(counts))]
