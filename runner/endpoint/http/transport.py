"""The interface to the network: a call in, a reply out, bytes on both sides.

Three transports answer calls: `http1` over plain connections, `aiohttp_session` through TLS and proxies, and `recordings`
without a network. They translate the exceptions of their libraries into AttemptError, by `transport_errors`.
"""

from __future__ import annotations

import asyncio
import zlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from runner.endpoint.http import transport_errors
from runner.endpoint.http.encodings import Decoder, decoder_of
from runner.structs import Struct

__all__ = ["Call", "NetworkReply", "Reply", "Transport"]

#: The events in a chunk of this size take some hundredths of a second to read.
_LARGEST_PIECE = 1 << 15


class Call(Struct, frozen=True, kw_only=True):
    """One HTTP request."""

    url: str
    headers: Mapping[str, str]
    content: bytes
    #: Names the unit, so that recordings of equal bodies can be told apart.
    label: str = ""
    method: str = "POST"
    #: Called when the call is sent again because its kept connection was closed, although the server may have read it.
    resending: Callable[[], None] | None = None


class Reply(Protocol):
    """The head of an HTTP response, whose body is still to be read."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in lower case."""

    async def read(self) -> bytes:
        """Return the next chunk of the body, decompressed, as soon as it comes; b"" at its end.

        Raises AttemptError if the body breaks off.
        """

    def close(self, *, answered: bool = False) -> None:
        """Give the connection back if the body was read, else drop it. Never waits.

        `answered` says that the rest, such as the end of a stream after its `[DONE]`, does not matter.
        """


class Transport(Protocol):
    """Answers calls."""

    async def send(self, call: Call) -> Reply:
        """Send a call and wait for the head of the reply. Raises AttemptError."""

    def make_room(self, connections: int) -> None:
        """Allow this many open connections; a lower number changes nothing."""

    async def close(self) -> None:
        """Close all connections."""


class NetworkReply(ABC):
    """A reply over a network, whose body may be compressed."""

    __slots__ = ("_decoder", "_encoding", "_rest", "_where", "headers", "status")

    def __init__(self, where: str, status: int, headers: Mapping[str, str]) -> None:
        """Take the head of a reply from `where`, a `host:port`."""
        self._where = where
        #: Decompressed bytes that are still to be read.
        self._rest = b""
        self.status = status
        self.headers = headers
        #: The encoding of the body; None once the body turns out to be text.
        self._encoding = headers.get("content-encoding")
        self._decoder: Decoder | None = None

    async def read(self) -> bytes:
        """Return the next chunk, decompressed; b"" at the end. Raises AttemptError.

        A chunk is small enough to be processed quickly, and between chunks that have already arrived other tasks can run. So a
        server that sends as fast as it can does not block other tasks.
        """
        if self._rest:
            await asyncio.sleep(0)
            piece = self._rest
        else:
            piece = await (self._decompressed(self._encoding) if self._encoding else self._read_on())
        self._rest = piece[_LARGEST_PIECE:]
        return piece[:_LARGEST_PIECE] if self._rest else piece

    async def _decompressed(self, encoding: str) -> bytes:
        if (decoder := self._decoder) is None:
            start = await self._read_on()
            try:
                decoder = self._decoder = decoder_of(encoding, start)
            except ValueError as error:
                raise transport_errors.unsupported_encoding(self._where, str(error)) from error
            if decoder is None:
                self._encoding = None
                return start
            decoder.feed(start)
        try:
            while True:
                if decoder.is_hungry:
                    data = await self._read_on()
                    if not data:
                        break
                    decoder.feed(data)
                else:
                    await asyncio.sleep(0)
                if piece := decoder.take():
                    return piece
        except zlib.error as error:
            raise transport_errors.compressed_body_damaged(self._where, str(error)) from error
        return b""  # if anything is missing, reading the output shows it

    @abstractmethod
    def _read_on(self) -> Awaitable[bytes]:
        """Return the next chunk as it came; b"" at the end. Raises AttemptError."""

    @abstractmethod
    def close(self, *, answered: bool = False) -> None:
        """Give the connection back if the body was read, else drop it."""
