"""Chat completions that the service passes on as streams: as they come, within the limits, and to nobody who has gone."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from tests.service import Running
from tests.serving import Answer, Served, chat_answer

SECRET = "sk-of-the-endpoint-1234"
COMMENT = b": a comment\n\n"


def piece(text: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"role": "assistant", "content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


END = piece(finish_reason="stop") + b"data: [DONE]\n\n"


async def stream(request: web.Request, *pieces: bytes) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for one in pieces:
        await answer.write(one)
    return answer


@contextmanager
def asked(service: Running, text: Any = "x", **more: Any) -> Iterator[http.client.HTTPResponse]:
    body = {"model": "v/m", "messages": [{"role": "user", "content": text}], "stream": True, **more}
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
    connection.request("POST", "/v5/chat/completions", json.dumps(body), {"x-api-key": "k", "content-type": "application/json"})
    try:
        yield connection.getresponse()
    finally:
        connection.close()


class Upstream:
    """An endpoint that streams one word, then waits until it may go on; it knows who has gone."""

    def __init__(self) -> None:
        self.may_go_on, self.gone, self.begun = threading.Event(), threading.Event(), threading.Event()
        self.at_once = self.most = 0

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.begun.set()
        try:
            if body["messages"][0]["content"] == "silent":
                return await self._wait(request, web.StreamResponse())
            answer = await stream(request, COMMENT, piece("first"))
            if body["messages"][0]["content"] == "fast":
                await asyncio.sleep(0.01)
            else:
                await self._wait(request, answer)
            await answer.write(piece(f" second {SECRET}") + END)
            return answer
        finally:
            self.at_once -= 1

    async def _wait(self, request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
        while not self.may_go_on.is_set():
            await asyncio.sleep(0.01)
            if request.transport is None:
                self.gone.set()
                raise ConnectionResetError
        return answer


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def service(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with Served(upstream.answer) as endpoint, Running(tmp_path / "s", endpoint) as running:
        yield running


def test_events_are_passed_on_as_they_come_and_nothing_is_kept(upstream: Upstream, service: Running) -> None:
    with asked(service, stream_options={"include_usage": False}) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        began = answer.read1(len(COMMENT)) + answer.readline()
        assert began == COMMENT + piece("first")[:-1], "the answer is not whole yet"
        upstream.may_go_on.set()
        rest = answer.read()
    assert rest == b"\n" + (piece(f" second {SECRET}") + END).replace(SECRET.encode(), b"[redacted]")
    assert service.echo.seen[0].body["stream_options"] == {"include_usage": False}
    assert service.echo.seen[0].body["model"] == "m"
    assert not list((service.path / "out").glob("eval_*"))


def test_streams_keep_to_the_concurrency_of_their_endpoint(upstream: Upstream, service: Running) -> None:
    def ask(_number: int) -> bytes:
        with asked(service, "fast") as answer:
            return answer.read()

    with ThreadPoolExecutor(20) as clients:
        assert all(b"second" in one for one in clients.map(ask, range(40)))
    assert 1 < upstream.most <= 8


@pytest.mark.parametrize("text", ["silent", "slow"])
def test_a_client_that_goes_away_ends_the_request(upstream: Upstream, service: Running, text: str) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "stream": True}).encode()
    address = urlsplit(service.url)
    head = f"POST /v5/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\nx-api-key: k\r\n"
    with socket.create_connection((address.hostname, address.port), 10) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert upstream.begun.wait(10)
    assert upstream.gone.wait(10)
    upstream.may_go_on.set()
    with asked(service) as answer:
        assert answer.read().endswith(b"data: [DONE]\n\n"), "its slot is free again"


async def busy(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"error": {"message": f"not now, {SECRET}"}}, status=429, headers={"Retry-After": "1"})


async def whole(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(chat_answer("not streamed"))


async def broken(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    answer = await stream(request, piece("half"), b'data: {"torn')
    assert request.transport is not None
    request.transport.abort()
    return answer


async def erring(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return await stream(request, piece("half"), b'data: {"error": {"message": "out of memory"}}\n\n')


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (busy, 429, {"detail": "429 Too Many Requests: not now, [redacted]"}),
        (whole, 200, chat_answer("not streamed")),
    ],
)
def test_what_is_no_stream_is_the_answer_that_it_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, status: int, said: Any
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with Served(answer) as endpoint, Running(tmp_path / "s", endpoint) as service, asked(service) as found:
        assert (found.status, json.loads(found.read())) == (status, said)
        assert len(endpoint.seen) == 1


def test_a_chat_may_have_a_picture_of_some_megabytes(tmp_path: Path) -> None:
    picture = "data:image/png;base64," + "A" * 3_000_000
    content: Any = [{"type": "image_url", "image_url": {"url": picture}}]
    with Served(whole) as endpoint, Running(tmp_path / "s", endpoint) as service, asked(service, content) as found:
        assert found.status == 200, found.read()
    assert endpoint.seen[0].body["messages"][0]["content"] == content


@pytest.mark.parametrize(("answer", "said"), [(broken, "broke off"), (erring, "out of memory")])
def test_a_stream_that_breaks_off_ends_with_why(tmp_path: Path, answer: Answer, said: str) -> None:
    with Served(answer) as endpoint, Running(tmp_path / "s", endpoint) as service, asked(service) as found:
        events = found.read().split(b"\n\n")
    assert events[0] + b"\n\n" == piece("half")
    assert said in json.loads(events[-2].removeprefix(b"data: "))["error"]["message"]
    assert b"[DONE]" not in b"".join(events)


@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_stream_has_its_end_before_the_service_has(upstream: Upstream, service: Running, is_dropped: bool) -> None:
    with asked(service) as answer:
        assert answer.readline() == COMMENT[:-1]
        service.stop()
        if is_dropped:
            service.call(service.service.supervisor.drop)
        else:
            threading.Timer(0.5, upstream.may_go_on.set).start()
        rest = answer.read()
    assert (b"[DONE]" in rest, b"the service is going down" in rest) == (not is_dropped, is_dropped)
