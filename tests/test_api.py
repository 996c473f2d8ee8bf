"""Evaluations from Python: in any thread, in a running loop, many at once, interrupted, cancelled, with rows of their own."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from aiohttp import web

import runner.api
from tests.commands import Holding, ask, metric
from tests.serving import Seen, Served, chat_answer
from tests.variations import some

ROWS = 20


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as server:
        yield server


def config_of(server: Served, name: str = "trial", rows: int = ROWS, **limits: Any) -> dict[str, Any]:
    return {
        "name": name,
        "endpoint": {"base_url": server.url},
        "data": [{"id": f"row-{index}", "question": f"{name} {index}"} for index in range(rows)],
        "tasks": [ask()],
        "limits": {"concurrency": 4} | limits,
    }


def asked_by(seen: list[Seen]) -> list[str]:
    """Return the names of the evaluations in the order in which they asked."""
    return [str(request.body["messages"][-1]["content"]).partition(" ")[0] for request in seen]


@pytest.mark.long
def test_a_run_says_how_it_stands_and_what_it_found(served: Served) -> None:
    run = runner.evaluate(config_of(served), progress=False)
    assert (run.status, run.stopped, run.name) == ("completed", None, "trial")
    assert run.path == Path("results/trial/latest").resolve()
    assert run.id == run.path.name
    assert run.totals["results"] == ROWS
    assert (len(run.results), len(run.errors), len(run.wide)) == (ROWS, 0, ROWS)
    assert list(run.wide["answer"]) == [f"trial {index}" for index in range(ROWS)]


def test_a_file_and_overrides(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(config_of(served)))
    for source in (file, str(file)):
        run = runner.evaluate(source, overrides=["dataset.limit=3", "name=other"], progress=False)
        assert (run.name, len(run.results)) == ("other", 3)


@pytest.mark.parametrize("source", [{"name": "trial", "limits": {"concurency": 2}}, {"name": "trial", "tags": {1, 2}}])
def test_a_mistake_has_the_command_lines_text_and_leaves_nothing(source: dict[str, Any]) -> None:
    with pytest.raises(runner.UsageError, match=r"config: (limits\.concurency|tags)"):
        runner.evaluate(source)
    assert not Path("results").exists()


def test_a_dataset_that_is_not_there_leaves_nothing(served: Served) -> None:
    config = config_of(served) | {"dataset": "gone.jsonl"}
    del config["data"]
    with pytest.raises(runner.UsageError, match=r"gone\.jsonl: there is no such file"):
        asyncio.run(runner.evaluate_async(config))
    assert not Path("results").exists()


async def test_in_a_running_loop(served: Served) -> None:
    assert runner.evaluate(config_of(served), progress=False).status == "completed"
    with pytest.raises(runner.UsageError):
        runner.evaluate({"name": "trial"})
    assert runner.load("trial").status == "completed"


async def test_the_loop_goes_on_meanwhile() -> None:
    holding = Holding()
    with holding.served() as server:
        running = asyncio.create_task(runner.evaluate_async(config_of(server), progress=False))
        await asyncio.to_thread(holding.wait_for, 4)
        holding.release()
        assert (await running).status == "completed"


@pytest.mark.long
async def test_five_at_once(served: Served) -> None:
    runs = await asyncio.gather(*(runner.evaluate_async(config_of(served, f"e{index}"), progress=False) for index in range(5)))
    assert [(run.name, len(run.results)) for run in runs] == [(f"e{index}", ROWS) for index in range(5)]
    assert len(served.seen) == 5 * ROWS


def test_in_threads(served: Served) -> None:
    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(lambda name: runner.evaluate(config_of(served, name), progress=False), "abc"))
    assert [run.status for run in runs] == ["completed"] * 3


def test_nothing_of_the_process_is_changed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> object:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        logs = [
            (logger.level, list(logger.handlers), list(logger.filters))
            for logger in (logging.root, logging.getLogger("runner"))
        ]
        filters = [list(handler.filters) for handler in logging.root.handlers]
        return handlers, logs, filters, gc.get_threshold(), sys.modules.get("numpy", "none")

    before = state()
    monkeypatch.setattr(gc, "freeze", None)
    runner.evaluate(config_of(served), progress=False)
    assert state() == before


def test_a_run_goes_on_where_it_was_stopped(served: Served) -> None:
    stopped = runner.evaluate(config_of(served, max_tokens=40), progress=False)
    assert stopped.status == "failed"
    assert "limits.max_tokens" in str(stopped.stopped)
    run = runner.evaluate(config_of(served), resume=True, progress=False)
    assert (run.path, run.status, len(run.results)) == (stopped.path, "completed", ROWS)
    assert len(served.seen) == ROWS


# --- rows of their own ---


FRAME = pd.DataFrame({"question": ["one", "two"], "n": [1, 2], "score": [0.5, None]})


@pytest.mark.parametrize(
    ("data", "items"),
    [
        (FRAME, [{"question": "one", "n": 1, "score": 0.5}, {"question": "two", "n": 2, "score": None}]),
        ([{"question": "one", "tags": ("a", "b")}], [{"question": "one", "tags": ["a", "b"]}]),
        (({"question": text} for text in ("one", "two")), [{"question": "one"}, {"question": "two"}]),
    ],
    ids=["a DataFrame", "a list", "an iterator"],
)
def test_rows_take_the_place_of_the_configs(served: Served, data: Any, items: list[dict[str, Any]]) -> None:
    run = runner.evaluate(config_of(served), data=data, progress=False)
    assert [json.loads(item) for item in run.results["item"]] == items
    again = runner.evaluate(run.path / "config.yaml", progress=False)
    assert list(again.results["item"]) == list(run.results["item"])


def test_a_config_needs_no_dataset_where_rows_are_given(served: Served) -> None:
    config = config_of(served)
    del config["data"]
    assert len(runner.evaluate(config, data=FRAME, progress=False).results) == 2


def test_other_rows_are_another_evaluation(served: Served) -> None:
    runner.evaluate(config_of(served), data=FRAME, progress=False)
    assert runner.evaluate(config_of(served), data=FRAME, resume=True, progress=False).status == "completed"
    with pytest.raises(runner.UsageError, match="data: its content changed"):
        runner.evaluate(config_of(served), data=FRAME.head(1), resume=True, progress=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"question": "one"}, "two"], "data:2: is 'two', and should be a mapping"),
        ([], "data: the dataset has no rows"),
        ([{"question": object()}], "data:1: <object .* is a object, which JSON cannot express"),
        (pd.DataFrame({"question": ["one", 2]}), "data: .*question"),
    ],
    ids=["no mapping", "none", "no value of JSON", "a column of two kinds"],
)
def test_rows_that_are_none(served: Served, data: Any, message: str) -> None:
    with pytest.raises(runner.UsageError, match=message):
        runner.evaluate(config_of(served), data=data)
    assert not Path("results").exists()


PICTURE = b"\x89PNG\r\n\x1a\n" + b"\0" * 30


@pytest.mark.parametrize("frame", [False, True])
def test_bytes_are_sent_as_media_and_the_copy_of_the_rows_sends_the_same(served: Served, *, frame: bool) -> None:
    config = config_of(served)
    parts = [{"type": "image_url", "image_url": {"url": "item.picture"}}]
    config["tasks"][0]["configuration"]["messages"] = [{"role": "user", "content": parts}]
    rows = [{"picture": PICTURE}]
    run = runner.evaluate(config, data=pd.DataFrame(rows) if frame else rows, progress=False)
    again = runner.evaluate(run.path / "config.yaml", progress=False)
    assert again.status == "completed"
    first, second = (request.body["messages"][0]["content"][0]["image_url"]["url"] for request in served.seen)
    assert first == second
    assert first.startswith("data:image/png;base64,iVBORw0KGgo")


def test_values_of_numpy_are_those_of_python(served: Served) -> None:
    rows = [{"question": np.str_("one"), "n": np.int64(3), "list": np.array([1.5, 2.0])}]
    run = runner.evaluate(config_of(served), data=rows, progress=False)
    assert json.loads(run.results["item"][0]) == {"question": "one", "n": 3, "list": [1.5, 2.0]}


def test_a_secret_in_a_row_is_not_in_the_copy(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY-0123456789abcdef")
    run = runner.evaluate(config_of(served), data=[{"question": "is sk-CANARY-0123456789abcdef a key?"}], progress=False)
    assert b"sk-CANARY" not in (run.path / "data.jsonl").read_bytes()


# --- stopping ---


async def test_a_cancelled_task_lets_finish_what_is_in_flight() -> None:
    holding = Holding()
    with holding.served() as server:
        running = asyncio.create_task(runner.evaluate_async(config_of(server), progress=False))
        await asyncio.to_thread(holding.wait_for, 4)
        running.cancel()
        await asyncio.sleep(0.05)
        assert not running.done()
        holding.release()
        with pytest.raises(asyncio.CancelledError):
            await running
        run = runner.load("trial")
        assert (run.status, run.stopped, len(run.results)) == ("failed", "cancelled", 4)
        assert len(server.seen) == 4
        assert len((await runner.evaluate_async(config_of(server), resume=True, progress=False)).results) == ROWS


async def test_a_task_that_is_cancelled_twice_ends_at_once() -> None:
    holding = Holding(at_once=1)
    with holding.served() as server:
        running = asyncio.create_task(runner.evaluate_async(config_of(server), progress=False))
        await asyncio.to_thread(holding.wait_for, 4)
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running
        holding.release()
    assert len(runner.load("trial").results) == 1


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Counts how often an evaluation was told to stop."""
    told, stop = threading.Semaphore(0), runner.api._Job.stop

    def noted(job: runner.api._Job, reason: str) -> None:
        stop(job, reason)
        told.release()

    monkeypatch.setattr(runner.api._Job, "stop", noted)
    return told


