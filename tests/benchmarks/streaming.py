"""Measurements of streams: CPU per piece, back to back and at a pace."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.jobs import Job
from tests.benchmarks.lab import Lab
from tests.benchmarks.table import Row, middle, spread

__all__ = ["stream", "stream_paced"]

_FASTEST = "sse_any:uv+msgspec"
#: Events of a stream besides its pieces of content: the role before them; the finish, the usage and the end behind them.
_MORE_EVENTS = 4
_LATE = 1.05


@dataclass(frozen=True, slots=True)
class Streamed:
    """What was measured of a job of streams. CPU is in microseconds per piece."""

    #: From the first request to the last answer, as the references measure themselves.
    cpu_us: float
    #: From the first request to the end of the process.
    whole_us: float
    slowest_s: float


def _streamed(lab: Lab, job: Job) -> Streamed:
    with lab.scratch() as directory:
        run = lab.runner(directory, job)
        answers = run.answers()
    pieces = job.rows * (job.chunks or 0)
    before = run.process.cpu_until(run.first)
    return Streamed(
        cpu_us=(run.process.cpu_until(answers[-1][0]) - before) / pieces * 1e6,
        whole_us=(run.process.cpu_s - before) / pieces * 1e6,
        slowest_s=max(latency for _, latency in answers),
    )


def stream(lab: Lab) -> Row:
    job = Job(rows=50 if lab.quick else 200, concurrency=64, chunks=500)
    with lab.scratch() as directory:
        theirs, ours = lab.in_turn(
            lambda: float(lab.stream_reference(directory, job, _FASTEST)["cpu_us"]), lambda: _streamed(lab, job)
        )
    ratio = middle([run.cpu_us for run in ours]) / middle(theirs)
    return Row(
        measure=f"streaming, CPU per chunk, us; back to back, {job.rows} × {job.chunks} chunks",
        runner=spread([run.cpu_us for run in ours], ".2f"),
        reference=f"{_FASTEST} {spread(theirs, '.2f')}",
        ratio=f"{ratio:.2f}",
        reached=ratio <= 1.3,
        note="from the first request to the last answer, for the reference measures its loop only;"
        f" to the end of the process {spread([run.whole_us for run in ours], '.2f')} us",
    )


def stream_paced(lab: Lab) -> Row:
    job = Job(rows=256, concurrency=256, chunks=200 if lab.quick else 500, gap_ms=10)
    assert job.chunks is not None
    with lab.scratch() as directory:
        theirs, ours = lab.in_turn(lambda: lab.stream_reference(directory, job, "sse_lines"), lambda: _streamed(lab, job))
    needed_s = (job.chunks + _MORE_EVENTS - 1) * job.gap_ms / 1000
    slowest = middle([run.slowest_s for run in ours]) / needed_s
    ratio = middle([run.cpu_us for run in ours]) / middle([float(run["cpu_us"]) for run in theirs])
    return Row(
        measure=f"streaming, CPU per chunk, us; {job.rows} streams × {job.chunks} chunks, one every {job.gap_ms:.0f} ms",
        runner=f"{spread([run.cpu_us for run in ours], '.1f')}; slowest stream {slowest:.2f} of its pace",
        reference=f"sse_lines {spread([float(run['cpu_us']) for run in theirs], '.1f')}",
        ratio=f"{ratio:.2f}",
        reached=ratio <= 0.75 and slowest <= _LATE,
        note=f"to the end of the process {spread([run.whole_us for run in ours], '.1f')} us; sse_lines took"
        f" {spread([float(run['wall_s']) / needed_s for run in theirs], '.2f')} of the pace",
    )
