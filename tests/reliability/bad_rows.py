"""Rows that always fail, outages between them, and configs that no row can be right with: simulated, and by real sockets."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from runner.evaluation import prepare
from runner.results.closing import Report
from tests.commands import Project, questions
from tests.histories import broken_promises, drawn, live
from tests.reliability.figures import Measured
from tests.serving import Served, chat_answer

__all__ = ["measure_bad_rows", "measure_refusals", "measure_simulated"]

_HANGS, _RESETS = "hangs", "resets"
_KINDS: tuple[int | str, ...] = (500, 502, 503, 504, 401, 403, _RESETS, _HANGS)
_HISTORIES = 30
_MOST_ROWS = 400
#: About so many in a second, on one core of the machine that the figures are from.
_SIMULATED_A_SECOND = 10


def measure_simulated(_directory: Path, seconds: float) -> Measured:
    """Live through histories by chance, as many as the time is for."""
    logging.getLogger("runner").setLevel(logging.ERROR)
    count = max(100, int(seconds * _SIMULATED_A_SECOND))
    broken = [seed for seed in range(count) if broken_promises(history := drawn(seed), live(history))]
    logging.getLogger("runner").setLevel(logging.NOTSET)
    return Measured(f"{len(broken)} of {count:,}{f': {broken[:10]}' if broken else ''}", met=not broken)


@dataclass
class _Endpoint:
    """Answers all questions but the bad ones, and none in an outage."""

    bad: frozenset[int]
    kind: int | str
    latency: float
    #: Seconds after the first request, from and to.
    outage: tuple[float, float] | None
    began: float | None = None
    answered: set[int] = field(default_factory=set)

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.began = self.began or time.monotonic()
        now = time.monotonic() - self.began
        index = int(body["messages"][-1]["content"].split()[1])
        if self.outage is not None and self.outage[0] <= now < self.outage[1]:
            return web.json_response({"error": {"message": "the backend is gone"}}, status=503)
        if index not in self.bad:
            await asyncio.sleep(self.latency)
            self.answered.add(index)
            return web.json_response(chat_answer(f"re: {index}"))
        if self.kind == _HANGS:
            await asyncio.sleep(3600)
        if self.kind == _RESETS:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"error": {"message": "no"}}, status=500 if isinstance(self.kind, str) else self.kind)


def measure_bad_rows(directory: Path, seconds: float) -> Measured:
    """Run histories by real sockets: every good row must be a result, every bad one an error, whatever the order."""
    logging.getLogger("runner").setLevel(logging.ERROR)
    count = max(3, min(_HISTORIES, int(seconds / 12)))
    wrong = [found for seed in range(count) if (found := _lived(directory / str(seed), seed)) is not None]
    logging.getLogger("runner").setLevel(logging.NOTSET)
    return Measured(f"{len(wrong)} of {count}{': ' + '; '.join(wrong[:3]) if wrong else ''}", met=not wrong)


def _lived(directory: Path, seed: int) -> str | None:
    """Run one history; return what was wrong with it, or None."""
    draw = random.Random(seed)
    rows, concurrency = draw.choice([100, 200, _MOST_ROWS]), (1, 8, 32, 256)[seed % 4]
    count = int(rows * draw.choice([0.05, 0.12, 0.33, 0.5]))
    kind = _KINDS[seed % len(_KINDS)]
    # Before anything was answered equal refusals end a run: such rows do not come first.
    first = draw.choice([8, (rows - count) // 2, rows - count])
    bad = draw.sample(range(8, rows), count) if seed % 3 == 0 else range(first, min(rows, first + count))
    outage = (1.0, 1.0 + draw.choice([0.5, 3.0])) if seed % 5 == 0 else None
    endpoint = _Endpoint(frozenset(bad), kind, draw.choice([0.005, 0.05]), outage)
    with Served(endpoint.answer) as served:
        project = Project(
            directory,
            served.url,
            rows=questions(rows),
            limits={"concurrency": concurrency, "max_attempts": 3, "fail_on_error": 0.6},
            more={"endpoint": {"base_url": served.url, "timeout": {"connect": 2, "first_byte": 1, "idle": 1, "total": 2}}},
        )
        report = prepare(project.config, environment={}).run()
    errors = {row["item_index"] for row in project.errors()}
    results = {row["item_index"] for row in project.results()}
    if report.stopped is None and errors == set(bad) and results == set(range(rows)) - set(bad):
        return None
    return f"seed {seed} ({kind}, {count} of {rows}, concurrency {concurrency}): {report.stopped}, {len(errors)} errors"


#: What an endpoint says to everything: status, body, and what becomes of the connection.
_SAME: dict[str, tuple[int, str, str]] = {
    "400": (400, '{"error": {"message": "Unsupported parameter: \'max_tokens\' (request %d)"}}', ""),
    "401": (401, '{"error": {"message": "Incorrect API key provided"}}', ""),
    "404": (404, '{"error": {"message": "The model `m` does not exist"}}', ""),
    "422": (422, '{"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}', ""),
    "empty": (200, "", ""),
    "HTML": (200, "<html><title>Log in</title></html>", ""),
    "no choices": (200, "{}", ""),
    "resets": (200, "", _RESETS),
    "closes": (200, "", "closes"),
}


def measure_refusals(directory: Path, _seconds: float) -> Measured:
    """Ask endpoints that say the same to everything."""
    logging.getLogger("runner").setLevel(logging.ERROR)
    said, met = [], True
    for name, (status, body, end) in _SAME.items():
        asked, took, report = _refused(directory / name.replace(" ", "-"), status, body, end)
        met &= asked <= 24 and took <= 5 and report.stopped is not None and report.errors == 0
        said.append(f"{name} {asked} / {took:.1f} s{'' if report.stopped else ' not stopped'}")
    logging.getLogger("runner").setLevel(logging.NOTSET)
    return Measured("; ".join(said), met=met)


def _refused(directory: Path, status: int, body: str, end: str) -> tuple[int, float, Report]:
    asked = 0

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if end:
            assert request.transport is not None
            request.transport.abort() if end == _RESETS else request.transport.close()
        text = body % asked if "%d" in body else body
        return web.Response(status=status, text=text, content_type="text/html" if body.startswith("<") else "application/json")

    with Served(answer) as served:
        project = Project(directory, served.url, rows=questions(200), limits={"concurrency": 32})
        began = time.monotonic()
        report = prepare(project.config, environment={}).run()
        return asked, time.monotonic() - began, report
