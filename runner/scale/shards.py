"""Shards: a run in parts of fixed size, for machines that nothing connects but a file system.

    plan     a run directory, and in it which rows are asked, and which names depend on other rows
    shard    the i-th of n parts of these rows: a worker with a segment of its own, and nobody to ask
    merge    the files, once every unit has a result

The same shard once more does what is left of it; so does any other number of shards.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from runner.datasets import Dataset, Mark
from runner.errors import ConfigError, RunDirError, StorageError
from runner.jsontext import JsonError, decode, encode
from runner.logs import logger
from runner.pipeline.keeper import RunKeeper
from runner.pipeline.pending import Pending
from runner.pipeline.resume import Asked, identity_of
from runner.scale.beat import Lease
from runner.scale.planning import marks_for, planned
from runner.scale.ranges import Ranges, ranges_of
from runner.scale.shares import unfit_elsewhere
from runner.storage.rundir import RunDir, run_at
from runner.structs import Struct

__all__ = ["Planned", "check_fit", "leases_of", "make_plan", "read_plan"]

_log = logger(__name__)
_FORMAT = 1
_LEASE = 1000


class Planned(Struct, frozen=True):
    """The plan of a run."""

    run: RunDir
    #: Where the config's relative paths are taken from.
    cwd: str
    #: A hash of each value of the config that decides what is asked.
    identity: dict[str, str]
    tasks: Sequence[tuple[str, int]]
    #: The rows that are asked, as ranges of indexes, and how many they are.
    rows: Sequence[tuple[int, int]]
    count: int
    names: dict[int, str]
    bad: dict[int, str]
    #: Places from which the rows can be read without those before.
    marks: Sequence[Mark]

    def part(self, number: int, of: int) -> list[tuple[int, int]]:
        """Return the rows of one of so many equal parts, from 0."""
        first, last = self.count * number // of, self.count * (number + 1) // of
        rows = Ranges()
        rows.add(self.rows)
        rows.take(first)
        return rows.take(last - first)


def check_fit(asked: Asked) -> None:
    """Raise ConfigError where shards could not do what a config says."""
    mistakes = list(unfit_elsewhere(asked))
    if mistakes:
        raise ConfigError(mistakes)


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
    directory = plan.run.path / "plan"
    exceptions = [{"index": index, "name": name} for index, name in plan.names.items()]
    exceptions += [{"index": index, "bad": why} for index, why in plan.bad.items()]
    about = {
        "format": _FORMAT,
        "run_id": plan.run.run_id,
        "cwd": plan.cwd,
        "tasks": [list(task) for task in plan.tasks],
        "identity": plan.identity,
        "chosen": plan.count,
        "rows": [list(one) for one in plan.rows],
    }
    try:
        plan.run.files.make_directory(directory)
    except OSError as error:
        raise StorageError(f"{directory}: cannot be made: {error.strerror}") from error
    plan.run.write_file("plan/names.jsonl", b"".join(encode(one) + b"\n" for one in exceptions))
    plan.run.write_file("plan/rows.idx", _text_of(plan.marks))
    plan.run.write_file("plan/plan.json", encode(about) + b"\n")  # last: without it the plan is not whole


def _text_of(marks: Sequence[Mark]) -> bytes:
    """Return marks as a line of JSON behind its checksum."""
    text = encode(marks)
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _marks_in(path: Path) -> Sequence[Mark]:
    """Return the marks of a plan; none where they are not as they were written, for without them all rows are found too."""
    try:
        checksum, _, text = path.read_bytes().rstrip(b"\n").partition(b" ")
        if int(checksum, 16) == zlib.crc32(text):
            return [Mark(index, file, place) for index, file, place in decode(text)]
    except FileNotFoundError:  # a plan of before there were any
        return ()
    except (OSError, ValueError):
        pass
    _log.warning("%s: cannot be read; a shard reads the dataset from its beginning", path)
    return ()


def read_plan(directory: Path) -> Planned:
    """Read the plan of a run. Raises RunDirError where there is none that can be read."""
    run = run_at(directory)
    path = run.path / "plan" / "plan.json"
    try:
        about: dict[str, Any] = decode(path.read_bytes())
        exceptions = [decode(line) for line in (run.path / "plan" / "names.jsonl").read_bytes().splitlines()]
        if about["format"] != _FORMAT:
            raise RunDirError(f"{path}: is of format {about['format']}, this program reads format {_FORMAT}; update it")
        run.run_id = about["run_id"]
        rows = [(first, last) for first, last in about["rows"]]
        tasks = [(alias, samples) for alias, samples in about["tasks"]]
        names = {one["index"]: one["name"] for one in exceptions if "name" in one}
        bad = {one["index"]: one["bad"] for one in exceptions if "bad" in one}
        marks = _marks_in(run.path / "plan" / "rows.idx")
        return Planned(run, about["cwd"], about["identity"], tasks, rows, about["chosen"], names, bad, marks)
    except FileNotFoundError as error:
        raise RunDirError(f"{directory}: has no plan; make a run that has one: python -m runner plan CONFIG.yaml") from error
    except (OSError, JsonError, KeyError, TypeError, ValueError) as error:
        raise RunDirError(f"{path}: cannot be read: {error}; make a new run: python -m runner plan CONFIG.yaml") from error


def leases_of(plan: Planned, pending: Pending, rows: Sequence[tuple[int, int]]) -> list[Lease]:
    """Return those of some rows that lack a result, with what is known of them."""
    samples = range(max(samples for _, samples in plan.tasks))
    indexes = (index for first, last in rows for index in range(first, last))
    open_ = iter([index for index in indexes if any(pending.is_open(index, sample) for sample in samples)])
    leases = []
    while part := list(islice(open_, _LEASE)):
        ends = (pending.end(*unit) for index in part for unit in pending.units(index))
        runs = ranges_of(part)
        leases.append(
            Lease(
                runs,
                {index: plan.names[index] for index in part if index in plan.names},
                {index: plan.bad[index] for index in part if index in plan.bad},
                [end for end in ends if end is not None],
                marks_for(runs, plan.marks),
            )
        )
    return leases
