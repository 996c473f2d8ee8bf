"""A small run and its resume, recorded, and every state looked at that a power loss in their midst could leave."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

import runner.pipeline.beginning
from runner.errors import RunDirError, UsageError
from runner.evaluation import prepare
from runner.pipeline.keeper import RunKeeper
from runner.storage.journal import read_segment, segments_of
from runner.storage.ledger import Ledger
from runner.storage.records import End
from runner.storage.rundir import RunDir
from tests.commands import Project, asked, heard_by, questions
from tests.faulty_files import CrashState, RecordingFiles, crash_states
from tests.records import short_stretches
from tests.serving import Served, chat_answer

__all__ = ["Explored", "explore"]

ROWS = 16
#: A state after which a run is resumed for real costs as much as a hundred that are only read.
RESUMED_EVERY = 400
_LATENCY_S = 0.02


@dataclass
class Explored:
    """What came of it."""

    states: int = 0
    resumed: int = 0
    #: Rows that had been shown as done and were not there any more.
    lost: int = 0
    #: What else was wrong, a sentence each.
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _note_what_is_synced(keeper: RunKeeper, lines: int) -> None:
    """Note in the record of a run's files what it has shown as done."""
    segment = segments_of(keeper.run.journal)[-1]
    assert isinstance(keeper.run.files, RecordingFiles)
    keeper.run.files.acknowledge(_outputs(segment, lines))
    keeper.progress.synced_lines = lines


def _only_run(output: Path) -> Path:
    (run,) = (path for path in (output / "trial").iterdir() if not path.is_symlink() and path.is_dir())
    return run


def _outputs(segment: Path, lines: int | None = None) -> dict[int, str | None]:
    """Return the answers in the first so many lines of a segment, by the row's index; None for a failure."""
    payloads = [line.payload for line in list(read_segment(segment))[:lines]]
    ends = [msgspec.json.decode(payload, type=End) for payload in payloads if payload and payload.startswith(b'{"kind":"end"')]
    return {end.item_index: end.output for end in ends}


async def _answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    question = body["messages"][-1]["content"]
    await asyncio.sleep(_LATENCY_S)
    if question.endswith("7"):
        return web.json_response({"error": {"message": "no sevens"}}, status=400)
    return web.json_response(chat_answer(f"re: {question}"))


def _project(directory: Path, url: str, root: Path) -> Project:
    limits = {"concurrency": 2, "fail_on_error": 1.0}
    return Project(directory, url, rows=questions(ROWS), limits=limits, more={"output": str(root / "results")})


def _run(project: Project, files: RecordingFiles | None = None) -> None:
    """Run or resume in this process."""
    evaluation = prepare(project.config)
    if files is None:
        evaluation.run(resume=True)
        return
    evaluation.files = files
    with _noting_what_is_kept(files), patch.object(RunKeeper, "_synced", _note_what_is_synced):
        evaluation.run(resume=True)
    files.acknowledge("finished")


@contextmanager
def _noting_what_is_kept(files: RecordingFiles) -> Iterator[None]:
    """A resume says how many results it keeps: from then on they are shown as done."""

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("resuming"):
                for segment in segments_of(_only_run(files.root / "results") / "journal"):
                    files.acknowledge(_outputs(segment))

    with heard_by(Note(), runner.pipeline.beginning.__name__):
        yield


