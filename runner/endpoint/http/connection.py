"""One plain HTTP/1.1 connection, and the exchange that goes on over it: bytes written, a reply read as it comes."""

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
#: A larger body, with pictures in it, is written in pieces of this size, and others have their turn.
_PIECE = 1 << 20
#: So much of a body is held before the other side must wait for its reader.
_MUCH = 1 << 19
#: Longer headers, or so many bytes without any of a body, are no HTTP that anybody means.
_LONGEST_HEADER = 8190
_LONGEST_HEAD = 1 << 16
#: A smaller piece that does not end its body is one of a stream. The first ones are read at once: they tell when it begins.
_SMALL = 1 << 12
_FIRST_PIECES = 4


class Http1Connection(asyncio.Protocol):
    """A connection with at most one exchange at a time. A failure of the reply is kept until somebody reads so far."""

    def __init__(self, where: str, alive: set[Http1Connection], gathering: ReadBatcher) -> None:
        """Take the `host:port` for messages, the set in which the connection stands while it is open, and the rounds."""
        self._where = where
        self._alive = alive
        self._gathering = gathering
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # As forgiving as other clients are: what a server means is clear in these cases.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._waiter: asyncio.Future[None] | None = None
        #: What is to be called when a reply that nobody reads any more has come to its end, and until when that may take.
        self._left: Callable[[], None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self._may_write = True
        self._is_written = True
        #: Bytes of all requests on this connection, and of those before the one at hand.
        self._size = self._size_before = 0
        #: Whether the server has said that it sends nothing more.
        self._has_ended = False
        #: Something came that belongs to no request, or too much of it.
        self._is_odd = False
        self.is_complete = True
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        #: By name in small letters; where one stands twice, the first counts.
        self.headers: dict[str, str] = {}
        #: Whether nothing has come since the request was sent.
        self.is_untouched = True
        #: Whether the connection, a kept one, broke and it is certain that the server has read nothing of the request.
        self.was_undelivered = False
        self._failure: AttemptError | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._since_body = 0
        self._count = 0
        #: Why nothing more is read for now: the reader must come first, or the next round of the gathering.
        self._is_full = self._is_waiting = False
        self._stays_open = False

    # --- what the transport uses ---

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be read, not even the end: the loop may not have looked yet whether the server has left."""
        return self.is_open and not self._poll.poll(0)

    @property
    def is_reusable(self) -> bool:
        """Whether the exchange came to its end, and another one may follow."""
        done = self.is_complete and self._is_written and not self._is_full
        return done and self._stays_open and not self._is_odd and self.is_open

    async def request(self, lines: bytes, content: bytes) -> None:
        """Send a request; return when the head of the reply is here. Raises AttemptError where none comes."""
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
        """Return what came of the body since the last time, waiting for it; b"" at the end. Raises AttemptError."""
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
        """Let the rest of the reply come, for nobody: then `done` is called, or after so long the connection closed."""
        self._left = done
        self._leaving = self._loop.call_later(seconds, self.abort)

    def abort(self) -> None:
        """Close the connection at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    async def _write_in_pieces(self, transport: asyncio.Transport, lines: bytes, content: bytes) -> None:
        """Write a large body as fast as it is taken, until a reply comes: a server may refuse it before its end."""
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
        """Return what is to be awaited until something happens."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one too, but is no subclass
        self._alive.add(self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # answers take minutes
        self._poll.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Read what came; a reader is woken once the head of the reply is here."""
        if self.is_complete or self._parser is None:
            self.abort()  # nobody asked; servers say so that a connection lay idle for too long
            return
        self.is_untouched = False
        self._since_body += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:  # a 101, after which the server speaks something else: the reply ends here
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
        """Note that the server has closed; the connection is closed here too."""
        self._has_ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """End a reply where that is its end; else say what broke."""
        if self.is_untouched and not self.is_complete:
            self._ask_what_came(exc)  # the socket is still there, but only now
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
        self._parser = None  # it refers to this object, which nobody could free before the next collection
        self._wake()

    def _ask_what_came(self, exc: Exception | None) -> None:
        assert self._transport is not None
        # EPIPE is what an RST makes of a connection whose FIN has come; without one it is ECONNRESET.
        ended = self._has_ended or isinstance(exc, BrokenPipeError)
        delivery = delivery_of(self._transport.get_extra_info("socket"))
        self.was_undelivered = was_undelivered(delivery, self._size_before, ended=ended)

    def pause_writing(self) -> None:
        """Hold back what is still to be written."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Go on with what is to be written."""
        self._may_write = True
        self._wake()

    # --- what httptools calls ---

    def on_message_begin(self) -> None:
        """Note a second reply, for which nobody asked."""
        self._is_odd = self._is_odd or self.is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what stands behind the body is no part of the head."""
        if len(value) > _LONGEST_HEADER:
            raise ValueError("a header is too long")
        if not self.status and not self.is_complete:
            self.headers.setdefault(name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Take the status, where it is not that of an interim reply such as 100 Continue."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self.status or self.is_complete:
            return
        if status >= _OK:
            self.status = status
        else:
            self.headers = {}

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
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
        """Whether the reply says nothing about the length of its body, so that its end is where the connection ends."""
        return "content-length" not in self.headers and "chunked" not in self.headers.get("transfer-encoding", "").lower()

    def _hold_back(self, size: int) -> None:
        """Read no more for now where the reader does not keep up, or where many streams bring small pieces."""
        self._count += 1
        if self._held > _MUCH:
            self._is_full = True
        if size < _SMALL and self._count > _FIRST_PIECES and not self._is_waiting:
            self._is_waiting = self._gathering.wait(self._end_of_round)
        if (self._is_full or self._is_waiting) and self._transport is not None:
            self._transport.pause_reading()

    def _end_of_round(self) -> None:
        self._is_waiting = False
        self._go_on()

    def _go_on(self) -> None:
        """Read on, unless there is still a reason to wait."""
        if self._transport is not None and not (self._is_full or self._is_waiting or self._transport.is_closing()):
            self._transport.resume_reading()

    def _end_if_left(self) -> None:
        """Hand the connection back once the rest of the reply has come; close it where that is no small rest."""
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
        """Note what the reader will be told, and give the connection up."""
        if self._failure is None and not self.is_complete:
            self._failure = failure
        self.abort()
