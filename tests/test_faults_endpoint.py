"""The fault matrix, the endpoint over time: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.storage.journal import read_segment, segments_of
from tests.commands import Project, questions
from tests.misbehaving import Misbehaving, closed_port
from tests.serving import Served, chat_answer
from tests.trials import assert_stopped, run, trial, tries


def test_fault_92_dead_from_the_start(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = trial(tmp_path / "p", f"http://127.0.0.1:{closed_port()}/v1", rows=questions(200), limits={"concurrency": 64})
    assert time.monotonic() - began < 5
    assert_stopped(ran, "no connection")
    assert len(tries(ran)) <= 10


@pytest.mark.long
@pytest.mark.parametrize("fault", ["503@20", "close@20"])
def test_fault_93_dies_for_ever(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault), rows=questions(200), limits={"concurrency": 8, "give_up_after": 2})
        assert_stopped(ran, "limits.give_up_after")
        assert len(ran.results) == 20
        failing = endpoint.requests[fault] - 20
        assert failing <= 2 * 8 + 20 + 5
        endpoint.forgiven.add(fault)  # it is back
        assert run(ran.project, "--resume").code == 0
    assert len(ran.results) == 200


@pytest.mark.long
def test_fault_94_short_outage(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        limits = {"concurrency": 8, "max_row_time": 60, "give_up_after": 30}
        ran = trial(tmp_path / "p", endpoint.at("outage@20"), rows=questions(100), limits=limits)
    assert (ran.code, len(ran.results), ran.errors) == (0, 100, []), ran.all_said


def test_fault_95_half_of_answers_500(tmp_path: Path) -> None:
    limits = {"concurrency": 16, "max_row_time": 60, "give_up_after": 30}
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("half-500"), rows=questions(60), limits=limits)
    assert (ran.code, len(ran.results), ran.errors) == (0, 60, []), ran.all_said
    assert endpoint.requests["half-500"] <= 2.6 * 60
    assert "the endpoint is down" not in ran.said


@pytest.mark.long
def test_fault_96_gets_slower(tmp_path: Path) -> None:
    timeout = {"first_byte": 5, "idle": 5, "total": 10}
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("slow@10"), rows=questions(40), endpoint={"timeout": timeout})
    assert (ran.code, tries(ran), len(ran.results)) == (0, [], 40)


def test_fault_97_mixed_up_answers(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("mixed-up"))
    row = ran.results[0]
    assert json.loads(row["request"])["messages"][-1]["content"] == "question 0"
    assert row["response_id"] == "chatcmpl-of-another"
    assert json.loads(row["response"])["id"] == row["response_id"]


class Picky:
    """An endpoint that always refuses some rows, and answers the others."""

    def __init__(self, bad: range, status: int) -> None:
        self.bad, self.status = bad, status
        self.requests = 0

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.requests += 1
        if int(body["messages"][-1]["content"].split()[1]) in self.bad:
            return web.json_response({"error": {"message": "not this one"}}, status=self.status)
        return web.json_response(chat_answer())


def with_bad_rows(folder: Path, status: int, bad: range, concurrency: int = 8) -> Project:
    """Run 120 rows, of which some are bad; return the project, all of whose rows must have ended as they should."""
    endpoint = Picky(bad, status)
    with Served(endpoint.answer) as served:
        limits = {"concurrency": concurrency, "max_attempts": 2, "fail_on_error": 0.5}
        project = Project(folder, served.url, rows=questions(120), limits=limits)
        ran = project.run_here()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [row["item_index"] for row in project.errors()] == list(bad)
    assert len(project.results()) == 120 - len(bad)
    assert {(row["status_code"], row["attempts"]) for row in project.errors()} == {(status, 2)}
    return project


def test_fault_98_bad_rows_in_a_block(tmp_path: Path) -> None:
    with_bad_rows(tmp_path / "500", 500, range(40, 100))


def test_fault_99_bad_rows_refused(tmp_path: Path) -> None:
    with_bad_rows(tmp_path / "p", 403, range(100, 120), concurrency=32)


def test_fault_100_bad_rows_on_resume(tmp_path: Path) -> None:
    endpoint = Picky(range(60, 120), 500)
    with Served(endpoint.answer) as served:
        limits = {"concurrency": 8, "max_attempts": 2}
        project = Project(tmp_path / "p", served.url, rows=questions(120), limits=limits)
        assert project.run_here("--limit", "60").returncode == 0
        resumed = project.run_here("--resume")
    assert resumed.returncode == 1, resumed.stdout + resumed.stderr
    assert [row["item_index"] for row in project.errors()] == list(range(60, 120))
    assert len(project.results()) == 60


@pytest.mark.parametrize("fault", ["400", "401", "empty", "html-200", "no-choices", "close", "reset"])
def test_fault_101_refused_alike(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault), rows=questions(60), limits={"concurrency": 32})
    assert_stopped(ran, "no request has succeeded, and the last ones all failed in the same way")
    assert (ran.results, ran.errors) == ([], [])
    assert endpoint.requests[fault] <= 24


def test_fault_102_control_request(tmp_path: Path) -> None:
    project = with_bad_rows(tmp_path / "p", 503, range(100, 120))
    segments = segments_of(project.run_dir / "journal")
    lines = [json.loads(line.payload) for path in segments for line in read_segment(path) if line.payload]
    controls = [line for line in lines if line["kind"] == "control"]
    assert len(controls) == project.evaluation["totals"]["control"] > 0
    assert {line["tokens"] for line in controls} == {5}
