"""Runs in which one call to the file system fails, for each call in turn: a clean end, and nothing lost that was kept."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq

from runner.errors import RunDirError, StorageError, UsageError
from runner.evaluation import prepare
from runner.storage.files import FILES, FileSystem
from runner.storage.ledger import Ledger
from tests.commands import Project, asked, questions
from tests.faulty_files import FaultyFiles
from tests.records import short_stretches
from tests.serving import Served

__all__ = ["Trials", "fail_in_turn"]

ROWS = 8
CONCURRENCY = 3


@dataclass
class Trials:
    """What came of it."""

    runs: int = 0
    #: The calls that failed, each once.
    failed: set[str] = field(default_factory=set)
    #: Rows that were in the journal after the fault, and not after the resume.
    lost: int = 0
    problems: list[str] = field(default_factory=list)


def fail_in_turn(
    scratch: Path, fault: str, *, resumed: bool = False, lasting: bool = False, first: int = 1, step: int = 1
) -> Iterator[Trials]:
    """Fail every `step`-th call from the `first`, until a run has no more calls; yield what was found so far after each run.

    With `resumed` the fault befalls a run that goes on, with `lasting` the same call fails ever after.
    """
    found = Trials()
    scratch.mkdir(parents=True, exist_ok=True)
    begun, directory = scratch / "begun", scratch / "trial"
    with Served() as served, short_stretches():  # one for all, for where the endpoint listens is a part of what a run is
        if resumed:
            project = _project(begun, served)
            prepare(project.config, [f"dataset.limit={ROWS // 2}"]).run()
            project.delete_views()
        for number in count(first, step):
            files = FaultyFiles(fault, number, lasting=lasting)
            shutil.rmtree(directory, ignore_errors=True)
            if resumed:
                shutil.copytree(begun, directory, symlinks=True)
            del served.seen[:]
            problems = list(_try(_project(directory, served), files, served, found))
            found.problems += [f"{fault} at call {number} ({files.failed}): {problem}" for problem in problems]
            found.runs += 1
            yield found
            if files.failed is None:
                return
            found.failed.add(files.failed)


def _project(directory: Path, served: Served) -> Project:
    return Project(directory, served.url, rows=questions(ROWS), limits={"concurrency": CONCURRENCY})


def _try(project: Project, files: FaultyFiles, served: Served, found: Trials) -> Iterator[str]:
    """Run with the fault, then go on without it; yield what is wrong."""
    finished, problem = _run(project, files)
    if problem is not None and (not isinstance(problem, UsageError) or served.seen):
        yield f"it ended with {type(problem).__name__}: {problem}"
    if files.handles:
        yield f"{len(files.handles)} files were left open"
    if any(thread.name == "journal-sync" for thread in threading.enumerate()):
        yield "the journal's thread was left running"
    kept = _kept(project)
    asked_before = len(served.seen)
    if not finished:
        _, problem = _run(project, FILES)
        if problem is not None:
            yield f"cannot go on without the fault: {problem}"
    if again := asked(served.seen[asked_before:]).keys() & {f"question {index}" for index in kept}:
        yield f"asked again although kept: {sorted(again)}"
    # Where there is only no room, the reserve takes what is on its way; otherwise that is lost, and nothing else.
    most = 0 if files.failed == "write" and files.fault != "EIO" and not files.lasting else CONCURRENCY
    if (twice := len(served.seen) - len(asked(served.seen))) > most:
        yield f"{twice} rows were paid twice, {most} may be"
    found.lost += len(kept - _kept(project))
    newest = project.runs[-1]
    rows = [pq.read_table(newest / f"{name}.parquet").num_rows for name in ("results", "errors")]
    if _kept(project) != set(range(ROWS)) or rows != [ROWS, 0]:
        yield f"after the resume there are {rows} rows"


def _run(project: Project, files: FileSystem) -> tuple[bool, Exception | None]:
    """Run or go on; return whether it finished, and an error that the command line would not end with code 3."""
    evaluation = prepare(project.config)
    evaluation.files = files
    problem: Exception | None = None
    finished = False
    try:
        finished = evaluation.run(resume=True).stopped is None
    except StorageError as error:
        problem = error if files is FILES else None
    except Exception as error:  # noqa: BLE001  it is the caller's to judge
        problem = error
    for path in (project.directory / "results").rglob("[!.]*.parquet"):
        pq.read_table(path)  # what has its name is whole
    return finished, problem


def _kept(project: Project) -> set[int]:
    """Return the rows whose result is in the journal of any run."""
    found: set[int] = set()
    for run in (path for path in (project.directory / "results" / project.name).glob("*") if not path.is_symlink()):
        try:
            ledger = Ledger.read(run / "journal")
        except RunDirError:
            continue
        with closing(ledger):
            found |= {end.item_index for end in ledger.ends()}
    return found