def explore(scratch: Path, *, states: int, seed: int = 20261121) -> Explored:
    """Record a run, lose the power everywhere; kill it in the middle, record its resume, and lose the power there too."""
    draw, started, found = random.Random(seed), time.monotonic(), Explored()
    first, second, build = scratch / "first", scratch / "second", scratch / "state"
    first.mkdir(parents=True)
    with Served(_answer) as served, short_stretches():
        whole = RecordingFiles(first)
        _run(_project(scratch / "first project", served.url, first), whole)
        second.mkdir()
        _build_killed_run(whole, second)
        resumed = RecordingFiles(second, unsynced="*/journal/*")
        _run(_project(scratch / "second project", served.url, second), resumed)
        for recorded, share in ((whole, 2 * states // 3), (resumed, states - 2 * states // 3)):
            for state in islice(crash_states(recorded.calls, draw), share):
                _look_at(state, build, found, served)
    found.seconds = time.monotonic() - started
    return found


def _build_killed_run(recorded: RecordingFiles, root: Path) -> None:
    """Make what a SIGKILL leaves half-way through the rows, in the middle of a write."""
    rows = [number for number, call in enumerate(recorded.calls, 1) if b'"kind":"end"' in getattr(call, "content", b"")]
    half = rows[len(rows) // 2]
    next(crash_states(recorded.calls, random.Random(1), [half])).build(root)
    (segment,) = root.rglob("*.jsonl")
    os.truncate(segment, segment.stat().st_size - 10)


def _look_at(state: CrashState, build: Path, found: Explored, served: Served) -> None:
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir()
    state.build(build)
    found.states += 1
    before = len(found.problems)
    shown: dict[int, str | None] = {}
    for what in state.acknowledged:
        shown |= what if isinstance(what, dict) else {}
    kept = _kept(build / "results", found, "finished" in state.acknowledged)
    found.lost += sum(kept.get(index, "nothing") != output for index, output in shown.items())
    if found.states % RESUMED_EVERY == 0:
        found.resumed += 1
        _resume(build, kept, found, served)
    found.problems[before:] = [f"after call {state.after}: {problem}" for problem in found.problems[before:]]


def _kept(output: Path, found: Explored, finished: bool) -> dict[int, str | None]:
    """Read everything that a state holds, and return the answers in its journal."""
    evaluation = output / "trial"
    runs = [path for path in evaluation.iterdir() if path.is_dir() and not path.is_symlink()] if evaluation.is_dir() else []
    if finished and not ((evaluation / "latest").exists() and runs):
        found.problems.append("`latest` leads nowhere although the run had finished")
    if not runs:
        return {}
    run = RunDir(runs[0])
    run.lock()
    run.unlock()
    kept = _journal(run)
    if kept and not run.config.is_file():
        found.problems.append("config.yaml is gone although there are results")
    if run.config.is_file():
        json.loads(run.config.read_bytes())
    status = _status(run.path, found)
    rows = sum(_rows(run.path / f"{name}.parquet") for name in ("results", "errors"))
    if finished and (status, rows, len(kept)) != ("completed", ROWS, ROWS):
        found.problems.append(f"had finished, and now: {status}, {rows} rows in the files, {len(kept)} in the journal")
    return kept


def _journal(run: RunDir) -> dict[int, str | None]:
    try:
        ledger = Ledger.read(run.journal)
    except RunDirError:
        return {}  # no first line of any segment is there
    with closing(ledger):
        return {end.item_index: end.output for end in ledger.ends()}


def _status(run: Path, found: Explored) -> str | None:
    path = run / "evaluation.json"
    if not path.exists():
        return None
    try:
        status: str = json.loads(path.read_bytes())["status"]
    except ValueError:
        found.problems.append("evaluation.json is not whole")
        return None
    return status


def _rows(path: Path) -> int:
    """Return the rows of a Parquet file, all of whose pages must be readable; 0 where there is none."""
    return _rows_of(path.read_bytes()) if path.exists() else 0


@cache  # most states hold the same files
def _rows_of(content: bytes) -> int:
    return int(pq.read_table(pa.BufferReader(content)).num_rows)


def _resume(build: Path, kept: Mapping[int, str | None], found: Explored, served: Served) -> None:
    """Go on from a state: what is kept must not be asked again, and in the end every row must be there."""
    before = len(served.seen)
    project = _project(build.with_name("state project"), served.url, build)
    try:
        _run(project)
    except UsageError as error:
        found.problems.append(f"it cannot be resumed: {error}")
        return
    again = asked(served.seen[before:]).keys() & {f"question {index}" for index in kept}
    if again:
        found.problems.append(f"asked again although kept: {sorted(again)}")
    newest = max(path for path in (build / "results" / "trial").iterdir() if not path.is_symlink())
    if _rows(newest / "results.parquet") + _rows(newest / "errors.parquet") != ROWS:
        found.problems.append("rows are missing after the resume")
