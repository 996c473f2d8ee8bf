"""Runs of many processes, for tests: endpoints that answer them, their processes, and what two runs have in common."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from aiohttp import web

from tests.commands import Project
from tests.serving import Served, chat_answer

__all__ = [
    "OF_A_RUN",
    "OF_TIMES",
    "Held",
    "answer",
    "answer_all",
    "columns_of",
    "has_come",
    "lives",
    "soon",
    "told_to_end",
    "workers_of",
]

#: Columns that no two runs have in common.
OF_A_RUN = {"run_id", "response_id", "started_at", "completed_at", "latency_s", "ttft_s", "queue_s", "backoff_s"}
OF_TIMES = {"wall_s", "requests_per_s", "slots_full", "bound_by", "loop_lag_s", "latency_s", "ttft_s", "shares", "slowest"}


async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer after some milliseconds; some rows never get an answer that is of use."""
    question = str(body["messages"][-1]["content"])
    await asyncio.sleep(random.uniform(0.001, 0.004))
    if question.endswith("3"):
        return web.json_response({"error": {"message": "no such thing"}}, status=400)
    return web.json_response(chat_answer(f"re: {question}"))


class Held:
    """Answers that wait until somebody lets them go, but for the first few."""

    def __init__(self, at_once: int) -> None:
        self.at_once, self.count = at_once, 0
        self.waits = threading.Event()
        self.open = threading.Event()

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.count += 1
        if self.count > self.at_once:
            self.waits.set()
            while not self.open.is_set():  # noqa: ASYNC110  another thread sets it
                await asyncio.sleep(0.005)
        return web.json_response(chat_answer(f"re: {body['messages'][-1]['content']}"))


def told_to_end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a run a signal, and wait until it says that it sends no new requests."""
    process.send_signal(number)
    assert process.stderr is not None
    assert any("no new requests" in line for line in process.stderr)


def workers_of(pid: int) -> list[int]:
    """Return the worker processes of a run."""
    children = (
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and _stat(path).get("ppid") == pid and b"work" in _stat(path)["words"]
    )
    return sorted(children)


def _stat(path: Path) -> dict[str, Any]:
    try:
        return {
            "ppid": int((path / "stat").read_text().rpartition(")")[2].split()[1]),
            "words": (path / "cmdline").read_bytes().split(b"\0"),
        }
    except OSError:
        return {"ppid": None, "words": []}


def soon(check: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until
        time.sleep(0.01)


def columns_of(project: Project, name: str, run: Path) -> list[dict[str, Any]]:
    table = pq.read_table(run / f"{name}.parquet")
    rows: list[dict[str, Any]] = table.drop_columns([one for one in OF_A_RUN if one in table.column_names]).to_pylist()
    return rows


def has_come(server: Served, requests: int) -> bool:
    return len(server.seen) > requests


async def answer_all(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(0.005)
    return web.json_response(chat_answer(f"re: {body['messages'][-1]['content']}"))


def lives(pid: int) -> bool:
    """Whether a process runs, and was not only left behind by its parent."""
    return _stat(Path(f"/proc/{pid}"))["words"] not in ([], [b""])
