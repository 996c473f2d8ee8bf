"""Batched reads: many streams are read in rounds, few as they come, and all of them whole."""

from __future__ import annotations

import asyncio

import pytest

from runner.endpoint.http import batched_reads
from runner.endpoint.http.batched_reads import ReadBatcher
from runner.endpoint.http.connection import Http1Connection
from runner.endpoint.http.http1 import Http1Transport
from tests.test_client import Raw
from tests.test_plain import NoTransport, call_of, network

PIECES = 200


@pytest.fixture
def long_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long that in each of them a slow machine too sends many pieces."""
    monkeypatch.setattr(batched_reads, "_ROUND_S", 0.1)


@pytest.mark.parametrize(("pieces", "wait"), [(63, False), (64, True)])
async def test_streams_wait_for_each_other_where_a_round_brings_many_pieces(pieces: int, *, wait: bool) -> None:
    rounds = ReadBatcher()
    over, read_on = asyncio.Event(), asyncio.Event()
    assert not any(rounds.wait(read_on.set) for _ in range(pieces)), "nobody waits before it is known that there are many"
    asyncio.get_running_loop().call_later(batched_reads._ROUND_S, over.set)
    await over.wait()
    assert rounds.wait(read_on.set) is wait
    if wait:
        await asyncio.wait_for(read_on.wait(), 10)
    over.clear()
    asyncio.get_running_loop().call_later(2 * batched_reads._ROUND_S, over.set)
    await over.wait()
    assert not rounds.wait(read_on.set), "a round with a single piece is over"


async def asked(
    rounds: ReadBatcher, transport: NoTransport, monkeypatch: pytest.MonkeyPatch
) -> tuple[Http1Connection, asyncio.Task[None]]:
    """Send a request where many streams bring small pieces."""
    monkeypatch.setattr(rounds, "_are_many", True)
    exchange = Http1Connection("host:1", set(), rounds)
    exchange.connection_made(transport)
    asking = asyncio.create_task(exchange.request(b"", b""))
    await asyncio.sleep(0)
    return exchange, asking


@pytest.mark.parametrize(
    ("sizes", "waits"),
    [
        pytest.param([10] * 4, False, id="the first few tell when a stream begins"),
        pytest.param([10] * 5, True, id="small ones behind them"),
        pytest.param([10] * 4 + [1 << 13], False, id="a large one is no piece of text"),
    ],
)
async def test_which_pieces_wait(monkeypatch: pytest.MonkeyPatch, sizes: list[int], *, waits: bool) -> None:
    rounds, transport = ReadBatcher(), NoTransport()
    exchange, asking = await asked(rounds, transport, monkeypatch)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for size in sizes:
        assert not transport.paused
        exchange.data_received(head + b"%x\r\n%b\r\n" % (size, b"x" * size))
        head = b""
    assert transport.paused is waits
    await asking


@pytest.mark.parametrize("first", ["round", "reader"])
async def test_a_stream_is_read_on_when_its_round_is_over_and_its_reader_has_caught_up(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    rounds, transport = ReadBatcher(), NoTransport()
    exchange, asking = await asked(rounds, transport, monkeypatch)
    large = b"x" * (1 << 20)
    exchange.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(large), large))
    assert transport.paused, "its reader does not keep up"
    for _ in range(5):
        exchange.data_received(b"1\r\ny\r\n")  # what was on its way
    await asking
    if first == "round":
        rounds._end_of_round()
        assert transport.paused, "its reader has not caught up"
        assert await exchange.read() == large + b"yyyyy"
    else:
        assert await exchange.read() == large + b"yyyyy"
        assert transport.paused, "its round is not over"
        rounds._end_of_round()
    assert not transport.paused


async def pieces_read(streams: int, *, ends_with_connection: bool) -> list[list[bytes]]:
    """Read so many streams at once; return what each read of each one brought."""
    here = asyncio.Barrier(streams)
    head = b"HTTP/1.1 200 OK\r\n" + (b"" if ends_with_connection else b"Transfer-Encoding: chunked\r\n") + b"\r\n"

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await here.wait()
        for number in range(PIECES):
            writer.write(b"%03d " % number if ends_with_connection else b"4\r\n%03d \r\n" % number)
            await asyncio.sleep(0.001)
        writer.write(b"" if ends_with_connection else b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def read(transport: Http1Transport, server: Raw) -> list[bytes]:
        answer = await transport.send(call_of(server))
        found = []
        while piece := await answer.read():
            found.append(piece)
        answer.close(answered=True)
        return found

    async with Raw(script) as server, network(streams) as transport:
        return await asyncio.gather(*(read(transport, server) for _ in range(streams)))


@pytest.mark.long
@pytest.mark.usefixtures("long_rounds")
@pytest.mark.parametrize("ends_with_connection", [False, True])
async def test_many_streams_are_read_in_rounds_and_whole(*, ends_with_connection: bool) -> None:
    reads = await pieces_read(80, ends_with_connection=ends_with_connection)
    whole = b"".join(b"%03d " % number for number in range(PIECES))
    assert {b"".join(read) for read in reads} == {whole}
    assert sum(map(len, reads)) < 80 * PIECES / 2


@pytest.mark.usefixtures("long_rounds")
async def test_a_single_stream_is_read_as_it_comes() -> None:
    (read,) = await pieces_read(1, ends_with_connection=False)
    assert len(read) > PIECES / 2
