"""A run that stops by itself ends soon: it waits for the endpoint no longer than it must, and drops nothing that is paid."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.commands import PATIENCE_S, Holding, Project, questions
from tests.serving import Served, chat_answer

CONCURRENCY = 12
#: How long a request may take by itself: longer than the tests wait.
HOURS = {"connect": 10, "first_byte": 3600, "idle": 3600, "total": 3600}


def project(directory: Path, served: Served, **limits: Any) -> Project:
    """Return an evaluation whose requests may take hours."""
    more = {"endpoint": {"base_url": served.url, "timeout": HOURS}}
    return Project(directory, served.url, rows=questions(200), limits={"concurrency": CONCURRENCY} | limits, more=more)


class Dying:
    """Answers; then it hangs for some requests and refuses the others."""

    def __init__(self, status: int, answered: int, hanging: int) -> None:
        self.status, self.answered, self.hanging = status, answered, hanging
        self.requests = 0

    async def answer(self, _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        self.requests += 1
        number = self.requests
        if number <= self.answered:
            return web.json_response(chat_answer())
        if number <= self.answered + self.hanging:
            await asyncio.Event().wait()
        return web.json_response({"error": {"message": "no more"}}, status=self.status)


@pytest.mark.long
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (503, "the endpoint has been down for 2 s (limits.give_up_after)"),
        (401, "the endpoint refuses a request that it answered before: 401"),
        (402, "no more"),
    ],
)
def test_an_endpoint_that_dies_ends_the_run_within_the_drain(tmp_path: Path, status: int, reason: str) -> None:
    endpoint = Dying(status, answered=30, hanging=3)
    with Served(endpoint.answer) as served:
        trial = project(tmp_path, served, give_up_after=2, drain=1)
        ended = trial.run_here()
    assert ended.returncode == 3, ended.stderr
    assert "in flight may finish within 1 s (limits.drain)" in ended.stderr
    assert reason in trial.evaluation["status_reason"]
    assert (len(trial.results()), trial.errors()) == (30, []), "what is dropped is pending, and no error"


@pytest.mark.long
def test_a_run_that_is_over_its_time_ends_within_the_drain(tmp_path: Path) -> None:
    holding = Holding(at_once=5)
    with holding.served() as served:
        trial = project(tmp_path, served, max_wall_time=2, drain=1)
        ended = trial.run_here()
    assert ended.returncode == 3, ended.stderr
    assert "limits.max_wall_time" in trial.evaluation["status_reason"]
    assert (len(trial.results()), trial.errors()) == (5, [])


@pytest.mark.long
def test_a_run_that_has_used_its_tokens_keeps_every_answer_that_it_pays(tmp_path: Path) -> None:
    """Five tokens each: the twentieth answer is the last that the budget allows, the others are on their way by then."""
    holding = Holding(at_once=20)
    with holding.served() as served:
        trial = project(tmp_path, served, max_tokens=100, drain=0)
        with trial.started() as process:
            holding.wait_for(CONCURRENCY - 1)
            assert process.stderr is not None
            said = next(line for line in process.stderr if "limits.max_tokens" in line)
            holding.release()
            assert process.wait(PATIENCE_S) == 3
    assert f"{CONCURRENCY - 1} in flight may finish without a time limit" in said
    assert (len(trial.results()), trial.errors()) == (20 + CONCURRENCY - 1, [])
