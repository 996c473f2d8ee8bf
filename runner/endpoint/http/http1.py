"""HTTP/1.1 over plain connections, without TLS and without a proxy. httptools (llhttp) parses the replies.

It serves self-hosted model servers, for which the client must never be the bottleneck: a request costs a fraction of what it
costs in a full HTTP client. TLS and proxies go through `aiohttp_session`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from runner.endpoint.http import transport_errors
from runner.endpoint.http.batched_reads import ReadBatcher
from runner.endpoint.http.connection import Http1Connection
from runner.endpoint.http.encodings import ACCEPTED
from runner.endpoint.http.transport import Call, NetworkReply, Reply
from runner.errors import AttemptError
from runner.timers import timeout

__all__ = ["Http1Transport"]

_HTTP_PORT = 80
#: A kept connection that the server had closed fails within this time. If it breaks later, the server was working on the
#: request.
_STALE_S = 1.0
#: Servers close idle connections. A connection that was idle for this long is not used again.
_LONGEST_IDLE_S = 15.0
_ADDRESSES_HOLD_S = 300.0
#: After this delay the next address of a host is tried in parallel (RFC 8305).
_NEXT_ADDRESS_S = 0.25
#: Servers end a stream in a separate packet after `[DONE]`. A connection waits this long for it. Waiting ones may raise the
#: number of connections by up to this many.
_END_COMES_S = 0.5
_SPARE = 16
#: Closing takes a turn or two of the loop. This is the longest wait for it.
_CLOSING_S = 1.0
_UNSAFE = frozenset("\r\n\0")


class Http1Transport:
    """The network, through plain connections that are kept open."""

    def __init__(self, *, connections: int, connect_timeout: float) -> None:
        """Take the wanted number of connections and the seconds for opening one. Make it in a running loop.

        Each request in flight has a connection. The slots of the rate limiter keep their number to `connections`.
        """
        self._loop = asyncio.get_running_loop()
        self._connections = connections
        self._connect_timeout = connect_timeout
        self._servers: dict[str, _Server] = {}
        self._heads: dict[tuple[str, str], _Head] = {}
        self._open: set[Http1Connection] = set()
        self._read_batcher = ReadBatcher()

    async def send(self, call: Call) -> Reply:
        """Send a call and wait for the head of the reply. Raises AttemptError."""
        head = self._heads.get((call.method, call.url))
        if head is None or head.headers is not call.headers:
            head = self._heads[call.method, call.url] = self._head_of(call)
        lines = head.lines if call.method == "GET" else b"%bContent-Length: %d\r\n\r\n" % (head.lines, len(call.content))
        while True:
            exchange = head.server.kept(self._loop.time())
            is_kept = exchange is not None
            if exchange is None:
                exchange = await self._connected(head.server)
            sent = self._loop.time()
            try:
                await exchange.request(lines, call.content)
            except AttemptError:
                if exchange.was_undelivered:
                    continue  # the kept connection was closed before, and the request was not read: it was no attempt
                if is_kept and exchange.is_untouched and self._loop.time() - sent < _STALE_S:
                    if call.resending is not None:
                        call.resending()
                    continue  # the server may not have read the request: it is sent again at once, which is no failure
                raise
            except BaseException:
                exchange.abort()
                raise
            return _PlainReply(self, head.server, exchange)

    def make_room(self, connections: int) -> None:
        """Allow this many open connections; a lower number changes nothing."""
        self._connections = max(self._connections, connections)

    async def close(self) -> None:
        """Close all connections."""
        until = self._loop.time() + _CLOSING_S
        while self._open and self._loop.time() < until:
            for exchange in list(self._open):
                exchange.abort()
            await asyncio.sleep(0)

    async def _connected(self, server: _Server) -> Http1Connection:
        """Open a connection. Raises AttemptError."""
        try:
            async with timeout(self._connect_timeout):
                return await self._opened(server, await server.addresses())
        except (socket.gaierror, UnicodeError) as error:
            raise transport_errors.no_name(server.where, error) from error
        except OSError as error:
            server.forget_addresses()
            if isinstance(error, TimeoutError) and error.errno is None:
                raise transport_errors.connection_timed_out(server.where) from error
            raise transport_errors.no_connection(server.where, error) from error

    async def _opened(self, server: _Server, addresses: list[AddrInfoType]) -> Http1Connection:
        """Open a connection to one of a host's addresses. A single address needs no race, which halves the time."""
        family, *_, place = addresses[0]
        if len(addresses) == 1 and family == socket.AF_INET:
            opening = self._loop.create_connection(self._exchange_with(server), place[0], place[1])
        else:
            sock = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1)
            opening = self._loop.create_connection(self._exchange_with(server), sock=sock)
        _, exchange = await opening
        return exchange

    def _exchange_with(self, server: _Server) -> Callable[[], Http1Connection]:
        return lambda: Http1Connection(server.where, self._open, self._read_batcher)

    def _head_of(self, call: Call) -> _Head:
        """Return the head that all requests of a kind share. Raises AttemptError for a header with a line break or a NUL."""
        url = urlsplit(call.url)
        host = url.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode()
        server = self._servers.setdefault(url.netloc, _Server(host, url.port or _HTTP_PORT))
        named = f"[{host}]" if ":" in host else host
        target = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
        lines = [
            # The URL is sent as configured: only characters that cannot be sent are quoted.
            f"{call.method} {quote(target, safe=''.join(map(chr, range(0x21, 0x7F))))} HTTP/1.1",
            f"Host: {named}{f':{url.port}' if url.port not in {None, _HTTP_PORT} else ''}",
            f"Accept-Encoding: {ACCEPTED}",
        ]
        for name, value in call.headers.items():
            if _UNSAFE & {*name, *value}:
                raise transport_errors.unsafe_header(name)
            lines.append(f"{name}: {value}")
        ending = "\r\n\r\n" if call.method == "GET" else "\r\n"
        return _Head(server, call.headers, ("\r\n".join(lines) + ending).encode())

    def give_back(self, server: _Server, exchange: Http1Connection, *, answered: bool) -> None:
        """Take back a connection whose reply is no longer read."""
        if exchange.is_reusable:
            server.keep(exchange, self._loop.time())
        elif answered and len(self._open) < self._connections + _SPARE:
            exchange.leave(_END_COMES_S, lambda: server.keep(exchange, self._loop.time()))
        else:
            exchange.abort()


