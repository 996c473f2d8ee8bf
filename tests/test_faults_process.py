"""The fault matrix, signals, process, clock and memory: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.commands import PATIENCE_S, ROOT, Holding, Project, ask, asked, metric, questions
from tests.misbehaving import Misbehaving
from tests.reliability.power_loss import explore
from tests.scratch import in_memory
from tests.trials import config_of, outputs, run, trial, tries
from tests.variations import some

MATCH = metric(reference="item.right")


@pytest.mark.parametrize(
    ("signals", "codes"),
    some(
        [
            pytest.param([signal.SIGTERM], {143}, id="TERM"),
            pytest.param([signal.SIGHUP], {129, 143}, id="HUP"),
            pytest.param([signal.SIGINT] * 2, {130}, id="INT twice"),
            pytest.param([signal.SIGTERM] * 3, {143, -signal.SIGTERM}, id="TERM three times"),
            pytest.param([signal.SIGINT], {130}, id="INT"),
        ],
        4,
    ),
)
def test_fault_83_signals(tmp_path: Path, signals: list[signal.Signals], codes: set[int]) -> None:
    holding = Holding()
    with holding.served() as served:
        project = config_of(tmp_path / "p", served.url, rows=questions(50))
        with project.started("--no-progress") as process:
            holding.wait_for(4)
            assert process.stderr is not None
            for number in signals:
                process.send_signal(number)
                _wait_for_line(process.stderr.readline, number.name, len(signals) == 3)
            if len(signals) == 1:
                holding.release()
            process.communicate(timeout=PATIENCE_S)
        assert process.returncode in codes
        assert len(served.seen) == 4
        if len(signals) < 3:
            assert len(project.results()) == (4 if len(signals) == 1 else 0)
            assert project.errors() == []
        holding.release()
        assert run(project, "--resume").code == 0
    assert len(project.results()) == 50
    assert set(asked(served.seen)) == {f"question {n}" for n in range(50)}
    assert len(served.seen) <= 54


def _wait_for_line(readline: Callable[[], str], word: str, ends: bool) -> None:
    """Read what a process logs until it has taken a signal; the third one ends it without a word."""
    while line := readline():
        if f"{word}:" in line:
            return
    assert ends


@pytest.mark.long
def test_fault_84_kill_9(tmp_path: Path) -> None:
    holding = Holding(at_once=20)
    with holding.served() as served:
        project = config_of(tmp_path / "p", served.url, rows=questions(60))
        with project.started():
            holding.wait_for(4)
        holding.release()
        ran = run(project, "--resume")
    assert ran.code == 0, ran.all_said
    assert [row["item_id"] for row in ran.results] == [f"row-{n}" for n in range(60)]
    assert len(served.seen) <= 64


@pytest.mark.long
@pytest.mark.timeout(120)
def test_fault_85_power_loss(tmp_path: Path) -> None:
    with in_memory(tmp_path) as scratch:
        found = explore(scratch / "explored", states=100)
    assert (found.problems, found.lost, found.states) == ([], 0, 100)


@pytest.mark.long
@pytest.mark.parametrize(
    "how",
    ["| head -c 1", "<&- >&- 2>&-", "> /dev/full", "<&-"],
)
def test_fault_86_stdout_closed(tmp_path: Path, how: str) -> None:
    with Misbehaving() as endpoint:
        project = config_of(tmp_path / "p", endpoint.at("fine"), rows=questions(20))
        command = f'"$@" {how}; exit ${{PIPESTATUS[0]}}'
        found = subprocess.run(
            ["bash", "-c", command, "-", *project.arguments()],
            cwd=ROOT, env=project._environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert len(project.results()) == 20


def test_fault_87_wall_clock_jumps(tmp_path: Path) -> None:
    real, jumps = time.time_ns, itertools.cycle([0, -3600 * 10**9, 86_400 * 10**9])
    with Misbehaving() as endpoint, patch("time.time_ns", lambda: real() + next(jumps)):
        ran = trial(tmp_path / "p", endpoint.at("500:1"))
    assert (ran.code, len(tries(ran))) == (0, 2), ran.all_said
    assert 0 < ran.project.evaluation["totals"]["wall_s"] < 60
    for row in ran.results:
        assert 0 <= row["latency_s"] < 10
        assert 0 <= row["backoff_s"] < 10
        assert 0 <= row["queue_s"] < 10


@pytest.mark.long
def test_fault_88_suspended(tmp_path: Path) -> None:
    holding = Holding(at_once=4)
    with holding.served() as served:
        project = config_of(
            tmp_path / "p",
            served.url,
            rows=questions(12),
            endpoint={"timeout": {"first_byte": 3, "idle": 3, "total": 5}},
            limits={"max_attempts": 1, "max_row_time": 60},
        )
        with project.started() as process:
            holding.wait_for(4)
            process.send_signal(signal.SIGSTOP)
            time.sleep(6.5)  # longer than every timeout, and than what counts as the loop being late
            process.send_signal(signal.SIGCONT)
            time.sleep(0.5)
            holding.release()
            _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert project.errors() == []
    assert len(project.results()) == 12


def _peak_mb(project: Project) -> float:
    process = subprocess.Popen(
        project.arguments("--no-progress"),
        cwd=ROOT, env=project._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1024


@pytest.mark.long
def test_fault_89_memory(tmp_path: Path) -> None:
    """Rows of 32 KB each, judged without a request: 38 MB of them must not stay in memory."""
    peaks = []
    for count in (125, 1_200):
        project = config_of(tmp_path / str(count), "http://127.0.0.1:9/v1", rows=[], tasks=[MATCH])
        with project.dataset.open("w") as file:  # not held here either: a child is taken to have been as large as its parent
            for number in range(count):
                file.write(json.dumps({"id": str(number), "answer": "x" * 32_000, "right": "x"}) + "\n")
        peaks.append(_peak_mb(project))
    assert peaks[1] - peaks[0] < 27


@pytest.mark.long
def test_fault_90_busy_scorer(tmp_path: Path) -> None:
    """A regular expression that takes long holds up nobody for good; an answer that comes meanwhile is no timeout."""
    rows = [{"id": str(n), "question": f"{'a' * 20}! {n}", "right": "(a+)+$"} for n in range(4)]
    busy = metric(type="regex", reference="item.right")
    timeout = {"first_byte": 5, "idle": 5, "total": 10}
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("slow"), rows=rows, tasks=[ask(), busy], endpoint={"timeout": timeout})
    assert (ran.code, len(ran.results), tries(ran)) == (0, 8, []), ran.all_said


def test_fault_91_scorer_fails(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "fine", "right": "re: fine"}, {"id": "b", "question": "fine too", "right": None}]
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("fine"), rows=rows, tasks=[ask(), MATCH])
        assert ran.code == 1
        assert [(row["task"], row["item_id"]) for row in ran.errors] == [("correct", "b")]
        assert {row["item_id"]: row["output"] for row in ran.results if row["task"] == "answer"} == {
            "a": "re: fine",
            "b": "re: fine too",
        }
        again = run(ran.project, "--resume", "--retry-errors")
        assert len(endpoint.seen) == 2
    assert again.code == 1
    assert json.loads(again.errors[0]["item"])["id"] == "b"
    assert "b" in outputs(again)


#: The program, whose event loop stands still for ever once it has been told to stop: in Python code, or in a call that lets no
#: other Python code run.
STANDING = """
import ctypes, sys
from runner.cli.main import program
from runner.evaluation import Evaluation

def stand(*_):
    print("SIGINT: stands", file=sys.stderr, flush=True)
    {how}

Evaluation.{when} = stand
program()
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "when"), [("while True: pass", "drain"), ("ctypes.PyDLL(None).sleep(600)", "drop")], ids=["python", "a call"]
)
def test_fault_140_blocked_loop(tmp_path: Path, how: str, when: str) -> None:
    holding = Holding()
    with holding.served() as served:
        project = config_of(tmp_path / "p", served.url, rows=questions(8))
        command = [project.arguments()[0], "-c", STANDING.format(how=how, when=when), str(project.config), "--no-progress"]
        with subprocess.Popen(
            command, cwd=ROOT, env=project._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                holding.wait_for(4)
                assert process.stderr is not None
                for _ in range(1 if when == "drain" else 2):
                    process.send_signal(signal.SIGINT)
                    _wait_for_line(process.stderr.readline, "SIGINT", False)
                while process.poll() is None:  # one of the second is only counted, and the third ends it
                    process.send_signal(signal.SIGINT)
                    time.sleep(0.1)
            finally:
                process.kill()
        assert process.returncode == -signal.SIGINT
        holding.release()
        assert run(project, "--resume").code == 0
    assert len(project.results()) == 8
