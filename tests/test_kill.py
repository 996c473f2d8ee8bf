"""Runs that are killed with SIGKILL, again and again: every row once, nothing paid for twice that was kept, the same files."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from runner.storage.journal import read_segment, segments_of
from runner.storage.records import EndHead, Start, Try
from tests.commands import PATIENCE_S, Project, asked, questions
from tests.serving import Served, chat_answer
from tests.variations import CAMPAIGN

KILLS = 16 if CAMPAIGN else 4
SEED = 20261121
ROWS = 1000 if CAMPAIGN else 400
CONCURRENCY = 16
TIMES = ["run_id", "started_at", "completed_at", "latency_s", "ttft_s", "queue_s", "backoff_s"]


@dataclass
class Endpoint:
    """Answers after some milliseconds, and tells when so many requests have come."""

    draw: random.Random
    count: int = 0
    target: int = -1
    reached: threading.Event = field(default_factory=threading.Event)

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.count += 1
        if self.count == self.target:
            self.reached.set()
        await asyncio.sleep(self.draw.uniform(0.001, 0.006))
        return web.json_response(chat_answer(f"re: {body['messages'][-1]['content']}"))

    def aim(self, requests: int) -> None:
        """Set `reached` after so many more requests."""
        self.reached.clear()
        self.target = self.count + requests


def journaled(run: Path) -> tuple[set[int], set[int]]:
    """Return the rows whose answer is in the journal, and those that were started but are not known to have ended."""
    decoder = msgspec.json.Decoder(Start | Try | EndHead)
    ended, open_ = set(), set()
    for segment in segments_of(run / "journal"):
        for line in read_segment(segment):
            if line.payload is None or line.payload.startswith((b'{"kind":"open"', b'{"kind":"files"', b'{"kind":"close"')):
                continue
            match record := decoder.decode(line.payload):
                case Start():
                    open_.add(record.item_index)
                case Try():
                    open_.discard(record.item_index)
                case EndHead():
                    open_.discard(record.item_index)
                    ended.add(record.item_index)
    return ended, open_


def data_of(project: Project, name: str) -> list[dict[str, Any]]:
    table = pq.read_table(project.run_dir / f"{name}.parquet")
    rows: list[dict[str, Any]] = table.drop_columns([one for one in TIMES if one in table.column_names]).to_pylist()
    return rows


def to_its_end(project: Project) -> None:
    found = project.run_here("--resume")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.long
@pytest.mark.timeout(120 + 20 * KILLS)
def test_a_run_that_is_killed_again_and_again_comes_to_the_same_end(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    endpoint = Endpoint(random.Random(SEED))
    with Served(endpoint.answer) as served:
        killed, whole = (
            Project(path, served.url, rows=questions(ROWS), limits={"concurrency": CONCURRENCY})
            for path in (tmp_path / "killed", tmp_path / "whole")
        )
        may_be_twice: set[str] = set()
        for number in range(KILLS):
            kept_before = journaled(killed.run_dir)[0] if number else set()
            seen_before = len(served.seen)
            endpoint.aim(draw.randint(1, 2 * (ROWS - len(kept_before)) // (KILLS - number + 1)))
            with killed.started("--resume") as process:
                if number % 4 == 3:  # wherever it is by then, most likely not yet at its first request
                    endpoint.reached.wait(draw.uniform(0.1, 1.5))
                else:
                    assert endpoint.reached.wait(PATIENCE_S)
                    endpoint.reached.clear()
                    endpoint.reached.wait(draw.uniform(0, 0.01))
            assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"

            kept, in_flight = journaled(killed.run_dir)
            assert kept >= kept_before
            assert len(in_flight) <= CONCURRENCY * (number + 1)
            may_be_twice |= {f"question {index}" for index in in_flight}
            again = asked(served.seen[seen_before:]).keys() & {f"question {index}" for index in kept_before}
            assert not again, "asked again although the answer was kept"
            assert json.loads((killed.run_dir / "evaluation.json").read_bytes())["status"] == "running"

        kept, seen_before = journaled(killed.run_dir)[0], len(served.seen)
        to_its_end(killed)
        assert not asked(served.seen[seen_before:]).keys() & {f"question {index}" for index in kept}
        times = asked(served.seen)
        assert times.keys() == {f"question {index}" for index in range(ROWS)}
        assert times.total() - ROWS <= KILLS * CONCURRENCY
        assert {question for question, count in times.items() if count > 1} <= may_be_twice

        del served.seen[:]
        to_its_end(whole)
        assert asked(served.seen) == Counter(dict.fromkeys(times, 1))
    for name in ("results", "errors"):
        assert data_of(killed, name) == data_of(whole, name)
    assert [row["item_index"] for row in data_of(killed, "results")] == list(range(ROWS))
    for project in (killed, whole):
        assert project.evaluation["progress"]["items"] == {
            "total": ROWS, "successful": ROWS, "failed": 0, "pending": 0, "failed_items": [],
        }  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_kill_while_the_files_are_made_leaves_old_ones_or_none(tmp_path: Path) -> None:
    """Answers are large, so that making the files takes a while; whenever the kill comes, what is there is whole."""
    draw = random.Random(SEED)

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(chat_answer(f"{body['messages'][-1]['content']} {'x' * 100_000}"))

    with Served(answer) as served:
        project = Project(tmp_path, served.url, rows=questions(150), limits={"concurrency": 8})
        for _ in range(max(1, KILLS // 4)):
            with project.started("--resume") as process:
                while len(served.seen) < 150:
                    assert process.poll() is None
                    threading.Event().wait(0.005)
                threading.Event().wait(draw.uniform(0, 0.5))
            for path in project.run_dir.glob("*.parquet"):
                assert pq.read_table(path).num_rows == (150 if path.name == "results.parquet" else 0)
            json.loads((project.run_dir / "evaluation.json").read_bytes())
            if project.evaluation["status"] == "completed":
                break
        else:
            to_its_end(project)
        assert 150 <= len(served.seen) <= 150 + 8 * KILLS
    assert len(project.results()) == 150
    assert not [path for path in project.run_dir.iterdir() if path.name.endswith(".tmp")]
