"""Whole runs from the command line against a real endpoint: files, exit codes, stops of every kind, and what a resume asks."""

from __future__ import annotations

import json
import logging
import re
import shlex
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

import runner
from runner.cli.main import main
from runner.storage.columns import RESULTS_SCHEMA
from runner.storage.journal import read_segment, segments_of
from runner.storage.rundir import RunDir
from tests.commands import PATIENCE_S, ROOT, Holding, Project, ask, asked, questions
from tests.faulty_files import needs_a_mount
from tests.serving import Served, at_length, chat_answer

EXACTLY = {"task_type": "metric", "alias": "correct", "configuration": {"type": "exact_match"}}


def texts(rows: list[dict[str, Any]], column: str = "item_id") -> list[Any]:
    return [row[column] for row in rows]


def run_here(project: Project, *options: str) -> int:
    """Run the same command in this process, which is quicker: for what is not about signals and processes."""
    return main([str(project.config), *options])


def answering(decide: Callable[[str], tuple[int, Any]]) -> Served:
    """Serve what `decide` returns for the text of the last message: a status and a body, or the text of a chat answer."""

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        status, content = decide(str(body["messages"][-1]["content"]))
        return web.json_response(chat_answer(content) if isinstance(content, str) else content, status=status)

    return Served(answer)


def error(code: str) -> dict[str, Any]:
    return {"error": {"message": f"it is {code}", "type": code, "code": code}}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    caplog.set_level(logging.INFO)


# --- a run that finishes ---


@pytest.mark.long
def test_a_run_writes_everything_the_contract_names(tmp_path: Path) -> None:
    """Two chat tasks of which the second reads the first, a metric that reads the second, three samples of each."""
    judge = ask("judge", "judge {{item.answer}} for {{item.question}}")
    correct = EXACTLY | {"configuration": {"type": "contains", "candidate": "item.judge", "reference": "item.question"}}
    more = {"description": "a trial", "tags": ["a"], "metadata": {"team": "evals"}}
    with Served() as served:
        project = Project(tmp_path, served.url, tasks=[ask(samples=3), judge, correct], rows=questions(8), more=more)
        found = project.run("--no-progress", "--set", "limits.concurrency=3")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("finished: 72 results, 0 errors\n  complete   every unit exactly once: 72 + 0 = 72\n")
    assert re.search(r"correct +1\.0000 ± 0\.0000", found.stdout)
    assert asked(served.seen) == Counter(
        {f"question {n}": 3 for n in range(8)} | {f"judge question {n} for question {n}": 3 for n in range(8)}
    )

    run = project.run_dir
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{4}", run.name)
    assert (run.parent / "latest").resolve() == run
    assert sorted(path.name for path in run.iterdir()) == [
        "config.yaml", "errors.parquet", "evaluation.json", "journal", "lock", "results.parquet",
    ]  # fmt: skip
    order = [(f"row-{n}", n, sample, task) for n in range(8) for sample in range(3) for task in ("answer", "judge", "correct")]
    rows = project.results()
    assert [(row["item_id"], row["item_index"], row["sample_index"], row["task"]) for row in rows] == order
    assert project.errors() == []
    assert {row["run_id"] for row in rows} == {run.name}
    asking, judging, scoring = rows[:3]
    assert asking["output"] == "question 0"
    assert json.loads(asking["request"]) == served.seen[0].body | {"messages": [{"role": "user", "content": "question 0"}]}
    assert json.loads(asking["response"]) == chat_answer("question 0")
    assert json.loads(asking["item"]) == questions(1)[0]
    assert (asking["model"], asking["endpoint"], asking["attempts"]) == ("m", served.url, 1)
    assert judging["output"] == "judge question 0 for question 0"
    assert (scoring["value"], scoring["model"], scoring["request"], scoring["attempts"]) == (1.0, None, None, 0)

    evaluation = project.evaluation
    assert {name: evaluation[name] for name in ("id", "object", "name", "status", "status_reason", "error_count")} == {
        "id": run.name, "object": "evaluation", "name": "trial", "status": "completed", "status_reason": None, "error_count": 0,
    }  # fmt: skip
    assert {name: evaluation[name] for name in more} == more
    assert evaluation["tasks"] == [ask(samples=3), judge, correct]
    assert evaluation["progress"]["items"] == {"total": 8, "successful": 8, "failed": 0, "pending": 0, "failed_items": []}
    assert evaluation["totals"]["requests"] == 48
    assert evaluation["totals"]["metrics"]["correct"]["mean"] == 1.0
    wide = runner.load(run).wide
    assert list(wide.columns) == [
        "item_index", "item_id", "sample_index", "id", "question", "n", "answer", "judge", "correct",
    ]  # fmt: skip
    assert len(wide) == 24


