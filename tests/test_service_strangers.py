"""Clients who never read our documents: whatever they send, they are told what is wrong and where, in the API's shape."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runner.service.api import creation, reading
from tests.service import Running, chat, running_service
from tests.serving import Served

ROWS = [{"q": "one"}, {"q": "two"}]
NOT_TEXT: list[Any] = [7, True, [], ["a"], {}, {"a": 1}]
NO_OBJECT: list[Any] = [7, True, "x", [], ["a"]]


running = running_service()


def raw(running: Running, method: str, path: str, body: bytes = b"", *headers: tuple[str, str | bytes]) -> tuple[int, Any]:
    """Send bytes as they are, and headers that no library would send."""
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in dict(headers))
        for name, value in (("x-api-key", "k"), ("content-length", str(len(body))), *headers):
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("member", "values"), [("task_type", NOT_TEXT), ("alias", NOT_TEXT), ("configuration", NO_OBJECT)], ids=str
)
def test_a_member_of_a_task_has_its_type(running: Running, member: str, values: list[Any]) -> None:
    ended = running.create(ROWS)["id"]
    for value in values:
        task = {**chat(), member: value}
        status, said = running.ask("POST", "/v5/evaluations", {"name": "n", "data": ROWS, "tasks": [chat(alias="a"), task]})
        assert (status, said["detail"][0]["loc"]) == (422, ["body", "tasks", 1, member]), said
        status, said = running.ask("POST", f"/v5/evaluations/{ended}/tasks", {"task": task})
        assert (status, said["detail"][0]["loc"]) == (422, ["body", "task", member]), said


@pytest.mark.parametrize("missing", ["task_type", "configuration", "configuration.model", "configuration.messages"])
def test_what_is_missing_is_said_to_be(running: Running, missing: str) -> None:
    task = chat()
    within, _, name = missing.rpartition(".")
    del (task[within] if within else task)[name]
    _, said = running.ask("POST", "/v5/evaluations", {"name": "n", "data": ROWS, "tasks": [task]})
    assert [(one["loc"], one["type"]) for one in said["detail"]] == [(["body", "tasks", 0, *missing.split(".")], "missing")]


@pytest.mark.parametrize("number", ["1e999", "-1e400", "9" * 5000], ids=lambda text: text[:6])
@pytest.mark.parametrize("largest", [reading._LARGE, 100])
def test_a_number_that_no_file_can_hold_is_named(
    running: Running, monkeypatch: pytest.MonkeyPatch, largest: int, number: str
) -> None:
    monkeypatch.setattr(reading, "_LARGE", largest)
    body = b'{"name": "a name", "data": [{"q": 1}], "description": "%s", "metadata": {"m": %s}}' % (b"d" * 60, number.encode())
    status, said = running.ask("POST", "/v5/evaluations", body)
    assert (status, said["detail"][0]["loc"]) == (422, ["body", "metadata"])
    assert "out of range" in said["detail"][0]["msg"]


def test_a_body_is_what_its_headers_say(running: Running) -> None:
    body = b'{"name": "n", "data": [{"q": 1}]}'
    assert raw(running, "POST", "/v5/datasets", gzip.compress(body), ("content-encoding", "gzip"))[0] == 200
    status, said = raw(running, "POST", "/v5/datasets", body, ("content-encoding", "gzip"))
    assert (status, "Content-Encoding" in said["detail"]) == (400, True)


def test_a_body_that_says_it_is_too_long_is_not_waited_for(tmp_path: Path) -> None:
    head = b"POST /v5/datasets HTTP/1.1\r\nHost: localhost\r\nx-api-key: k\r\nContent-Length: 1001\r\n\r\n{"
    with Running(tmp_path / "s", more="limits: {body: 1000}") as service:
        place = urlsplit(service.url)
        with socket.create_connection((place.hostname, place.port), timeout=20) as client:
            client.sendall(head)
            assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_headers_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = b"\xff\xfe"
    body = json.dumps({"name": "n", "data": ROWS}).encode()
    with Served() as endpoint:
        with Running(tmp_path / "s", endpoint) as service:
            of_noise = ("x-selected-account-id", noise), ("Idempotency-Key", noise)
            made = raw(service, "POST", "/v5/evaluations", body, *of_noise)
        with Running(tmp_path / "s", endpoint) as service:  # a restart knows them as well
            assert raw(service, "POST", "/v5/evaluations", body, *of_noise)[1]["id"] == made[1]["id"]
            assert raw(service, "GET", "/v5/evaluations", b"", of_noise[0])[1]["total"] == 1
        monkeypatch.setenv("CLIENTS", "one=key-of-one")
        with Running(tmp_path / "s", endpoint, "keys_env: CLIENTS") as service:
            assert raw(service, "GET", "/v5/evaluations", b"", ("Authorization", b"Bearer \xff"))[0] == 401


def test_a_key_stands_for_one_body_also_while_that_is_being_made(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_go_on, make = threading.Event(), threading.Event(), creation.make_evaluation

    def slow(*args: Any) -> Any:
        begun.set()
        assert may_go_on.wait(20)
        return make(*args)

    monkeypatch.setattr(creation, "make_evaluation", slow)
    body = {"name": "n", "data": ROWS}
    with ThreadPoolExecutor(2) as clients:
        both = [clients.submit(running.ask, "POST", "/v5/evaluations", body, Idempotency_Key="of-one") for _ in range(2)]
        assert begun.wait(20)
        other = running.ask("POST", "/v5/evaluations", {**body, "name": "o"}, Idempotency_Key="of-one")
        may_go_on.set()
    assert (other[0], other[1]["detail"][0]["loc"]) == (422, ["header", "Idempotency-Key"])
    assert len({one.result()[1]["id"] for one in both}) == 1


@pytest.mark.parametrize(
    ("host", "status"), [("[::1]", 200), ("[::1]:5003", 200), ("localhost", 200), ("evil.example", 403), ("[::2]:80", 403)]
)
def test_only_names_of_this_machine_lead_here(running: Running, host: str, status: int) -> None:
    assert raw(running, "GET", "/v5/datasets", b"", ("Host", host))[0] == status


@pytest.mark.parametrize("largest", [reading._LARGE, 100])
def test_no_data_is_null_as_well(running: Running, monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    monkeypatch.setattr(reading, "_LARGE", largest)
    dataset = running.ask("POST", "/v5/datasets", {"name": "d" * 100, "data": ROWS})[1]["id"]
    body = {"name": "n" * 100, "data": None}
    assert running.ask("POST", "/v5/evaluations", body)[1]["detail"][0]["type"] == "missing"
    status, made = running.ask("POST", "/v5/evaluations", {**body, "dataset_id": dataset})
    assert (status, made["progress"]["items"]["total"]) == (200, 2)


def test_an_item_has_one_id_only(running: Running) -> None:
    dataset = running.ask("POST", "/v5/datasets", {"name": "d", "data": ROWS})[1]["id"]
    for number, status in (("0", 200), ("00", 404), ("1", 200), ("01", 404), ("+1", 404), ("2", 404), ("9" * 30, 404)):
        assert running.ask("GET", f"/v5/dataset-items/{dataset}.{number}")[0] == status
    path = f"/v5/dataset-items/{dataset}.0?version="
    assert [running.ask("GET", path + text)[0] for text in ("1", "01", "2", "00000000011", "9" * 30, "x")] == [
        *(200, 200, 404, 404, 404, 422)
    ]


@pytest.mark.parametrize("text", ["{% if x %}", "{{", "{{ foo }}", "{# c #}", "{{ item.q }}", "item.q", "{% raw %}"])
def test_a_chat_is_passed_on_as_it_is(running: Running, text: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    status, answered = running.ask("POST", "/v5/chat/completions", body)
    assert (status, answered["choices"][0]["message"]["content"]) == (200, text)


def test_a_mistake_of_a_row_has_the_place_of_that_row(running: Running) -> None:
    dataset = running.ask("POST", "/v5/datasets", {"name": "d", "data": ROWS})[1]["id"]
    for more, wrong in (
        ({"dataset_id": dataset}, {"dataset_item_id": "no"}),
        ({"dataset": {"name": "d"}}, {"id": 1}),
    ):
        _, said = running.ask("POST", "/v5/evaluations", {"name": "n", "data": [7, wrong, 8], **more})
        assert [one["loc"][:3] for one in said["detail"]] == [["body", "data", number] for number in range(3)]
    _, said = running.ask("POST", "/v5/datasets", {"name": "n", "data": [7, {"id": 1}, 8], "files": [{}]})
    assert [one["loc"] for one in said["detail"]] == [
        *(["body", "data", 0], ["body", "data", 1, "id"], ["body", "data", 2], ["body", "files"])
    ]
    _, said = running.ask("POST", "/v5/datasets", {"name": "n", "data": [7] * 1000})
    assert len(said["detail"]) == 100
