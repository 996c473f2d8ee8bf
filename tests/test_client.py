"""The client and its transport over real sockets: what goes onto the wire, and what each fault of a server becomes.

Most servers here are raw: they send bytes that no HTTP library would. Whatever aiohttp makes of them must become one of the
run's own kinds of error, with a message that names the place and never the key.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import ssl
import struct
import subprocess
import warnings
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any, Self

import pytest
from aiohttp import web

from runner.config.loading import load_config
from runner.endpoint import client as client_module
from runner.endpoint import connect
from runner.endpoint.client import ChatClient
from runner.endpoint.connect import env_proxy
from runner.endpoint.http.aiohttp_session import AiohttpTransport
from runner.endpoint.http.http1 import Http1Transport
from runner.endpoint.http.timeouts import AttemptTimer, Timeouts
from runner.endpoint.http.transport import Call, Transport
from runner.endpoint.pacing.rate_limiter import RateLimiter, limited
from runner.endpoint.pacing.slots import Slots
from runner.errors import AttemptError, ConfigError
from runner.evaluation import prepare
from runner.types import Attempt, ErrorType, Response
from tests.plain_requests import request
from tests.serving import Served, chat_answer, echo

KEY = "sk-CANARY-123"
PATIENT = Timeouts(first_byte=20, idle=20, total=20)
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
ANSWER = b'{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}'

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Carrier:
    """Who carries what needs neither TLS nor a proxy: both must do the same with it."""

    kind: str = "plain"


_carrier = Carrier()


@pytest.fixture(autouse=True, params=["plain", "session"])
def _each_carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_carrier, "kind", request.param)


@dataclass
class Raw:
    """A server on 127.0.0.1 that reads requests and does to each what `script` says; it counts connections."""

    script: Script
    tls: ssl.SSLContext | None = None
    reads_requests: bool = True
    requests: list[bytes] = field(default_factory=list)
    accepted: int = 0
    open: int = 0
    most_open: int = 0
    #: Set when the other side has closed a connection.
    left: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.left.set()
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            if self.reads_requests:
                self.requests.append(await read_request(reader))
            await self.script(reader, writer)
            await writer.drain()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head + (await reader.readexactly(int(lengths[0])) if lengths else b"")


def reply(body: bytes = ANSWER, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sending(data: bytes, *, close: bool = False) -> Script:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            await writer.drain()
            writer.close()

    return script


def resetting(data: bytes = b"") -> Script:
    """Send something and break the connection with an RST."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.05)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return script


def standing_still(data: bytes = b"") -> Script:
    """Send something, and then nothing until the other side leaves."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await reader.readexactly(1)

    return script


def dripping(data: bytes = b"", drop: bytes = b" ") -> Script:
    """Send something, and then a byte each 30 ms, for ever."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.03)

    return script


def attempt(content: bytes = BODY) -> Attempt:
    return Attempt(request(content=content), 1)


@asynccontextmanager
async def client_of(
    url: str,
    *,
    timeouts: Timeouts = PATIENT,
    headers: dict[str, str] | None = None,
    connections: int = 4,
    connect_timeout: float = 20,
    verify: bool | str = True,
    proxy: str | None = None,
) -> AsyncIterator[ChatClient]:
    transport: Transport
    if url.startswith("http:") and proxy is None and _carrier.kind == "plain":
        transport = Http1Transport(connections=connections, connect_timeout=connect_timeout)
    else:
        transport = AiohttpTransport(connections=connections, connect_timeout=connect_timeout, verify=verify, proxy=proxy)
    try:
        yield ChatClient(transport, base_url=url, headers=headers or {"Authorization": f"Bearer {KEY}"}, timeouts=timeouts)
    finally:
        await transport.close()


async def ask(url: str, **options: Any) -> Response | AttemptError:
    """Make one attempt; return what came of it. Whatever it is, the attempt says when and how long."""
    asked = attempt()
    async with client_of(url, **options) as client:
        try:
            answer: Response | AttemptError = await client.send(asked)
        except AttemptError as error:
            answer = error
    assert KEY not in repr(answer)
    assert asked.sent_at is not None
    assert asked.wire_s > 0
    return answer


async def failed(url: str, **options: Any) -> AttemptError:
    answer = await ask(url, **options)
    assert isinstance(answer, AttemptError), answer
    return answer


# --- what goes onto the wire ---