def test_rows_that_fail_go_to_errors_and_decide_the_exit_code(tmp_path: Path) -> None:
    """Errors of three kinds; then, with the files deleted and more errors allowed, the same without a request."""
    rows = questions(12)
    del rows[3]["question"]
    judge = ask("judge", "judge {{item.answer}}")
    with answering(lambda text: (422, error("bad")) if text == "question 5" else (200, text)) as served:
        project = Project(tmp_path, served.url, rows=rows, tasks=[ask(), judge])
        first = project.run_here()
        assert first.returncode == 1
        assert "20 results, 4 errors (dependency 2, request 1, template 1)" in first.stdout
        errors = project.errors()
        assert [(row["item_id"], row["task"], row["error_type"]) for row in errors] == [
            ("row-3", "answer", "template"),
            ("row-3", "judge", "dependency"),
            ("row-5", "answer", "request"),
            ("row-5", "judge", "dependency"),
        ]
        assert "question" in errors[0]["message"]
        assert (errors[2]["status_code"], errors[2]["attempts"]) == (422, 1)
        assert json.loads(errors[2]["response_body"]) == error("bad")
        assert json.loads(errors[2]["request"])["messages"][0]["content"] == "question 5"
        assert (errors[0]["request"], errors[0]["status_code"]) == (None, None)
        assert len(project.results()) == 20
        assert project.evaluation["error_count"] == 4
        assert project.evaluation["progress"]["items"]["failed"] == 2
        assert [one["item_id"] for one in project.evaluation["progress"]["items"]["failed_items"]] == ["row-3", "row-5"]
        before, requests = (project.results(), project.errors()), len(served.seen)
        assert requests == 11 + 10

        project.delete_views()
        assert run_here(project, "--resume", "--set", "limits.fail_on_error=4", "--set", "limits.concurrency=1") == 0
        assert (project.results(), project.errors()) == before
        assert len(served.seen) == requests


def test_a_metric_only_run_sends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"r{n}", "a": "Paris", "b": "paris" if n % 2 else "Rome"} for n in range(6)]
    configuration = {"type": "exact_match", "candidate": "item.a", "reference": "item.b", "ignore_case": True}
    with Served() as served:
        project = Project(tmp_path, served.url, rows=rows, tasks=[EXACTLY | {"configuration": configuration}])
        assert run_here(project) == 0
    assert served.seen == []
    assert texts(project.results(), "value") == [0.0, 1.0] * 3
    assert texts(project.results(), "output") == ["paris"] * 6
    assert re.search(r"correct +0\.5000", capsys.readouterr().out)


def test_a_run_of_hardly_anything_has_all_its_files(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url, rows=questions(1))
        assert run_here(project) == 0
    assert (len(project.results()), len(project.errors())) == (1, 0)
    assert pq.read_schema(project.run_dir / "results.parquet").names == RESULTS_SCHEMA.names
    assert project.evaluation["status"] == "completed"
    assert len(runner.load(project.run_dir).wide) == 1


