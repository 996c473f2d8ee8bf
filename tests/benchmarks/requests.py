"""Measurements of single requests: CPU, slots kept full, wall time, start and tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tests.benchmarks.jobs import Job
from tests.benchmarks.lab import Lab, Run
from tests.benchmarks.table import Row, middle, spread

__all__ = ["cpu", "slots_64", "slots_256", "startup", "tail", "wall"]


@dataclass(frozen=True, slots=True)
class Plain:
    """Runs of the plain job, 64 in flight and no latency, which several measurements read."""

    runner: Sequence[Run]
    reference: Sequence[Run]
    #: Seconds from the second-last answer to the end of the process.
    tails_s: Sequence[float]
    #: Microseconds of CPU per request from the first request to the last answer.
    span_cpu_us: Sequence[float]


@cache
def _plain(lab: Lab) -> Plain:
    job = Job(rows=2_000 if lab.quick else 5_000, concurrency=64)
    tails: list[float] = []
    spans: list[float] = []
    with lab.scratch() as directory:

        def once() -> Run:
            run = lab.runner(directory, job)
            moments = [moment for moment, _ in run.answers()]
            tails.append(run.process.ended - moments[-2])
            cpu_s = run.process.cpu_until(moments[-1]) - run.process.cpu_until(run.first)
            spans.append(cpu_s / job.rows * 1e6)
            return run

        theirs, ours = lab.in_turn(lambda: lab.reference(directory, job), once)
    return Plain(ours, theirs, tails, spans)


def cpu(lab: Lab) -> Row:
    plain = _plain(lab)
    ours, theirs = [run.cpu_us for run in plain.runner], [run.cpu_us for run in plain.reference]
    ratio = middle(ours) / middle(theirs)
    busy = middle([run.process.cpu_s / run.process.wall_s for run in plain.runner])
    return Row(
        measure=f"CPU per request, us; 64 in flight, no latency, {plain.runner[0].job.rows:,} rows",
        runner=spread(ours, ".0f"),
        reference=f"raw_tuned {spread(theirs, '.0f')}",
        ratio=f"{ratio:.2f}",
        reached=ratio <= 1.5,
        note=f"from the first request to the end of the process, as peer.py counts; up to the last answer"
        f" {spread(plain.span_cpu_us, '.0f')} us; the runner had {busy:.0%} of its core",
    )


def startup(lab: Lab) -> Row:
    plain = _plain(lab)
    ours, theirs = [run.startup_s for run in plain.runner], [run.startup_s for run in plain.reference]
    return Row(
        measure="process start to first request, s",
        runner=spread(ours, ".2f"),
        reference=f"raw_tuned {spread(theirs, '.2f')}",
        ratio=f"{middle(ours) / middle(theirs):.2f}",
        reached=middle(ours) <= 0.5,
        note=f"{middle([run.process.cpu_until(run.first) for run in plain.runner]):.2f} s of it on the CPU",
    )


def tail(lab: Lab) -> Row:
    plain = _plain(lab)
    return Row(
        measure=f"second-last answer to process end, s; {plain.runner[0].job.rows:,} rows",
        runner=spread(plain.tails_s, ".2f"),
        reached=middle(plain.tails_s) <= 0.5,
    )


def slots_64(lab: Lab) -> Row:
    return _slots(lab, Job(rows=1_000 if lab.quick else 5_000, concurrency=64, latency_ms=50), 0.90, 0.97)


def slots_256(lab: Lab) -> Row:
    return _slots(lab, Job(rows=2_000 if lab.quick else 5_000, concurrency=256, latency_ms=50), 0.0, 0.9)


def _slots(lab: Lab, job: Job, least: float, least_ratio: float) -> Row:
    with lab.scratch() as directory:
        theirs, ours = lab.in_turn(lambda: lab.reference(directory, job), lambda: lab.runner(directory, job))
    full = middle([run.slots_full for run in ours])
    ratio = full / middle([run.slots_full for run in theirs])
    return Row(
        measure=f"slots kept full; {job.concurrency} in flight, {job.latency_ms:.0f} ms, {job.rows:,} rows",
        runner=spread([run.slots_full for run in ours], ".2f"),
        reference=f"raw_tuned {spread([run.slots_full for run in theirs], '.2f')}",
        ratio=f"{ratio:.2f}",
        reached=full >= least and ratio >= least_ratio,
    )


def wall(lab: Lab) -> Row:
    job = Job(rows=2_000 if lab.quick else 5_000, concurrency=64)
    with lab.scratch() as directory:
        theirs, ours = lab.in_turn(lambda: lab.nemo_evaluator(directory, job), lambda: lab.runner(directory, job))
    ratio = middle([run.process.wall_s for run in theirs]) / middle([run.process.wall_s for run in ours])
    return Row(
        measure=f"wall of the whole process, s; 64 in flight, no latency, {job.rows:,} rows",
        runner=spread([run.process.wall_s for run in ours], ".2f"),
        reference=f"NeMo {spread([run.process.wall_s for run in theirs], '.2f')}",
        ratio=f"{ratio:.1f} times faster",
        reached=ratio >= 4,
    )