CONFIG = """
name: wire
data: [{{n: 1}}]
endpoint:
  base_url: "{url}"
{endpoint}
tasks:
  - task_type: chat_completion
    configuration:
      top_p: 0.95
      model: m
      messages: [{{role: user, content: "ü {{{{item.n}}}}"}}]
      temperature: 1
      seed: item.n
      extra_body: {{top_k: 20, guided: {{b: null, a: 1.50}}}}
output: "{output}"
"""


def write_config(folder: Path, url: str, endpoint: str = "") -> Path:
    path = folder / "c.yaml"
    path.write_text(CONFIG.format(url=url, endpoint=endpoint, output=folder / "results"), encoding="utf-8")
    return path


def test_a_run_sends_exactly_what_the_config_names(tmp_path: Path) -> None:
    with Served() as server:
        report = prepare(write_config(tmp_path, server.url), environment={"OPENAI_API_KEY": KEY}).run()
    assert (report.results, report.errors) == (1, 0)
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    assert list(seen.body.items()) == [
        ("top_p", 0.95),
        ("model", "m"),
        ("messages", [{"role": "user", "content": "ü 1"}]),
        ("temperature", 1),
        ("seed", 1),
        ("top_k", 20),
        ("guided", {"b": None, "a": 1.5}),
    ]
    assert seen.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("endpoint", "environment", "expected"),
    [
        ("", {}, {"user-agent": "runner", "content-type": "application/json"}),
        ("", {"OPENAI_API_KEY": KEY}, {"authorization": f"Bearer {KEY}"}),
        ("", {"OPENAI_API_KEY": f" {KEY}\n"}, {"authorization": f"Bearer {KEY}"}),
        ("  api_key_env: MY_KEY", {"OPENAI_API_KEY": "sk-other", "MY_KEY": KEY}, {"authorization": f"Bearer {KEY}"}),
        # A header of one's own goes instead, in whatever case it is written; there is never a second one of the name.
        ("  headers: {authorization: Basic x}", {"OPENAI_API_KEY": KEY}, {"authorization": "Basic x"}),
        ("  headers: {USER-AGENT: me/1.0, X-Team: evals}", {}, {"user-agent": "me/1.0", "x-team": "evals"}),
        ("  headers: {content-type: application/x-me}", {}, {"content-type": "application/x-me"}),
        ("  headers: {api-key: '${MY_KEY}'}", {"MY_KEY": KEY}, {"api-key": KEY}),
    ],
)
async def test_headers(tmp_path: Path, endpoint: str, environment: dict[str, str], expected: dict[str, str]) -> None:
    async with Raw(sending(reply())) as server:
        config, _ = load_config(write_config(tmp_path, server.url, endpoint), environment=environment)
        transport = connect.transport_of(config, environment)
        try:
            await connect.client_of(config, transport, connect.headers_of(config, environment)).send(attempt())
        finally:
            await transport.close()
    (raw,) = server.requests
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
    names = [name.lower() for name, _, _ in lines]
    found = {name.lower(): value for name, _, value in lines}
    assert len(names) == len(set(names))
    assert {name: found.get(name) for name in expected} == expected
    assert ("authorization" in found) == ("authorization" in expected)
    assert found["host"] == f"127.0.0.1:{server.port}"
    assert found["content-length"] == str(len(BODY))
    assert body == BODY
    assert not {"cookie", "expect", "transfer-encoding"} & set(names)


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")  # aiohttp's, from 1 MiB on
@pytest.mark.parametrize("content", [BODY, b'{ "b": 1.0,\n "a": "\xc3\xbc\\u00fc" }', b'{"big":"' + b"x" * 3_000_000 + b'"}'])
async def test_the_body_goes_out_byte_by_byte_as_it_was_encoded(content: bytes) -> None:
    async with Raw(sending(reply())) as server, client_of(server.url) as client:
        await client.send(attempt(content))
    assert server.requests[0].endswith(b"\r\n\r\n" + content)


@pytest.mark.parametrize(
    ("below_host", "target"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/openai/v1?api-version=2024-10-21", "/openai/v1/chat/completions?api-version=2024-10-21"),
        ("/v1?a=b%2Fc&a=%C3%BC+&q", "/v1/chat/completions?a=b%2Fc&a=%C3%BC+&q"),
        ("/a%2Fb/v1", "/a%2Fb/v1/chat/completions"),
    ],
)
async def test_path_and_query_of_the_base_url_are_kept(below_host: str, target: str) -> None:
    async with Raw(sending(reply())) as server:
        url = server.url.removesuffix("/v1") + below_host
        assert isinstance(await ask(url), Response)
    assert server.requests[0].startswith(f"POST {target} HTTP/1.1\r\n".encode())


