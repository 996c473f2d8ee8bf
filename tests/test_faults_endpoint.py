"""The fault matrix, the endpoint over time: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.commands import questions
from tests.misbehaving import Misbehaving, closed_port
from tests.trials import assert_stopped, run, trial, tries


def test_fault_92_dead_from_the_start(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = trial(tmp_path / "p", f"http://127.0.0.1:{closed_port()}/v1", rows=questions(200), limits={"concurrency": 64})
    assert time.monotonic() - began < 5
    assert_stopped(ran, "no connection")
    assert len(tries(ran)) <= 10


@pytest.mark.parametrize("fault", ["503@20", "close@20"])
def test_fault_93_dies_for_ever(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at(fault), rows=questions(200), limits={"concurrency": 8, "give_up_after": 4})
        assert_stopped(ran, "limits.give_up_after")
        assert len(ran.results) == 20
        failing = endpoint.requests[fault] - 20
        assert failing <= 2 * 8 + 20 + 5
        endpoint.forgiven.add(fault)  # it is back
        assert run(ran.project, "--resume").code == 0
    assert len(ran.results) == 200


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
