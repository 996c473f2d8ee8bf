"""An answer that is passed on as it comes; and a client that may go away before its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

from runner import jsontext
from runner.secrets.redaction import Redactor
from runner.service.asking import SERVICE
from runner.service.refusals import going_down

__all__ = ["PassedOn", "while_there"]

_T = TypeVar("_T")
#: How often it is looked whether the client is still there: nothing tells of it while nothing is sent.
_LOOK_EVERY_S = 0.2
_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class PassedOn:
    """Server-sent events on their way to a client: line by line, so that no secret goes through in pieces of a line."""

    def __init__(self, request: web.Request, redactor: Redactor) -> None:
        self._request, self._redactor = request, redactor
        self._rest = bytearray()
        #: What the client gets; None while nothing has come.
        self.response: web.StreamResponse | None = None

    async def take(self, piece: bytes) -> None:
        """Pass on what lines a piece completes; wait while the client does not keep up."""
        if self.response is None:
            self.response = web.StreamResponse(headers=_HEADERS)
            await self.response.prepare(self._request)
        lines, end, rest = piece.rpartition(b"\n")
        if not end:
            self._rest += piece
            return
        content, self._rest = bytes(self._rest) + lines + end, bytearray(rest)
        await self.response.write(self._cleaned(content))

    async def end(self, failed: str | None = None) -> web.StreamResponse:
        """End it; where the answer broke off, with an event that says why."""
        assert self.response is not None
        await self.response.write(self._cleaned(bytes(self._rest)))
        if failed is not None:
            await self.response.write(b"\n\ndata: " + jsontext.encode({"error": {"message": failed}}) + b"\n\n")
        await self.response.write_eof()
        return self.response

    def _cleaned(self, content: bytes) -> bytes:
        text = content.decode("utf-8", "replace")
        cleaned = self._redactor.text(text)
        return content if cleaned == text else cleaned.encode()


async def while_there(request: web.Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Return what work comes to; end it where the client goes away meanwhile.

    Raises ConnectionResetError then, and Refusal where the service goes down before its end.
    """
    guests = request.app[SERVICE].supervisor.guests
    job = asyncio.ensure_future(work)
    guests.add(job)
    job.add_done_callback(guests.discard)
    try:
        while not (await asyncio.wait([job], timeout=_LOOK_EVERY_S))[0]:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client is gone")
        if job.cancelled():
            raise going_down()
        return job.result()
    finally:
        job.cancel()
        await asyncio.wait([job])