async def test_a_cookie_that_a_server_sets_is_not_sent_back() -> None:
    async with Raw(sending(reply(ANSWER, "Set-Cookie: a=b; Path=/"))) as server, AsyncExitStack() as stack:
        # By its name: for a bare address no cookie would be kept anyway.
        client = await stack.enter_async_context(client_of(server.url.replace("127.0.0.1", "localhost")))
        await client.send(attempt())
        await client.send(attempt())
    assert len(server.requests) == 2
    assert b"ookie" not in server.requests[1]


async def test_the_time_on_the_wire_is_the_answers_latency() -> None:
    asked = attempt()
    async with Raw(sending(reply())) as server, client_of(server.url) as client:
        response = await client.send(asked)
    assert response.latency_s == asked.wire_s > 0


# --- answers in odd clothes ---


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(reply(ANSWER, "Content-Type: application/json; charset=utf-8"), id="usual"),
        pytest.param(reply(ANSWER), id="no type"),
        pytest.param(reply(ANSWER, "Content-Type: text/plain"), id="plain text"),
        pytest.param(reply(ANSWER, "Content-Type: text/html"), id="html"),
        pytest.param(reply(ANSWER, "Content-Type: text/event-stream"), id="said to be a stream"),
        pytest.param(reply(gzip.compress(ANSWER), "Content-Encoding: gzip"), id="gzip"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + ANSWER, id="until close"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER, id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"1\r\n%c\r\n" % byte for byte in ANSWER)
            + b"0\r\n\r\n",
            id="a byte a chunk",
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + reply(), id="100 first"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: gzip\r\n\r\n" + reply(), id="103 with headers first"),
        pytest.param(reply(ANSWER, "Content-Encoding: identity\r\nContent-Encoding: gzip"), id="a header twice"),
    ],
)
async def test_an_answer_is_read_however_it_is_sent(data: bytes) -> None:
    async with Raw(sending(data, close=True)) as server:
        answer = await ask(server.url)
    assert isinstance(answer, Response), answer
    assert (answer.output, answer.finish_reason) == ("ok", "stop")
    assert answer.body == ANSWER.decode()


async def test_a_stream_that_was_not_asked_for_is_understood() -> None:
    events = b'data: {"choices":[{"index":0,"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    async with Raw(sending(reply(events, "Content-Type: text/event-stream"))) as server:
        answer = await ask(server.url)
    assert isinstance(answer, Response)
    assert answer.output == "ok"


# --- refusals ---


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_redirects_are_not_followed(status: str) -> None:
    """Followed, a 302 turns a POST into a GET, and a page with status 200 looks fine."""
    async with Raw(sending(reply())) as elsewhere, Raw(sending(b"")) as server:
        server.script = sending(reply(b"", f"Location: {elsewhere.url}/x?token=t", status=status))
        error = await failed(server.url)
    assert (len(server.requests), elsewhere.accepted) == (1, 0)
    assert (error.failure.error_type, error.retry, error.stops_run) == (ErrorType.REQUEST, False, "first")
    assert f"{status} to {elsewhere.url}/x (redirects are not followed" in error.failure.message


async def test_a_refusal_carries_status_words_and_the_wish_to_wait() -> None:
    data = reply(b'{"error":{"message":"slow down"}}', "Retry-After: 7", "X-Other: 1", status="429 Too Many Requests")
    async with Raw(sending(data)) as server:
        error = await failed(server.url)
    failure = error.failure
    assert (failure.error_type, failure.status_code, failure.retry_after_s) == (ErrorType.RATE_LIMIT, 429, 7.0)
    assert failure.message == "429 Too Many Requests: slow down"


