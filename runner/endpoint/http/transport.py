"""The seam to the network: a call in, a reply out, bytes on both sides.

Three things answer calls: `http1` over plain connections, `aiohttp_session` through TLS and proxies, and recordings in their
place (`recordings`). What their libraries raise they turn into AttemptError, in the words of `transport_errors`.
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

#: As many events as this has room for are read in some hundredths of a second.
_LARGEST_PIECE = 1 << 15


class Call(Struct, frozen=True, kw_only=True):
    """One HTTP request."""

    url: str
    headers: Mapping[str, str]
    content: bytes
    #: Names the unit it is for, so that recordings of equal bodies can be told apart.
    label: str = ""
    method: str = "POST"
    #: Called when it is sent once more, because its kept connection was closed under it and the server may have read it.
    resending: Callable[[], None] | None = None


class Reply(Protocol):
    """The start of an HTTP response; its body is still to be read."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in small letters."""

    async def read(self) -> bytes:
        """Return the next piece of the body, decompressed, as soon as it comes; b"" at its end.

        Raises AttemptError where the body breaks off.
        """

    def close(self, *, answered: bool = False) -> None:
        """Give the connection back if the body was read, else drop it. Never waits.

        `answered` says that what is still to come, such as the end of a stream behind its `[DONE]`, is of no interest.
        """


class Transport(Protocol):
    """Something that answers calls."""

    async def send(self, call: Call) -> Reply:
        """Send a call and wait for the head of the reply. Raises AttemptError."""

    def make_room(self, connections: int) -> None:
        """Let so many connections be open at once, where that is more than before."""

    async def close(self) -> None:
        """Close all connections."""


class NetworkReply(ABC):
    """A reply that came over a network, whose body may be compressed."""

    __slots__ = ("_decoder", "_encoding", "_rest", "_where", "headers", "status")

    def __init__(self, where: str, status: int, headers: Mapping[str, str]) -> None:
        """Take the head of a reply from `where`, a `host:port`."""
        self._where = where
        #: What came and is still to be read.
        self._rest = b""
        self.status = status
        self.headers = headers
        #: What the body is packed in, as far as is known: nothing where it turns out to be text.
        self._encoding = headers.get("content-encoding")
        self._decoder: Decoder | None = None

    async def read(self) -> bytes:
        """Return the next piece, decompressed; b"" at the end. Raises AttemptError.

        A piece is small enough to be looked at in a moment, and whoever reads many that are there already lets others have
        their turn: a server that sends as fast as it can holds up nobody.
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
        return b""  # whether anything is missing shows in what came out

    @abstractmethod
    def _read_on(self) -> Awaitable[bytes]:
        """Return the next piece as it came; b"" at the end. Raises AttemptError."""

    @abstractmethod
    def close(self, *, answered: bool = False) -> None:
        """Give the connection back if the body was read, else drop it."""
