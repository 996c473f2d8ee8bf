"""Plain connections: what only they could get wrong. That they answer like any other transport, `test_client` shows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.endpoint.http import http1
from runner.endpoint.http.batched_reads import ReadBatcher
from runner.endpoint.http.connection import Http1Connection
from runner.endpoint.http.http1 import Http1Transport
from runner.endpoint.http.transport import Call
from runner.errors import AttemptError
from runner.types import ErrorType
from tests.test_client import HEAD, Raw, reply, sending, standing_still

HEADERS = {"Content-Type": "application/json"}


@asynccontextmanager
async def network(connections: int = 4) -> AsyncIterator[Http1Transport]:
    transport = Http1Transport(connections=connections, connect_timeout=20)
    try:
        yield transport
    finally:
        await transport.close()


def call_of(server: Raw, content: bytes = b"{}", **options: Any) -> Call:
    return Call(url=f"{server.url}/chat/completions", headers=options.pop("headers", HEADERS), content=content, **options)


async def body_of(transport: Http1Transport, call: Call) -> bytes:
    answer = await transport.send(call)
    try:
        pieces = []
        while piece := await answer.read():
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        answer.close()


class NoTransport(asyncio.Transport):
    """Takes what is written, and sends nothing."""

    def __init__(self) -> None:
        self.closed = self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return Mock(fileno=lambda: 0) if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


RESPONSES = st.one_of(
    st.binary(max_size=200).map(lambda body: (reply(body), body)),
    st.lists(st.binary(min_size=1, max_size=40), max_size=8).map(
        lambda pieces: (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"%x;extension\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            + b"0\r\nTrailer: x\r\n\r\n",
            b"".join(pieces),
        )
    ),
)


@given(response=RESPONSES, cuts=st.lists(st.integers(0, 400)), interim=st.booleans())
def test_a_reply_is_the_same_wherever_it_is_cut(response: tuple[bytes, bytes], cuts: list[int], *, interim: bool) -> None:
    data, body = response
    data = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * interim + data
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})

    async def exchanged() -> tuple[int, bytes, bool]:
        exchange = Http1Connection("host:1", set(), ReadBatcher())
        exchange.connection_made(NoTransport())
        asked = asyncio.create_task(exchange.request(b"", b""))
        await asyncio.sleep(0)
        read: list[bytes] = []
        for start, end in pairwise(places):
            exchange.data_received(data[start:end])
        await asked
        while piece := await exchange.read():
            read.append(piece)
        assert not {"trailer", "link"} & set(exchange.headers)
        return exchange.status, b"".join(read), exchange.is_reusable

    assert asyncio.run(exchanged()) == (200, body, True)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(reply(b"stranger"), id="a whole reply"),
        pytest.param(b"HTT", id="the start of one"),
        pytest.param(b"\x00garbage", id="garbage"),
    ],
)
async def test_what_nobody_asked_for_is_never_an_answer(more: bytes) -> None:
    """A second reply behind the first one would be taken for that of the next request."""
    async with Raw(sending(reply(b"mine") + more)) as server, network() as transport:
        assert await body_of(transport, call_of(server)) == b"mine"
        server.script = sending(reply(b"next"))
        assert await body_of(transport, call_of(server)) == b"next"
        assert server.accepted == 2


async def test_what_comes_while_a_connection_lies_idle_closes_it() -> None:
    """Some servers say that they close an idle connection, with a status 408 that belongs to no request."""
    idle = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b"mine"))
        await idle.wait()
        writer.write(reply(b"too late", status="408 Request Timeout"))
        await writer.drain()
        await reader.read()
        server.left.set()

    async with Raw(script) as server, network() as transport:
        assert await body_of(transport, call_of(server)) == b"mine"
        idle.set()
        await asyncio.wait_for(server.left.wait(), 20)
        server.script = sending(reply(b"next"))
        assert await body_of(transport, call_of(server)) == b"next"


STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n[DONE]\r\n"


@pytest.mark.parametrize(
    ("rest", "connections"),
    [
        (b"0\r\n\r\n", 1),
        (b"1\r\nx\r\n0\r\n\r\n", 1),
        (b"0\r\n\r\nmore", 2),
        (b"junk\r\n", 2),
        (b"186A0\r\n" + b"x" * 100_000, 2),
    ],
    ids=["end", "a little more", "too much", "no chunk", "a lot more"],
)
async def test_a_connection_is_kept_whose_reply_ends_behind_the_answer(rest: bytes, connections: int) -> None:
    """Servers send the end of a stream in a packet of its own, behind `[DONE]`, when the answer has long been read."""
    answered, seen = asyncio.Event(), asyncio.Event()

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        await answered.wait()
        writer.write(rest)

    async with Raw(script) as server, network(connections=1) as transport:
        answer = await transport.send(call_of(server))
        assert await answer.read() == b"[DONE]"
        (exchange,) = transport._open
        received = exchange.data_received

        def receive(data: bytes) -> None:
            received(data)
            seen.set()

        exchange.data_received = receive  # type: ignore[method-assign]
        answer.close(answered=True)
        answered.set()
        await asyncio.wait_for(seen.wait(), 20)
        while not (exchange.is_reusable or not exchange.is_open):
            seen.clear()
            await asyncio.wait_for(seen.wait(), 20)
        server.script = sending(reply(b"next"))
        assert await body_of(transport, call_of(server)) == b"next"
        assert server.accepted == connections


async def test_a_reply_that_never_ends_does_not_keep_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "_END_COMES_S", 0.05)
    async with Raw(standing_still(STREAM)) as server, network() as transport:
        answer = await transport.send(call_of(server))
        answer.close(answered=True)
        await asyncio.wait_for(server.left.wait(), 20)


async def test_a_reply_that_is_dropped_closes_its_connection_at_once() -> None:
    """Who gives an answer up must not let the server go on with it."""
    async with Raw(standing_still(STREAM)) as server, network() as transport:
        answer = await transport.send(call_of(server))
        answer.close()
        await asyncio.wait_for(server.left.wait(), http1._END_COMES_S / 2)


async def test_a_connection_that_the_server_has_closed_is_not_used() -> None:
    """What is sent on it would have to be sent again, and not everywhere it is known that it had not been read."""
    again: list[None] = []

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b"{}"))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    closed = asyncio.Event()
    async with Raw(script) as server, network() as transport:
        for number in range(20):
            answer = await transport.send(call_of(server, resending=lambda: again.append(None)))
            assert await answer.read() == b"{}"
            answer.close()
            await closed.wait()  # the loop has turned, but need not have told the connection
            closed.clear()
            assert server.accepted == number + 1
    assert again == []
    assert len(server.requests) == 20


async def test_what_is_sent_again_is_told() -> None:
    """A server that has read a request and then closes the connection may have worked on it."""
    again: list[None] = []
    async with Raw(sending(reply(b"{}"))) as server, network() as transport:
        await body_of(transport, call_of(server))
        server.script = sending(b"", close=True)
        with pytest.raises(AttemptError):
            await body_of(transport, call_of(server, resending=lambda: again.append(None)))
        assert len(again) == 1
        assert len(server.requests) == 3


async def test_a_connection_that_lay_idle_for_long_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Raw(sending(reply(b"{}"))) as server, network() as transport:
        await body_of(transport, call_of(server))
        await body_of(transport, call_of(server))
        assert server.accepted == 1
        monkeypatch.setattr(http1, "_LONGEST_IDLE_S", 0.0)
        await body_of(transport, call_of(server))
        assert server.accepted == 2


async def test_a_large_body_that_is_refused_before_its_end_is_not_written_to_its_end() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(b"too large", status="413 Content Too Large"))
        await writer.drain()
        await reader.read(1 << 20)
        await refused.wait()

    refused = asyncio.Event()
    async with Raw(script, reads_requests=False) as server, network() as transport:
        answer = await transport.send(call_of(server, b"x" * (64 << 20)))
        assert answer.status == 413
        assert await answer.read() == b"too large"
        answer.close()
        refused.set()
        server.script, server.reads_requests = sending(reply(b"next")), True
        assert await body_of(transport, call_of(server)) == b"next"
        assert server.accepted == 2


async def test_others_have_their_turn_while_a_large_body_is_written() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with Raw(sending(reply(b"{}"))) as server, network() as transport:
        counting = asyncio.create_task(count())
        await body_of(transport, call_of(server, b"x" * (20 << 20)))
        counting.cancel()
    assert turns >= 20
    assert server.requests[0].endswith(b"\r\n\r\n" + b"x" * (20 << 20))


async def test_a_body_that_nobody_reads_stays_on_the_wire() -> None:
    """Memory is bounded by what is read, not by what a server sends."""
    sent = 0

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 1000:
            writer.write(b"x" * 1_000_000)
            sent += 1
            await writer.drain()

    async with Raw(script) as server, network() as transport:
        answer = await transport.send(call_of(server))
        for _ in range(200):
            await asyncio.sleep(0.001)
        assert sent < 50
        first = await answer.read()
        assert 0 < len(first) < 2 << 20
        size = len(first)
        while size < 80_000_000:  # and it goes on when somebody reads
            size += len(await answer.read())
        answer.close()


@pytest.mark.parametrize("headers", [{"X-A": "b\r\nX-C: d"}, {"X\n": "a"}, {"X-A": "a\0"}])
async def test_a_header_that_would_end_early_is_not_sent(headers: dict[str, str]) -> None:
    async with Raw(sending(reply())) as server, network() as transport:
        with pytest.raises(AttemptError, match="holds a line break or a NUL") as raised:
            await transport.send(call_of(server, headers=headers))
        assert (raised.value.failure.error_type, raised.value.stops_run) == (ErrorType.REQUEST, "first")
        assert server.accepted == 0


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, id="headers without end"),
        pytest.param(HEAD.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"0\r\n" + b"T: y\r\n" * 20_000),
        pytest.param(HEAD.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"1;" + b"x" * 200_000),
    ],
    ids=["headers", "trailers", "chunk extension"],
)
async def test_a_head_without_end_is_given_up(head: bytes) -> None:
    async with Raw(standing_still(head)) as server, network() as transport:
        with pytest.raises(AttemptError) as raised:
            await body_of(transport, call_of(server))
        assert raised.value.failure.error_type is ErrorType.INVALID_RESPONSE
        await asyncio.wait_for(server.left.wait(), 20)


async def test_a_host_is_tried_at_each_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One address of a name may lead nowhere."""
    async with Raw(sending(reply(b"{}"))) as server, network() as transport:

        async def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (2, 1, 3)]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        for _ in range(3):
            call = Call(url=f"http://somewhere.example:{server.port}/v1", headers={**HEADERS}, content=b"{}")
            assert await body_of(transport, call) == b"{}"
            server.script = sending(reply(b"{}"), close=True)
        assert server.requests[0].split(b"\r\n")[1] == b"Host: somewhere.example:%d" % server.port