# --- timeouts, by phase ---

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("script", "timeouts", "phase"),
    [
        pytest.param(standing_still(), Timeouts(first_byte=0.15, idle=20, total=20), "first_byte", id="silence"),
        pytest.param(
            standing_still(b"HTTP/1.1 200 OK\r\nX-"),
            Timeouts(first_byte=0.15, idle=20, total=20),
            "first_byte",
            id="half a head",
        ),
        pytest.param(
            dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"l"),
            Timeouts(first_byte=0.15, idle=20, total=20),
            "first_byte",
            id="a head that never ends",
        ),
        pytest.param(standing_still(HEAD), Timeouts(first_byte=20, idle=0.15, total=20), "idle", id="a head and silence"),
        pytest.param(standing_still(HEAD + b"{"), Timeouts(first_byte=20, idle=0.15, total=20), "idle", id="half a body"),
        pytest.param(dripping(HEAD), Timeouts(first_byte=20, idle=10, total=0.4), "total", id="a body by drops"),
        pytest.param(standing_still(), Timeouts(first_byte=20, idle=20, total=0.15), "total", id="total before first byte"),
        pytest.param(standing_still(HEAD), Timeouts(first_byte=20, idle=20, total=0.15), "total", id="total before idle"),
    ],
)
async def test_a_timeout_names_its_phase_and_closes_the_connection(script: Script, timeouts: Timeouts, phase: str) -> None:
    async with Raw(script) as server, client_of(server.url, timeouts=timeouts) as client:
        with pytest.raises(AttemptError) as raised:
            await client.send(attempt())
        failure = raised.value.failure
        seconds = getattr(timeouts, phase)
        assert (failure.error_type, raised.value.retry, raised.value.stops_run) == (ErrorType.TIMEOUT, True, None)
        assert failure.message.startswith(f"{phase}: ")
        assert f"within {seconds:g} s (endpoint.timeout.{phase})" in failure.message
        assert failure.status_code is None
        # The server must not go on working for nobody: the connection is closed while the session is still open.
        await asyncio.wait_for(server.left.wait(), 10)
        assert server.open == 0


def test_the_phase_is_right_on_a_loop_with_coarse_time() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def phases() -> set[str]:
        async with Raw(standing_still()) as server:
            limits = [Timeouts(first_byte=20, idle=20, total=0.01 + n * 0.0003) for n in range(30)]
            errors = [await failed(server.url, timeouts=timeouts) for timeouts in limits]
        return {error.failure.message.partition(":")[0] for error in errors}

    assert uvloop.run(phases()) == {"total"}