class _Head(NamedTuple):
    """The head that all requests of a kind share, and their server."""

    server: _Server
    headers: Mapping[str, str]
    lines: bytes


class _Server:
    """A host and port: its addresses, and the idle connections to it."""

    def __init__(self, host: str, port: int) -> None:
        self.where = f"{host}:{port}"
        self._host, self._port = host, port
        self._kept: list[tuple[Http1Connection, float]] = []
        self._addresses: list[AddrInfoType] = []
        self._resolved_at = float("-inf")
        self._resolving = asyncio.Lock()

    def keep(self, exchange: Http1Connection, now: float) -> None:
        self._kept.append((exchange, now))

    def kept(self, now: float) -> Http1Connection | None:
        """Return the most recently used idle connection that is still good, or None."""
        while self._kept:
            exchange, since = self._kept.pop()
            if now - since < _LONGEST_IDLE_S and exchange.is_quiet:
                return exchange
            exchange.abort()
        return None

    async def addresses(self) -> list[AddrInfoType]:
        """Return the addresses of the host, each time with another one first: a name may stand for many servers."""
        async with self._resolving:
            if time.monotonic() - self._resolved_at > _ADDRESSES_HOLD_S:
                loop = asyncio.get_running_loop()
                self._addresses = [*await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)]
                self._resolved_at = time.monotonic()
        first = self._addresses.pop(0)
        self._addresses.append(first)
        return [first, *self._addresses[:-1]]

    def forget_addresses(self) -> None:
        """Resolve the name again before the next connection: the server may have moved."""
        self._resolved_at = float("-inf")


class _PlainReply(NetworkReply):
    """A reply over a plain connection."""

    __slots__ = ("_exchange", "_server", "_transport")

    def __init__(self, transport: Http1Transport, server: _Server, exchange: Http1Connection) -> None:
        self._transport, self._server = transport, server
        self._exchange: Http1Connection | None = exchange
        super().__init__(server.where, exchange.status, exchange.headers)

    def _read_on(self) -> Awaitable[bytes]:
        assert self._exchange is not None, "it is closed"
        return self._exchange.read()

    def close(self, *, answered: bool = False) -> None:
        if self._exchange is not None:
            self._transport.give_back(self._server, self._exchange, answered=answered)
            self._exchange = None
