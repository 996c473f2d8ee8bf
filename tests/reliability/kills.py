"""Runs that are killed with SIGKILL at any moment: while they answer, while they resume, while they write the files."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from runner.storage.journal import read_segment, segments_of
from runner.storage.records import EndHead
from tests.commands import Project
from tests.reliability.endpoint import Behaviour, Endpoint, endpoint
from tests.reliability.figures import Measured, finish, keys_of, project_at

__all__ = ["measure_kills"]

KILLS, ROWS, CONCURRENCY = 200, 30_000, 32
#: What a kill and the start after it take, about, on a busy machine.
_KILL_S = 3.2
_BEGINNING = 0.15
#: An answer this old, in seconds, was processed, or the client had stopped working.
_OLD_S = 0.5
_BOUND = re.compile(r"(\d+) requests were in flight")


@dataclass
class _Kills:
    draw: random.Random
    #: How many there will be, over how many rows.
    kills: int
    rows: int
    number: int = 0
    #: The rows in the journal at the last one.
    kept: set[str] = field(default_factory=set)
    #: Answers given more than once so far.
    repeated: int = 0
    #: Answers given to a client that was killed much later, and that are not in its journal.
    lost: int = 0
    #: Rows in the journal before a kill and not after it.
    vanished: int = 0
    #: Answers paid twice, by kill.
    twice: list[int] = field(default_factory=list)
    #: Kills after which more was paid twice than the resume had said may be.
    above_bound: int = 0
    where: Counter[str] = field(default_factory=Counter)


def measure_kills(directory: Path, seconds: float) -> Measured:
    """Kill until the rows and the kills are used up, then let the run end and count."""
    kills = max(10, min(KILLS, int(seconds / _KILL_S)))
    rows = max(2000, ROWS * kills // KILLS)
    found = _Kills(random.Random(20261121), kills, rows)
    with endpoint(Behaviour(latency=(0.03, 0.07))) as served:
        project = project_at(directory, served, rows, concurrency=CONCURRENCY)
        while found.number < kills:
            _kill_once(project, served, found)
        with project.started("--resume") as process:
            code, _, said = finish(process, 300)
        answered = served.stats()["answered"]
    if code != 0:
        return Measured(f"the run did not come to its end: exit {code}, {said[-300:]}", met=False)
    keys = Counter(keys_of(project.run_dir))
    missing, double = rows - len(keys), keys.total() - len(keys)
    paid_twice = sum(answered.values()) - len(answered)
    mean = paid_twice / kills
    most = max(found.twice)
    where = ", ".join(f"{count} {name}" for name, count in found.where.most_common())
    lost = found.lost + found.vanished
    value = (
        f"{kills} kills ({where}) over {rows:,} rows: {missing} missing / {double} twice / {lost} lost; paid twice: mean "
        f"{mean:.2f}, most {most} of {CONCURRENCY}, {found.above_bound} times above the printed bound"
    )
    met = not (missing or double or lost or found.above_bound)
    return Measured(value, met=met and most <= CONCURRENCY and mean <= 0.2 * CONCURRENCY)


def _kill_once(project: Project, served: Endpoint, found: _Kills) -> None:
    """Start or resume, and kill: where, is up to chance."""
    before, began = served.stats()["answered"], time.monotonic()
    with project.started("--resume") as process:
        where = _wait_for_the_moment(process, served, found, len(before))
        killed_at = time.monotonic()
        process.kill()
        said = process.stderr.read() if process.stderr is not None else ""
    if process.returncode != 0:
        found.where[where] += 1
        found.number += 1
    if _is_finished(project):
        project.delete_views()  # it was faster; so the next one has its files to make again
    stats = served.stats()
    found.repeated = sum(stats["answered"].values()) - len(stats["answered"])
    now = _journaled(project)
    found.vanished += len(found.kept - now)
    found.kept = now
    old = {question for question, at in stats["answered_at"].items() if began < at < killed_at - _OLD_S}
    found.lost += len(old - now)
    twice = sum(count - before.get(question, 0) for question, count in stats["answered"].items() if question in before)
    found.twice.append(twice)
    bound = _BOUND.search(said)  # nothing is said where nothing was in flight
    found.above_bound += "are kept" in said and twice > (0 if bound is None else int(bound[1]))


def _is_finished(project: Project) -> bool:
    """Whether the run has its files and says so: it may be killed after that, while Python tidies up."""
    views = [project.run_dir / f"{name}.parquet" for name in ("results", "errors")]
    return project.evaluation["status"] == "completed" and all(view.exists() for view in views)


def _wait_for_the_moment(process: subprocess.Popen[str], served: Endpoint, found: _Kills, answered: int) -> str:
    """Wait for the moment of a kill and name it; `answered` says how many different rows have been by now."""
    left, most = found.rows - answered, found.kills * 3 // 4
    kind = found.draw.random()
    if kind < _BEGINNING and answered:
        _sleep(process, found.draw.uniform(0.05, 1.2))
        return "in a resume or its first requests"
    late = left <= 0 or found.number >= most
    target = found.rows if late else answered + found.draw.randint(1, max(2, 2 * left // max(1, most - found.number)))
    while process.poll() is None and served.answers() < target + found.repeated:
        time.sleep(0.02)
    if not late:
        return "while it asked"
    if left <= 0:
        _sleep(process, found.draw.uniform(0.3, 2.5))
        return "in a resume or the final write"
    _sleep(process, found.draw.uniform(0.0, 1.0))
    return "in the final write"


def _sleep(process: subprocess.Popen[str], seconds: float) -> None:
    """Sleep, but not longer than the process lives."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _journaled(project: Project) -> set[str]:
    """Return the questions whose row has a result in the journal."""
    runs = (project.directory / "results" / project.name).glob("2*")
    decode = msgspec.json.Decoder(EndHead).decode
    return {
        f"question {decode(line.payload).item_index}"
        for run in runs
        for segment in segments_of(run / "journal")
        for line in read_segment(segment)
        if line.payload is not None and line.payload.startswith(b'{"kind":"end"')
    }