async def test_data_that_comes_puts_the_end_off() -> None:
    """Ten pieces, 60 ms apart, are a second and a half of idle time together, but no single silence is that long."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b"", length=len(ANSWER)))
        for start in range(0, len(ANSWER), 7):
            writer.write(ANSWER[start : start + 7])
            await writer.drain()
            await asyncio.sleep(0.06)

    async with Raw(script) as server:
        answer = await ask(server.url, timeouts=Timeouts(first_byte=20, idle=0.45, total=20))
    assert isinstance(answer, Response)


async def test_a_tls_server_that_is_silent_is_a_connect_timeout() -> None:
    async with Raw(standing_still(), reads_requests=False) as server:
        error = await failed(server.url.replace("http:", "https:"), connect_timeout=0.2)
    assert (error.failure.error_type, error.retry) == (ErrorType.TIMEOUT, True)
    assert error.failure.message.startswith(f"connect: no connection to 127.0.0.1:{server.port}")
    assert "scheme" in error.failure.message


async def test_a_cancelled_attempt_closes_the_connection() -> None:
    came = asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.readexactly(1)

    async with Raw(script) as server, client_of(server.url) as client:
        task = asyncio.create_task(client.send(attempt()))
        await asyncio.wait_for(came.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.left.wait(), 10)


async def test_attempts_one_after_the_other_share_a_timer_however_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer stays until it would have fired: one for each attempt would be a million of them in ten minutes."""
    made: list[AttemptTimer] = []

    class Noted(AttemptTimer):
        def __init__(self, limits: Timeouts) -> None:
            super().__init__(limits)
            made.append(self)

    monkeypatch.setattr("runner.endpoint.client.AttemptTimer", Noted)
    came = asyncio.Event()
    scripts = iter([sending(reply()), standing_still(), sending(reply(status="500 Oops")), standing_still(), sending(reply())])

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await next(scripts)(reader, writer)

    limits = Timeouts(first_byte=0.3, idle=20, total=20)
    async with Raw(script) as server, client_of(server.url, timeouts=limits) as client:
        await client.send(attempt())
        for _ in range(2):
            with pytest.raises(AttemptError):
                await client.send(attempt())
        came.clear()
        task = asyncio.create_task(client.send(attempt()))
        await asyncio.wait_for(came.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.send(attempt())
    assert len(made) == 1


# --- no connection ---


async def test_a_refused_connection() -> None:
    async with Raw(standing_still()) as server:
        pass
    error = await failed(server.url)
    assert (error.failure.error_type, error.retry, error.stops_run) == (ErrorType.CONNECT, True, "first")
    assert error.failure.message.startswith(f"127.0.0.1:{server.port}: no connection: ")


async def test_a_name_that_does_not_resolve() -> None:
    async with client_of("http://host.invalid:8000/v1?key=secret") as client:
        with pytest.raises(AttemptError) as raised:
            await client.send(attempt())
    error = raised.value
    assert (error.failure.error_type, error.retry, error.stops_run) == (ErrorType.CONNECT, True, "first")
    assert error.failure.message.startswith("host.invalid:8000: the name cannot be resolved: ")
    assert "secret" not in error.failure.message


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        pytest.param(sending(b"", close=True), ErrorType.CONNECT, "closed before an answer came", id="close"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\nConte", close=True), ErrorType.CONNECT, "closed before", id="half a head"),
        pytest.param(resetting(), ErrorType.CONNECT, "the connection broke: Connection reset by peer", id="reset"),
        pytest.param(resetting(HEAD + b'{"cho'), ErrorType.INVALID_RESPONSE, "broke off", id="reset in the body"),
        pytest.param(sending(HEAD + ANSWER[:-1], close=True), ErrorType.INVALID_RESPONSE, "broke off", id="body cut short"),
        pytest.param(
            sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}   \r\n", close=True),
            ErrorType.INVALID_RESPONSE,
            "broke off",
            id="chunks without an end",
        ),
        pytest.param(
            sending(reply(gzip.compress(ANSWER)[:10] + b"\xff" * 20, "Content-Encoding: gzip")),
            ErrorType.INVALID_RESPONSE,
            "body broke off or is damaged",
            id="no gzip",
        ),
        pytest.param(
            sending(reply(gzip.compress(ANSWER)[:-12], "Content-Encoding: gzip")),
            ErrorType.INVALID_RESPONSE,
            "",
            id="half a gzip",
        ),
        pytest.param(sending(b"SSH-2.0-OpenSSH_9.6\r\n"), ErrorType.INVALID_RESPONSE, "does not speak HTTP", id="SSH"),
        pytest.param(sending(b"HTTP/1.1 abc\r\n\r\n"), ErrorType.INVALID_RESPONSE, "does not speak HTTP", id="no status"),
        pytest.param(sending(b"\x00\x01\x02\xff" * 20), ErrorType.INVALID_RESPONSE, "does not speak HTTP", id="garbage"),
        pytest.param(
            sending(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
            ErrorType.INVALID_RESPONSE,
            "does not speak HTTP",
            id="two lengths",
        ),
        pytest.param(
            sending(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n"),
            ErrorType.INVALID_RESPONSE,
            "does not speak HTTP",
            id="a header of 20 KB",
        ),
    ],
)
async def test_a_broken_answer_is_tried_again_and_is_no_status(script: Script, kind: ErrorType, message: str) -> None:
    """For what is no HTTP, aiohttp makes up a status 400; a 400 would not be tried again."""
    async with Raw(script) as server:
        error = await failed(server.url)
    assert (error.failure.error_type, error.retry, error.stops_run) == (kind, True, None)
    assert message in error.failure.message
    assert error.failure.status_code in {None, 200}
    assert len(error.failure.message) < 500
    assert "xxx" not in error.failure.message  # a header may hold what was sent


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(sending(HEAD + ANSWER, close=True), id="closed"),
        pytest.param(resetting(HEAD + ANSWER), id="reset"),
        pytest.param(standing_still(HEAD + ANSWER), id="silence"),
        pytest.param(dripping(HEAD + ANSWER), id="white space by drops"),
        pytest.param(
            sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(ANSWER), ANSWER), close=True),
            id="chunks without an end",
        ),
        pytest.param(sending(reply(gzip.compress(ANSWER)[:-8], "Content-Encoding: gzip")), id="gzip without its end"),
    ],
)
async def test_an_answer_whose_json_came_whole_is_kept_though_its_body_has_no_end(script: Script) -> None:
    async with Raw(script) as server:
        answer = await ask(server.url, timeouts=Timeouts(first_byte=20, idle=0.2, total=0.6))
    assert isinstance(answer, Response), answer
    assert answer.output == "ok"


