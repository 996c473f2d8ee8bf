"""The client: makes one attempt, a request in, a response out. It knows the wire format and the timeouts of an attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from runner import jsontext
from runner.endpoint.answers.refusals import refusal
from runner.endpoint.answers.responses import invalid, read_response
from runner.endpoint.answers.sse import EventReader, is_stream
from runner.endpoint.answers.streams import StreamAssembler
from runner.endpoint.http.timeouts import AttemptTimer, Timeouts
from runner.endpoint.http.transport import Call, Reply, Transport
from runner.errors import AttemptError
from runner.logs import logger
from runner.structs import replace
from runner.types import Attempt, Request, Response

__all__ = ["ChatClient"]

_log = logger(__name__)

#: A larger body is a server fault, not an answer. It is not read into memory.
LARGEST_BODY = 32 << 20
_OK = 200
_SUCCESSES = range(200, 300)
_REFUSALS = frozenset({400, 422})
#: What a streaming task appends to its body if the config does not set `stream_options`.
_ADDED = b',"stream_options":{"include_usage":true}}'


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
        """Paths are appended to `base_url`; a query in it goes with every request."""
        self._transport = transport
        self._base, _, query = base_url.partition("?")
        self._query = f"?{query}" if query else ""
        self._headers = headers
        self._timeouts = timeouts
        self._run_label = run_label
        #: Timers of finished attempts, for reuse.
        self._idle: list[AttemptTimer] = []
        #: Whether the server rejects `stream_options`.
        self._without_options = False
        self._warned: set[str] = set()

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
            resending=attempt.send_again,
            label=f"{self._run_label}::{unit.task}[{unit.item_id}-{unit.sample_index}]",
        )
        attempt.sent_at = time.time_ns() // 1000
        started = time.perf_counter()
        try:
            if request.stream and request.content.endswith(_ADDED):
                response = await self._exchange_with_options(call, attempt)
            else:
                response = await self._exchange(call, request)
        finally:
            attempt.wire_s = time.perf_counter() - started
        self._note_what_is_odd(request, response)
        return replace(response, latency_s=attempt.wire_s)

    async def _exchange_with_options(self, call: Call, attempt: Attempt) -> Response:
        """Send a streamed request. If the server rejects the added `stream_options`, leave them out from then on."""
        request = attempt.request
        if not self._without_options:
            try:
                return await self._exchange(call, request)
            except AttemptError as error:
                failure = error.failure
                if failure.status_code not in _REFUSALS or "stream_options" not in (failure.response_body or ""):
                    raise
            self._without_options = True
            self._warn("the server rejects stream_options: they are left out, so streamed answers may come without usage")
        attempt.request = _without_added(request)
        return await self._exchange(replace(call, content=attempt.request.content), request)

    def _note_what_is_odd(self, request: Request, response: Response) -> None:
        """Warn once a run about answers that are kept but differ from what was requested."""
        if response.text_repaired:
            self._warn("answers contain bytes that are not UTF-8; they are replaced by U+FFFD (text_repaired)")
        asked, came = request.model, response.response_model
        if asked and came and not (came.startswith(asked) or asked.endswith(came)):
            self._warn(f"the model {asked!r} was requested, but {came!r} answers (see response_model)")
        if response.choices is not None and (count := len(jsontext.decode(response.choices))) != request.choices:
            self._warn(f"{request.choices} choices were requested, {count} came")

    def _warn(self, message: str, details: str = "") -> None:
        """Warn once a run, with the details of the first case."""
        if message not in self._warned:
            self._warned.add(message)
            _log.warning("%s%s", message, details)

    async def _exchange(self, call: Call, request: Request) -> Response:
        timer = self._idle.pop() if self._idle else AttemptTimer(self._timeouts)
        try:
            with timer:
                reply = await self._transport.send(call)
                answered = False
                try:
                    timer.renew()
                    response = await _read(reply, timer, request, self._warn)
                    answered = True
                    return response
                finally:
                    reply.close(answered=answered)
        finally:
            self._idle.append(timer)


def _without_added(request: Request) -> Request:
    """Return a request without the `stream_options` that a streaming task appends."""
    shown = request.shown.removesuffix(_ADDED.decode()) + "}"
    return replace(request, content=request.content.removesuffix(_ADDED) + b"}", shown=shown)


async def _read(reply: Reply, timer: AttemptTimer, request: Request, warn: Callable[[str, str], None]) -> Response:
    """Return the answer, streamed or not, for any 2xx status. Raises AttemptError."""
    if reply.status not in _SUCCESSES:
        raise refusal(reply.status, reply.headers, await _words_of(reply, timer), request.shown)
    first = await reply.read()
    if is_stream(reply.headers, first):
        return await _read_stream(reply, first, timer, request, warn)
    parts = [first]
    try:
        await _read_whole(reply, parts, timer)
    except (AttemptError, asyncio.CancelledError) as error:
        answer = _whole_in(parts, request, error)
        if answer is None or (isinstance(error, asyncio.CancelledError) and not timer.take_back()):
            raise
        return answer
    body = first if len(parts) == 1 else b"".join(parts)
    if reply.status == _OK:
        return read_response(body, request)
    with suppress(AttemptError):
        return read_response(body, request)
    raise refusal(reply.status, reply.headers, body, request.shown)


async def _words_of(reply: Reply, timer: AttemptTimer) -> bytes:
    """Return as much of an error's body as arrives soon and can be read. The status counts even if the body is lost."""
    words = bytearray()
    timer.renew(is_whole=True)
    with suppress(AttemptError):
        try:
            while len(words) <= LARGEST_BODY and (part := await reply.read()):
                words += part
        except asyncio.CancelledError:
            if not timer.take_back():
                raise
    return bytes(words)