def test_odd_values_in_rows_break_nothing(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "question": "lone \ud800 surrogate", "model": "m"},
        {"id": "nul \0", "question": "\u2028 \x1b", "model": 5},
        {"id": "big", "question": "x", "big": 10**40, "model": ["a"]},
        {"id": "deep", "question": {"a": [1, None]}, "model": "m"},
    ]
    task = ask(content="{{item.question}}", configuration={"model": "item.model"})
    with Served() as served:
        project = Project(tmp_path, served.url, rows=rows, tasks=[task])
        assert run_here(project) in {0, 1}
    found = sorted([*project.results(), *project.errors()], key=lambda row: row["item_index"])
    assert texts(found) == ["1", "nul \0", "big", "deep"]
    assert found[0]["output"] == "lone \ufffd surrogate"
    assert json.loads(found[2]["item"])["big"] == 10**40
    assert len(runner.load(project.run_dir).wide) == 4


# --- a run that is stopped, and what can be seen of it meanwhile ---


@pytest.mark.long
def test_an_interrupt_lets_what_is_in_flight_finish_and_a_resume_asks_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """While four of ten answers are held: a second run is refused, pandas can look, and one SIGINT drains."""
    holding = Holding(at_once=3)
    with holding.served() as served, (project := Project(tmp_path, served.url)).started() as process:
        holding.wait_for(4)
        refused = project.run_here("--resume")
        assert refused.returncode == 2
        assert f"is in use by pid {process.pid} on {socket.gethostname()}" in refused.stderr
        live = project.evaluation
        assert (live["status"], live["id"], live["status_reason"]) == ("running", project.run_dir.name, None)
        assert {"object", "name", "created_at", "tags", "metadata", "tasks", "error_count", "progress", "totals"} <= live.keys()
        assert len(runner.load(project.run_dir).results) == 3
        assert main(["export", str(project.run_dir)]) == 0
        assert capsys.readouterr().out.startswith("so far: 3 results, 0 errors")
        assert len(project.results()) == 3
        assert project.evaluation["status"] == "running"
        assert project.evaluation["totals"]["results"] == 3

        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "SIGINT: no new requests; 4 in flight may finish within 25 s" in line
        holding.release()
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, err
        assert "stopped early: 7 results, 0 errors\n  reason     stopped by SIGINT" in out
        assert "--resume" in out
        assert len(served.seen) == 7
        assert len(project.results()) == 7
        evaluation = project.evaluation
        assert (evaluation["status"], evaluation["status_reason"]) == ("failed", "stopped by SIGINT")

        assert run_here(project, "--resume") == 0
    assert "7 results and 0 errors are kept" in caplog.text
    assert "requests were in flight" not in caplog.text
    assert asked(served.seen) == Counter({f"question {n}": 1 for n in range(10)})
    assert texts(project.results()) == [f"row-{n}" for n in range(10)]
    assert {row["run_id"] for row in project.results()} == {project.run_dir.name}
    assert (project.evaluation["status"], project.evaluation["status_reason"]) == ("completed", None)


@pytest.mark.long
def test_a_second_signal_drops_what_is_in_flight_and_keeps_what_was_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holding = Holding(at_once=5)
    with holding.served() as served, (project := Project(tmp_path, served.url)).started() as process:
        holding.wait_for(4)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 143, err
        assert "dropping the requests in flight" in err
        assert "stopped early: 5 results" in out
        assert len(project.results()) == 5
        holding.release()
        before = asked(served.seen)
        assert run_here(project, "--resume") == 0
    assert "4 requests were in flight when it ended and may be paid twice" in caplog.text
    twice = [question for question, times in asked(served.seen).items() if times > 1]
    assert len(twice) == 4
    assert set(twice) <= set(before)
    assert texts(project.results()) == [f"row-{n}" for n in range(10)]


