"""The evaluation service: what Scale's client gets, over a real socket; runs, items, pages, exports, datasets, idempotency."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner.config.file import expand
from runner.config.loading import load_config
from runner.errors import RunDirError, UsageError
from runner.reading.verdicts import MEMBER
from runner.run_ids import created_at, new_ulid
from runner.service.api.app import serve
from runner.service.api.evaluations import merged
from runner.service.language import escaped
from runner.service.settings import Served as Asked
from runner.service.settings import load_service
from runner.storage.index import ANSWERED, FAILED
from runner.storage.item_states import item_states
from runner.storage.rundir import RunDir
from tests.service import Running, chat, running_service, settings_text
from tests.serving import Served, chat_answer

CONFIGURATION = {"type": "exact_match", "candidate": "item.r", "reference": "item.a"}
METRIC = {"task_type": "metric", "configuration": CONFIGURATION}
ROWS = [{"q": "x", "a": "x"}, {"q": "y", "a": "z"}, {"a": "b", "q": "c"}]


running = running_service(more="limits: {item: 1KiB, tasks: 3}")


def test_an_evaluation_is_a_run(running: Running) -> None:
    made = running.create(ROWS, chat("say {{item.q}}"), {**METRIC, "alias": "ok"}, tags=["t"], metadata={"k": 1})
    assert (made["status"], made["tasks"], made["progress"]["items"]["total"]) == ("running", None, 3)
    ended = running.ended(made["id"])
    assert (ended["status"], ended["error_count"], ended["progress"]["items"]["successful"]) == ("completed", 0, 3)
    assert [task["alias"] for task in ended["tasks"]] == ["r", "ok"]
    item = running.items(made["id"])[0]
    assert item["data"] == {"q": "x", "a": "x", "r": "say x", "ok": 0}
    assert list(item["data"]) == ["q", "a", "r", "ok"]
    assert item["task_result_statuses"] == {"r": "completed", "ok": "completed"}
    assert item["id"] == f"{made['id']}.0"
    assert item["task_errors"] is None
    run = runner.load(running.path / "out" / made["id"])
    assert (len(run.results), run.name) == (6, "n")


def test_what_is_missing_in_a_row_is_that_items_error(running: Running) -> None:
    made = running.create([{"q": "x"}, {"a": "y"}], chat("item.q"))
    ended = running.ended(made["id"])
    assert ended["progress"]["items"]["failed_items"][0]["item_id"] == f"{made['id']}.1"
    assert ended["status"] == "completed"
    assert [one["id"] for one in running.items(made["id"], "&completion_status=failed")] == [f"{made['id']}.1"]
    assert [one["id"] for one in running.items(made["id"], "&completion_status=passed")] == [f"{made['id']}.0"]
    assert running.items(made["id"])[1]["task_errors"]["r"]["type"] == "template"
    assert "r" not in running.items(made["id"])[1]["data"]


def test_a_judge_and_what_is_skipped(tmp_path: Path) -> None:
    async def judge(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        guided = "response_format" in body
        return web.json_response(chat_answer(json.dumps({MEMBER: "Yes"}) if guided else "text"))

    condition = {"op": "eq", "left": {"op": "var", "path": "item.q"}, "right": {"op": "const", "value": "x"}}
    settings = {"model": "v/m", "prompt": "{{item.q}}?", "choices": ["Yes", "No"], "run_condition": condition, "other": 1}
    with Served(judge) as endpoint, Running(tmp_path / "s", endpoint) as service:
        made = service.create(ROWS, {"task_type": "auto_evaluation.guided_decoding", "configuration": settings})
        ended = service.ended(made["id"])
        first, second, _ = service.items(made["id"])
        assert {seen.body["model"] for seen in endpoint.seen} == {"m"}
    assert ended["progress"]["items"]["successful"] == 3
    assert first["data"]["auto_evaluation_guided_decoding"] == "Yes"
    assert second["task_result_statuses"] == {"auto_evaluation_guided_decoding": "skipped"}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"data": [{}]}, ["body", "name"]),
        ({"name": "n"}, ["body", "data"]),
        ({"name": "n", "data": []}, ["body", "data"]),
        ({"name": "n", "data": [1]}, ["body", "data", 0]),
        ({"name": "n", "data": [{"q": "x" * 2000}]}, ["body", "data", 0]),
        ({"name": "n", "data": ROWS, "tasks": [chat(model="other")]}, ["body", "tasks", 0, "configuration", "model"]),
        ({"name": "n", "data": ROWS, "tasks": [chat(model="item.q")]}, ["body", "tasks", 0, "configuration", "model"]),
        ({"name": "n", "data": ROWS, "tasks": [chat(), chat()]}, ["body", "tasks", 1, "alias"]),
        ({"name": "n", "data": ROWS, "tasks": [chat(alias="q")]}, ["body", "tasks", 0, "alias"]),
        (
            {"name": "n", "data": ROWS, "tasks": [chat("item.nope")]},
            ["body", "tasks", 0, "configuration", "messages", 0, "content"],
        ),
        ({"name": "n", "data": ROWS, "tasks": [chat(n="three")]}, ["body", "tasks", 0, "configuration", "n"]),
        ({"name": "n", "data": ROWS, "tasks": [chat(stream=True)]}, ["body", "tasks", 0, "configuration", "stream"]),
        ({"name": "n", "data": ROWS, "tasks": [chat("item.s"), chat("item.r", "s")]}, ["body", "tasks"]),
        ({"name": "n", "data": ROWS, "files": [{"f": "x"}]}, ["body", "files"]),
        ({"name": "n", "data": ROWS, "tasks": [chat()] * 4}, ["body", "tasks"]),
    ],
)
def test_a_body_is_refused_with_its_place(running: Running, body: dict[str, Any], place: list[Any]) -> None:
    status, said = running.ask("POST", "/v5/evaluations", body)
    assert status == 422
    assert place in [one["loc"] for one in said["detail"]]


def test_what_scale_documents_is_taken(running: Running) -> None:
    task = chat(
        *("hi", "<string>"), n=0, max_tokens=0, top_k=123, audio={"foo": "bar"}, tool_choice="x", stop="stop", new_parameter=[1]
    )
    made = running.create([{"foo": "bar"}], task, name="<string>", taxonomy_params={"a": 1}, skip_prefilled_rows=True)
    assert running.ended(made["id"])["status"] == "completed"
    assert running.echo.seen[-1].body["new_parameter"] == [1]
    assert running.ask("GET", f"/v5/evaluations/{made['id']}/taxonomy") == (200, {"a": 1})


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("{% for x in range(9) %}x{% endfor %}", True),
        ("{{ item.q | upper }}", True),
        ("{{ item.q() }}", True),
        ("{{ q }}", True),
        ("{{ 9 ** 9 }}", True),
        ("{{item.q}} {# no comment #} { } }}", False),
    ],
)
def test_only_sgps_templates_are_taken(running: Running, text: str, is_refused: bool) -> None:
    status, made = running.ask("POST", "/v5/evaluations", {"name": "n", "data": ROWS[:1], "tasks": [chat(text)]})
    assert status == (422 if is_refused else 200), made
    if not is_refused:
        running.ended(made["id"])
        assert running.items(made["id"])[0]["data"]["r"] == "x {# no comment #} { } }}"


def test_nothing_of_the_environment_and_no_file_comes_out(
    running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VERY_SECRET", "s3cret")
    (tmp_path / "f.png").write_bytes(b"\x89PNG\r\n\x1a\n hidden")
    picture = {"type": "image_url", "image_url": {"url": f"file:{tmp_path}/f.png"}}
    elsewhere = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}
    texts = [chat("${VERY_SECRET} $${VERY_SECRET}", "a"), *(chat(alias=name) for name in "bc")]
    for task, part in zip(texts[1:], (picture, elsewhere), strict=True):
        task["configuration"]["messages"][0]["content"] = [part]
    before = len(running.echo.seen)
    made = running.create([{"q": "x"}], *texts)
    running.ended(made["id"])
    item = running.items(made["id"])[0]
    assert item["data"]["a"] == "${VERY_SECRET} $${VERY_SECRET}"
    assert "opens no files for clients" in item["task_errors"]["b"]["message"]
    assert "hidden" not in item["task_errors"]["b"]["message"]
    assert "media_urls" in item["task_errors"]["c"]["message"]
    assert len(running.echo.seen) == before + 1
    # What is being written has another name until it is whole.
    kept = (path for path in (running.path / "out" / made["id"]).rglob("*") if path.is_file() and path.suffix != ".tmp")
    written = b"".join(path.read_bytes() for path in kept)
    assert b"s3cret" not in written


@given(st.lists(st.sampled_from(["$", "{", "}", "x", "${A}", "$${A}", "${B:-x}"]), max_size=6).map("".join))
def test_what_a_client_writes_comes_out_of_a_config_as_it_was(text: str) -> None:
    assert expand({"tasks": [escaped(text)]}, {"A": "leaked"}) == ({"tasks": [text]}, [])


def test_a_task_that_is_added_reads_what_is_there(running: Running) -> None:
    made = running.create(ROWS, chat("say {{item.q}}"))
    running.ended(made["id"])
    asked = len(running.echo.seen)
    path = f"/v5/evaluations/{made['id']}/tasks"
    reads = {**METRIC, "alias": "ok", "configuration": CONFIGURATION | {"reference": "say {{item.q}}"}}
    for wrong, place in (
        ({**reads, "alias": "r"}, ["body", "task", "alias"]),
        (chat("x", "a"), ["body", "task", "alias"]),
        (chat(alias="b", model="no"), ["body", "task", "configuration", "model"]),
    ):
        status, said = running.ask("POST", path, {"task": wrong})
        assert (status, place in [one["loc"] for one in said["detail"]]) == (422, True), said
    assert running.ask("POST", f"{path}?views=tasks", {"task": reads})[1]["tasks"][1]["alias"] == "ok"
    ended = running.ended(made["id"])
    assert ended["progress"]["items"]["successful"] == 3
    assert [item["data"]["ok"] for item in running.items(made["id"])] == [1, 1, 1]
    assert len(running.echo.seen) == asked, "the answers are not paid twice"
    assert len(runner.load(running.path / "out" / made["id"]).results) == 6
    assert running.ask("POST", path, {"task": chat("and {{item.r}}", "more")})[0] == 200
    running.ended(made["id"])
    assert running.items(made["id"])[0]["data"]["more"] == "and say x"


@pytest.mark.long
def test_a_task_is_added_to_what_runs(tmp_path: Path) -> None:
    async def slow(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return web.json_response(chat_answer(body["messages"][-1]["content"]))

    with Served(slow) as endpoint, Running(tmp_path / "s", endpoint) as service:
        made = service.create([{"q": f"q{number}"} for number in range(400)], chat())
        while len(endpoint.seen) < 50:
            time.sleep(0.01)
        for alias in ("second", "third"):
            assert service.ask("POST", f"/v5/evaluations/{made['id']}/tasks", {"task": chat("{{item.r}}!", alias)})[0] == 200
        ended = service.ended(made["id"])
        assert ended["progress"]["items"]["successful"] == 400
        asked = Counter(seen.body["messages"][-1]["content"] for seen in endpoint.seen)
        assert set(asked.values()) == {1, 2}
        assert all(count == (2 if text.endswith("!") else 1) for text, count in asked.items()), "nothing is paid twice"


def test_an_inference_is_a_chat_completion_or_a_completion(tmp_path: Path) -> None:
    async def either(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.path.endswith("/chat/completions"):
            return web.json_response(chat_answer(body["messages"][0]["content"]))
        choice = {"index": 0, "text": f"{body['prompt']} and on", "finish_reason": "stop"}
        return web.json_response({"id": "c", "object": "text_completion", "choices": [choice]})

    def inference(alias: str, **args: Any) -> dict[str, Any]:
        return {"task_type": "inference", "alias": alias, "configuration": {"model": "v/m", "args": args}}

    with Served(either) as endpoint, Running(tmp_path / "s", endpoint) as service:
        chats = inference("c", messages=[{"role": "user", "content": "{{item.q}}!"}], temperature=0)
        made = service.create(ROWS[:1], chats, inference("p", prompt="item.q", max_tokens=3))
        service.ended(made["id"])
        assert service.items(made["id"])[0]["data"] == ROWS[0] | {"c": "x!", "p": "x and on"}
        bodies = {tuple(sorted(seen.body)): seen.body for seen in endpoint.seen}
        assert bodies["max_tokens", "model", "prompt"] == {"model": "m", "prompt": "x", "max_tokens": 3}
        for args in ({}, {"messages": [], "stream": True}, {"prompt": "x", "extra_body": {}}):
            status, said = service.ask(
                "POST", "/v5/evaluations", {"name": "n", "data": ROWS, "tasks": [inference("a", **args)]}
            )
            assert (status, said["detail"][0]["loc"][:5]) == (422, ["body", "tasks", 0, "configuration", "args"])


@pytest.mark.long
def test_a_chat_completion_is_passed_on_within_the_limits_of_its_endpoint(tmp_path: Path) -> None:
    at_once, most = 0, 0

    async def count(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        text = body["messages"][0]["content"]
        if text == "limited":
            return web.json_response({"error": {"message": "not now"}}, status=429, headers={"Retry-After": "1"})
        return web.json_response(chat_answer(text) | {"own": 1})

    def said(text: Any, **more: Any) -> dict[str, Any]:
        return {"model": "v/m", "messages": [{"role": "user", "content": text}], **more}

    with Served(count) as endpoint, Running(tmp_path / "s", endpoint) as service:
        made = service.create([{"q": str(number)} for number in range(200)], chat())
        with ThreadPoolExecutor(24) as clients:
            asking = [
                clients.submit(service.ask, "POST", "/v5/chat/completions", said(f"{{{{item.q}}}} {n}", new=1))
                for n in range(40)
            ]
            answers = [one.result() for one in asking]
        assert [status for status, _ in answers] == [200] * 40
        assert answers[7][1]["choices"][0]["message"]["content"] == "{{item.q}} 7"
        assert answers[7][1]["own"] == 1
        service.ended(made["id"])
        assert most == 8, "the endpoint's concurrency is one for all"
        assert {"model": "m", "messages": [{"role": "user", "content": "{{item.q}} 7"}], "new": 1} in [
            one.body for one in endpoint.seen
        ]
        status, refused = service.ask("POST", "/v5/chat/completions", said("limited"))
        assert (status, refused["detail"]) == (429, "429 Too Many Requests: not now")
        sent = len(endpoint.seen)
        file = [{"type": "image_url", "image_url": {"url": "file:/etc/hostname"}}]
        for body in ({"model": "v/m"}, said("x", stream="yes"), said("x", n="two"), said(file), said("x") | {"model": "else"}):
            assert service.ask("POST", "/v5/chat/completions", body)[0] == 422
        assert len(endpoint.seen) == sent
        status, view = service.ask("GET", "/runner/status")
        assert (status, view["running"], view["endpoints"][0]["limit"]) == (200, 0, 8)
        assert len(list((service.path / "out").glob("eval_*"))) == 1, "nothing is kept of them"


def test_who_may_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_KEYS", "ann=one,bob@red=two")
    with Running(tmp_path / "s", more="keys_env: SERVICE_KEYS") as service:
        assert service.ask("GET", "/v5/evaluations")[0] == 401
        assert service.ask("GET", "/v5/evaluations", x_api_key="one")[0] == 200
        assert service.ask("GET", "/v5/evaluations", x_api_key="two")[0] == 403
        assert service.ask("GET", "/v5/evaluations", x_api_key="two", x_selected_account_id="red")[0] == 200
        assert service.ask("GET", "/v5/evaluations", x_api_key="one", Host="evil.example")[0] == 403
        _, made = service.ask("POST", "/v5/evaluations", {"name": "n", "data": [{"q": "one"}]}, x_api_key="one")
        path = f"/v5/evaluations/{made['id']}"
        assert service.ask("GET", path, x_api_key="two", x_selected_account_id="red")[0] == 404
        assert (made["status"], made["created_by"]["id"]) == ("completed", "ann")


def test_a_key_that_a_server_echoes_reaches_no_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_KEYS", "ann=of-a-client-1234")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-endpoint-1234")

    async def echo(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(chat_answer(f"{request.headers['Authorization']} of-a-client-1234"))

    with Served(echo) as endpoint, Running(tmp_path / "s", endpoint, "keys_env: SERVICE_KEYS") as service:
        service.key = "of-a-client-1234"
        made = service.create(ROWS[:1], chat())
        service.ended(made["id"])
        assert "1234" not in str(service.items(made["id"])[0]["data"])


def test_what_is_too_large_or_too_deep_is_refused(tmp_path: Path) -> None:
    with Running(tmp_path / "s", more="limits: {body: 10KiB}") as service:
        assert service.ask("POST", "/v5/evaluations", {"name": "n", "data": [{"q": "x" * 20_000}]})[0] == 413
        deep = b"[" * 4000 + b"]" * 4000
        for body in (b'{"name": "n", "metadata": {"a": %b}}' % deep, b'{"name": "n", "data": [{"a": %b}]}' % deep):
            assert service.ask("POST", "/v5/evaluations", body)[0] == 422
        half = b"[" * 150 + b"]" * 150
        for body in (
            b'{"name": "n", "metadata": {"a": %b}, "data": [{}]}' % half,
            b'{"name": "n", "data": [{"a": %b}]}' % half,
        ):
            assert service.ask("POST", "/v5/evaluations", body)[0] == 422
        assert service.ask("POST", "/v5/evaluations", b'{"name": "n", "data": [{"a": 1e999}]}')[0] == 422
        assert service.ask("POST", "/v5/evaluations", b'{"name": "n", "data": [{"a": "\xff"}]}')[0] == 422
        assert service.ask("GET", "/v5/models")[1]["items"][0]["id"] == "m"


def test_the_shipped_service_is_valid() -> None:
    shipped = load_service(Path(__file__).parents[1] / "configs" / "service.yaml", environment={})
    assert shipped.served("smollm2") == Asked("local", "smollm2")
    assert shipped.served("any/thing") == Asked("local", "any/thing")


def test_a_config_of_the_other_kind_is_told_with_its_command() -> None:
    configs = Path(__file__).parents[1] / "configs"
    with pytest.raises(runner.UsageError, match=r"is the config of an evaluation; `python -m runner \S*eval.yaml` runs it$"):
        load_service(configs / "eval.yaml", environment={})
    with pytest.raises(runner.UsageError, match=r"is the config of a service; `python -m runner serve \S*service.yaml`"):
        load_config(configs / "service.yaml", environment={})


def test_a_service_for_others_needs_keys(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(settings_text("http://127.0.0.1:1/v1", tmp_path, "listen: 0.0.0.0:80"))
    with pytest.raises(runner.UsageError, match="set `keys_env`"):
        load_service(file)


def test_tasks_of_one_evaluation_ask_different_endpoints(tmp_path: Path) -> None:
    async def judge(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(chat_answer(json.dumps({MEMBER: "Yes"})))

    settings = {"model": "j", "prompt": "Is {{item.r}} right?", "choices": ["Yes", "No"]}
    verdict = {"task_type": "auto_evaluation.guided_decoding", "alias": "ok", "configuration": settings}
    with Served(judge) as other, Running(tmp_path / "s", other=other.url) as service:
        made = service.create(ROWS, chat(), verdict)
        ended = service.ended(made["id"])
        assert ended["progress"]["items"]["successful"] == 3
        assert [item["data"]["ok"] for item in service.items(made["id"])] == ["Yes"] * 3
        assert len(other.seen) == 3
        assert {seen.body["model"] for seen in service.echo.seen} == {"m"}
        status, page = service.ask("GET", f"/e/{made['id']}/i/0")
        assert (status, f"{other.url}/chat/completions" in page) == (200, True)


def test_what_is_not_served_says_so_and_is_not_tried_again(running: Running) -> None:
    for method, path in (("GET", "/v5/rubrics"), ("PATCH", "/v5/evaluations/x/tasks/a")):
        status, said = running.ask(method, path, None if method == "GET" else {})
        assert (status, running.headers["x-should-retry"]) == (501, "false")
        assert "this service serves" in said["detail"]
    tasks = [{"task_type": "auto_evaluation.agent", "configuration": {}}]
    status, said = running.ask("POST", "/v5/evaluations", {"name": "n", "data": ROWS, "tasks": tasks})
    assert (status, said["detail"][:7]) == (501, "tasks.0")
    assert running.ask("GET", "/nothing")[0] == 404
    assert running.ask("POST", "/v5/evaluations", b"{")[1]["detail"][0]["type"] == "json_invalid"


def test_changes_archive_and_restore(running: Running) -> None:
    made = running.create(ROWS, metadata={"a": 1, "b": {"c": 2}})
    path = f"/v5/evaluations/{made['id']}"
    changed = running.ask("PATCH", path, {"name": "new", "metadata": {"a": None, "b": {"d": 3}}})[1]
    assert (changed["name"], changed["metadata"]) == ("new", {"b": {"c": 2, "d": 3}})
    assert running.ask("PATCH", path, {})[1] == changed
    assert running.ask("PATCH", path, {"restore": False})[0] == 422
    assert running.ask("DELETE", path)[1]["archived_at"] is not None
    assert running.ask("DELETE", path)[0] == 404
    assert running.ask("DELETE", path, x_stainless_retry_count="1")[0] == 200
    assert running.ask("GET", path)[0] == 404
    assert running.ask("GET", f"{path}?include_archived=true")[0] == 200
    assert running.ask("PATCH", path, {"name": "x"})[0] == 400
    assert running.ask("PATCH", path, {"restore": True})[1]["archived_at"] is None
    assert running.ask("GET", f"{path}?include_archived=perhaps")[0] == 422
    wanted = [{"key": "b", "operator": "!=", "value": "x"}, {"key": "status", "operator": "IN", "value": "completed,failed"}]
    found = running.ask("POST", "/v5/evaluations/filter", {"filters": wanted})[1]
    assert made["id"] in [one["id"] for one in found["items"]]
    assert running.ask("POST", "/v5/evaluations/filter", {"filters": [{**wanted[0], "operator": "=="}]})[1]["total"] == 0


def test_a_merge_patch_is_that_of_the_rfc() -> None:
    assert merged({"a": "b", "c": {"d": "e", "f": "g"}}, {"a": "z", "c": {"f": None}}) == {"a": "z", "c": {"d": "e"}}
    assert merged({"a": [1]}, {"a": {"b": {"c": None}}}) == {"a": {"b": {}}}


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("status", ["all", "passed", "failed"])
def test_pages_go_forth_and_back(running: Running, descending: bool, status: str) -> None:
    made = running.create([{"q": "x"} if number % 3 else {"a": "y"} for number in range(20)], chat("item.q"))
    running.ended(made["id"])
    query = f"&completion_status={status}&sort_order={'desc' if descending else 'asc'}"
    whole = [one["id"] for one in running.items(made["id"], query)]
    assert len(whole) == {"all": 20, "passed": 13, "failed": 7}[status]
    assert [int(one.rpartition(".")[2]) for one in whole] == sorted(
        (int(one.rpartition(".")[2]) for one in whole), reverse=descending
    )
    forth: list[str] = []
    while True:
        after = f"&starting_after={forth[-1]}" if forth else ""
        _, page = running.ask("GET", f"/v5/evaluation-items?evaluation_id={made['id']}{query}&limit=3{after}")
        assert page["total"] == len(whole)
        forth += [one["id"] for one in page["items"]]
        if not page["has_more"]:
            break
    assert forth == whole
    back = [whole[-1]]
    while True:
        _, page = running.ask("GET", f"/v5/evaluation-items?evaluation_id={made['id']}{query}&limit=3&ending_before={back[0]}")
        back = [one["id"] for one in page["items"]] + back
        if not page["has_more"]:
            break
    assert back == whole
    assert running.ask("GET", f"/v5/evaluation-items?evaluation_id={made['id']}&starting_after=x")[0] == 422
    assert running.ask("GET", f"/v5/evaluation-items?evaluation_id={made['id']}&limit=0")[0] == 422
    for limit in ("0000000010000000", "9" * 5000, "1e2", "٣"):
        assert running.ask("GET", f"/v5/evaluation-items?evaluation_id={made['id']}&limit={quote(limit)}")[0] == 422


def test_exports(running: Running) -> None:
    made = running.create([{"q": "x", "d": {"e": "=1+1"}}, {"a": 1}], chat("item.q"), files=[{"f": "a.txt"}, None])
    running.ended(made["id"])
    body = {"evaluation_id": made["id"]}
    _, direct = running.ask("POST", "/v5/evaluation-items/export", body)
    assert json.loads(direct["content"])[0]["data"]["r"] == "x"
    _, given = running.ask(
        "POST", "/v5/evaluation-items/export", {**body, "export_format": "csv", "export_method": "signed_url"}
    )
    status, text = running.ask("GET", given["signed_url"], x_api_key="")
    assert status == 200
    lines = text.splitlines()
    assert lines[0] == "id,q,d.e,r,files.f,a,r.error"
    assert lines[1] == f"{made['id']}.0,x,'=1+1,x,a.txt,,"
    assert running.ask("GET", given["signed_url"] + "0")[0] == 403
    _, rows = running.ask("POST", "/v5/evaluation-items/export", {**body, "export_format": "jsonl"})
    assert [json.loads(line)["id"] for line in rows["content"].splitlines()] == [f"{made['id']}.0", f"{made['id']}.1"]
    assert (running.path / "out" / ".secret").stat().st_mode & 0o777 == 0o600


def test_the_schema_names_what_items_hold(running: Running) -> None:
    made = running.create([{"q": "x", "d": {"e": 1}}, {"q": "y", "d": {"e": None}}], chat("item.q"))
    running.ended(made["id"])
    _, found = running.ask("GET", f"/v5/evaluations/{made['id']}/schema")
    shown = [(one["field_name"], one["data_type"], one["item_count"], one["source"]) for one in found["fields"]]
    assert shown == [
        ("d.e", "null", 1, "data"),
        ("d.e", "number", 1, "data"),
        ("q", "string", 2, "data"),
        ("r", "string", 2, "task_result_cache"),
    ]


def test_datasets_keep_their_versions(running: Running) -> None:
    _, made = running.ask("POST", "/v5/datasets", {"name": "d", "data": [{"q": "x"}, {"q": "y"}]})
    assert made["current_version_num"] == 1
    _, items = running.ask("GET", f"/v5/dataset-items?dataset_id={made['id']}")
    first, second = [one["id"] for one in items["items"]]
    assert running.ask("PATCH", f"/v5/dataset-items/{first}", {"data": {"q": "z"}})[1]["data"] == {"q": "z"}
    assert running.ask("GET", f"/v5/dataset-items/{first}?version=1")[1]["data"] == {"q": "x"}
    assert running.ask("DELETE", f"/v5/dataset-items/{second}")[1]["deleted"] is True
    assert running.ask("DELETE", f"/v5/dataset-items/{second}")[0] == 404
    assert running.ask("GET", f"/v5/dataset-items?dataset_id={made['id']}")[1]["total"] == 1
    assert running.ask("GET", f"/v5/dataset-items?dataset_id={made['id']}&version=2")[1]["total"] == 2
    assert running.ask("GET", f"/v5/dataset-items?dataset_id={made['id']}&version=9")[0] == 404
    batch = {"dataset_id": made["id"], "data": [{"q": "n"}], "files": []}
    assert running.ask("POST", "/v5/dataset-items/batch", batch)[0] == 422
    assert running.ask("POST", "/v5/datasets", {"name": "d", "data": [{"id": "x"}]})[0] == 422

    evaluation = {"name": "n", "dataset_id": made["id"], "tasks": [chat("{{item.q}}{{item.more}}")]}
    data = [{"dataset_item_id": first, "more": "!"}]
    status, made_of = running.ask("POST", "/v5/evaluations", {**evaluation, "data": data})
    assert status == 200, made_of
    running.ended(made_of["id"])
    item = running.items(made_of["id"])[0]
    assert (item["data"]["r"], item["dataset_item_id"], item["dataset_item_version_num"]) == ("z!", first, 3)
    assert running.ask("POST", "/v5/evaluations", {**evaluation, "data": [{"dataset_item_id": "no", "more": ""}]})[0] == 422

    assert running.ask("DELETE", f"/v5/datasets/{made['id']}")[0] == 200
    assert running.ask("DELETE", f"/v5/datasets/{made['id']}")[0] == 400
    assert running.ask("DELETE", f"/v5/datasets/{made['id']}", x_stainless_retry_count="1")[0] == 200
    assert running.ask("PATCH", f"/v5/datasets/{made['id']}", {"restore": True})[1]["archived_at"] is None


def test_a_retry_finds_what_its_first_attempt_made(running: Running) -> None:
    body = {"name": "twice", "data": ROWS}
    _, first = running.ask("POST", "/v5/evaluations", body, x_stainless_retry_count="0")
    assert running.ask("POST", "/v5/evaluations", body, x_stainless_retry_count="1")[1]["id"] == first["id"]
    assert running.ask("POST", "/v5/evaluations", body, x_stainless_retry_count="0")[1]["id"] != first["id"]
    _, keyed = running.ask("POST", "/v5/evaluations", body, Idempotency_Key="k1")
    assert running.ask("POST", "/v5/evaluations", body, Idempotency_Key="k1")[1]["id"] == keyed["id"]
    assert running.ask("POST", "/v5/evaluations", {**body, "name": "o"}, Idempotency_Key="k1")[0] == 422


def test_it_goes_on_where_it_was_drained_and_a_cancelled_one_fails(tmp_path: Path) -> None:
    gate, begun = threading.Event(), threading.Event()

    async def slow(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        begun.set()
        if body["messages"][0]["content"] != "0":
            await asyncio.to_thread(gate.wait, 10)
        return web.json_response(chat_answer("done"))

    rows = [{"q": str(number)} for number in range(40)]
    limits = "limits: {running: 1}"
    with Served(slow) as endpoint:
        with Running(tmp_path / "s", endpoint, limits) as service:
            made, waiting = service.create(rows, chat()), service.create(rows, chat())
            assert begun.wait(10)
            assert service.ask("POST", f"/runner/evaluations/{waiting['id']}/cancel")[0] == 200
            assert service.ask("POST", f"/runner/evaluations/{made['id']}/resume")[0] == 409
            threading.Timer(0.2, gate.set).start()
        with Running(tmp_path / "s", endpoint, limits) as service:
            ended, cancelled = service.ended(made["id"]), service.ended(waiting["id"])
            assert (ended["status"], ended["progress"]["items"]["successful"]) == ("completed", 40)
            assert (cancelled["status"], cancelled["status_reason"]) == ("failed", "cancelled by local")
            assert cancelled["progress"]["items"]["pending"] == 40
            assert service.ask("POST", f"/runner/evaluations/{waiting['id']}/resume")[0] == 200
            assert service.ended(waiting["id"])["status"] == "completed"
    asked = [seen.body["messages"][0]["content"] for seen in endpoint.seen]
    assert len(asked) == 80


@pytest.mark.long
def test_a_kill_costs_nothing_that_was_answered(tmp_path: Path) -> None:
    def start(url: str) -> tuple[subprocess.Popen[str], str]:
        file = tmp_path / "service.yaml"
        file.write_text(settings_text(url, tmp_path / "out", "listen: 127.0.0.1:0"))
        words = [sys.executable, "-m", "runner", "serve", str(file)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if "serving on " in line:
                return process, line.partition("serving on ")[2].partition(";")[0]
        raise AssertionError(process.wait())

    client = Running(tmp_path)
    with Served() as endpoint:
        process, client.url = start(endpoint.url)
        made = client.create([{"q": str(number)} for number in range(300)], chat())
        while len(endpoint.seen) < 100:
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        process, client.url = start(endpoint.url)
        ended = client.ended(made["id"])
        process.terminate()
        process.communicate()
        assert process.returncode == 0
    assert (ended["status"], ended["progress"]["items"]["successful"]) == ("completed", 300)
    results = runner.load(tmp_path / "out" / made["id"]).results
    assert sorted(map(int, results["output"])) == list(range(300))
    assert len(endpoint.seen) <= 308


@given(st.integers(1, 4), st.lists(st.sampled_from([0, ANSWERED, ANSWERED | FAILED, 4, 8]), max_size=40), st.integers(1, 12))
def test_items_stand_as_their_units_do(width: int, states: list[int], items: int) -> None:
    found = item_states(bytearray(states), width, items)
    padded = states + [0] * (items * width)
    for index in range(items):
        units = padded[index * width : (index + 1) * width]
        failed, done = any(unit & FAILED for unit in units), all(unit & ANSWERED for unit in units)
        assert (found.failed[index], found.successful[index]) == (failed, done and not failed)
    assert sum(found.counts) == items


def test_names_sort_as_they_were_given() -> None:
    names = [new_ulid() for _ in range(1000)]
    assert names == sorted(set(names))
    assert created_at(f"eval_{names[0]}").year >= 2026


def test_a_second_service_leaves_the_directory_of_the_first_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "service.yaml").write_text(settings_text("http://127.0.0.1:9/v1", tmp_path / "s"))
    settings = load_service(tmp_path / "service.yaml")
    half_made = Path(settings.output) / ".new-eval_1"
    half_made.mkdir(parents=True)
    first = RunDir(Path(settings.output))
    first.lock()
    with pytest.raises(RunDirError, match="is in use by"):
        serve(settings)
    first.unlock()
    assert half_made.exists()


def test_a_service_without_a_directory_says_so(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file")
    (tmp_path / "service.yaml").write_text(settings_text("http://127.0.0.1:9/v1", tmp_path / "s" / "below"))
    with pytest.raises(UsageError, match="`output` should be a directory"):
        serve(load_service(tmp_path / "service.yaml"))
