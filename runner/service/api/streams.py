"""Answers that are passed on as they arrive, to clients that may disconnect before the end."""

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
#: How often the connection of the client is checked: while nothing is sent, no event reports that it is gone.
_LOOK_EVERY_S = 0.2
_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class PassedOn:
    """Passes server-sent events on to a client, in whole lines, so that a secret split over chunks is still redacted."""

    def __init__(self, request: web.Request, redactor: Redactor) -> None:
        self._request, self._redactor = request, redactor
        self._rest = bytearray()
        #: The response to the client; None before the first chunk.
        self.response: web.StreamResponse | None = None

    async def take(self, piece: bytes) -> None:
        """Pass on the lines that a chunk completes, and wait while the client is slower."""
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
        """End the response; if the answer broke off, with an event that says why."""
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
    """Return the result of the work, and cancel it if the client disconnects.

    Raises ConnectionResetError in that case, and Refusal if the service stops first.
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
