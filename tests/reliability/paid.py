"""Answers that were paid for: whole streams with all kinds of tails, every status of success, a program that stands still."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.commands import Project, ask, questions
from tests.misbehaving import TAILS, Misbehaving, events
from tests.reliability.figures import Measured, finish, keys_of
from tests.serving import Served, chat_answer
from tests.test_client import Certificate, certificate

__all__ = ["measure_paid"]

_STATUSES = (201, 202, 203, 206, 207, 226, 299)
_EACH = 20
_ROWS = 200
_CONCURRENCY = 16
_LATENCY_S = 0.3
_STOPS_S = (0.5, 1.9, 2.5, 4.0, 8.0)
#: Each of them runs out in most of the stops, and none before an answer comes, also on a busy machine.
_SHORT = {"connect": 2, "first_byte": 2, "idle": 2, "total": 3}
#: Where there are no stops only the wait for what follows a whole stream is short: a quarter of the idle time.
_LONG = {"connect": 30, "first_byte": 30, "idle": 4, "total": 60}


@dataclass
class _Slow:
    """An endpoint that answers after a while, streamed where that is asked for, and counts questions and answers."""

    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = str(body["messages"][-1]["content"])
        self.asked[text] += 1
        await asyncio.sleep(_LATENCY_S)
        if body.get("stream"):
            response = web.Response(body=b"".join(events(text)), content_type="text/event-stream")
        else:
            response = web.json_response(chat_answer(f"re: {text}" + " and more" * (self.asked.total() % 3) * 10_000))
        await response.prepare(request)
        await response.write_eof()
        self.answered[text] += 1
        return response


@dataclass
class _Found:
    """What the runs came to."""

    rows: int = 0
    missing: int = 0
    errors: int = 0
    twice: int = 0

    def add(self, project: Project, asked: Mapping[str, int]) -> None:
        results, errors = project.results(), project.errors()
        expected = len(project.rows) * len(project.tasks)
        self.rows += expected
        self.errors += len(errors)
        self.missing += expected - len(set(keys_of(project.run_dir)))
        self.twice += sum(max(0, count - len(project.tasks)) for count in asked.values())
        assert len(results) + len(errors) <= expected


def measure_paid(directory: Path, seconds: float) -> Measured:
    """Count the rows that were asked again though an answer of theirs was on its way whole, plain and through TLS."""
    own = certificate(directory, "IP:127.0.0.1")
    tails, stops = _Found(), _Found()
    longest = [stop for stop in _STOPS_S if stop <= seconds / 10]
    for tls, stream in itertools.product((None, own), (False, True)):
        name = f"{'plain' if tls is None else 'tls'}-{'stream' if stream else 'whole'}"
        _run_with_tails(directory / f"tails-{name}", tls, tails, stream=stream)
        _run_with_stops(directory / f"stops-{name}", tls, stops, longest, stream=stream)
    counts = [f"{found.twice} / {found.missing} / {found.errors} of {found.rows:,}" for found in (tails, stops)]
    kept = all(found.twice == found.missing == found.errors == 0 for found in (tails, stops))
    return Measured(f"{counts[0]}; {counts[1]} with stops of up to {max(longest, default=0):g} s", met=kept)


def _project(
    directory: Path,
    url: str,
    rows: Sequence[Mapping[str, Any]],
    tls: Certificate | None,
    timeout: Mapping[str, float],
    *,
    stream: bool,
) -> Project:
    endpoint: dict[str, Any] = {"base_url": url, "timeout": timeout, "verify": str(tls.path) if tls is not None else True}
    limits = {"concurrency": _CONCURRENCY, "max_attempts": 3}
    return Project(directory, url, rows=rows, tasks=[ask(stream=stream)], limits=limits, more={"endpoint": endpoint})


def _side(tls: Certificate | None) -> ssl.SSLContext | None:
    return None if tls is None else tls.server_side()


def _run_with_tails(directory: Path, tls: Certificate | None, found: _Found, *, stream: bool) -> None:
    """Let every status of success come, and behind streams every tail."""
    directory.mkdir()
    words = {"whole-then": list(TAILS)} if stream else {}
    with Misbehaving(tls=_side(tls)) as endpoint:
        for fault, endings in {"2xx": list(map(str, _STATUSES)), **words}.items():
            rows = [
                {"id": f"{number}-{ending}", "question": f"{number} {ending}"} for ending in endings for number in range(_EACH)
            ]
            project = _project(directory / fault, endpoint.at(fault), rows, tls, _LONG, stream=stream)
            with project.started() as process:
                finish(process, 300)
            found.add(project, {text: count for (path, text), count in endpoint.of_row.items() if path == fault})


def _run_with_stops(directory: Path, tls: Certificate | None, found: _Found, lengths: Sequence[float], *, stream: bool) -> None:
    """Stop the process again and again, each time for as long as is next in line."""
    slow = _Slow()
    with Served(slow.answer, tls=_side(tls)) as served:
        project = _project(directory, served.url, questions(_ROWS), tls, _SHORT, stream=stream)
        with project.started() as process:
            for length, until in zip(lengths, _shares(len(lengths)), strict=True):
                _stop(process, slow, length, until)
            finish(process, 300)
    found.add(project, slow.asked)


def _shares(count: int) -> Iterator[int]:
    """Yield after how many answers the process is stopped."""
    return (_ROWS * number // (count + 1) for number in range(1, count + 1))


def _stop(process: subprocess.Popen[str], slow: _Slow, length: float, until: int) -> None:
    while process.poll() is None and slow.answered.total() < until:
        time.sleep(0.01)
    time.sleep(_LATENCY_S / 2)  # the next ones are on their way
    if process.poll() is None:
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(length)
        os.kill(process.pid, signal.SIGCONT)