async def _read_whole(reply: Reply, parts: list[bytes], timer: AttemptTimer) -> None:
    """Read the rest of a body. Raises AttemptError if it is too large."""
    size = len(parts[0])
    while chunk := await reply.read():
        timer.renew()
        parts.append(chunk)
        size += len(chunk)
        if size > LARGEST_BODY:
            message = f"the server sent more than {LARGEST_BODY >> 20} MiB (response_too_large)"
            raise invalid(message, parts[0], retry=False)


def _whole_in(parts: list[bytes], request: Request, error: BaseException) -> Response | None:
    """Return the answer in a body that broke off, if its JSON is complete: then only white space can be missing."""
    is_damaged = isinstance(error, AttemptError) and (error.once or not error.retry)
    if not is_damaged:
        with suppress(AttemptError):
            return read_response(b"".join(parts), request)
    return None


async def _read_stream(
    reply: Reply, first: bytes, timer: AttemptTimer, request: Request, warn: Callable[[str, str], None]
) -> Response:
    """Return a streamed answer; what follows a complete one is ignored. Raises AttemptError if it is not complete."""
    reader, answer = EventReader(), StreamAssembler(chat=request.chat, choices=request.choices, sent=request.shown)
    ttft: float | None = None
    since_data = 0
    how_it_broke: str | None = None
    chunk: bytes | None = first
    is_whole = False
    while chunk is not None:
        since_data += len(chunk)
        if events := reader.feed(chunk) if chunk else reader.finish():
            since_data = 0
            contents = answer.contents
            answer.take(events)
            # Only data renews the timer, and after a complete answer only more content: a server can send comments for ever.
            if not is_whole or answer.contents > contents:
                is_whole = answer.finished
                timer.renew(is_whole=is_whole)
            if ttft is None and answer.contents:
                ttft = timer.elapsed()
        elif since_data > LARGEST_BODY:
            if answer.finished:
                break
            what = "an event of the stream, or the gap between two events"
            message = f"{what}, is larger than {LARGEST_BODY >> 20} MiB (response_too_large)"
            raise invalid(message, retry=False)
        try:
            chunk = await _read_on(reply, answer, timer) if chunk else None
        except AttemptError as error:
            chunk, how_it_broke = b"", error.failure.message
    if not answer.complete:
        raise answer.broken_off(how_it_broke)
    if answer.wrong_after is not None:
        warn("streams go on with errors or invalid data after complete answers, which are kept", f": {answer.wrong_after}")
    response = read_response(b"", request, streamed=answer.response())
    return replace(response, ttft_s=ttft, text_repaired=answer.text_repaired)


async def _read_on(reply: Reply, answer: StreamAssembler, timer: AttemptTimer) -> bytes:
    """Return the next chunk of a stream, b"" at its end or after the answer. Raises AttemptError if it breaks off."""
    if answer.done:
        return b""
    try:
        return await reply.read()
    except asyncio.CancelledError:
        if answer.finished and timer.take_back():
            return b""  # after the last finish reason the answer is complete: only the connection has stalled
        raise
