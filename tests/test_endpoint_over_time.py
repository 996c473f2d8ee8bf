"""An endpoint over time, on real sockets: it dies, comes back, limits, refuses, and has rows that it never answers.

One of each kind; `test_histories` has them in all variations, in virtual time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.evaluation import prepare
from runner.results.closing import Report
from tests.commands import PATIENCE_S, Holding, Project, impatient, questions
from tests.serving import Served, chat_answer
from tests.variations import crossed, some

#: What an endpoint does with a request: a status, or nothing for an answer.
Verdict = Callable[["Endpoint", str], int | None]


#: Of a request that is never answered.
HANGS = 0


@dataclass
class Endpoint:
    """Answers, or not, as `verdict` says of the text of a request; it counts what it did."""

    verdict: Verdict = lambda _endpoint, _text: None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds that every answer takes.
    takes_s: float = 0.002
    requests: int = 0
    answered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.requests += 1
        self.times.append(time.monotonic())
        text = str(body["messages"][-1]["content"])
        status = self.verdict(self, text)
        await asyncio.sleep(3600 if status == HANGS else self.takes_s)
        self.statuses[status or 200] += 1
        if status is not None:
            return web.json_response({"error": {"message": f"no: {status}"}}, status=status, headers=self.headers)
        self.answered += 1
        return web.json_response(chat_answer(f"re: {text}"))

    def served(self) -> Served:
        return Served(self.answer)


def run(project: Project, *, resume: bool = False) -> Report:
    with impatient():
        return prepare(project.config, environment={}).run(resume=resume)


def always(status: int, *poison: int) -> Verdict:
    """Refuse some rows always with this status."""
    texts = {f"question {index}" for index in poison}
    return lambda _endpoint, text: status if text in texts else None


# --- outages ---


@pytest.mark.long
@pytest.mark.parametrize(("concurrency", "max_attempts"), some([(32, 1), (8, 5)], 1))
def test_an_endpoint_that_comes_back_costs_no_row(tmp_path: Path, concurrency: int, max_attempts: int) -> None:
    down: list[float] = []

    def verdict(endpoint: Endpoint, _text: str) -> int | None:
        if endpoint.requests == 50:
            down.append(time.monotonic())
        return 503 if down and time.monotonic() < down[0] + 2 else None

    endpoint = Endpoint(verdict)
    limits = {"concurrency": concurrency, "max_attempts": max_attempts}
    with endpoint.served() as served:
        report = run(Project(tmp_path, served.url, rows=questions(300), limits=limits))
    assert (report.results, report.errors, report.stopped) == (300, 0, None)
    # Beyond the rows only the requests were answered that were to find out whether it is back.
    assert 300 <= endpoint.answered <= 300 + report.totals["control"]
    assert report.totals["control"] <= 10
    assert endpoint.statuses[503] <= 2 * concurrency + 20 + 3
    # Whoever waited does not come back all at once.
    back = [at for at in endpoint.times if at > down[0] + 2]
    assert sum(at - back[0] < 0.002 for at in back) <= 8


@pytest.mark.long
@pytest.mark.parametrize(("concurrency", "max_attempts"), some([(8, 5), (1, 2), (2, 2), (3, 2)], 1))
def test_an_endpoint_that_stays_down_stops_the_run_and_costs_no_row(
    tmp_path: Path, concurrency: int, max_attempts: int
) -> None:
    healed = False
    endpoint = Endpoint(lambda endpoint, _text: 503 if endpoint.answered >= 20 and not healed else None)
    limits = {"concurrency": concurrency, "max_attempts": max_attempts, "give_up_after": 2}
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(60), limits=limits)
        stopped = run(project).stopped
        assert stopped is not None
        assert "the endpoint has been down for 2 s (limits.give_up_after): 503" in stopped
        assert (len(project.errors()), endpoint.answered) == (0, len(project.results()))
        assert 20 <= endpoint.answered <= 20 + concurrency
        assert endpoint.statuses[503] <= 2 * concurrency + 20 + 3
        healed = True
        report = run(project, resume=True)
    assert (report.results, report.errors, report.stopped) == (60, 0, None)
    assert endpoint.answered == 60


# --- rows that are never answered ---


@pytest.mark.parametrize(
    ("concurrency", "poison"),
    crossed(
        {"1": 1, "2": 2, "8": 8},
        {"first": (0,), "middle": (20,), "last": (39,), "the last ones": (37, 38, 39), "neighbours": (19, 20)},
    ),
)
def test_a_row_that_only_fails_is_an_error_and_costs_no_other(
    tmp_path: Path, concurrency: int, poison: tuple[int, ...]
) -> None:
    endpoint = Endpoint(always(500, *poison))
    limits = {"concurrency": concurrency, "max_attempts": 2}
    began = time.monotonic()
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(40), limits=limits)
        report = run(project)
    assert report.stopped is None
    assert sorted(row["item_index"] for row in project.errors()) == list(poison)
    assert report.results == 40 - len(poison)
    assert all(2 <= row["attempts"] <= 25 for row in project.errors())
    assert time.monotonic() - began < 25


@pytest.mark.long
def test_many_rows_that_only_fail_are_no_outage_when_the_others_are_done(tmp_path: Path) -> None:
    """They are the last ones, and fail all together, as if the endpoint were down: but it has answered others meanwhile."""
    poison = range(0, 200, 8)
    endpoint = Endpoint(always(HANGS, *poison))
    limits = {"concurrency": 64, "max_attempts": 2, "fail_on_error": 0.5}
    began = time.monotonic()
    with endpoint.served() as served:
        endpoint_config = {"base_url": served.url, "timeout": {"first_byte": 1, "idle": 1, "total": 2}}
        project = Project(tmp_path, served.url, rows=questions(200), limits=limits, more={"endpoint": endpoint_config})
        report = run(project)
    assert report.stopped is None
    assert sorted(row["item_index"] for row in project.errors()) == list(poison)
    assert report.results == 175
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_that_only_fail_may_be_all_there_are(tmp_path: Path, count: int) -> None:
    endpoint = Endpoint(lambda _endpoint, _text: 500)
    with endpoint.served() as served:
        report = run(Project(tmp_path, served.url, rows=questions(count), limits={"max_attempts": 3}))
    assert (report.results, report.errors, report.stopped) == (0, count, None)
    assert endpoint.requests == 3 * count


# --- keys ---


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_key_that_is_revoked_stops_the_run_and_costs_no_row(tmp_path: Path, concurrency: int) -> None:
    endpoint = Endpoint(lambda endpoint, _text: 401 if endpoint.requests > 30 else None)
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(100), limits={"concurrency": concurrency})
        assert run(project).stopped == "the endpoint refuses a request that it answered before: 401 Unauthorized: no: 401"
    assert (len(project.results()), project.errors()) == (30, [])
    assert endpoint.statuses[401] <= 2 * concurrency + 6


@pytest.mark.parametrize("concurrency", [1, 8])
def test_one_row_that_is_refused_is_an_error_and_the_run_goes_on(tmp_path: Path, concurrency: int) -> None:
    endpoint = Endpoint(always(403, 10))
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(40), limits={"concurrency": concurrency})
        report = run(project)
    assert (report.results, report.errors, report.stopped) == (39, 1, None)
    (error,) = project.errors()
    assert (error["item_index"], error["error_type"], error["attempts"]) == (10, "auth", 3)


# --- rate limits ---


@pytest.mark.long
@pytest.mark.parametrize(
    ("headers", "nth"),
    crossed(
        {
            "seconds": lambda: {"Retry-After": "1"},
            "ms": lambda: {"retry-after-ms": "1000"},
            "date": lambda: {
                "Retry-After": formatdate(time.time() + 2, usegmt=True),
                "Date": formatdate(time.time() + 1, usegmt=True),
            },
        },
        {"from the start": 1, "later": 40},
    ),
)
def test_nobody_sends_before_a_429_says_so(tmp_path: Path, headers: Callable[[], dict[str, str]], nth: int) -> None:
    said: list[float] = []

    def verdict(endpoint: Endpoint, _text: str) -> int | None:
        if endpoint.requests == nth:
            endpoint.headers = headers()
            said.append(time.monotonic())
            return 429
        return None

    endpoint = Endpoint(verdict)
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(80), limits={"concurrency": 32, "max_attempts": 1})
        report = run(project)
    assert (report.results, report.errors) == (80, 0)
    # What was under way already may still arrive.
    assert not [at for at in endpoint.times if said[0] + 0.25 < at < said[0] + 0.95]
    assert sorted(row["attempts"] for row in project.results()) == [1] * 79 + [2]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_row_that_only_it_is_rate_limited_is_charged_in_the_end(tmp_path: Path, concurrency: int) -> None:
    endpoint = Endpoint(always(429, 10), headers={"Retry-After": "0"})
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(100), limits={"concurrency": concurrency})
        report = run(project)
    assert (report.results, report.errors, report.stopped) == (99, 1, None)
    (error,) = project.errors()
    assert (error["item_index"], error["error_type"]) == (10, "rate_limit")
    assert 10 <= error["attempts"] <= 60


# --- the end of a run ---


@pytest.mark.parametrize(
    ("limits", "rows", "fails"),
    [
        ({"max_wall_time": 1}, 3000, False),
        ({"max_tokens": 100}, 100, False),
        ({"max_error_rate": 0.3}, 300, True),
    ],
    ids=["max_wall_time", "max_tokens", "max_error_rate"],
)
def test_a_run_stops_at_its_budget(tmp_path: Path, limits: dict[str, Any], rows: int, fails: bool) -> None:
    endpoint = Endpoint(lambda endpoint, _text: 400 if fails and endpoint.requests % 2 else None, takes_s=0.005)
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(rows), limits={"concurrency": 4} | limits)
        stopped = run(project).stopped
    assert stopped is not None
    assert f"limits.{next(iter(limits))}" in stopped
    assert 0 < len(project.results()) + len(project.errors()) < rows
    # A refusal that comes when the run has stopped is not kept: the row is asked again.
    assert 0 <= endpoint.requests - len(project.results()) - len(project.errors()) <= 3


def test_a_resume_sends_nothing_where_the_tokens_are_used_up(tmp_path: Path) -> None:
    endpoint = Endpoint()
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(100), limits={"concurrency": 4, "max_tokens": 100})
        assert project.run_here().returncode == 3
        asked = endpoint.requests
        resumed = project.run_here("--resume")
        assert (resumed.returncode, endpoint.requests) == (3, asked)
        assert "raise limits.max_tokens to go on" in resumed.stdout
        project.limits = {"concurrency": 4, "max_tokens": 1000}
        project.write()
        assert project.run_here("--resume").returncode == 0
        # A run that has all its answers ends in order, for it has nothing to send.
        project.limits = {"concurrency": 4, "max_tokens": 100}
        project.write()
        project.delete_views()
        again = project.run_here("--resume")
    assert (again.returncode, endpoint.requests) == (0, 100)


@pytest.mark.long
def test_max_wall_time_counts_each_start_anew(tmp_path: Path) -> None:
    endpoint = Endpoint(takes_s=0.01)
    with endpoint.served() as served:
        project = Project(tmp_path, served.url, rows=questions(300), limits={"concurrency": 1, "max_wall_time": 1})
        first = project.run_here()
        asked = endpoint.requests
        second = project.run_here("--resume")
    assert (first.returncode, second.returncode) == (3, 3)
    assert 0 < asked < endpoint.requests
    assert "1 s of this start have passed; resume to run for as long again, or raise limits.max_wall_time" in first.stdout


@pytest.mark.long
def test_what_is_in_flight_is_dropped_when_the_drain_is_over(tmp_path: Path) -> None:
    holding = Holding(at_once=3)
    with holding.served() as served:
        project = Project(tmp_path, served.url, rows=questions(10), limits={"concurrency": 2, "drain": 1})
        with project.started() as process:
            holding.wait_for(2)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert process.wait(PATIENCE_S) == 143
            assert 1 <= time.monotonic() - began < 5
    assert (len(project.results()), project.errors()) == (3, [])


@pytest.mark.long
def test_a_second_sigint_does_not_wait_for_a_large_dataset_to_be_surveyed(tmp_path: Path) -> None:
    """The rows are done, the file is still being read: a hole of many gigabytes, which costs no disk."""
    endpoint = Endpoint()
    with endpoint.served() as served:
        more = {"dataset": {"path": str(tmp_path / "rows.jsonl"), "id": "id", "limit": 2}}
        project = Project(tmp_path, served.url, rows=questions(1000), more=more)
        with project.dataset.open("ab") as dataset:
            os.truncate(dataset.fileno(), 200 << 30)
        with project.started() as process:
            while endpoint.answered < 2:
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
