"""`limits.concurrency: auto` in whole runs, over real sockets: it ends near what the server can do, and says what it found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.config.loading import load_config
from runner.endpoint import connect
from runner.endpoint.shared import Endpoints, Guest
from runner.results.concurrency import found_in
from runner.storage.records import Limit, Open
from tests.commands import Project, questions
from tests.serving import Served, echo

SLOTS = 24


@contextmanager
def busy(slots: int, seconds: float) -> Iterator[tuple[Served, list[int]]]:
    """Serve with so many slots and a queue before them; each answer takes so long. Yield how many were there when one came."""
    gate = asyncio.Semaphore(slots)
    there, seen = 0, list[int]()

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal there
        there += 1
        seen.append(there)
        try:
            async with gate:
                await asyncio.sleep(seconds)
            return await echo(request, body)
        finally:
            there -= 1

    with Served(answer) as server:
        yield server, seen


@pytest.mark.long
def test_a_run_ends_near_what_the_server_can_do_and_not_at_the_bound(tmp_path: Path) -> None:
    with busy(SLOTS, 0.1) as (server, seen):
        project = Project(tmp_path, server.url, rows=questions(600), limits={"concurrency": "auto"})
        done = project.run_here()
    assert done.returncode == 0, done.stderr
    totals = json.loads((project.run_dir / "evaluation.json").read_bytes())["totals"]
    found = totals["concurrency"]
    assert SLOTS / 2 <= found["best"] <= 3 * SLOTS
    assert max(seen) <= 8 * SLOTS
    assert sorted(seen)[len(seen) // 2] >= SLOTS / 2
    assert f"  in flight  best found: {found['best']}, {found['answers_per_s']:.1f} answers/s" in done.stdout.splitlines()
    seconds = [moment[0] for moment in found["history"]]
    assert seconds == sorted(seconds)
    assert all(limit <= 8 * SLOTS and per_s > 0 and p50_s >= 0.1 for _, limit, per_s, p50_s in found["history"])
    assert totals["slots_full"] >= 0.5
    assert totals["bound_by"] == "endpoint"


@pytest.mark.parametrize("options", [(), pytest.param(("--processes", "2"), marks=pytest.mark.long)], ids=["alone", "workers"])
def test_a_resume_finds_it_anew_and_all_is_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    with busy(SLOTS, 0.05) as (server, seen):
        project = Project(tmp_path, server.url, rows=questions(300), limits={"concurrency": "auto", "max_concurrency": 40})
        stopped = project.run_here("--set", "limits.max_tokens=1000")
        assert stopped.returncode != 0
        before = project.evaluation["totals"]["concurrency"]
        done = project.run_here("--resume", *options)
    assert done.returncode == 0, done.stderr
    assert len(project.results()) == 300
    assert max(seen) <= 40
    found = project.evaluation["totals"]["concurrency"]
    assert found["best"] is not None
    assert found["best"] <= 40
    assert found["history"][: len(before["history"])] == before["history"]
    assert len(found["history"]) > len(before["history"])
    lines = [line for path in (project.run_dir / "journal").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert sum('"kind":"limit"' in line for line in lines) >= 3


@pytest.mark.long
def test_each_of_several_servers_has_a_number_of_its_own(tmp_path: Path) -> None:
    with busy(12, 0.05) as (one, _), busy(4, 0.05) as (other, seen):
        project = Project(tmp_path, "", rows=questions(250), limits={"concurrency": "auto"})
        project.more = {"endpoint": {"base_url": [one.url, other.url]}}
        project.write()
        done = project.run_here()
    assert done.returncode == 0, done.stderr
    assert len(project.results()) == 250
    found = project.evaluation["totals"]["concurrency"]
    assert found["best"] is not None
    assert found["best"] <= 64
    assert max(seen) <= 64


def test_rows_that_are_too_few_say_nothing(tmp_path: Path) -> None:
    with Served() as server:
        project = Project(tmp_path, server.url, rows=questions(5), limits={"concurrency": "auto"})
        done = project.run_here()
    assert "  in flight  best not found: " in done.stdout
    assert project.evaluation["totals"]["concurrency"] == {"best": None, "answers_per_s": None, "history": []}


def test_a_fixed_number_says_nothing_of_it(tmp_path: Path) -> None:
    with Served() as server:
        project = Project(tmp_path, server.url, rows=questions(5), limits={"concurrency": 2})
        done = project.run_here()
    assert "in flight" not in done.stdout
    assert "concurrency" not in project.evaluation["totals"]


async def test_where_one_of_those_who_share_an_endpoint_finds_it_what_it_finds_holds_for_all(tmp_path: Path) -> None:
    def guest(concurrency: int | str) -> Guest:
        project = Project(tmp_path, "http://127.0.0.1:1", limits={"concurrency": concurrency, "max_concurrency": 50})
        return Guest(load_config(project.config, environment={})[0], {}, left=lambda: 1.0, has_fresh=lambda: True)

    endpoints = Endpoints()
    async with endpoints.asked_by(guest(4)) as shared:
        assert (shared.limiter.slots.auto, shared.limiter.slots.limit) == (None, 4)
        async with endpoints.asked_by(guest("auto")) as same:
            assert same is shared
            assert shared.limiter.slots.auto is not None
            assert shared.limiter.slots.limit == 8


def test_the_bound_is_what_there_are_connections_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "room_for", lambda connections: min(connections, 100))
    limits = {"concurrency": "auto"}
    config, _ = load_config(Project(tmp_path, "http://127.0.0.1:1", limits=limits).config, environment={})
    capped = connect.cap_concurrency(config).limits
    assert (capped.concurrency, capped.most_in_flight, capped.first_in_flight) == ("auto", 100, 8)


def test_what_workers_find_is_added_up_and_a_later_start_counts() -> None:
    def opened(at_s: float, worker: int | None = None) -> Open:
        more = {} if worker is None else {"worker": worker}
        about = {"format": 1, "run_id": "r", "name": "n", "host": "h", "pid": 1, "tasks": [], "identity": {}, "files": []}
        return Open(**about, at=int(at_s * 1e6), concurrency=16, **more)  # type: ignore[arg-type]

    def limit(ran_s: float, came_to: tuple[int, float, float], best: tuple[int, float] | None = None) -> Limit:
        return Limit(ran_us=int(ran_s * 1e6), limit=came_to[0], slot_s=1.0, round=came_to, best=best)

    kept = [
        (opened(0), [limit(5, (100, 90.0, 1.0), (110, 91.0))]),
        (opened(50, worker=0), [limit(1, (10, 30.0, 0.1)), limit(4, (20, 60.0, 0.3), (21, 61.0))]),
        (opened(50, worker=1), [limit(2, (30, 30.0, 0.5), (31, 29.0))]),
    ]
    assert found_in(kept, [(0, 10.0), (50_000_000, 20.0)]) == {
        "best": 52,
        "answers_per_s": 90.0,
        "history": [[5.0, 100, 90.0, 1.0], [11.0, 10, 30.0, 0.1], [12.0, 40, 60.0, 0.3], [14.0, 20, 60.0, 0.3]],
    }
    assert found_in([], []) is None
    long = [(opened(0), [limit(at, (at, 1.0, 1.0)) for at in range(1, 1001)])]
    history = (found_in(long, [(0, 2000.0)]) or {})["history"]
    assert len(history) <= 200
    assert history[-1][0] == 1000
