"""Endpoints that are dead, die, come back, ask for patience or fail half of the time, and a user who presses Ctrl-C."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from runner.storage.journal import read_segment, segments_of
from tests.commands import Project
from tests.reliability.endpoint import Behaviour, Endpoint, endpoint
from tests.reliability.figures import Measured, finish, keys_of, project_at

__all__ = [
    "measure_blip",
    "measure_dead",
    "measure_death",
    "measure_half_errors",
    "measure_interrupts",
    "measure_rate_limit",
]

_BLIP_S = 8.0
_RATE = 200
_SMALL_BURST = 20
_GIVE_UP_S = 6


def _lines(project: Project, kind: bytes) -> int:
    """Return how many lines of a kind the journal has."""
    start = b'{"kind":"%b"' % kind
    segments = segments_of(project.run_dir / "journal")
    return sum(bool(line.payload and line.payload.startswith(start)) for path in segments for line in read_segment(path))


def _wait_for_answers(process: subprocess.Popen[str], served: Endpoint, count: int) -> None:
    while process.poll() is None and served.answers() < count:
        time.sleep(0.005)


def measure_dead(directory: Path, seconds: float) -> Measured:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    refused = project_at(directory / "refused", url, 1000)
    refused_s, refused_code, _ = _timed(refused, max(60, seconds))
    with endpoint(Behaviour(error=401, error_share=1.0)) as served:
        unknown = project_at(directory / "unknown", served, 1000)
        unknown_s, unknown_code, _ = _timed(unknown, max(60, seconds))
        requests = sum(served.stats()["asked"].values())
    attempts = _lines(refused, b"start")
    value = (
        f"refused: {refused_s:.1f} s, {attempts} attempts, exit {refused_code}; "
        f"401 for ever: {unknown_s:.1f} s, {requests} requests, exit {unknown_code}"
    )
    quick = refused_s <= 5 and unknown_s <= 5 and attempts <= 10 and requests <= 24
    return Measured(value, met=quick and refused_code == unknown_code == 3)


def _timed(project: Project, patience: float) -> tuple[float, int, str]:
    began = time.monotonic()
    with project.started() as process:
        code, _, said = finish(process, patience)
    return time.monotonic() - began, code, said


def measure_death(directory: Path, seconds: float) -> Measured:
    """After 500 rows every answer is a 500, for ever."""
    concurrency, rows = 64, 3000
    with endpoint(Behaviour(latency=(0.03, 0.06))) as served:
        project = project_at(directory, served, rows, concurrency=concurrency, give_up_after=_GIVE_UP_S)
        with project.started() as process:
            _wait_for_answers(process, served, 500)
            served.behave(Behaviour(latency=(0.03, 0.06), error_share=1.0))
            code, _, _ = finish(process, max(200, seconds))
        failing = served.stats()["statuses"].get("500", 0)
        burned = len(project.errors())
        served.behave(Behaviour())
        with project.started("--resume") as process:
            resumed, _, _ = finish(process, 120)
    whole = resumed == 0 and len(set(keys_of(project.run_dir))) == rows
    bound = 2 * concurrency + 20 + 10
    value = f"{burned} / {failing} (at most {bound}); exit {code}, giving up after {_GIVE_UP_S} s; all there later: {whole}"
    return Measured(value, met=burned == 0 and failing <= bound and code == 3 and whole)


def measure_blip(directory: Path, seconds: float) -> Measured:
    rows, calm = 10_000, Behaviour(latency=(0.05, 0.15))
    took: list[float] = []
    errors = 0
    for blip in (False, True):
        with endpoint(calm) as served:
            project = project_at(directory / str(blip), served, rows)
            began = time.monotonic()
            with project.started() as process:
                _wait_for_answers(process, served, 2000)
                if blip:
                    served.behave(Behaviour(latency=(0.05, 0.15), error=503, error_share=1.0))
                    time.sleep(_BLIP_S)
                    served.behave(calm)
                code, _, said = finish(process, max(200, seconds))
            took.append(time.monotonic() - began)
            if code not in {0, 1}:
                return Measured(f"exit {code}: {said[-200:]}", met=False)
            errors += len(project.errors())
    extra = took[1] - took[0]
    return Measured(
        f"{errors} error rows; {extra:.1f} s more ({extra - _BLIP_S:.1f} s beside the blip)", met=not errors and extra <= 13
    )


def measure_rate_limit(directory: Path, seconds: float) -> Measured:
    """Ask one that forgives a burst of a second's worth, and one that forgives next to none; both have to be met."""
    found = [_limited(directory / str(burst), seconds / 2, burst) for burst in (_RATE, _SMALL_BURST)]
    return Measured("; ".join(one.value for one in found), met=all(one.met for one in found))


def _limited(directory: Path, seconds: float, burst: int) -> Measured:
    rows = max(5000, int(min(seconds, 40) * _RATE * 0.8))
    with endpoint(Behaviour(latency=(0.05, 0.1), rate=_RATE, burst=burst)) as served:
        project = project_at(directory, served, rows, concurrency=64)
        with project.started() as process:
            code, _, _ = finish(process, max(200, 5 * seconds))
        stats = served.stats()
    refused, asked = stats["statuses"].get("429", 0), sum(stats["asked"].values())
    errors = len(project.errors()) if code in {0, 1} else -1
    took = stats["arrivals"][-1] - stats["arrivals"][0]
    share, throughput = refused / asked, (asked - refused) / took / _RATE
    value = (
        f"a bucket of {burst}: {share:.1%} ({refused} × 429), {errors} rows lost, "
        f"{throughput:.0%} of {_RATE}/s over {rows:,} rows"
    )
    return Measured(value, met=share <= 0.03 and errors == 0 and throughput >= 0.95)


def measure_half_errors(directory: Path, seconds: float) -> Measured:
    rows = 2000
    with endpoint(Behaviour(error_share=0.5)) as served:
        project = project_at(directory, served, rows)
        with project.started() as process:
            code, _, _ = finish(process, max(200, seconds))
        asked = sum(served.stats()["asked"].values())
    errors = len(project.errors())
    value = f"{asked / rows:.2f} requests per row, {errors} of {rows:,} rows lost, exit {code}"
    return Measured(value, met=errors == 0 and asked <= 2.1 * rows)


def measure_interrupts(directory: Path, seconds: float) -> Measured:
    """Interrupt runs that are busy; then, with answers that take for ever, interrupt twice."""
    first: list[float] = []
    for number in range(max(3, min(10, int(seconds / 4)))):
        with endpoint(Behaviour(latency=(0.02, 0.1))) as served:
            project = project_at(directory / f"first {number}", served, 5000)
            with project.started() as process:
                _wait_for_answers(process, served, 300 + 77 * number)
                at = time.monotonic()
                process.send_signal(signal.SIGINT)
                code, _, said = finish(process, 60)
            if code != 130:
                return Measured(f"exit {code} after the first: {said[-200:]}", met=False)
            first.append(float(served.stats()["last_arrival"]) - at)
    with endpoint(Behaviour(latency=(600, 600))) as served:
        project = project_at(directory / "second", served, 5000)
        with project.started() as process:
            while served.stats()["most_flying"] < 32:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            while not re.search("SIGINT", process.stderr.readline()):
                pass
            at = time.monotonic()
            process.send_signal(signal.SIGINT)
            code, _, _ = finish(process, 60)
        second = time.monotonic() - at
    value = f"{max(0.0, *first) * 1e3:.0f} ms (most of {len(first)}); {second:.2f} s, exit {code}"
    return Measured(value, met=max(first) <= 0.05 and second <= 1 and code == 130)
