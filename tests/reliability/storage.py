"""What the storage costs a run that is fast, and what a disk that is full costs one that is not done."""

from __future__ import annotations

import asyncio
import math
import subprocess
import time
from collections import deque
from pathlib import Path

from runner.storage.journal import Journal
from runner.storage.records import Start
from tests.commands import ROOT
from tests.faulty_files import FAULTS
from tests.records import result
from tests.reliability.endpoint import endpoint
from tests.reliability.figures import Measured, keys_of, project_at
from tests.reliability.power_loss import explore
from tests.reliability.storage_faults import fail_in_turn

__all__ = ["measure_full_disk", "measure_journal", "measure_power_loss", "measure_storage_calls"]

RATE = 3000
STATES = 10_000
#: Calls that a trial has, about, and seconds that it takes.
_CALLS, _TRIAL_S = 200, 0.2

#: Runs a command on a disk of 12 MB that only it can see until it is full, makes room, and runs it again to go on.
_FULL_AND_THEN_NOT = """
disk=$1; shift
mount -t tmpfs -o size=12m tmpfs "$disk" || exit 99
"$@"; first=$?
mount -o remount,size=200m "$disk"
"$@" --resume; second=$?
cp -r "$disk/trial" "$disk/../copy"
echo "exit codes: $first $second"
"""


def measure_power_loss(directory: Path, seconds: float) -> Measured:
    states = STATES if seconds >= STATES / 400 else int(seconds * 200)
    found = explore(directory / "explored", states=states)
    value = f"{found.states:,} states in {found.seconds:.0f} s, {found.resumed} of them resumed: {found.lost} rows lost"
    if found.problems:
        value += f", {len(found.problems)} problems, the first: {found.problems[0]}"
    return Measured(value, met=found.states >= STATES and found.seconds < 60 and not found.lost and not found.problems)


def measure_storage_calls(directory: Path, seconds: float) -> Measured:
    cases = [(fault, resumed, lasting) for fault in FAULTS for resumed in (False, True) for lasting in (False, True)]
    cases = [case for case in cases if not (case[2] and case[0] in {"EINTR", "short write"})]
    step = max(1, math.ceil(len(cases) * _CALLS * _TRIAL_S / seconds))
    runs = lost = 0
    problems: list[str] = []
    for number, (fault, resumed, lasting) in enumerate(cases):
        first, place = 1 + number % step, directory / str(number)
        *_, found = fail_in_turn(place, fault, resumed=resumed, lasting=lasting, first=first, step=step)
        runs, lost = runs + found.runs, lost + found.lost
        problems += found.problems
    every = "every call" if step == 1 else f"one call in {step}"
    value = (
        f"{runs:,} runs ({every} of a new run and of a resume, once and lasting): {len(problems)} bad ends, {lost} rows lost"
    )
    return Measured(value + (f"; the first: {problems[0]}" if problems else ""), met=not problems and not lost)


def measure_full_disk(directory: Path, seconds: float) -> Measured:
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode:
        return Measured("not measured: this user may not mount a disk of its own", met=None)
    disk, rows = directory / "disk", 20_000
    disk.mkdir()
    with endpoint() as served:
        project = project_at(directory / "project", served, rows)
        found = subprocess.run(
            ["unshare", "-Urm", "bash", "-c", _FULL_AND_THEN_NOT, "-", disk, *project.arguments("--output", str(disk))],
            cwd=ROOT, capture_output=True, text=True, timeout=max(120, seconds), check=False,
        )  # fmt: skip
        answered = served.stats()["answered"]
    codes = (found.stdout.splitlines() or ["nothing printed"])[-1]
    if codes != "exit codes: 3 0":
        return Measured(f"{codes}; {found.stderr[-300:]}", met=False)
    (run,) = (directory / "copy").glob("2*")
    twice, missing = sum(answered.values()) - len(answered), rows - len(set(keys_of(run)))
    value = f"12 MB full at some point of {rows:,} rows, exit 3; with more room exit 0: {missing} lost, {twice} paid twice"
    return Measured(value, met=missing == 0 and twice == 0)


def measure_journal(directory: Path, seconds: float) -> Measured:
    """Write what a run writes, a start and an end for each row, evenly over time."""
    waiting: deque[tuple[int, float]] = deque()
    delays: list[float] = []

    def synced(lines: int) -> None:
        now = time.perf_counter()
        while waiting and waiting[0][0] <= lines:
            delays.append(now - waiting.popleft()[1])

    journal = Journal(directory, on_synced=synced)
    stalls = asyncio.run(_write_evenly(journal, waiting, min(seconds, 20)))
    journal.close()
    delay, stall = _percentile(delays, 0.99), _percentile(stalls, 0.999)
    value = f"{delay * 1e3:.0f} ms; {stall * 1e3:.2f} ms ({len(stalls):,} rows of 2 kB)"
    return Measured(value, met=delay <= 0.1 and stall <= 0.002)


async def _write_evenly(journal: Journal, waiting: deque[tuple[int, float]], seconds: float) -> list[float]:
    """Return how long the loop stood still for each row."""
    stalls: list[float] = []
    end, began = result(0, response="x" * 1200, item="y" * 300, request="z" * 300), time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        while len(stalls) < elapsed * RATE:
            before = time.perf_counter()
            journal.append(Start(item_index=len(stalls), task="answer"))
            line = journal.append(end)
            after = time.perf_counter()
            stalls.append(after - before)
            waiting.append((line, after))
        await asyncio.sleep(0.001)
    return stalls


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
