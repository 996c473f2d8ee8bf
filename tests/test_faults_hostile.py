"""The fault matrix, rows and answers that would hold the process: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import PATIENCE_S, Project, ask, asked
from tests.misbehaving import Misbehaving
from tests.records import ends_in
from tests.serving import Served, packed
from tests.test_processes import wait_until_gone
from tests.trials import config_of, run, trial

#: 2 to the power of 40 ways lead through it.
ENDLESS = {
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {"type": "string"}},
    "$ref": "#/$defs/d0",
}


def metric(kind: str, reference: str, **settings: Any) -> dict[str, Any]:
    configuration = {"type": kind, "candidate": "item.answer", "reference": reference}
    return {"task_type": "metric", "alias": "score", "configuration": configuration | settings}


def rows_with(column: str, bad: Any, good: Any) -> list[dict[str, Any]]:
    """Return eight rows, of which the third is bad."""
    return [{"id": f"row-{n}", "question": f'"{"a" * 60}"', column: bad if n == 2 else good} for n in range(8)]


def only_one_is_bad(folder: Path, rows: list[dict[str, Any]], task: dict[str, Any]) -> str:
    """Assert that a run keeps all answers and all scores but one; return why that one is missing."""
    with Served() as endpoint:
        ran = trial(folder, endpoint.url, rows=rows, tasks=[ask(), task], limits={"fail_on_error": 1})
    assert ran.code == 0, ran.all_said
    assert (len(endpoint.seen), len(ran.results)) == (8, 15)
    assert (ran.error["item_id"], ran.error["task"], ran.error["error_type"]) == ("row-2", "score", "template")
    assert "Traceback" not in ran.all_said
    return str(ran.error["message"])


@pytest.mark.long
def test_fault_141_endless_schema(tmp_path: Path) -> None:
    message = only_one_is_bad(
        tmp_path / "p", rows_with("schema", ENDLESS, {"type": "string"}), metric("json_schema", "item.schema")
    )
    assert "this answer cannot be checked against the schema: it takes more than 1 s" in message


@pytest.mark.long
def test_fault_142_endless_pattern(tmp_path: Path) -> None:
    rows = rows_with("pattern", "(a|aa)+x", "a+")
    message = only_one_is_bad(tmp_path / "p", rows, metric("regex", "item.pattern"))
    assert "cannot be matched with this text: it takes more than 1 s" in message


def test_fault_143_odd_numbers(tmp_path: Path) -> None:
    texts = ["1e5e3", "6E4E0", "deadbe3e7e1f", "1e999999", "9" * 5000, "²", "٣", "-.e%"]
    rows = [{"id": f"row-{n}", "question": f"fine {text}"} for n, text in enumerate(texts)]
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("fine"), rows=rows, tasks=[ask(), metric("numeric", "3")])
    assert (ran.code, len(ran.results)) == (0, 16), ran.all_said
    assert "Traceback" not in ran.all_said


@pytest.mark.long
def test_fault_144_body_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.endpoint.client.LARGEST_BODY", 8 << 20)
    long_comment = b": " + b"nothing " * 125
    bodies = {
        "members": ("application/json", gzip.compress(b"") * 100_000),
        "comments": ("text/event-stream", gzip.compress((long_comment + b"\n\n") * 9_000)),
        "lines": ("text/event-stream", gzip.compress((long_comment + b"\n") * 9_000)),
    }

    with Served(packed(bodies)) as server:
        rows = [{"id": text, "question": text} for text in (*bodies, "good", "better")]
        ran = run(config_of(tmp_path / "p", server.url, rows=rows))
    assert (ran.code, {row["item_id"] for row in ran.results}) == (1, {"good", "better"}), ran.all_said
    messages = {row["item_id"]: row["message"] for row in ran.errors}
    assert "decompress to nothing" in messages["members"]
    assert "larger than 8 MiB" in messages["comments"]
    assert "larger than 8 MiB" in messages["lines"]


def test_fault_145_slow_template(tmp_path: Path) -> None:
    rows = [{"id": str(n), "question": "x" * (1 << 20) if n == 2 else "fine"} for n in range(4)]
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("fine"), rows=rows, tasks=[ask(content="{{ item.question | wordwrap(1) }}")])
    assert (ran.code, len(ran.results), len(endpoint.seen)) == (1, 3, 3), ran.all_said
    assert (ran.error["item_id"], ran.error["error_type"]) == ("2", "template")
    assert "takes too long" in ran.error["message"]


def test_fault_146_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Misbehaving() as endpoint:
        rows = rows_with("pattern", "a", "a")
        project = config_of(tmp_path / "p", endpoint.at("fine"), rows=rows, tasks=[ask(), metric("regex", "item.pattern")])
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/no/such/python")
            stopped = run(project)
        assert (stopped.code, stopped.errors) == (3, []), stopped.all_said
        assert "no process can be started" in stopped.out
        again = run(project, "--resume")
    assert (again.code, len(again.results)) == (0, 16), again.all_said
    assert set(asked(endpoint.seen).values()) == {8}


def children_of(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (path / "children").read_text().split())


def answers_in(project: Project) -> int:
    return sum(end.task == "answer" for end in ends_in(project.run_dir / "journal"))


@pytest.mark.long
def test_fault_147_killed_while_judging(tmp_path: Path) -> None:
    with Served() as endpoint:
        project = Project(
            tmp_path / "p",
            endpoint.url,
            rows=rows_with("schema", json.dumps(ENDLESS), "{}"),
            tasks=[ask(), metric("json_schema", "item.schema")],
            limits={"concurrency": 1, "fail_on_error": 1},
        )
        with project.started() as process:
            until = time.monotonic() + PATIENCE_S
            while len(endpoint.seen) < 3 or answers_in(project) < 3 or not (children := list(children_of(process.pid))):
                assert time.monotonic() < until
                time.sleep(0.01)
            process.kill()
            process.communicate()
            wait_until_gone(*children)
        ran = run(project, "--resume")
    assert (ran.code, len(ran.results), len(endpoint.seen)) == (0, 15, 8), ran.all_said
    assert "it takes more than 1 s" in ran.error["message"]
