"""The client: a request in, a response out, one attempt. It knows the wire format and the clock of an attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from runner.endpoint.refusals import refusal
from runner.endpoint.responses import invalid, read_response
from runner.endpoint.transport import Call, Reply, Transport
from runner.errors import AttemptError
from runner.types import Attempt, ErrorType, Failure, Response

__all__ = ["ChatClient", "Timeouts"]

#: A larger body is no answer but an accident; it is not read into memory.
LARGEST_BODY = 32 << 20
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds for the phases of an attempt, from the moment it is sent."""

    first_byte: float
    idle: float
    total: float


class ChatClient:
    """Sends attempts to one endpoint."""

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        run_label: str = "",
    ) -> None:
        """Take the base URL below which the paths lie; a query in it goes with every request."""
        self._transport = transport
        self._base, _, query = base_url.partition("?")
        self._query = f"?{query}" if query else ""
        self._headers = headers
        self._timeouts = timeouts
        self._run_label = run_label

    async def send(self, attempt: Attempt) -> Response:
        """Make one attempt. Raises AttemptError.

        The response is complete when this returns, and nothing is awaited between its last byte and the return.
        """
        request = attempt.request
        unit = request.unit
        call = Call(
            url=f"{self._base}{request.path}{self._query}",
            headers=self._headers,
            content=request.content,
            label=f"{self._run_label}::{unit.task}[{unit.item_id}-{unit.sample_index}]",
        )
        attempt.sent_at = time.time_ns() // 1000
        started = time.perf_counter()
        try:
            response = await self._exchange(call, request.choices)
        finally:
            attempt.wire_s = time.perf_counter() - started
        return replace(response, latency_s=attempt.wire_s)

    async def _exchange(self, call: Call, choices: int) -> Response:
        loop = asyncio.get_running_loop()
        limits, begun = self._timeouts, loop.time()
        phase = "first_byte"
        try:
            async with asyncio.timeout_at(begun + min(limits.first_byte, limits.total)) as clock:
                reply = await self._transport.send(call)
                try:
                    phase = "idle"
                    clock.reschedule(min(loop.time() + limits.idle, begun + limits.total))
                    body = await _read(reply, clock, limits.idle, begun + limits.total)
                finally:
                    reply.close()
        except TimeoutError as error:
            raise _timed_out(phase, limits, loop.time() - begun) from error
        if reply.status != _OK:
            raise refusal(reply.status, reply.headers, body)
        return read_response(body, choices_wanted=choices)


async def _read(reply: Reply, clock: asyncio.Timeout, idle: float, end: float) -> bytes:
    """Return the whole body. Raises AttemptError for one that is too large."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    size = 0
    async for chunk in reply.chunks():
        parts.append(chunk)
        size += len(chunk)
        if size > LARGEST_BODY:
            raise invalid(f"the server sent more than {LARGEST_BODY >> 20} MiB", parts[0])
        if size > len(parts[0]):
            clock.reschedule(min(loop.time() + idle, end))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _timed_out(phase: str, limits: Timeouts, after: float) -> AttemptError:
    """Say which of the times ran out."""
    if after >= limits.total:
        phase = "total"
    what = {
        "first_byte": "no answer began",
        "idle": "the answer stood still",
        "total": "the answer was not complete",
    }[phase]
    seconds = getattr(limits, phase)
    failure = Failure(error_type=ErrorType.TIMEOUT, message=f"{phase}: {what} within {seconds:g} s (endpoint.timeout.{phase})")
    return AttemptError(failure, retry=True)
