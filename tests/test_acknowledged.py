"""What the kernel tells of a request whose connection broke: on real sockets, by hand and through a whole client."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pytest

from runner.endpoint.http import http1
from runner.endpoint.http.connection import Http1Connection
from runner.endpoint.http.delivery import Delivery, delivery_of, was_undelivered
from runner.endpoint.http.http1 import Http1Transport
from runner.endpoint.http.transport import Call
from runner.errors import AttemptError

__all__ = ["Leaving", "Way"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was acknowledged")

REQUEST = b"x" * 300
#: More than the buffers of both sides hold.
LARGE = b"x" * (16 << 20)
LINGER_0 = struct.pack("ii", 1, 0)

Pair = tuple[socket.socket, socket.socket]


def reset(sock: socket.socket) -> None:
    """Close with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    sock.close()


@contextmanager
def kept() -> Iterator[Pair]:
    """Open a connection on which three requests were answered; yield the client's end and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=20)
        server, _ = listener.accept()
    with client, server:
        for _ in range(3):
            client.sendall(REQUEST)
            assert server.recv(1000) == REQUEST
            server.sendall(b"answer")
            assert client.recv(1000) == b"answer"
        yield client, server


BEFORE = 3 * len(REQUEST)


def end_of(client: socket.socket) -> bool:
    """Wait for the end of a connection; return whether a FIN came."""
    try:
        while client.recv(1000):
            pass
    except ConnectionResetError:
        return False
    return True


def write(client: socket.socket) -> None:
    client.sendall(REQUEST)


def write_and_fail(client: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        client.sendall(REQUEST)


def write_much(client: socket.socket) -> None:
    """Write as much as the buffers hold, or until the connection breaks."""
    client.setblocking(False)
    with suppress(BlockingIOError, BrokenPipeError):
        while client.send(LARGE):
            pass
    client.setblocking(True)


def read_all(server: socket.socket) -> None:
    assert server.recv(1000) == REQUEST


def read_a_part(server: socket.socket) -> None:
    assert server.recv(1000)


def close(server: socket.socket) -> None:
    server.close()


def end_sending(server: socket.socket) -> None:
    server.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class By:
    """Who takes a step."""

    side: int
    step: Callable[[socket.socket], None]


def client(step: Callable[[socket.socket], None]) -> By:
    return By(0, step)


def server(step: Callable[[socket.socket], None]) -> By:
    return By(1, step)


#: What happens, in this order; then whether it is certain that the server has read nothing.
BREAKS = [
    pytest.param([server(close), client(write)], True, id="closed before"),
    pytest.param([server(close), client(write_much)], True, id="closed before a large one"),
    pytest.param([server(end_sending), client(write)], True, id="only sending ended before"),
    pytest.param([server(reset), client(write_and_fail)], True, id="reset before"),
    pytest.param([client(write), server(read_all), server(close)], False, id="read, then closed"),
    # Linux has not acknowledged it when the RST comes, and does not look into the RST.
    pytest.param([client(write), server(read_all), server(reset)], False, id="read, then reset"),
    pytest.param([client(write), server(close)], False, id="closed with the request unread"),
    pytest.param([client(write), server(end_sending)], False, id="sending ended behind it"),
    pytest.param([client(write_much), server(read_a_part), server(end_sending)], False, id="a part read, then sending ended"),
    pytest.param([client(write_much), server(read_a_part), server(close)], False, id="a part read, then closed"),
]


@pytest.mark.parametrize(("steps", "expected"), BREAKS)
def test_it_is_certain_that_a_request_never_came(steps: list[By], *, expected: bool) -> None:
    with kept() as pair:
        for by in steps:
            by.step(pair[by.side])
        # Who has met an RST while writing is not told again: reading then looks like a FIN.
        ended = steps[-1].step is not write_and_fail and end_of(pair[0])
        assert was_undelivered(delivery_of(pair[0]), BEFORE, ended=ended) is expected


def test_a_quiet_connection_is_accounted_for_to_the_byte() -> None:
    with kept() as (ours, _):
        assert delivery_of(ours) == Delivery(sent=BEFORE, acknowledged=BEFORE)


def test_a_request_that_was_read_and_reset_looks_unacknowledged() -> None:
    """Why an RST alone is no evidence; should a kernel tell more one day, the rule may follow."""
    with kept() as (ours, theirs):
        ours.sendall(REQUEST)
        read_all(theirs)
        reset(theirs)
        assert not end_of(ours)
        assert delivery_of(ours) == Delivery(sent=BEFORE + len(REQUEST), acknowledged=BEFORE)


@pytest.mark.parametrize(
    ("delivery", "ended", "expected"),
    [
        pytest.param(Delivery(900, 900), False, True, id="nothing has left"),
        pytest.param(Delivery(1200, 900), True, True, id="left, and the FIN acknowledges nothing of it"),
        pytest.param(Delivery(1200, 900), False, False, id="left, and no FIN came"),
        pytest.param(Delivery(1200, 901), True, False, id="a byte came"),
        pytest.param(Delivery(1200, 1200), True, False, id="all came"),
        pytest.param(Delivery(1200, 899), True, False, id="not even the earlier ones are accounted for"),
        pytest.param(Delivery(0, 0), True, False, id="a system that counts nothing"),
        pytest.param(Delivery(0, -1), True, False, id="a system that knows no such figures"),
        pytest.param(None, True, False, id="nothing is known"),
    ],
)
def test_the_rule(delivery: Delivery | None, *, ended: bool, expected: bool) -> None:
    assert was_undelivered(delivery, 900, ended=ended) is expected


def test_the_first_request_of_a_connection_is_never_certain() -> None:
    assert not was_undelivered(Delivery(0, 0), 0, ended=True)


def test_nothing_is_known_of_a_closed_socket() -> None:
    with socket.socket() as sock:
        pass
    assert delivery_of(sock) is None


@dataclass(frozen=True)
class Told:
    """What a kernel tells, in place of a socket."""

    figures: bytes

    def getsockopt(self, _level: int, _option: int, size: int, /) -> bytes:
        return self.figures[:size]


def test_what_was_sent_twice_counts_once() -> None:
    figures = bytearray(248)
    struct.pack_into("=Q", figures, 120, 901)
    struct.pack_into("=QQ", figures, 200, 1500, 300)
    assert delivery_of(Told(bytes(figures))) == Delivery(sent=1200, acknowledged=900)


def test_nothing_is_known_from_an_old_kernel() -> None:
    assert delivery_of(Told(bytes(192))) is None


def test_nothing_is_known_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with kept() as (ours, _):
        monkeypatch.setattr(sys, "platform", "darwin")
        assert delivery_of(ours) is None


# --- through a client ---


@dataclass(frozen=True)
class Way:
    """How a server leaves a connection on which it has answered one request."""

    #: Before or after the client looks whether the connection is still good, or once it has read the next request, or a part.
    when: str
    how: Callable[[socket.socket], None]

    def __str__(self) -> str:
        return f"{self.how.__name__} {self.when}"


@dataclass
class Leaving:
    """A server that answers the first request of each connection, and then leaves it; one connection after the other.

    The connection is closed by the thread of the client, in the moment in which its `is_quiet` is asked: so the end is in the
    client's kernel before or after the look, and before the loop turns again.
    """

    way: Way
    answer: bytes = b"{}"
    #: How many requests the server has read, and how many connections it has left.
    requests: int = 0
    left: int = 0
    _kept: list[socket.socket] = field(default_factory=list)
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        for sock in self._kept:
            sock.close()

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Leave when a connection of the client's is asked for."""
        look = Http1Connection.__dict__["is_quiet"].fget

        def is_quiet(exchange: Http1Connection) -> Any:
            if self.way.when == "before the look":
                self._leave()
            quiet = look(exchange)
            if self.way.when == "after the look":
                assert quiet
                self._leave()
            return quiet

        monkeypatch.setattr(Http1Connection, "is_quiet", property(is_quiet))
        monkeypatch.setattr(http1, "_STALE_S", 60.0)  # a large request takes its time on a busy machine

    def _leave(self) -> None:
        with self._busy:
            sock = self._kept.pop()
            self.left += 1
            self.way.how(sock)

    def _serve(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                sock, _ = self._listener.accept()
                with self._busy:
                    self._kept.append(sock)
                    self._read(sock)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.answer), self.answer))
                if (self.way.when == "after reading" and self._read(sock)) or (
                    self.way.when == "after a part" and sock.recv(1000)
                ):
                    self._leave()

    def _read(self, sock: socket.socket) -> bool:
        """Read a request; return whether one came."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += (piece := sock.recv(1 << 16))
            if not piece:
                return False
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        left = length - len(body)
        while left:
            left -= len(sock.recv(min(left, 1 << 20)))
        self.requests += 1
        return True


def event_loops() -> Iterator[Any]:
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    with suppress(ImportError):
        import uvloop

        yield pytest.param(uvloop.new_event_loop, id="uvloop")


LOOPS = list(event_loops())


async def asked(server: Leaving, content: bytes) -> int:
    """Ask four requests, one after the other; return how often one was sent again that may have been read."""
    again: list[None] = []
    transport = Http1Transport(connections=1, connect_timeout=20)
    call = Call(url=server.url, headers={}, content=content, resending=lambda: again.append(None))
    try:
        for _ in range(4):
            answer = await transport.send(call)
            assert await answer.read() == server.answer
            answer.close()
    finally:
        await transport.close()
    return len(again)


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("content", [pytest.param(b"{}", id="small"), pytest.param(LARGE, id="large")])
@pytest.mark.parametrize(
    ("way", "sent_again"),
    [
        (Way("before the look", close), 0),
        (Way("before the look", reset), 0),
        (Way("after the look", close), 0),
        (Way("after the look", reset), 0),
        (Way("after reading", close), 3),
        (Way("after reading", reset), 3),
    ],
    ids=str,
)
def test_a_client_tells_whether_a_kept_connection_was_closed_before_its_request(
    monkeypatch: pytest.MonkeyPatch,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    content: bytes,
    way: Way,
    sent_again: int,
) -> None:
    with Leaving(way) as server, asyncio.Runner(loop_factory=new_loop) as loop:
        server.watch(monkeypatch)
        assert loop.run(asked(server, content)) == sent_again
        assert server.left == 3
        assert server.requests == 4 + sent_again


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("how", [close, reset])
def test_a_request_of_which_a_part_came_counts(
    monkeypatch: pytest.MonkeyPatch,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    how: Callable[[socket.socket], None],
) -> None:
    with Leaving(Way("after a part", how)) as server, asyncio.Runner(loop_factory=new_loop) as loop:
        server.watch(monkeypatch)
        assert loop.run(asked(server, LARGE)) == 3
        assert (server.left, server.requests) == (3, 4)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_where_nothing_is_known_what_is_sent_again_counts(
    monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    monkeypatch.setattr("runner.endpoint.http.connection.delivery_of", lambda _sock: None)
    with Leaving(Way("after the look", close)) as server, asyncio.Runner(loop_factory=new_loop) as loop:
        server.watch(monkeypatch)
        assert loop.run(asked(server, b"{}")) == 3
        assert server.requests == 4


async def test_a_first_request_that_nobody_reads_is_a_failure() -> None:
    """A connection that was opened for it is no kept one: the attempt counts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        transport = Http1Transport(connections=1, connect_timeout=20)
        sending = asyncio.create_task(transport.send(Call(url=url, headers={}, content=b"{}")))
        server, _ = await asyncio.to_thread(listener.accept)
        server.close()
        with pytest.raises(AttemptError):
            await sending
        await transport.close()