@pytest.mark.long
def test_a_killed_run_can_be_loaded_exported_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding = Holding(at_once=6)
    with holding.served() as served, (project := Project(tmp_path, served.url)).started() as process:
        holding.wait_for(4)
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGKILL
        frames = runner.load(project.run_dir)
        assert len(frames.results) == len(frames.wide) == 6
        assert main(["export", str(project.run_dir)]) == 0
        assert len(project.results()) == 6
        (project.run_dir / "results.parquet").unlink()
        monkeypatch.chdir(tmp_path)
        assert main(["export", "trial"]) == 0
        assert len(project.results()) == 6
        holding.release()
        assert run_here(project, "--resume") == 0
    assert texts(project.results()) == [f"row-{n}" for n in range(10)]
    assert len(served.seen) == 14


def test_a_wrong_key_stops_the_run_before_it_costs_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Also where many could be in flight: a few requests tell as much as a thousand."""
    keys = {"right": False}
    with answering(lambda text: (200, text) if keys["right"] else (401, error("invalid_api_key"))) as served:
        project = Project(tmp_path, served.url, rows=questions(300), limits={"concurrency": 64})
        assert run_here(project) == 3
        said = capsys.readouterr().out
        assert "401 Unauthorized: it is invalid_api_key" in said
        assert said.endswith(f"  check      python -m runner check {project.config}\n")
        assert (project.results(), project.errors()) == ([], [])
        assert project.evaluation["status"] == "failed"
        assert len(served.seen) <= 24
        keys["right"] = True
        assert run_here(project, "--resume") == 0
    assert len(project.results()) == 300
    assert "were in flight when it ended" not in caplog.text


def test_a_used_up_quota_stops_the_run_and_a_resume_pays_for_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [7]

    def decide(text: str) -> tuple[int, Any]:
        left[0] -= 1
        return (200, text) if left[0] >= 0 else (429, error("insufficient_quota"))

    with answering(decide) as served:
        project = Project(tmp_path, served.url, rows=questions(40))
        assert run_here(project) == 3
        said = capsys.readouterr().out
        assert "insufficient_quota" in said
        assert "  check  " not in said  # it has answered
        assert (len(project.results()), project.errors()) == (7, [])
        assert len(served.seen) <= 7 + 4
        answered = set(texts(project.results(), "output"))
        asked_before = len(served.seen)
        left[0] = 1000
        assert run_here(project, "--resume") == 0
    assert not answered & asked(served.seen[asked_before:]).keys()
    assert texts(project.results()) == [f"row-{n}" for n in range(40)]
    assert project.errors() == []


def test_a_judge_reads_answers_from_before_the_resume(tmp_path: Path) -> None:
    """The first answers are never asked again, and differ from what the endpoint would say now."""
    version = ["old"]

    def decide(text: str) -> tuple[int, Any]:
        if text.startswith("judge") and version[0] == "old":
            return 402, error("insufficient_quota")
        return 200, f"{version[0]} {text}"

    tasks = [ask(), ask("judge", "judge {{item.answer}}")]
    with answering(decide) as served:
        project = Project(tmp_path, served.url, rows=questions(3), tasks=tasks, limits={"concurrency": 1})
        assert run_here(project) == 3
        assert asked(served.seen) == {"question 0": 1, "judge old question 0": 1}
        del served.seen[:]
        version[0] = "new"
        assert run_here(project, "--resume") == 0
    assert asked(served.seen) == {
        "judge old question 0": 1, "question 1": 1, "judge new question 1": 1, "question 2": 1, "judge new question 2": 1,
    }  # fmt: skip
    assert texts(project.results(), "output")[:2] == ["old question 0", "new judge old question 0"]


#: Runs a command on a disk of 6 MB, which only it can see, and copies what is there in the end.
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=6m tmpfs "$1" && shift && "${@:2}"; code=$?; cp -r "$0" "$1"; exit $code'


@pytest.mark.long
@needs_a_mount
def test_a_full_disk_stops_the_run_and_loses_nothing_that_is_paid(tmp_path: Path) -> None:
    """What is in flight when the disk is full is still written: there is room in reserve for it."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()

    with Served(at_length) as served:
        project = Project(tmp_path / "project", served.url, rows=questions(300), limits={"concurrency": 8})
        found = subprocess.run(
            ["unshare", "-Urm", "bash", "-c", ON_A_SMALL_DISK, disk, disk, copy, *project.arguments("--output", str(disk))],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert found.returncode == 3, found.stderr
        assert "cannot be written: No space left on device" in found.stderr
        (run,) = (path for path in (copy / "trial").iterdir() if not path.is_symlink())
        kept = runner.load(run).results["output"].str.split(" x").str[0].tolist()
        assert 8 < len(kept) < 300
        assert Counter(kept) == asked(served.seen), "every answer that was paid is there"
        evaluation = json.loads((run / "evaluation.json").read_bytes())
        assert (evaluation["status"], "No space left" in evaluation["status_reason"]) == ("failed", True)
        assert run_here(project, "--resume", "--output", str(copy)) == 0
    assert asked(served.seen) == Counter({f"question {n}": 1 for n in range(300)})
    assert not list(run.rglob(".reserve*"))


def test_evaluation_json_is_whole_at_any_moment(tmp_path: Path) -> None:
    """One thread replaces it over and over, with contents short and long, while this one reads."""
    run = RunDir.create(tmp_path, "trial")
    run.write_evaluation({"n": 0})
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            run.write_evaluation({"n": number, "filler": "x" * (number % 2 * 100_000)})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [0]
    while not done.is_set():
        seen.append(json.loads((run.path / "evaluation.json").read_bytes())["n"])
    writer.join()
    assert seen == sorted(seen)
    assert [path.name for path in run.path.iterdir() if path.name.endswith(".tmp")] == []
    run.unlock()


# --- what a resume refuses ---


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run of ten rows and two tasks that stopped after five answers; its endpoint is gone."""
    left = [5]

    def decide(text: str) -> tuple[int, Any]:
        left[0] -= 1
        return (200, text) if left[0] >= 0 else (402, error("insufficient_quota"))

    with answering(decide) as served:
        more = {"description": "as it was"}
        tasks = [ask(configuration={"temperature": 0.5}), ask("second")]
        project = Project(tmp_path_factory.mktemp("stopped"), served.url, tasks=tasks, limits={"concurrency": 1}, more=more)
        assert run_here(project) == 3
    return project


Change = Callable[[dict[str, Any], list[dict[str, Any]]], Any]
CHANGES: dict[str, tuple[Change, str]] = {
    "another value": (
        lambda config, _: config["tasks"][0]["configuration"].update(temperature=0.7),
        "tasks.0.configuration.temperature: was 0.5, is 0.7",
    ),
    "a value taken away": (
        lambda config, _: config["tasks"][0]["configuration"].pop("temperature"),
        "tasks.0.configuration.temperature: was 0.5, is not there",
    ),
    "a value that is new": (
        lambda config, _: config["tasks"][1]["configuration"].update(max_tokens=9),
        "tasks.1.configuration.max_tokens: was not there, is 9",
    ),
    "another message": (
        lambda config, _: config["tasks"][0]["configuration"]["messages"][0].update(content="Say {{item.question}}"),
        "tasks.0.configuration.messages.0.content: was '{{item.question}}', is 'Say {{item.question}}'",
    ),
    "another endpoint": (
        lambda config, _: config["endpoint"].update(base_url="http://elsewhere.invalid/v1"),
        "is 'http://elsewhere.invalid/v1'",
    ),
    "another alias": (lambda config, _: config["tasks"][1].update(alias="third"), "tasks.1.alias: was 'second', is 'third'"),
    "more samples": (lambda config, _: config["tasks"][0].update(samples=2), "tasks.0.samples: was not there, is 2"),
    "a task less": (lambda config, _: config["tasks"].pop(), "tasks.1.alias: was 'second', is not there"),
    "a smaller limit": (lambda config, _: config["dataset"].update(limit=4), "dataset.limit: was not set, is 4; it may"),
    "another id": (lambda config, _: config["dataset"].update(id="n"), "dataset.id: was 'id', is 'n'"),
    "another order": (lambda config, _: config["dataset"].update(shuffle=1), "dataset.shuffle: was not there, is 1"),
    "a changed row of the same size": (lambda _, rows: rows[9].update(question="question X"), "its content changed: was "),
    "a row more": (lambda _, rows: rows.append({"id": "row-10", "question": "question 10"}), "its content changed: was "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_resume_of_something_else_is_refused_with_what_differs(
    stopped: Project, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, dataset = stopped.config.read_text(), stopped.dataset.read_text()
    before = {path: path.stat().st_mtime_ns for path in stopped.run_dir.rglob("*") if path.name != "lock"}
    document, rows = json.loads(config), [json.loads(line) for line in dataset.splitlines()]
    CHANGES[change][0](document, rows)
    stopped.config.write_text(json.dumps(document))
    stopped.dataset.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    try:
        assert run_here(stopped, "--resume") == 2
    finally:
        stopped.config.write_text(config)
        stopped.dataset.write_text(dataset)
    said = capsys.readouterr().err
    assert "cannot go on, because this is another evaluation" in said
    assert CHANGES[change][1] in said
    assert "start a new run without --resume" in said
    assert {path: path.stat().st_mtime_ns for path in stopped.run_dir.rglob("*") if path.name != "lock"} == before


def test_a_run_that_was_killed_before_it_knew_its_files_is_told_another_dataset_by_its_rows(
    stopped: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = {path: path.read_bytes() for path in (stopped.run_dir / "journal").glob("*.jsonl")}
    dataset = stopped.dataset.read_text()
    try:
        for path, content in segments.items():
            path.write_bytes(b"".join(line for line in content.splitlines(keepends=True) if b'{"kind":"files"' not in line))
        stopped.dataset.write_text("".join(reversed(dataset.splitlines(keepends=True))))
        assert run_here(stopped, "--resume") == 2
    finally:
        stopped.dataset.write_text(dataset)
        for path, content in segments.items():
            path.write_bytes(content)
    assert f"{stopped.dataset}:1: this row has changed since it was asked" in capsys.readouterr().err


def test_every_difference_is_named_and_the_exit_code_is_2(stopped: Project) -> None:
    found = stopped.run_here("--resume", "--set", "tasks.0.configuration.temperature=1", "--set", "tasks.1.alias=x")
    assert found.returncode == 2
    assert "temperature: was 0.5, is 1\n" in found.stderr
    assert "tasks.1.alias: was 'second', is 'x'\n" in found.stderr
    assert "Traceback" not in found.stderr


# --- what a resume goes on with ---


def test_limits_headers_and_descriptions_may_change(tmp_path: Path) -> None:
    left = [2]

    def decide(text: str) -> tuple[int, Any]:
        left[0] -= 1
        return (200, text) if left[0] >= 0 else (402, error("insufficient_quota"))

    with answering(decide) as served:
        project = Project(tmp_path, served.url)
        assert run_here(project) == 3
        left[0] = 1000
        project.limits = {"concurrency": 9, "max_attempts": 2, "requests_per_second": 500}
        project.more = {"description": "new", "tags": ["new"], "endpoint": {"base_url": served.url, "headers": {"X-Team": "b"}}}
        project.write()
        assert run_here(project, "--resume") == 0
    assert served.seen[-1].headers["X-Team"] == "b"
    assert project.evaluation["description"] == "new"
    assert len(project.results()) == 10


def test_a_limit_may_grow_and_then_go(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert run_here(project, "--limit", "4") == 0
        assert len(project.results()) == 4
        project.delete_views()
        assert run_here(project, "--resume", "--limit", "7") == 0
        assert texts(project.results()) == [f"row-{n}" for n in range(7)]
        project.delete_views()
        assert run_here(project, "--resume") == 0
        assert texts(project.results()) == [f"row-{n}" for n in range(10)]
        assert project.evaluation["progress"]["items"]["total"] == 10
    assert asked(served.seen) == Counter({f"question {n}": 1 for n in range(10)})


def test_a_shuffled_run_has_as_many_items_as_its_limit(tmp_path: Path) -> None:
    with Served() as served:
        more = {"dataset": {"path": str(tmp_path / "rows.jsonl"), "id": "id", "shuffle": 3, "limit": 5}}
        project = Project(tmp_path, served.url, rows=questions(200), more=more)
        assert run_here(project) == 0
    progress = project.evaluation["progress"]["items"]
    assert (progress["total"], progress["successful"], progress["pending"]) == (5, 5, 0)
    positions = texts(project.results(), "item_index")
    assert positions == sorted(positions)
    assert texts(project.results()) == [f"row-{position}" for position in positions]


def test_errors_are_asked_again_only_on_demand(tmp_path: Path) -> None:
    works = [False]

    def decide(text: str) -> tuple[int, Any]:
        return (200, text) if works[0] or text not in {"question 2", "question 6"} else (422, error("bad"))

    with answering(decide) as served:
        correct = EXACTLY | {"configuration": {"type": "exact_match", "candidate": "item.answer", "reference": "item.question"}}
        project = Project(tmp_path, served.url, tasks=[ask(), correct])
        assert run_here(project) == 1
        assert len(project.errors()) == 4
        works[0] = True
        del served.seen[:]
        project.delete_views()
        assert run_here(project, "--resume") == 1
        assert (served.seen, len(project.errors())) == ([], 4)

        assert run_here(project, "--resume", "--retry-errors") == 0
        assert asked(served.seen) == {"question 2": 1, "question 6": 1}
    assert project.errors() == []
    assert texts(project.results(), "value") == [None, 1.0] * 10
    assert project.evaluation["error_count"] == 0


def test_without_errors_there_is_nothing_to_retry_and_no_new_run_is_paid_for(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert run_here(project) == 0
        assert run_here(project, "--resume", "--retry-errors") == 0
    assert len(project.runs) == 1
    assert len(served.seen) == 10


def test_the_command_that_is_shown_resumes_the_run_with_its_overrides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    works = [False]
    with answering(lambda text: (200, text) if works[0] else (402, error("no credit"))) as served:
        project = Project(tmp_path, served.url)
        elsewhere = tmp_path / "a place with spaces"
        options = ["--limit", "5", "--set", "tasks.0.configuration.seed=7", "--output", str(elsewhere)]
        assert run_here(project, *options) == 3
        hint = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  resume "))
        words = shlex.split(hint.removeprefix("  resume "))
        assert words[:3] == ["python", "-m", "runner"]
        works[0] = True
        del served.seen[:]
        assert main(words[3:]) == 0
    assert [request.body["seed"] for request in served.seen] == [7] * 5
    assert len([path for path in (elsewhere / "trial").iterdir() if path.is_dir() and not path.is_symlink()]) == 1


def test_errors_that_stay_errors_are_counted_once(tmp_path: Path) -> None:
    with answering(lambda text: (422, error("bad")) if text == "question 2" else (200, text)) as served:
        project = Project(tmp_path, served.url)
        assert run_here(project) == 1
        assert run_here(project, "--resume", "--retry-errors") == 1
    assert (len(project.results()), len(project.errors()), project.evaluation["error_count"]) == (9, 1, 1)
    assert len(served.seen) == 11


@pytest.mark.parametrize("written", [None, b"", b"1234"], ids=["no segment", "an empty one", "a torn first line"])
def test_a_run_that_was_killed_before_its_first_line_stands_in_nobodys_way(tmp_path: Path, written: bytes | None) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        journal = tmp_path / "results" / "trial" / "20991121T021500Z-4f2a" / "journal"
        journal.mkdir(parents=True)
        if written is not None:
            (journal / "000001.jsonl").write_bytes(written)
        assert run_here(project, "--resume") == 0
    assert len(project.runs) == 2
    assert len(served.seen) == 10


def test_without_a_run_to_go_on_with_a_resume_starts_one(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert run_here(project, "--resume") == 0
        assert run_here(project, "--resume", "--or-new") == 0
    assert len(project.runs) == 2
    assert (project.runs[-1].parent / "latest").resolve() == project.runs[-1]
    assert len(served.seen) == 20


def test_a_short_run_remembers_its_dataset_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one row that is wanted is judged long before the many others are read for the dataset's identity."""
    rows: list[dict[str, Any]] = [{"id": "a", "a": "x", "b": "x"}, {"id": "b", "a": "x" * 15_000_000}]
    configuration = {"type": "exact_match", "candidate": "item.a", "reference": "item.b"}
    project = Project(tmp_path, "http://127.0.0.1:9/v1", rows=rows, tasks=[EXACTLY | {"configuration": configuration}])
    assert run_here(project, "--limit", "1") == 0
    project.delete_views()
    rows[0]["b"] = "y"
    project.write()
    assert run_here(project, "--resume", "--limit", "1") == 2
    assert "its content changed" in capsys.readouterr().err


@pytest.mark.parametrize("line", [0, 1, 2, -2, -1])
def test_a_flipped_bit_anywhere_costs_at_most_one_request(tmp_path: Path, line: int) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url, limits={"concurrency": 1})
        assert run_here(project) == 0
        (segment,) = segments_of(project.run_dir / "journal")
        place = list(read_segment(segment))[line]
        content = bytearray(segment.read_bytes())
        content[place.offset + place.length // 2] ^= 4
        segment.write_bytes(content)
        project.delete_views()
        assert run_here(project, "--resume") == 0
    assert len(served.seen) in {10, 11}
    assert texts(project.results()) == [f"row-{n}" for n in range(10)]


def test_a_run_directory_may_be_renamed(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert run_here(project) == 0
        run_id, before = project.run_dir.name, project.results()
        project.run_dir.rename(project.run_dir.parent / "final")
        project.delete_views()
        assert main(["export", str(project.run_dir)]) == 0
        assert project.results() == before
        assert project.evaluation["id"] == run_id
        project.delete_views()
        assert run_here(project, "--resume") == 0
    assert project.results() == before
    assert len(served.seen) == 10


# --- what cannot begin ---


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("mine")
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert run_here(project, "--output", str(tmp_path / "taken")) == 2
    assert served.seen == []
    assert "taken" in capsys.readouterr().err


def test_retry_errors_without_resume_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9/v1")
    assert run_here(project, "--retry-errors") == 2
    assert "--retry-errors needs --resume" in capsys.readouterr().err


# --- secrets ---


def test_a_key_that_the_endpoint_echoes_is_in_no_file_and_no_output(tmp_path: Path) -> None:
    key = "sk-CANARY-0123456789abcdef"

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        sent = request.headers["Authorization"]
        text = str(body["messages"][-1]["content"])
        if text == "question 3":
            return web.json_response({"error": {"message": f"bad request with {sent}"}}, status=422)
        return web.json_response(chat_answer(f"you said {sent}"))

    with Served(answer) as served:
        project = Project(
            tmp_path,
            served.url,
            more={"endpoint": {"base_url": served.url, "api_key_env": "MY_KEY"}},
            environment={"MY_KEY": key},
        )
        found = project.run_here("--set", "limits.fail_on_error=1")
    assert found.returncode == 0, found.stderr
    assert served.seen[0].headers["Authorization"] == f"Bearer {key}"
    assert key not in found.stdout + found.stderr
    for path in project.run_dir.rglob("*"):
        assert path.is_dir() or key.encode() not in path.read_bytes(), path
    assert key not in str(project.results() + project.errors())
    assert "you said Bearer [redacted]" in project.results()[0]["output"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in [project.run_dir, *project.run_dir.rglob("*")]}
    assert {name: mode for name, mode in modes.items() if mode not in {0o600, 0o700}} == {}


def test_a_placeholder_for_a_key_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "e")
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert run_here(project) == 0
    assert texts(project.results(), "output") == [f"question {n}" for n in range(10)]
    assert (project.run_dir / "config.yaml").read_text() == project.config.read_text()
