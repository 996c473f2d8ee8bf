"""Shards: a run in parts of fixed size, for machines that share only a file system.

    plan     makes a run directory, and writes which rows are asked, and which names depend on other rows
    shard    asks the i-th of n parts of these rows: a worker with a segment of its own and no coordinator
    merge    writes the Parquet files, once every unit has a result

A shard that runs again asks only the rest of its rows. Another number of shards may ask the rest too.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from runner.datasets import Dataset, Mark
from runner.errors import RunDirError, StorageError
from runner.jsontext import decode, encode
from runner.pipeline.keeper import RunKeeper
from runner.pipeline.pending import Pending
from runner.pipeline.resume import identity_of
from runner.scale.beat import Lease
from runner.scale.planning import marks_for, planned
from runner.scale.ranges import Ranges, ranges_of
from runner.scale.shares import stamps_of
from runner.storage.journal import PREFIX_LENGTH, is_sound
from runner.storage.rundir import RunDir, run_at
from runner.structs import Struct

__all__ = ["Planned", "leases_of", "make_plan", "read_plan"]

#: The file of the plan: one line with a checksum, like a line of the journal.
_PLAN = "plan/plan.jsonl"
_FORMAT = 2
_KEPT = ("cwd", "identity", "stamps", "tasks", "rows", "count", "names", "bad", "marks")
_LEASE = 1000


class Planned(Struct, frozen=True):
    """The plan of a run."""

    run: RunDir
    #: The directory that relative paths of the config start from.
    cwd: str
    #: A hash of each value of the config that decides what is asked.
    identity: dict[str, str]
    #: A stamp of each file of the dataset, which changes if the file changes.
    stamps: Mapping[str, str]
    tasks: Sequence[tuple[str, int]]
    #: The rows that are asked, as ranges of indexes, and their number.
    rows: Sequence[tuple[int, int]]
    count: int
    names: dict[int, str]
    bad: dict[int, str]
    #: Positions in the files from which the rows can be read without the rows before them.
    marks: Sequence[Mark]

    def part(self, number: int, of: int) -> list[tuple[int, int]]:
        """Return the rows of part `number`, from 0, of `of` equal parts."""
        first, last = self.count * number // of, self.count * (number + 1) // of
        rows = Ranges()
        rows.add(self.rows)
        rows.take(first)
        return rows.take(last - first)


def make_plan(keeper: RunKeeper) -> Planned:
    """Read the dataset of a new run, and write its plan. Raises UsageError, StorageError."""
    dataset = keeper.asked.dataset
    assert isinstance(dataset, Dataset), "rows of another run have no shards"
    rows = Ranges()
    names, bad, marks = dict[int, str](), dict[int, str](), list[Mark]()
    for chunk in planned(dataset, keeper.pending, threading.Lock()):
        rows.add(chunk.open)
        names.update(chunk.names)
        bad.update(chunk.bad)
        marks += chunk.marks
    count = rows.count
    found = Planned(
        run=keeper.run,
        cwd=str(Path.cwd()),
        identity=identity_of(keeper.asked.config),
        stamps=stamps_of(dataset),
        tasks=keeper.pending.tasks,
        rows=rows.take(count),
        count=count,
        names=names,
        bad=bad,
        marks=marks,
    )
    _write(found)
    return found


def _write(plan: Planned) -> None:
    path = plan.run.path / _PLAN
    text = encode({"format": _FORMAT, "run_id": plan.run.run_id} | {name: getattr(plan, name) for name in _KEPT})
    try:
        plan.run.files.make_directory(path.parent)
    except OSError as error:
        raise StorageError(f"{path.parent}: cannot be made: {error.strerror}") from error
    plan.run.write_file(_PLAN, b"%08x %b\n" % (zlib.crc32(text), text))


def read_plan(directory: Path) -> Planned:
    """Read the plan of a run. Raises RunDirError if it is missing, damaged or has another format."""
    run = run_at(directory)
    path = run.path / _PLAN
    without = f"to ask the rest without a plan: python -m runner CONFIG.yaml --resume {run.path}"
    try:
        line = path.read_bytes()
    except FileNotFoundError as error:
        made = "make a run that has one: python -m runner plan CONFIG.yaml"
        raise RunDirError(f"{directory}: has no plan; {made}; {without}") from error
    except OSError as error:
        raise RunDirError(f"{path}: cannot be read: {error.strerror}; {without}") from error
    if not is_sound(line):
        raise RunDirError(f"{path}: is damaged; {without}")
    about: dict[str, Any] = decode(line[PREFIX_LENGTH:])
    if about["format"] != _FORMAT:
        formats = f"has format {about['format']}, this program reads format {_FORMAT}"
        raise RunDirError(f"{path}: {formats}; use the version that made it, or, {without}")
    run.run_id = about["run_id"]
    found = {name: about[name] for name in _KEPT}
    for name in ("rows", "tasks"):
        found[name] = list(map(tuple, found[name]))
    for name in ("names", "bad"):
        found[name] = {int(index): text for index, text in found[name].items()}
    return Planned(run=run, **found | {"marks": [Mark(*mark) for mark in found["marks"]]})


def leases_of(plan: Planned, pending: Pending, rows: Sequence[tuple[int, int]]) -> list[Lease]:
    """Return leases of the rows that lack a result, with the results that are known of them."""
    open_ = iter([index for first, last in rows for index in range(first, last) if pending.lacks(index)])
    leases = []
    while part := list(islice(open_, _LEASE)):
        runs = ranges_of(part)
        leases.append(
            Lease(
                runs,
                {index: plan.names[index] for index in part if index in plan.names},
                {index: plan.bad[index] for index in part if index in plan.bad},
                pending.places(part),
                marks_for(runs, plan.marks),
            )
        )
    return leases
