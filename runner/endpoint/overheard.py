"""A transport that passes the bytes of streams to a listener as they come, before the client reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from runner.endpoint.answers.sse import is_stream
from runner.endpoint.http.transport import Call, Reply, Transport

__all__ = ["OnPiece", "Overheard"]

_SUCCESSES = range(200, 300)
#: The listener: takes the bytes of a stream as they come, and may wait.
OnPiece: TypeAlias = Callable[[bytes], Awaitable[None]]


class Overheard(Transport):
    """A transport whose listener gets each chunk of a stream before the client does."""

    def __init__(self, transport: Transport, on_piece: OnPiece) -> None:
        self._transport, self._on_piece = transport, on_piece

    async def send(self, call: Call) -> Reply:
        """Send a call. If its reply is a stream, the listener gets it too."""
        return _OverheardReply(await self._transport.send(call), self._on_piece)

    def make_room(self, connections: int) -> None:
        """Allow this many open connections."""
        self._transport.make_room(connections)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()


class _OverheardReply(Reply):
    def __init__(self, reply: Reply, on_piece: OnPiece) -> None:
        self._reply, self._on_piece = reply, on_piece
        self._streams: bool | None = None

    @property
    def status(self) -> int:
        return self._reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._reply.headers

    async def read(self) -> bytes:
        piece = await self._reply.read()
        if self._streams is None:
            self._streams = self.status in _SUCCESSES and is_stream(self.headers, piece)
        if self._streams and piece:
            await self._on_piece(piece)
        return piece

    def close(self, *, answered: bool = False) -> None:
        self._reply.close(answered=answered)
