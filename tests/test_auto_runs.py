"""`limits.concurrency: auto` in whole runs, over real sockets: it ends near what the server can do, and says what it found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

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


def test_a_run_ends_near_what_the_server_can_do_and_not_at_the_bound(tmp_path: Path) -> None:
    with busy(SLOTS, 0.1) as (server, seen):
        project = Project(tmp_path, server.url, rows=questions(900), limits={"concurrency": "auto"})
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