REFUSED = b"HTTP/1.1 429 Wait\r\nRetry-After: 7\r\nContent-Length: 500\r\n"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(sending(REFUSED + b'\r\n{"error":', close=True), id="closed"),
        pytest.param(resetting(REFUSED + b'\r\n{"error":'), id="reset"),
        pytest.param(standing_still(REFUSED + b"\r\n"), id="silence"),
        pytest.param(dripping(REFUSED + b"\r\n"), id="drip"),
        pytest.param(sending(REFUSED + b"Content-Encoding: br\r\n\r\n\x0b\x02\x80ok\x03", close=True), id="br"),
        pytest.param(sending(REFUSED + b"Content-Encoding: deflate\r\n\r\n<html>", close=True), id="not as packed as it says"),
    ],
)
async def test_a_status_counts_though_its_words_cannot_be_read(script: Script) -> None:
    async with Raw(script) as server:
        error = await failed(server.url, timeouts=Timeouts(first_byte=20, idle=0.4, total=20))
    failure = error.failure
    assert (failure.error_type, failure.status_code, failure.retry_after_s) == (ErrorType.RATE_LIMIT, 429, 7)
    assert (error.retry, error.once, error.stops_run) == (True, False, None)


async def test_a_body_longer_than_it_says_costs_only_its_own_connection() -> None:
    async with Raw(sending(reply(ANSWER + b"and more", length=len(ANSWER)))) as server, client_of(server.url) as client:
        for _ in range(3):
            with suppress(AttemptError):
                assert (await client.send(attempt())).output == "ok"