async def test_connections_are_spread_over_the_addresses_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may stand for several servers, each of which should have its share."""
    both = asyncio.Event()

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        addresses.add(writer.get_extra_info("sockname")[0])
        if len(addresses) == 2:
            both.set()
        await both.wait()
        writer.write(reply(b"{}"))

    addresses: set[str] = set()
    async with Raw(script) as server, network() as transport:
        other = await asyncio.start_server(server._accept, "127.0.0.2", server.port)

        async def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2)]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        call = Call(url=f"http://somewhere.example:{server.port}/v1", headers=HEADERS, content=b"{}")
        await asyncio.wait_for(asyncio.gather(*(body_of(transport, call) for _ in range(2))), 20)
        other.close()


async def test_an_address_that_refuses_is_looked_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that moved is found before the time of its old address is over."""
    lookups = 0
    async with Raw(sending(reply(b"{}"))) as server, network() as transport:

        async def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
            nonlocal lookups
            lookups += 1
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if lookups > 1 else "127.0.0.2", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        call = Call(url=f"http://somewhere.example:{server.port}/v1", headers=HEADERS, content=b"{}")
        with pytest.raises(AttemptError, match=r"somewhere\.example:.*no connection"):
            await body_of(transport, call)
        assert await body_of(transport, call) == b"{}"
        assert lookups == 2


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://127.0.0.1:{port}", b"127.0.0.1:{port}", b"/"),
        ("http://127.0.0.1:{port}/a b?ü=1", b"127.0.0.1:{port}", b"/a%20b?%C3%BC=1"),
    ],
)
async def test_target_and_host(url: str, host: bytes, target: bytes) -> None:
    async with Raw(sending(reply(b"{}"))) as server, network() as transport:
        call = Call(url=url.format(port=server.port), headers=HEADERS, content=b"", method="GET")
        await body_of(transport, call)
    lines = server.requests[0].split(b"\r\n")
    assert lines[0] == b"GET " + target + b" HTTP/1.1"
    assert lines[1] == b"Host: " + host.replace(b"{port}", str(server.port).encode())
    assert not [line for line in lines if line.lower().startswith(b"content-length")]


async def test_closing_leaves_no_connection_open() -> None:
    async with Raw(standing_still(HEAD)) as server:
        async with network() as transport:
            await transport.send(call_of(server))
            await transport.send(call_of(server))
            assert server.open == 2
        await asyncio.wait_for(server.left.wait(), 20)


async def test_headers_are_found_by_small_letters_and_the_first_one_counts() -> None:
    came = b"Retry-After: 1\r\nretry-after: 2\r\nX-Text: sch\xc3\xb6n\r\nX-Odd: \xff\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
    async with (
        Raw(sending(early + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + came + b"\r\n")) as server,
        network() as transport,
    ):
        reply = await transport.send(call_of(server))
        assert reply.headers == {
            "content-length": "0",
            "retry-after": "1",
            "x-text": "sch\u00f6n",
            "x-odd": "\udcff",
        }