@pytest.mark.parametrize(("times", "is_returned", "kept"), [(1, True, 5), (2, False, 1), (3, False, 1)])
def test_ctrl_c_drains_and_twice_drops(stops: threading.Semaphore, *, times: int, is_returned: bool, kept: int) -> None:
    holding, main = Holding(at_once=1), threading.main_thread().ident
    assert main == threading.get_ident()

    def interrupt() -> None:
        holding.wait_for(4)
        for _ in range(times):
            signal.pthread_kill(main, signal.SIGINT)
            assert stops.acquire(timeout=10)
        if is_returned:
            holding.release()

    with holding.served() as server, ThreadPoolExecutor(1) as beside:
        interrupting = beside.submit(interrupt)
        if is_returned:
            run = runner.evaluate(config_of(server), progress=False)
        else:
            with pytest.raises(KeyboardInterrupt):
                runner.evaluate(config_of(server), progress=False)
            run = runner.load("trial")
        interrupting.result()
        holding.release()
    assert (run.stopped, len(run.results)) == ("stopped by SIGINT", kept)


# --- one endpoint for several ---


class Slow:
    """Answers each request after a while, and counts how many it works on at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at_once = self.most_at_once = 0

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        return web.json_response(chat_answer(str(body["messages"][-1]["content"])))


async def both(first: dict[str, Any], second: dict[str, Any]) -> list[runner.Run]:
    """Run two evaluations at the same time."""
    return await asyncio.gather(*(runner.evaluate_async(config, progress=False) for config in (first, second)))


@pytest.mark.long
@pytest.mark.parametrize("concurrency", some([(32, 8), (8, 8)], 1))
async def test_two_that_need_as_much_get_as_much_and_never_more_than_the_limit(concurrency: tuple[int, int]) -> None:
    slow = Slow(0.002)
    with Served(slow.answer) as server:
        # The large one has up to four times as many workers that stand in line.
        large = config_of(server, "large", rows=200, concurrency=concurrency[0], requests_per_second=200)
        small = config_of(server, "small", rows=100, concurrency=concurrency[1], requests_per_second=200)
        await both(large, small)
    order = asked_by(server.seen)
    begun = max(order.index("small"), order.index("large"))
    together = order[begun : len(order) - order[::-1].index("small")]
    assert 0.45 <= together.count("small") / len(together) <= 0.55
    assert slow.most_at_once <= max(concurrency)


async def test_the_strictest_rate_holds_for_both(served: Served) -> None:
    strict = config_of(served, "strict", requests_per_second=50)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await both(config_of(served, "free", requests_per_second=1000), strict)
    assert loop.time() - begun >= 0.9 * (2 * ROWS - 12) / 50


async def test_connections_are_shared() -> None:
    places = set[object]()

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        places.add(request.transport.get_extra_info("peername"))
        return web.json_response(chat_answer(str(body["model"])))

    with Served(answer) as server:
        await both(config_of(server, "a"), config_of(server, "b"))
    assert len(places) <= 4


async def test_an_endpoint_with_another_key_is_another(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-of-somebody-else-123")
    other = config_of(served, "b", requests_per_second=1)
    other["endpoint"]["api_key_env"] = "OTHER_KEY"
    other["data"] = other["data"][:1]
    runs = await both(config_of(served, "a", rows=50), other)
    assert [run.status for run in runs] == ["completed"] * 2


@pytest.mark.long
async def test_what_one_finds_out_of_an_outage_both_know() -> None:
    """Each alone would fail twice as often as it has requests at once, before control requests find out."""
    down = asyncio.Event()

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if down.is_set():
            return web.json_response({"error": {"message": "down"}}, status=503)
        if len(server.seen) >= 40:
            down.set()
        return web.json_response(chat_answer(str(body["model"])))

    limits = {"concurrency": 8, "give_up_after": 1.5}
    with Served(answer) as server:
        runs = await both(config_of(server, "a", rows=300, **limits), config_of(server, "b", rows=300, **limits))
        failing = len(server.seen) - sum(len(run.results) for run in runs)
    assert ["has been down for" in str(run.stopped) for run in runs] == [True, True]
    assert [len(run.errors) for run in runs] == [0, 0]
    assert failing <= 2 * 8 + 20


@pytest.mark.long
async def test_limits_of_who_has_left_hold_no_more(served: Served) -> None:
    strict = config_of(served, "strict", rows=3, requests_per_second=4)
    free = config_of(served, "free", rows=400, concurrency=8)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await both(strict, free)
    assert loop.time() - begun < 30  # at 4 a second it would be 100


@pytest.mark.long
async def test_a_row_in_doubt_does_not_wait_for_an_evaluation_that_was_stopped() -> None:
    """Of the second, whose only row always fails, nobody could tell whose fault it is but the rows of the first."""
    holding, asked = Holding(at_once=8), asyncio.Event()

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if str(body["messages"][-1]["content"]).startswith("bad"):
            loop.call_soon_threadsafe(asked.set)
            return web.json_response({"error": {"message": "no"}}, status=500)
        return await holding.answer(request, body)

    loop = asyncio.get_running_loop()
    with Served(answer) as server:
        first = asyncio.create_task(runner.evaluate_async(config_of(server, "good", rows=50), progress=False))
        await asyncio.to_thread(holding.wait_for, 4)
        limits = {"give_up_after": 1.5, "max_attempts": 2, "concurrency": 6}
        second = asyncio.create_task(runner.evaluate_async(config_of(server, "bad", rows=1, **limits), progress=False))
        await asyncio.wait_for(asked.wait(), 20)
        await asyncio.sleep(1)  # longer than its back-off: now it waits for others
        for _ in range(2):
            first.cancel()
            await asyncio.sleep(0.05)
        holding.release()
        run = await asyncio.wait_for(second, 40)
    assert run.status in {"completed", "failed"}
    assert len(run.results) == 0


@pytest.mark.long
def test_what_is_logged_without_any_handler_holds_no_secret(tmp_path: Path) -> None:
    key = "sk-CANARY-0123456789abcdef"

    async def answer(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"not with {key}"}}, status=401)

    with Served(answer) as server:
        program = f"import runner; print(runner.evaluate({config_of(server)!r}, progress=False))"
        environment = os.environ | {"OPENAI_API_KEY": key}
        words = [sys.executable, "-c", program]
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "not with [redacted]" in done.stderr
    assert key not in done.stderr + done.stdout


def test_a_child_of_a_fork_has_a_loop_of_its_own(served: Served) -> None:
    runner.evaluate(config_of(served), progress=False)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(status_of, (config_of(served, "child"),))
        assert found.get(30) == "completed"


def status_of(config: dict[str, Any]) -> str:
    return runner.evaluate(config, progress=False).status


# --- what a run shows ---


def test_a_notebook_shows_how_a_run_stands(served: Served) -> None:
    config = config_of(served, rows=2) | {"output": "<script>"}
    config["tasks"].append(metric("right", type="contains", reference="0"))
    shown = runner.evaluate(config, progress=False)._repr_html_()
    assert "<td>right</td><td>0.5000</td>" in shown
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "completed, 4 results, 0 errors" in shown


@pytest.mark.parametrize("name", ["trial", "results/trial", "results/trial/latest"])
def test_a_run_is_found_by_name_and_by_path(served: Served, name: str) -> None:
    run = runner.evaluate(config_of(served), progress=False)
    assert runner.load(name).path == run.path
    assert runner.load(run).path == runner.load(run.path).path == run.path


def test_of_a_run_whose_frames_were_read_they_are_counted(served: Served) -> None:
    run = runner.evaluate(config_of(served), progress=False)
    status = json.loads((run.path / "evaluation.json").read_text()) | {"status": "running", "totals": {"results": 3}}
    (run.path / "evaluation.json").write_text(json.dumps(status))
    assert f"running, {ROWS} results, 0 errors" in repr(runner.load(run.path))


def test_a_run_that_is_not_there() -> None:
    with pytest.raises(runner.RunDirError, match="gone: is neither a run directory nor the name of an evaluation in"):
        runner.load("gone")


def test_a_bar_is_shown_where_it_is_wanted(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    runner.evaluate(config_of(served))
    assert f"{ROWS}/{ROWS}" in capsys.readouterr().err
    runner.evaluate(config_of(served), progress=False)
    assert capsys.readouterr().err == ""