# --- TLS ---


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for a host, and its key."""

    path: Path
    key: Path

    def server_side(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context


def certificate(folder: Path, name: str) -> Certificate:
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("a certificate is made with the openssl command, which is not here")
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={name}"]
    files = ["-keyout", str(made.key), "-out", str(made.path)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True, timeout=50)
    return made


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


async def test_a_certificate_that_nobody_vouches_for_ends_the_run(own_certificate: Certificate) -> None:
    async with Raw(sending(reply()), tls=own_certificate.server_side()) as server:
        error = await failed(server.url)
    assert (error.failure.error_type, error.retry, error.stops_run) == (ErrorType.CONNECT, False, "first")
    assert "bad TLS certificate: self" in error.failure.message
    assert "`endpoint.verify`" in error.failure.message
    assert server.requests == []


@pytest.mark.long
def test_a_tls_connection_that_is_dropped_is_closed_before_its_loop_ends(own_certificate: Certificate) -> None:
    """A goodbye waits for what the server still sends; nobody is there for it, and the socket would be left open."""

    async def endless(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):
            while True:
                await answer.write(b" " * (1 << 20))
        return answer

    async def drop(url: str) -> None:
        transport = AiohttpTransport(connections=1, connect_timeout=20, verify=str(own_certificate.path))
        answer = await transport.send(Call(url=f"{url}/chat/completions", headers={}, content=b"{}"))
        answer.close()
        await transport.close()

    with warnings.catch_warnings(record=True) as said, Served(endless, tls=own_certificate.server_side()) as server:
        warnings.simplefilter("always")
        asyncio.run(drop(server.url))
        gc.collect()
    assert [str(one.message) for one in said if issubclass(one.category, ResourceWarning)] == []


@pytest.mark.parametrize("how", ["not verified", "its own bundle"])
async def test_verify(own_certificate: Certificate, how: str) -> None:
    verify: bool | str = False if how == "not verified" else str(own_certificate.path)
    async with Raw(sending(reply()), tls=own_certificate.server_side()) as server:
        answer = await ask(server.url, verify=verify)
    assert isinstance(answer, Response), answer


async def test_a_certificate_of_another_host(tmp_path: Path) -> None:
    other = certificate(tmp_path, "DNS:other.example")
    async with Raw(sending(reply()), tls=other.server_side()) as server:
        error = await failed(server.url, verify=str(other.path))
    assert (error.failure.error_type, error.retry, error.stops_run) == (ErrorType.CONNECT, False, "first")
    assert "bad TLS certificate: IP address mismatch" in error.failure.message


async def test_https_to_a_server_that_speaks_http() -> None:
    async with Raw(sending(b"HTTP/1.1 400 Bad Request\r\n\r\n", close=True), reads_requests=False) as server:
        error = await failed(server.url.replace("http:", "https:"))
    assert (error.failure.error_type, error.stops_run) == (ErrorType.CONNECT, "first")
    assert "is it http?" in error.failure.message


async def test_a_bundle_that_cannot_be_read_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read as a CA bundle"):
            AiohttpTransport(connections=1, connect_timeout=1, verify=str(path))
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(ConfigError, match=r"endpoint\.verify"):
        AiohttpTransport(connections=1, connect_timeout=1, verify=str(tmp_path / "junk.pem"))


# --- too much ---


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(reply(b'{"x":"' + b"y" * 3_000_000 + b'"}'), id="plain"),
        # A few kilobytes on the wire: what counts is what comes out of them.
        pytest.param(reply(gzip.compress(b" " * 30_000_000), "Content-Encoding: gzip"), id="gzip bomb"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%b\r\n" % (b"x" * 65536) * 40, id="chunks"
        ),
    ],
)
async def test_a_body_beyond_the_limit_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(client_module, "LARGEST_BODY", 1 << 20)
    async with Raw(sending(data)) as server, client_of(server.url) as client:
        with pytest.raises(AttemptError, match="the server sent more than 1 MiB") as raised:
            await client.send(attempt())
        assert raised.value.failure.error_type is ErrorType.INVALID_RESPONSE
        assert len(raised.value.failure.response_body or "") <= 4096
        if b"gzip" not in data[:200]:  # of that, nothing is left on the wire
            await asyncio.wait_for(server.left.wait(), 10)


@pytest.mark.parametrize(("status", "kind"), [("500 Oops", ErrorType.SERVER), ("400 Bad", ErrorType.REQUEST)])
async def test_an_error_beyond_the_limit_is_still_that_error(
    monkeypatch: pytest.MonkeyPatch, status: str, kind: ErrorType
) -> None:
    monkeypatch.setattr(client_module, "LARGEST_BODY", 1 << 20)
    async with Raw(sending(reply(b"x" * 3_000_000, status=status))) as server, client_of(server.url) as client:
        with pytest.raises(AttemptError) as raised:
            await client.send(attempt())
        failure = raised.value.failure
        assert (failure.error_type, str(failure.status_code)) == (kind, status[:3])
        assert len(failure.response_body or "") <= 4096
        await asyncio.wait_for(server.left.wait(), 10)


# --- connections ---


async def test_connections_are_used_again() -> None:
    async with Raw(sending(reply())) as server, client_of(server.url) as client:
        for _ in range(10):
            await client.send(attempt())
        server.script = sending(reply(b'{"error":"slow down"}', status="429 Too Many Requests"))
        for _ in range(3):
            with pytest.raises(AttemptError):
                await client.send(attempt())
        server.script = sending(reply())
        await client.send(attempt())
    assert (server.accepted, len(server.requests)) == (1, 14)


async def test_there_are_never_more_connections_than_the_concurrency() -> None:
    full = asyncio.Event()

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.open == 4:
            full.set()
        await asyncio.wait_for(full.wait(), 20)
        writer.write(reply())

    async with Raw(script) as server, client_of(server.url, connections=4) as client:
        send = limited(client.send, RateLimiter(slots=Slots(4)))
        answers = await asyncio.gather(*(send(attempt()) for _ in range(40)))
    assert len(answers) == len(server.requests) == 40
    assert server.most_open == server.accepted == 4


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_run_sends_no_more_at_once_than_its_concurrency(tmp_path: Path, concurrency: int) -> None:
    flying = most = 0

    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.01)
        flying -= 1
        return await echo(request, body)

    with Served(slow) as server:
        config = write_config(tmp_path, server.url)
        overrides = [f"limits.concurrency={concurrency}", f"data=[{', '.join('{n: 1}' for _ in range(12))}]"]
        report = prepare(config, overrides, environment={}).run()
    assert report.results == 12
    assert most == concurrency


async def test_after_a_broken_answer_the_next_one_is_on_a_new_connection() -> None:
    async with Raw(sending(HEAD + b"{", close=True)) as server, client_of(server.url) as client:
        with pytest.raises(AttemptError):
            await client.send(attempt())
        server.script = sending(reply())
        assert (await client.send(attempt())).output == "ok"
    assert server.accepted == 2


@pytest.mark.parametrize("delay", [0.0, 0.002])
async def test_a_connection_that_was_closed_while_idle_costs_no_attempt(delay: float) -> None:
    """Nothing of an answer had come, so sending again at once is safe; half of all requests to such a server would fail."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply())
        await writer.drain()
        await asyncio.sleep(delay)
        writer.close()

    async with Raw(script) as server, client_of(server.url) as client:
        for _ in range(20):
            assert (await client.send(attempt())).output == "ok"
            await asyncio.sleep(delay)


