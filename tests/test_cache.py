"""The cache of answers: what is kept, what is found again, and that no row ever fails for it."""

from __future__ import annotations

import json
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp import web

from runner.config.sections import CacheConfig
from runner.durations import seconds_in
from runner.endpoint.cache import ResponseCache, opened_cache
from runner.secrets.redaction import Redactor
from runner.storage import responses
from runner.storage.responses import ResponseFile, looked_at, prune
from runner.types import Item, Outcome, Request, Response, Result, Unit
from tests.commands import Project, ask, asked, here, questions
from tests.serving import Served, chat_answer, in_chunks

KEY = "sk-test-1234567890abcdef"
PRICES = {"*": {"input": 100, "output": 200}}


async def as_asked(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer with vectors, a verdict, or what the question names: a finish reason, a refusal, an error."""
    if request.path.endswith("embeddings"):
        vectors = [{"index": 0, "embedding": [0.5, 0.25]}]
        return web.json_response({"data": vectors, "model": "e", "usage": {"prompt_tokens": 4, "total_tokens": 4}})
    text = str(body["messages"][-1]["content"])
    if text == "refuse me":
        return web.json_response({"error": {"message": "no"}}, status=400)
    answer = chat_answer(f"re: {text}")
    choice = answer["choices"][0]
    if text.startswith("end with "):
        choice["finish_reason"] = text.removeprefix("end with ")
    if text == "do not say it":
        choice["message"]["refusal"] = "I will not"
    if text == "what is my key?":
        choice["message"]["content"] = request.headers["Authorization"]
    if text.startswith("judge"):
        choice["message"]["content"] = "Yes"
    if body.get("n"):
        answer["choices"].append({**choice, "index": 1, "finish_reason": "length" if text == "cut one" else "stop"})
    if not body.get("stream"):
        return web.json_response(answer)
    piece = {"model": "m", "choices": [{"index": 0, "delta": {"content": "streamed"}, "finish_reason": "stop"}]}
    return await in_chunks(request, piece, {"model": "m", "choices": [], "usage": answer["usage"]})


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served(as_asked) as served:
        yield served


@pytest.fixture(autouse=True)
def forget(server: Served) -> None:
    server.seen.clear()


def project(tmp_path: Path, server: Served, **more: Any) -> Project:
    cache = {"path": str(tmp_path / "kept" / "responses.sqlite")} | more.pop("cache", {})
    return Project(tmp_path, server.url, more={"cache": cache, "prices": PRICES} | more.pop("more", {}), **more)


def file_of(made: Project) -> Path:
    return Path(str(made.more["cache"]["path"]))


def newest(made: Project) -> Project:
    """Return a view of a project that has the newest run only."""
    found: Project = type("Newest", (Project,), {"run_dir": property(lambda one: one.runs[-1])})(
        **{name: getattr(made, name) for name in Project.__dataclass_fields__}
    )
    return found


def test_what_was_answered_before_is_taken_and_nothing_is_sent_for_it(tmp_path: Path, server: Served) -> None:
    tasks = [
        ask(samples=2),
        ask("streamed", stream=True),
        {"task_type": "embedding", "alias": "vector", "configuration": {"model": "e", "input": "{{item.question}}"}},
        {
            "task_type": "auto_evaluation.guided_decoding",
            "alias": "verdict",
            "configuration": {"model": "m", "prompt": "judge {{item.question}}", "choices": ["Yes", "No"], "guide": "none"},
        },
        {"task_type": "metric", "configuration": {"type": "contains", "candidate": "item.streamed", "reference": "stream"}},
    ]
    made = project(tmp_path, server, rows=questions(3), tasks=tasks)
    assert made.run_here().returncode == 0
    first, sent = made.results(), len(server.seen)
    assert sent == 3 * 5
    assert not any(row["cached"] for row in first)
    # More than these tokens are used up at once, where any is counted.
    again = made.run_here("--set", "limits.max_tokens=1")
    assert again.returncode == 0, again.stderr
    assert len(server.seen) == sent
    second, totals = newest(made).results(), newest(made).evaluation["totals"]
    same = ("item_id", "sample_index", "task", "output", "value", "prompt_tokens", "completion_tokens", "response", "request")
    assert [[row[name] for name in same] for row in second] == [[row[name] for name in same] for row in first]
    for row in second:
        asks = row["task_type"] != "metric"
        assert (row["cached"], row["attempts"], row["latency_s"], row["ttft_s"]) == (asks, 0, None, None)
        assert row["cost"] == (0.0 if asks else None)
    assert (totals["requests"], totals["cached"], totals["attempts"]) == (0, sent, 0)
    assert totals["tokens"]["prompt_tokens"] == 0
    assert "15 answers reused, nothing sent for them" in again.stdout


@pytest.mark.parametrize(
    ("question", "more", "is_kept"),
    [
        ("end with stop", {}, True),
        ("end with tool_calls", {}, True),
        ("end with function_call", {}, True),
        ("end with length", {}, False),
        ("end with content_filter", {}, False),
        ("end with eos", {}, False),
        ("do not say it", {}, False),
        ("refuse me", {}, False),
        ("two", {"n": 2}, True),
        ("cut one", {"n": 2}, False),
    ],
)
def test_only_answers_that_came_to_their_own_end_are_kept(
    tmp_path: Path, server: Served, question: str, more: dict[str, Any], *, is_kept: bool
) -> None:
    rows = [{"id": "1", "question": question}]
    made = project(tmp_path, server, rows=rows, tasks=[ask(configuration=more)], limits={"fail_on_error": 1.0})
    for _ in range(2):
        assert made.run_here().returncode == 0
    assert len(server.seen) == (1 if is_kept else 2)


def test_equal_requests_of_one_run_are_all_asked_and_each_sample_has_an_answer_of_its_own(tmp_path: Path) -> None:
    count = 0

    async def numbered(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        nonlocal count
        count += 1
        return web.json_response(chat_answer(f"answer {count}"))

    rows = [{"id": "1", "question": "same"}, {"id": "2", "question": "same"}]
    with Served(numbered) as served:
        made = project(tmp_path, served, rows=rows, tasks=[ask(samples=3)], limits={"concurrency": 1})
        assert made.run_here("--limit", "1").returncode == 0
        assert made.run_here("--resume").returncode == 0  # what the run has kept itself is not for its own rows
        assert count == 6
        assert made.run_here().returncode == 0
    assert count == 6
    by_sample = {row["sample_index"]: row["output"] for row in newest(made).results()}
    assert by_sample == {sample: f"answer {4 + sample}" for sample in range(3)}


def test_a_run_goes_on_whatever_becomes_of_its_cache(tmp_path: Path, server: Served) -> None:
    made = project(tmp_path, server, rows=questions(4))
    assert made.run_here("--limit", "2").returncode == 0
    for change in ("cache.mode=off", "cache.path=elsewhere.sqlite", "cache.max_age=null"):
        words = ("--resume", "--set", change, "--limit", "2")
        again = made.run_here(*words)
        assert again.returncode == 0, again.stderr
    assert len(made.runs) == 1


@pytest.mark.parametrize(
    ("mode", "files", "second"),
    [("read_write", 1, 0), ("read", 0, 3), ("write", 1, 3), ("off", 0, 3)],
)
def test_modes(tmp_path: Path, server: Served, mode: str, files: int, second: int) -> None:
    made = project(tmp_path, server, rows=questions(3), cache={"mode": mode})
    first = made.run_here()
    assert first.returncode == 0
    assert len(list(tmp_path.glob("kept/*"))) == files
    assert ("there is no such file" in first.stderr) == (mode == "read")
    assert made.run_here().returncode == 0
    assert len(server.seen) == 3 + second


def test_recordings_are_whole_and_replayed_as_they_are(tmp_path: Path, server: Served) -> None:
    made = project(tmp_path, server, rows=questions(3))
    assert made.run_here().returncode == 0
    tape = tmp_path / "tape.jsonl"
    assert made.run_here("--set", f"endpoint.record={tape}").returncode == 0
    assert len(server.seen) == 6
    assert made.run_here("--set", f"endpoint.replay={tape}").returncode == 0
    assert not any(row["cached"] for row in newest(made).results())


@pytest.mark.long
def test_workers_share_the_file(tmp_path: Path, server: Served) -> None:
    made = project(tmp_path, server, rows=questions(40))
    done = made.run_here("--processes", "2")
    assert done.returncode == 0, done.stderr
    assert "without the cache" not in done.stderr
    assert looked_at(file_of(made)).answers == 40
    assert made.run_here().returncode == 0
    assert len(server.seen) == 40
    assert all(row["cached"] for row in newest(made).results())


def test_it_is_for_its_owner_alone_and_holds_no_secret(tmp_path: Path, server: Served) -> None:
    rows = [{"id": "1", "question": "what is my key?"}]
    made = project(tmp_path, server, rows=rows)
    made.environment = {"OPENAI_API_KEY": KEY}
    modes: set[int] = set()
    write = ResponseFile._write

    def look(file: ResponseFile) -> None:
        write(file)
        modes.update(stat.S_IMODE(path.stat().st_mode) for path in file._path.parent.iterdir())

    with patch.object(ResponseFile, "_write", look):
        assert made.run_here().returncode == 0
    assert modes == {0o600}
    assert KEY.encode() not in file_of(made).read_bytes()
    assert b"[redacted]" in file_of(made).read_bytes()
    assert made.run_here().returncode == 0
    assert len(server.seen) == 1


# --- a file that is no good ---


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE responses (a)")
        connection.commit()


def as_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"no database, but as long as one" * 100), "file is not a database"),
        (lambda path: path.write_bytes(b""), "this is not a file of cached answers"),
        (foreign, "this is not a file of cached answers"),
        (as_directory, "unable to open database file"),
    ],
)
def test_a_file_that_is_none_costs_a_warning_and_no_row(
    tmp_path: Path, server: Served, spoil: Callable[[Path], None], said: str
) -> None:
    made = project(tmp_path, server, rows=questions(3))
    path = file_of(made)
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    done = made.run_here()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"{path}: {said}; the run goes on without the cache") == 1
    assert len(made.results()) == len(server.seen) == 3
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_file_that_others_hold_costs_a_warning_and_no_row(
    tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "_LOCKED_AT_MOST_S", 0.05)
    made = project(tmp_path, server, rows=questions(3))
    assert made.run_here("--limit", "1").returncode == 0
    with closing(sqlite3.connect(file_of(made), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = made.run_here()
    assert done.returncode == 0, done.stderr
    assert "database is locked; the run goes on without the cache" in done.stderr
    assert [row["cached"] for row in newest(made).results()] == [True, False, False]


def test_an_answer_that_is_not_as_it_was_is_none(tmp_path: Path, server: Served) -> None:
    made = project(tmp_path, server, rows=questions(3))
    assert made.run_here().returncode == 0
    with closing(sqlite3.connect(file_of(made))) as connection:
        connection.execute("UPDATE responses SET body = CAST(replace(body, 'question 1', 'question 2') AS BLOB)")
        connection.commit()
    assert made.run_here().returncode == 0
    assert asked(server.seen) == {"question 0": 1, "question 1": 2, "question 2": 1}


# --- the layer ---


def request(
    content: bytes = b'{"model":"m"}', *, path: str = "/chat/completions", sample: int = 0, again: bool = False
) -> Request:
    unit = Unit("row", 0, sample, "answer")
    return Request(unit=unit, path=path, model="m", content=content, shown=content.decode(), stream=False, again=again)


class Endpoint:
    """Answers, and counts how often."""

    def __init__(self) -> None:
        self.asked = 0

    async def execute(self, _request: Request) -> Outcome:
        self.asked += 1
        answer = Response(output="ok", finish_reason="stop", body=json.dumps(chat_answer("ok")))
        return Outcome(answer=answer, attempts=1, started_at=0, completed_at=0)


@asynccontextmanager
async def cache(path: Path, run: str, *, now: float = 1e9) -> AsyncIterator[ResponseCache]:
    with patch.object(time, "time", lambda: now):
        settings = CacheConfig(path=str(path), max_age="30d")
        async with opened_cache(settings, run_id=run, redactor=Redactor([])) as layer:
            yield layer


async def asked_for(layer: ResponseCache, wanted: Request, base_url: str = "http://x/v1") -> int:
    """Ask for a request as a run does; return how often the endpoint was."""
    endpoint = Endpoint()
    outcome = await layer.before(endpoint.execute, base_url)(wanted)
    item = Item(item_id="row", index=0, row={}, place="")
    layer.keep(Result(unit=wanted.unit, task_type="chat_completion", outcome=outcome, item=item, request=wanted))
    return endpoint.asked


@pytest.mark.parametrize(
    ("other", "base_url", "is_known"),
    [
        (request(), "http://x/v1", True),
        (request(b'{"model":"m","temperature":0}'), "http://x/v1", False),
        (request(path="/completions"), "http://x/v1", False),
        (request(sample=1), "http://x/v1", False),
        (request(), "http://y/v1", False),
        (request(again=True), "http://x/v1", False),
    ],
)
async def test_the_key_is_all_that_decides_the_answer(tmp_path: Path, other: Request, base_url: str, *, is_known: bool) -> None:
    path = tmp_path / "c.sqlite"
    async with cache(path, "1") as layer:
        assert await asked_for(layer, request()) == 1
    async with cache(path, "2") as layer:
        assert await asked_for(layer, other, base_url) == (not is_known)


async def test_too_old_an_answer_is_none_and_replaced(tmp_path: Path) -> None:
    path, days = tmp_path / "c.sqlite", 86400
    async with cache(path, "1", now=0) as layer:
        await asked_for(layer, request())
    for run, now, times in (("2", 30 * days, 0), ("3", 30 * days + 1, 1), ("4", 31 * days, 0)):
        async with cache(path, run, now=now) as layer:
            assert await asked_for(layer, request()) == times
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT run FROM responses").fetchall() == [("3",)]


async def test_what_is_kept_is_written_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    async with cache(path, "1") as layer:
        for number in range(responses._MOST_GATHERED):
            await asked_for(layer, request(b"%d" % number))
        async with cache(
            path, "2"
        ) as other:  # the thread of the first may still be at it, so one after the other is looked for
            asked = [await asked_for(other, request(b"%d" % number)) for number in range(responses._MOST_GATHERED)]
        assert 0 in asked


def test_a_judge_asks_again_where_what_was_kept_is_no_verdict(tmp_path: Path, server: Served) -> None:
    """The same request with other choices: its answer is none of them, and only a new one may be."""
    configuration = {"model": "m", "prompt": "judge {{item.question}}", "guide": "none", "choices": ["Yes", "No"]}
    task = {"task_type": "auto_evaluation.guided_decoding", "alias": "verdict", "configuration": configuration}
    made = project(tmp_path, server, rows=questions(1), tasks=[task], limits={"fail_on_error": 1.0})
    assert made.run_here().returncode == 0
    made.tasks = [task | {"configuration": configuration | {"choices": ["good", "bad"]}}]
    made.write()
    assert made.run_here().returncode == 0
    assert len(server.seen) == 2
    (error,) = newest(made).errors()
    assert (error["error_type"], error["attempts"]) == ("no_verdict", 1)
    assert newest(made).evaluation["totals"]["tokens"]["prompt_tokens"] == 3  # those of the second answer alone


# --- the command, and the config ---


def test_the_command_says_what_there_is_and_deletes_what_is_old(tmp_path: Path, server: Served) -> None:
    made = project(tmp_path, server, rows=questions(3))
    assert made.run_here().returncode == 0
    path = file_of(made)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE responses SET at = at - 86400 * 40 WHERE rowid = 1")
        connection.commit()
    said = here("cache", str(path), "--prune", "30d", environment={})
    assert said.returncode == 0
    assert "1 answers older than 30d deleted" in said.stdout
    assert "2 answers, " in said.stdout
    for words, what in (
        ((str(path), "--prune", "soon"), "'soon' is not a duration"),
        ((str(tmp_path / "none"),), "there is no such file"),
        ((str(made.config),), "file is not a database"),
    ):
        refused = here("cache", *words, environment={})
        assert (refused.returncode, what in refused.stderr) == (2, True), refused.stderr


def test_what_is_deleted_gives_its_room_back(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    file = ResponseFile(path, lambda _found: None, run_id="1", reads=True, writes=True, oldest=0, redactor=Redactor([]))
    for number in range(50):
        file.put(b"%032d" % number, "x" * 20_000)
    file.close()
    size = path.stat().st_size
    assert prune(path, before=int(time.time()) + 1) == 50
    assert path.stat().st_size < size / 10


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("90m", 5400), ("45s", 45), ("2w", 1_209_600)]
)
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5h", "30 d", "1y", "٣d"])
def test_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds_in(text)
    with pytest.raises(ValueError, match="not a duration"):
        CacheConfig(max_age=text)
