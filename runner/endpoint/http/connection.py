"""One plain HTTP/1.1 connection and the exchange over it: writes a request, and reads the reply as it comes."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from runner.endpoint.http import transport_errors
from runner.endpoint.http.batched_reads import ReadBatcher
from runner.endpoint.http.delivery import delivery_of, was_undelivered
from runner.errors import AttemptError

__all__ = ["Http1Connection"]

_OK = 200
#: A larger body, such as one with images, is written in chunks of this size, so that other tasks can run.
_PIECE = 1 << 20
#: How much of a body is held before reading stops, so that the server waits for the reader.
_MUCH = 1 << 19
#: A longer header, or more bytes than this without any of a body, is not valid HTTP.
_LONGEST_HEADER = 8190
_LONGEST_HEAD = 1 << 16
#: A smaller chunk that does not end its body belongs to a stream. The first chunks are read at once, because they show when the
#: answer begins.
_SMALL = 1 << 12
_FIRST_PIECES = 4


class Http1Connection(asyncio.Protocol):
    """A connection with at most one exchange at a time. A failure of the reply is raised once the data before it is read."""

    def __init__(self, where: str, alive: set[Http1Connection], read_batcher: ReadBatcher) -> None:
        """`where` is `host:port`, for messages; `alive` holds the connection while it is open; `read_batcher` batches reads."""
        self._where = where
        self._alive = alive
        self._read_batcher = read_batcher
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # As lenient as other clients: in these cases it is clear what the server means.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._waiter: asyncio.Future[None] | None = None
        #: Called at the end of a reply that is no longer read; and the timer that ends the wait for it.
        self._left: Callable[[], None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self._may_write = True
        self._is_written = True
        #: Bytes of all requests on this connection, and of those before the current one.
        self._size = self._size_before = 0
        #: Whether the server has sent its FIN: it sends nothing more.
        self._has_ended = False
        #: Whether bytes came that belong to no request.
        self._is_odd = False
        self.is_complete = True
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        #: By name in lower case. If a header occurs twice, the first counts.
        self.headers: dict[str, str] = {}
        #: Whether nothing has come since the request was sent.
        self.is_untouched = True
        #: Whether this kept connection broke, and the server has certainly read nothing of the request.
        self.was_undelivered = False
        self._failure: AttemptError | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._since_body = 0
        self._count = 0
        #: Why reading is paused: it waits for the reader, or for the next round of batched reads.
        self._is_full = self._is_waiting = False
        self._stays_open = False

    # --- what the transport uses ---

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be read, not even a FIN. Asks the socket, because the loop may not have seen a FIN yet."""
        return self.is_open and not self._poll.poll(0)

    @property
    def is_reusable(self) -> bool:
        """Whether the exchange is complete and another one may follow."""
        done = self.is_complete and self._is_written and not self._is_full
        return done and self._stays_open and not self._is_odd and self.is_open

    async def request(self, lines: bytes, content: bytes) -> None:
        """Send a request; return when the head of the reply has come. Raises AttemptError if none comes."""
        assert self._transport is not None
        self._begin()
        self.is_complete = self._is_written = False
        self._size_before = self._size
        self._size += len(lines) + len(content)
        if len(content) <= _PIECE:
            self._transport.write(lines + content)
            self._is_written = True
        else:
            await self._write_in_pieces(self._transport, lines, content)
        while not self._has_head:
            await self._something()
        if not self.status:
            assert self._failure is not None
            raise self._failure

    async def read(self) -> bytes:
        """Return the body bytes since the last call; wait if there are none; b"" at the end. Raises AttemptError."""
        while not self._pieces and not self.is_complete and self._failure is None:
            await self._something()
        if self._pieces:
            pieces, self._pieces, self._held = self._pieces, [], 0
            if self._is_full:
                self._is_full = False
                self._go_on()
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._failure is not None:
            raise self._failure
        return b""

    def leave(self, seconds: float, done: Callable[[], None]) -> None:
        """Discard the rest of the reply. At its end `done` is called; after `seconds` the connection is closed instead."""
        self._left = done
        self._leaving = self._loop.call_later(seconds, self.abort)

    def abort(self) -> None:
        """Close the connection at once, even during an exchange."""
        if self._transport is not None:
            self._transport.abort()

    async def _write_in_pieces(self, transport: asyncio.Transport, lines: bytes, content: bytes) -> None:
        """Write a large body as fast as the server takes it. Stop if a reply comes: a server may refuse it before its end."""
        transport.write(lines)
        view = memoryview(content)
        for start in range(0, len(view), _PIECE):
            transport.write(view[start : start + _PIECE])
            while not self._may_write and not self._has_head:
                await self._something()
            if self._has_head:
                return
        self._is_written = True

    @property
    def _has_head(self) -> bool:
        return bool(self.status) or self._failure is not None

    def _something(self) -> asyncio.Future[None]:
        """Return a future that ends when something happens."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport fits too, but is not a subclass
        self._alive.add(self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # answers take minutes
        self._poll.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and wake the reader once the head of the reply is complete."""
        if self.is_complete or self._parser is None:
            self.abort()  # no request is open: some servers send a reply when they close an idle connection
            return
        self.is_untouched = False
        self._since_body += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:  # a 101, after which another protocol follows: the reply ends here
            self.status, self.is_complete, self._is_odd = self._parser.get_status_code(), True, True
        except HttpParserError as error:
            self._not_understood(error)
        if self._since_body > _LONGEST_HEAD:
            self._fail(transport_errors.no_http(self._where, "its headers have no end"))
        if self.status and not self.is_complete:
            self._hold_back(len(data))
        if self._left is not None:
            self._end_if_left()
        elif self._has_head:
            self._wake()

    def eof_received(self) -> None:
        """Note that the server has closed. asyncio then closes the connection here too."""
        self._has_ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Complete a reply that ends with the connection; fail any other open reply."""
        if self.is_untouched and not self.is_complete:
            self._ask_what_came(exc)  # the last moment at which the socket still exists
        self._transport = None
        self._alive.discard(self)
        self._left = None
        if self._leaving is not None:
            self._leaving.cancel()
        if not self.is_complete:
            if not self.status:
                self._fail(
                    transport_errors.closed_early(self._where) if exc is None else transport_errors.broke(self._where, exc)
                )
            elif self._ends_with_the_connection and exc is None:
                self.is_complete = True
            else:
                self._fail(transport_errors.body_broke_off(self._where))
        self._parser = None  # breaks a reference cycle, which would last until the next garbage collection
        self._wake()

    def _ask_what_came(self, exc: Exception | None) -> None:
        assert self._transport is not None
        # After a FIN, an RST causes EPIPE; without a FIN, ECONNRESET.
        ended = self._has_ended or isinstance(exc, BrokenPipeError)
        delivery = delivery_of(self._transport.get_extra_info("socket"))
        self.was_undelivered = was_undelivered(delivery, self._size_before, ended=ended)

    def pause_writing(self) -> None:
        """Pause writing."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Resume writing."""
        self._may_write = True
        self._wake()

    # --- what httptools calls ---

    def on_message_begin(self) -> None:
        """Note a second reply, which belongs to no request."""
        self._is_odd = self._is_odd or self.is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers after the body are ignored."""
        if len(value) > _LONGEST_HEADER:
            raise ValueError("a header is too long")
        if not self.status and not self.is_complete:
            self.headers.setdefault(name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Take the status, unless it is that of an interim reply such as 100 Continue."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self.status or self.is_complete:
            return
        if status >= _OK:
            self.status = status
        else:
            self.headers = {}

    def on_body(self, data: bytes) -> None:
        """Take a chunk of the body."""
        if not self.is_complete:
            self._since_body = 0
            self._held += len(data)
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Note the end of the reply."""
        assert self._parser is not None
        if self.status and not self.is_complete:
            self.is_complete = True
            self._since_body = 0
            self._stays_open = self._parser.should_keep_alive()

    @property
    def _ends_with_the_connection(self) -> bool:
        """Whether the reply gives no length for its body, so that the body ends with the connection."""
        return "content-length" not in self.headers and "chunked" not in self.headers.get("transfer-encoding", "").lower()

    def _hold_back(self, size: int) -> None:
        """Pause reading if the reader does not keep up, or if many streams bring small chunks."""
        self._count += 1
        if self._held > _MUCH:
            self._is_full = True
        if size < _SMALL and self._count > _FIRST_PIECES and not self._is_waiting:
            self._is_waiting = self._read_batcher.wait(self._end_of_round)
        if (self._is_full or self._is_waiting) and self._transport is not None:
            self._transport.pause_reading()

    def _end_of_round(self) -> None:
        self._is_waiting = False
        self._go_on()

    def _go_on(self) -> None:
        """Resume reading, unless there is still a reason to wait."""
        if self._transport is not None and not (self._is_full or self._is_waiting or self._transport.is_closing()):
            self._transport.resume_reading()

    def _end_if_left(self) -> None:
        """Hand the connection back once the rest of the reply has come. Close it if the rest is large."""
        done = self._left
        if self._held > _LONGEST_HEAD or (self.is_complete and not self.is_reusable):
            self.abort()
        elif self.is_complete and done is not None and self._leaving is not None:
            self._leaving.cancel()
            self._left = self._leaving = None
            done()

    def _not_understood(self, error: Exception) -> None:
        if self.is_complete:
            self._is_odd = True
        elif self.status:
            self._fail(transport_errors.body_broke_off(self._where))
        else:
            self._fail(transport_errors.no_http(self._where, str(error.__context__ or error)))

    def _fail(self, failure: AttemptError) -> None:
        """Keep the failure for the reader, and drop the connection."""
        if self._failure is None and not self.is_complete:
            self._failure = failure
        self.abort()