async def test_no_message_shows_the_query_of_the_base_url() -> None:
    messages = []
    async with Raw(sending(reply(), close=True)) as server, client_of(f"{server.url}?api-key={KEY}") as client:
        for _ in range(4):
            try:
                await client.send(attempt())
            except AttemptError as error:
                messages.append(error.failure.message)
    assert not [message for message in messages if KEY in message]


# --- proxies ---


async def test_requests_go_through_the_proxy() -> None:
    async with Raw(sending(reply())) as proxy:
        answer = await ask("http://host.invalid/v1", proxy=f"http://127.0.0.1:{proxy.port}")
    assert isinstance(answer, Response), answer
    assert proxy.requests[0].startswith(b"POST http://host.invalid/v1/chat/completions HTTP/1.1\r\n")


async def test_a_dead_proxy_is_named() -> None:
    async with Raw(sending(reply())) as proxy:
        pass
    async with client_of("http://host.invalid/v1", proxy=f"http://127.0.0.1:{proxy.port}") as client:
        with pytest.raises(AttemptError) as raised:
            await client.send(attempt())
    error = raised.value
    assert (error.failure.error_type, error.stops_run) == (ErrorType.CONNECT, "first")
    assert "the proxy cannot be reached" in error.failure.message


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "http://a.example/v1", None),
        ({"http_proxy": "http://p:1"}, "http://a.example/v1", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://a.example/v1", None),
        ({"https_proxy": "http://p:2"}, "https://a.example/v1", "http://p:2"),
        ({"http_proxy": "http://p:1", "no_proxy": "a.example"}, "http://a.example/v1", None),
        ({"http_proxy": "http://p:1", "no_proxy": ".example"}, "http://a.example/v1", None),
        ({"http_proxy": "http://p:1", "no_proxy": "b.example"}, "http://a.example/v1", "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "127.0.0.1"}, "http://127.0.0.1:8000/v1", None),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, expected: str | None
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert env_proxy(url) == expected


async def test_a_real_server_answers() -> None:
    """The same client against an endpoint made of an HTTP library, for good measure."""

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(chat_answer(body["messages"][0]["content"], system_fingerprint="fp"))

    with Served(answer) as server:
        response = await ask(server.url)
    assert isinstance(response, Response)
    assert (response.output, response.system_fingerprint, response.usage.total_tokens) == ("hi", "fp", 5)


# --- compressed bodies ---


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(ANSWER)),
        ("x-gzip", gzip.compress(ANSWER)),
        ("gzip", gzip.compress(ANSWER[:20]) + gzip.compress(ANSWER[20:])),
        ("deflate", zlib.compress(ANSWER)),
        ("deflate", zlib.compress(ANSWER)[2:-4]),
        ("identity", ANSWER),
    ],
    ids=["gzip", "x-gzip", "two members", "deflate", "raw deflate", "identity"],
)
@pytest.mark.parametrize("size", [1, 10_000])
async def test_a_compressed_answer_is_read_in_pieces_of_any_size(encoding: str, packed: bytes, size: int) -> None:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\n\r\n".encode())
        for at in range(0, len(packed), size):
            writer.write(packed[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)

    async with Raw(script) as server, client_of(server.url) as client:
        for _ in range(3):
            assert (await client.send(attempt())).output == "ok"
        assert server.accepted == 1
        assert b"Accept-Encoding: gzip, deflate\r\n" in server.requests[0]


async def test_an_encoding_that_nobody_asked_for_is_named() -> None:
    async with Raw(sending(reply(b"\x0b\x02\x80ok\x03", "Content-Encoding: br"))) as server:
        error = await failed(server.url)
    assert (error.failure.error_type, error.once) == (ErrorType.INVALID_RESPONSE, True)
    assert "the body comes as 'br'" in error.failure.message


@pytest.mark.parametrize("encoding", ["utf-8", "none", "br", "gzip", "gzip, identity"])
@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("body", [b"\n" + ANSWER, b"data: " + ANSWER + b"\n\ndata: [DONE]\n\n"], ids=["whole", "streamed"])
async def test_text_is_read_whatever_it_is_said_to_be_packed_in(encoding: str, size: int, body: bytes) -> None:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = reply(b"", f"Content-Encoding: {encoding}", length=len(body))
        for piece in (head, *(body[at : at + size] for at in range(0, len(body), size))):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async with Raw(script) as server:
        answer = await ask(server.url)
    assert isinstance(answer, Response), answer
    assert answer.output == "ok"
