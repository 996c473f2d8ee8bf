"""One endpoint that misbehaves on command, on real sockets: the path says how.

    http://127.0.0.1:PORT/<fault>/v1            every request meets the fault
    http://127.0.0.1:PORT/<fault>:2/v1          the first 2 requests of each row do, then all is fine
    http://127.0.0.1:PORT/<fault>@20/v1         it begins after 20 requests were answered
    http://127.0.0.1:PORT/fine/v1               no fault

A row is known by the text of its last message; one whose text holds the word "fine" is never troubled. What HTTP allows is
answered through aiohttp; what it does not is written to the same socket by hand. Nothing is random: the n-th request for
a row meets the same each time. By hand: `python -m tests.misbehaving PORT` lists the faults and serves them.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import re
import socket
import ssl
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.serving import Seen, Served, chat_answer

__all__ = ["FAULTS", "HTML", "Asked", "Misbehaving", "closed_port"]

HTML = "<!DOCTYPE html><html><head><title>Sign in · Gateway</title></head><body>Please sign in to go on</body></html>"
#: How far the endpoint's clock is ahead of ours where its `Date` says so.
CLOCK_AHEAD_S = 3600
_PATH = re.compile(r"^/([^/:@]+)(?::(\d+))?(?:@(\d+))?/v1/")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """One request that is to meet a fault."""

    request: web.Request
    body: Mapping[str, Any]
    #: The text of the last message.
    text: str
    #: How often this row was asked on this path, from 1, and how many requests met this path, from 1.
    number: int
    nth: int
    #: What the endpoint remembers from one request to the next.
    memory: dict[Any, Any]


Fault = Callable[[Asked], Awaitable[web.StreamResponse]]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    def add(answer: Fault) -> Fault:
        assert name not in FAULTS, name
        FAULTS[name] = answer
        return answer

    return add


@dataclass
class Misbehaving:
    """The endpoint in a `with` block; `at` gives the base URL of a fault, `requests` counts by path."""

    tls: ssl.SSLContext | None = None
    #: Requests by the first part of their path, as `429-seconds:1`.
    requests: Counter[str] = field(default_factory=Counter)
    #: The same by row: (path, text of the last message).
    of_row: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: When requests came, by path and by a clock that never jumps.
    times: dict[str, list[float]] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)
    memory: dict[Any, Any] = field(default_factory=dict)
    #: Paths on which all is fine from now on.
    forgiven: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._served = Served(self.answer, tls=self.tls).__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._served.__exit__(kind, error, trace)

    def at(self, path: str) -> str:
        """Return the base URL of a fault, as `500:1`."""
        return f"{self._served.url.removesuffix('/v1')}/{path}/v1"

    @property
    def seen(self) -> list[Seen]:
        """Every request as it came."""
        return self._served.seen

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        match = _PATH.match(request.path)
        if match is None or match[1] not in {*FAULTS, "fine"}:
            return web.json_response({"detail": f"no such fault: {request.path}"}, status=404)
        path = request.path.split("/")[1]
        text = text_of(body)
        self.requests[path] += 1
        self.of_row[path, text] += 1
        self.times.setdefault(path, []).append(time.monotonic())
        asked = Asked(request, body, text, self.of_row[path, text], self.requests[path], self.memory)
        over = match[2] is not None and asked.number > int(match[2])
        not_yet = match[3] is not None and self.answered[path] < int(match[3])
        if match[1] == "fine" or "fine" in text or path in self.forgiven or over or not_yet:
            self.answered[path] += 1
            return await fine(asked)
        return await FAULTS[match[1]](asked)


def text_of(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    return str(messages[-1].get("content")) if messages else str(body.get("prompt"))


async def fine(asked: Asked) -> web.StreamResponse:
    """Answer as an endpoint should, streamed where that is asked for."""
    if asked.body.get("stream"):
        return await streamed(asked, *events(asked.text))
    return web.json_response(chat_answer(f"re: {asked.text}"))


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


# --- pieces that faults are made of ---


def body_of(text: str = "ok", **more: Any) -> bytes:
    return json.dumps(chat_answer(text, **more)).encode()


def with_message(asked: Asked, message: Mapping[str, Any], finish_reason: str = "stop") -> web.Response:
    return web.json_response(chat_answer(choices=[{"index": 0, "message": message, "finish_reason": finish_reason}]))


def failed_choice(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer whose only choice failed in the middle."""
    return chat_answer(choices=[{"index": 0, "message": {"role": "assistant", "content": "half an answer"}, **said}])


def error_body(message: str, code: str | None = None, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind or code, "param": None, "code": code}}


async def raw(asked: Asked, *pieces: bytes, end: str = "close", every: float = 0.0) -> web.StreamResponse:
    """Write bytes that need not be HTTP to the socket, and then close, reset or keep it silent."""
    transport = asked.request.transport
    assert transport is not None
    for piece in pieces:
        if transport.is_closing():
            break
        transport.write(piece)
        if every:
            await asyncio.sleep(every)
    if end == "reset":
        await asyncio.sleep(0.02)  # what was written is to arrive first
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif end == "hang":
        while not transport.is_closing():  # noqa: ASYNC110  aiohttp has no event for it
            await asyncio.sleep(0.02)
    else:
        transport.close()
    return web.Response()  # goes nowhere: the connection is gone


def chunk(data: bytes) -> bytes:
    """Return a piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def piece(delta: Mapping[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
    """Return one event of a stream."""
    found = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        **more,
    }
    return b"data: %b\n\n" % json.dumps(found, ensure_ascii=False).encode()


def failed_piece(said: Mapping[str, Any]) -> bytes:
    """Return an event whose choice failed."""
    chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": ""}, **said}]}
    return b"data: %b\n\n" % json.dumps(chunk).encode()


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"


def events(text: str) -> list[bytes]:
    """Return the events of a whole streamed answer."""
    return [piece({"role": "assistant", "content": "re: "}), piece({"content": text}), piece({}, "stop"), USAGE, DONE]


async def streamed(asked: Asked, *pieces: bytes, every: float = 0.0, ended: bool = True) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(asked.request)
    for one in pieces:
        await response.write(one)
        if every:
            await asyncio.sleep(every)
    if ended:
        await response.write_eof()
    return response


def canned(
    name: str,
    status: int,
    body: Any = None,
    headers: Mapping[str, str] | Callable[[], Mapping[str, str]] = {},  # noqa: B006  never changed
    content_type: str = "application/json",
) -> None:
    """Add a fault that always gives one and the same response."""

    async def answer(_asked: Asked) -> web.StreamResponse:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = dict(headers() if callable(headers) else headers)
        return web.Response(status=status, body=data, headers={"Content-Type": content_type} | given)

    fault(name)(answer)


def written(name: str, *pieces: bytes, end: str = "close", every: float = 0.0) -> None:
    """Add a fault that writes bytes to the socket."""

    async def answer(asked: Asked) -> web.StreamResponse:
        return await raw(asked, *pieces, end=end, every=every)

    fault(name)(answer)


def events_of(name: str, *pieces: bytes, every: float = 0.0) -> None:
    """Add a fault that streams events and ends the stream in good order."""

    async def answer(asked: Asked) -> web.StreamResponse:
        return await streamed(asked, *pieces, every=every)

    fault(name)(answer)


# --- network ---

written("close")
written("reset", end="reset")
written("hang", end="hang")


@fault("stale")
async def _stale(asked: Asked) -> web.StreamResponse:
    """Answer well, and close the connection without having said so."""
    response = web.json_response(chat_answer(f"re: {asked.text}"))
    await response.prepare(asked.request)
    await response.write_eof()
    assert asked.request.transport is not None
    asked.request.transport.close()
    return response


@fault("drop-kept")
async def _drop_kept(asked: Asked) -> web.StreamResponse:
    """Answer the first request of each connection well and meet every later one with a closed connection."""
    connection = asked.request.transport
    if connection in asked.memory:
        return await raw(asked)
    asked.memory[connection] = True
    return await fine(asked)


# --- HTTP status ---

canned("400", 400, error_body("temperature must be below 2", "invalid_value", "invalid_request_error"))
canned("400-long", 400, b'{"error":{"message":"bad' + b"x" * 9000 + b'"}}')
GOOGLES_KEY = {
    "code": 400,
    "message": "API key not valid. Please pass a valid API key.",
    "status": "INVALID_ARGUMENT",
    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
}
canned("400-context", 400, error_body("This model's maximum context length is 8192 tokens", "context_length_exceeded"))
canned("400-filter", 400, error_body("The response was filtered", "content_filter"))
canned("401", 401, error_body("Incorrect API key provided", "invalid_api_key"))
canned("403", 403, {"detail": "not for you"})
canned("400-google-key", 400, [{"error": GOOGLES_KEY}])
canned("404-model", 404, error_body("The model `m` does not exist", "model_not_found"))
canned("404-path", 404, {"detail": "Not Found"})
canned("402", 402, error_body("Insufficient credits"))
canned("429-quota", 429, error_body("You exceeded your current quota", "insufficient_quota"))

LIMITED = error_body("Rate limit reached", "rate_limit_exceeded")


def _date_headers() -> dict[str, str]:
    """Return a wish of 2 s by a clock that is an hour ahead of ours."""
    now = int(time.time()) + CLOCK_AHEAD_S
    return {"Date": email.utils.formatdate(now, usegmt=True), "Retry-After": email.utils.formatdate(now + 2, usegmt=True)}


canned("429", 429, LIMITED)
canned("429-seconds", 429, LIMITED, {"Retry-After": "1"})
canned("429-ms", 429, LIMITED, {"retry-after-ms": "700"})
canned("429-date", 429, LIMITED, _date_headers)
canned("429-reset", 429, LIMITED, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "900ms"})
canned("429-reset-long", 429, LIMITED, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"})
canned("429-negative", 429, LIMITED, {"Retry-After": "-5"})
canned("429-garbage", 429, LIMITED, {"Retry-After": "soon"})
canned("429-1e9", 429, LIMITED, {"Retry-After": "1000000000"})
canned("429-nested", 429, error_body(json.dumps({"error": {"details": [{"retryDelay": "0.7s"}]}})))
canned("429-long", 429, error_body(f"Rate limit reached: {'x' * 20_000}. Please try again in 1s."))
canned("429-message", 429, error_body("Rate limit reached for m. Please try again in 0.8s.", "rate_limit_exceeded"))


@fault("403-echo")
async def _echo_of_the_prompt(asked: Asked) -> web.StreamResponse:
    """Refuse a prompt in its own words, as a filter before the endpoint does."""
    return web.json_response({"error": {"message": f"blocked by policy 7: {asked.text}", "code": "waf"}}, status=403)


@fault("429-echo")
async def _echo_of_the_prompt_in_a_429(asked: Asked) -> web.StreamResponse:
    return web.json_response({"error": {"message": f"busy, cannot answer “{asked.text}” now"}}, status=429)


for _status in (408, 409, 413, 422, 425, 451, 500, 501, 502, 503, 504, 505, 529):
    canned(str(_status), _status, error_body(f"it is {_status}"))
for _status in (301, 302, 307, 308):
    canned(str(_status), _status, None, {"Location": "http://elsewhere.invalid/v1/chat/completions?key=sk-CANARY"})
canned("204", 204)
canned("206", 206, body_of("a part")[:-40])


@fault("2xx")
async def _2xx(asked: Asked) -> web.StreamResponse:
    """Answer well, with the status that is the last word of the row."""
    status = int(asked.text.rsplit(" ", 1)[-1])
    if asked.body.get("stream"):
        body, kind = b"".join(events(asked.text)), "text/event-stream"
    else:
        body, kind = body_of(f"re: {asked.text}"), "application/json"
    return web.Response(status=status, body=body, content_type=kind)


written("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", end="hang")
written(
    "103-then-200",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + _HEAD + b"Content-Length: %d\r\n\r\n" % len(body_of()),
    body_of(),
)
canned("should-retry-true", 400, error_body("a hiccup"), {"x-should-retry": "true"})
canned("should-retry-false", 500, error_body("it will not get better"), {"x-should-retry": "false"})


@fault("storm")
async def _storm(asked: Asked) -> web.StreamResponse:
    """Let 100 requests a second pass (a bucket of 20), and refuse the others for a second."""
    now = time.monotonic()
    level, at = asked.memory.get("bucket", (20.0, now))
    level = min(20.0, level + (now - at) * 100)
    allowed = level >= 1
    asked.memory["bucket"] = (level - allowed, now)
    if allowed:
        return await fine(asked)
    return web.json_response(LIMITED, status=429, headers={"Retry-After": "1"})


@fault("half-500")
async def _half_500(asked: Asked) -> web.StreamResponse:
    """Fail half of all requests at random, and in each run the same."""
    if random.Random(f"{asked.text} {asked.number}").random() < 0.5:
        return web.json_response(error_body("a broken replica"), status=500)
    return await fine(asked)


# --- body ---

_THINKING = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "let me "}, {"type": "text", "text": "think"}]},
    {"type": "text", "text": "B"},
]

canned("html-502", 502, HTML.encode(), content_type="text/html")
canned("html-200", 200, HTML.encode(), content_type="text/html")
canned("text-plain", 200, body_of("plain"), content_type="text/plain")
canned("error-200-rate", 200, error_body("slow down", "rate_limit_exceeded"))
canned("error-200-auth", 200, error_body("no such key", "invalid_api_key"))
canned("error-200-context", 200, error_body("too long", "context_length_exceeded"))
canned("error-200-server", 200, {"error": {"message": "worker died", "code": 503}})
canned("empty", 200, b"")
canned("truncated-json", 200, body_of("half of it")[:-40])
canned("bom", 200, b"\xef\xbb\xbf" + body_of("after a BOM"))
canned("bad-utf8", 200, body_of("caf@").replace(b"@", b"\xe9"))
canned("surrogate", 200, body_of("half a pair @").replace(b"@", b"\\ud83d"))
canned(
    "nan",
    200,
    body_of("ok").replace(
        b'"finish_reason"', b'"logprobs":{"content":[{"token":"a","logprob":-Infinity,"x":NaN}]},"finish_reason"'
    ),
)
canned("huge-integers", 200, body_of("ok", created=10**40, usage={"prompt_tokens": 2**64, "completion_tokens": 10**30}))
_UPSTREAM = {"code": 502, "message": "Upstream idle timeout"}
canned("choice-error", 200, failed_choice({"finish_reason": "error", "error": _UPSTREAM}))
canned("choice-error-stop", 200, failed_choice({"finish_reason": "stop", "error": _UPSTREAM}))
canned("choice-error-bare", 200, failed_choice({"finish_reason": "error"}))
canned("thinking", 200, chat_answer(choices=[{"message": {"content": _THINKING}, "finish_reason": "stop"}]))
canned("no-choices", 200, chat_answer(choices=[]))
canned("choices-missing", 200, {"id": "x", "object": "chat.completion"})
canned("choices-null", 200, chat_answer(choices=None))
canned("choice-without-message", 200, chat_answer(choices=[{"index": 0, "finish_reason": "stop"}]))


@fault("null-content")
async def _null(asked: Asked) -> web.StreamResponse:
    return with_message(asked, {"role": "assistant", "content": None})


@fault("tool-calls")
async def _tool_calls(asked: Asked) -> web.StreamResponse:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return with_message(asked, {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")


@fault("refusal")
async def _refusal(asked: Asked) -> web.StreamResponse:
    return with_message(asked, {"role": "assistant", "content": None, "refusal": "I will not"})


@fault("reasoning-only")
async def _reasoning(asked: Asked) -> web.StreamResponse:
    return with_message(asked, {"role": "assistant", "content": None, "reasoning_content": "let me think"})


@fault("length")
async def _length(asked: Asked) -> web.StreamResponse:
    return with_message(asked, {"role": "assistant", "content": "half a sen"}, "length")


@fault("filtered")
async def _filtered(asked: Asked) -> web.StreamResponse:
    return with_message(asked, {"role": "assistant", "content": "some of"}, "content_filter")


canned("usage-missing", 200, {key: value for key, value in chat_answer().items() if key != "usage"})
canned("usage-negative", 200, chat_answer(usage={"prompt_tokens": -1, "completion_tokens": -2, "total_tokens": -3}))
canned("usage-in-parts", 200, chat_answer(usage={"prompt_tokens": 500.0, "completion_tokens": 500}))
canned("usage-words", 200, chat_answer(usage={"prompt_tokens": "3", "completion_tokens": "two", "total_tokens": None}))
canned("other-model", 200, chat_answer(model="another-model"))
canned(
    "two-choices",
    200,
    chat_answer(choices=[{"index": n, "message": {"content": f"answer {n}"}, "finish_reason": "stop"} for n in range(2)]),
)


@fault("huge-body")
async def _huge(asked: Asked) -> web.StreamResponse:
    """Send 300 MB, or as much of it as is read."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(asked.request)
    await response.write(b'{"choices":[{"message":{"content":"')
    for _ in range(300):
        await response.write(b"x" * (1 << 20))
    await response.write(b'"}}]}')
    return response


@cache
def bomb(megabytes: int, window: int = 31) -> bytes:
    """Return a body of spaces, packed as gzip or as zlib (15); its last checksum is never reached."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    head = packer.compress(b'{"x":"') + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * megabytes


@fault("gzip-bomb")
async def _gzip_bomb(_asked: Asked) -> web.StreamResponse:
    return web.Response(body=bomb(200), content_type="application/json", headers={"Content-Encoding": "gzip"})


@fault("deflate-bomb")
async def _deflate_bomb(_asked: Asked) -> web.StreamResponse:
    return web.Response(body=bomb(100, 15), content_type="application/json", headers={"Content-Encoding": "deflate"})


canned("bad-gzip", 200, b"this is no gzip at all", {"Content-Encoding": "gzip"})
canned("cut-gzip", 200, bomb(0) + zlib.compress(body_of())[2:20], {"Content-Encoding": "gzip"})
written("short-body", _HEAD + b"Content-Length: 500\r\n\r\n" + body_of()[:-1])
written("whole-body-cut", _HEAD + b"Content-Length: 500\r\n\r\n" + body_of("whole"))
written("whole-body-reset", _HEAD + b"Content-Length: 500\r\n\r\n" + body_of("whole"), end="reset")
written("whole-body-hangs", _HEAD + b"Content-Length: 500\r\n\r\n" + body_of("whole"), end="hang")
written("reset-body", _HEAD + b"Content-Length: 500\r\n\r\n" + body_of()[:50], end="reset")
written("length-too-small", _HEAD + b"Content-Length: 20\r\n\r\n" + body_of())
written("length-twice", _HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body_of())
written("bad-status", b"HTTP/1.1 abc what\r\nContent-Length: 0\r\n\r\n")
written("long-header", _HEAD + b"X-Long: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}")
written("many-headers", _HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(40_000)) + b"Content-Length: 2\r\n\r\n{}")
written("ssh", b"SSH-2.0-OpenSSH_9.6\r\n")
written("401-cut", b"HTTP/1.1 401 Who\r\nContent-Length: 500\r\n\r\n{")
written("429-cut", b"HTTP/1.1 429 Wait\r\nRetry-After: 0\r\nContent-Length: 500\r\n\r\n{")
written("half-headers", b"HTTP/1.1 200 OK\r\nContent-Ty")

# --- stream ---

_START = [piece({"role": "assistant", "content": "half "}), piece({"content": "an answer"})]
events_of("stream-error", *_START, b'data: {"error":{"message":"the worker died","code":500}}\n\n')
events_of("stream-error-event", *_START, b'event: error\ndata: {"message":"overloaded","type":"overloaded_error"}\n\n')
events_of("stream-error-final", *_START, b'data: {"error":{"message":"too long","code":"context_length_exceeded"}}\n\n')
events_of("stream-own-words", *_START, b'data: {"detail":"the worker died","status_code":503}\n\n', USAGE, DONE)
events_of("stream-choice-abort", *_START, piece({}, "abort"), USAGE, DONE)
events_of("stream-choice-error", *_START, failed_piece({"finish_reason": "error", "error": _UPSTREAM}), USAGE, DONE)
events_of("stream-choice-error-stop", *_START, failed_piece({"error": _UPSTREAM}), piece({}, "stop"), DONE)
events_of("stream-choice-error-bare", *_START, piece({}, "error"))
events_of(
    "stream-thinking", piece({"content": _THINKING[:1]}), piece({"content": _THINKING[1:]}), piece({}, "stop"), USAGE, DONE
)
events_of("stream-no-end", *_START)
events_of("stream-no-done", *_START, piece({}, "stop"))
written("stream-cut", _STREAM_HEAD, *map(chunk, _START))
written("stream-reset", _STREAM_HEAD, *map(chunk, _START), end="reset")
written("stream-stall", _STREAM_HEAD, *map(chunk, _START), end="hang")
written("stream-comments", _STREAM_HEAD, *map(chunk, _START), *[chunk(b": still here\n\n")] * 400, every=0.03)
written("drip-head", *(bytes([byte]) for byte in _HEAD * 8), every=0.05)
written("drip-body", _HEAD + b"Content-Length: 9999\r\n\r\n", *[b" "] * 400, every=0.05)
written("drip-stream", _STREAM_HEAD, *[chunk(piece({"content": "."}))] * 400, every=0.05)


def odd_events() -> bytes:
    """Return a stream that uses all that the format allows."""
    multi = json.dumps(json.loads(piece({"content": "whole"}).removeprefix(b"data: ")), indent=1, ensure_ascii=False)
    lines = [
        "\ufeffretry: 100",
        ": a comment",
        "",
        "id: 1",
        "event: message",
        *(f"data:{line}" for line in multi.split("\n")),
        "",
        "data: " + piece({"content": " ü🦜日"}).decode().removeprefix("data: ").strip(),
        "",
        "data:" + piece({}, "stop").decode().removeprefix("data: ").strip(),
        "",
        "data: [DONE]",
        "",
        "",
    ]
    ends = ["\n", "\r\n", "\r"]
    return "".join(f"{line}{ends[min(number // 5, 2)]}" for number, line in enumerate(lines)).encode()


@fault("split-everywhere")
async def _split(asked: Asked) -> web.StreamResponse:
    """Send the same stream in two pieces, split at another byte for each row: the row's text ends with where."""
    data = odd_events()
    where = int(asked.text.rsplit(" ", 1)[-1]) % len(data)
    return await streamed(asked, *(part for part in (data[:where], data[where:]) if part), every=0.001)


@fault("split-bytes")
async def _split_bytes(asked: Asked) -> web.StreamResponse:
    data = odd_events()
    return await streamed(asked, *(data[at : at + 1] for at in range(len(data))))


events_of("large-event", piece({"content": "x" * 400_000}), piece({}, "stop"), DONE)


@fault("huge-stream")
async def _huge_stream(asked: Asked) -> web.StreamResponse:
    """Stream 64 MB of answer, or as much of it as is read."""
    return await streamed(asked, *[piece({"content": "x" * (1 << 19)})] * 128)


@fault("huge-event")
async def _huge_event(asked: Asked) -> web.StreamResponse:
    return await streamed(asked, b"data: {", *[b"x" * (1 << 20)] * 64)


@fault("many-events")
async def _many_events(asked: Asked) -> web.StreamResponse:
    """Stream 20,000 pieces."""
    return await streamed(asked, *[piece({"content": "x"}) * 100] * 200, piece({}, "stop"), DONE)


events_of("stream-bad-utf8", piece({"content": "caf@"}).replace(b"@", b"\xe9"), piece({}, "stop"), DONE)
canned("json-for-stream", 200, body_of("not streamed"))


@fault("no-stream-options")
async def _no_stream_options(asked: Asked) -> web.StreamResponse:
    if "stream_options" in asked.body:
        return web.json_response(error_body("Unknown parameter: 'stream_options'.", "unknown_parameter"), status=400)
    return await fine(asked)


events_of(
    "after-done",
    piece({"content": "ok"}),
    piece({}, "stop"),
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}\n\n',
    DONE,
    DONE,
    piece({"content": " and more"}),
)


#: What comes behind a whole answer: the pieces in turn, and then the last one again and again, or the end of the connection.
TAILS: dict[str, tuple[list[bytes], str]] = {
    "silence": ([], "hang"),
    "comments": ([b": still here\n\n"], "again"),
    "pings": ([b"event: ping\ndata: {}\n\n"], "again"),
    "chunks": ([piece({}, "stop")], "again"),
    "usage": ([USAGE], "again"),
    "cut": ([], "close"),
    "reset": ([], "reset"),
    "error": ([b'data: {"error":{"message":"the worker died","code":500}}\n\n'], "close"),
    "event": ([b"event: error\ndata: overloaded\n\n"], "hang"),
    "cut-json": ([b'data: {"choices":[{"del\n\n'], "hang"),
    "text": ([b"data: bye\n\n"], "hang"),
    "list": ([b"data: [1]\n\n"], "hang"),
    "types": ([b'data: {"choices":[{"index":0,"delta":{"content":{"a":1}}}]}\n\n'], "hang"),
    "long-comment": ([b":" + b"x" * (1 << 18)], "again"),
}


@fault("whole-then")
async def _whole_then(asked: Asked) -> web.StreamResponse:
    """Stream a whole answer, and then what the last word of the row names."""
    tail, end = TAILS[asked.text.rsplit(" ", 1)[-1]]
    answer = [piece({"role": "assistant", "content": asked.text}), piece({}, "stop")]
    more = tail * (400 if end == "again" else 1)
    return await raw(asked, _STREAM_HEAD, *map(chunk, answer), *map(chunk, more), end=end, every=0.02)


written("whole-then-bad-chunk", _STREAM_HEAD, chunk(piece({"content": "ok"}) + piece({}, "stop")) + b"no size\r\n")


# --- an endpoint over time ---


@fault("slow")
async def _slow(asked: Asked) -> web.StreamResponse:
    """Answer after 0.3 s."""
    await asyncio.sleep(0.3)
    return await fine(asked)


@fault("outage")
async def _outage(asked: Asked) -> web.StreamResponse:
    """Be down for 2 s from the first request that comes here."""
    began = asked.memory.setdefault("outage began", time.monotonic())
    if time.monotonic() - began < 2:
        return web.json_response(error_body("rolling out"), status=503)
    return await fine(asked)


@fault("mixed-up")
async def _mixed_up(_asked: Asked) -> web.StreamResponse:
    return web.json_response(chat_answer("the answer to something else", id="chatcmpl-of-another"))


@fault("echo-key")
async def _echo_key(asked: Asked) -> web.StreamResponse:
    sent = asked.request.headers.get("Authorization", "none")
    return web.json_response({"error": {"message": f"bad key {sent}"}}, status=422, headers={"X-Echo": sent})


@fault("header-length")
async def _header_length(asked: Asked) -> web.StreamResponse:
    return web.json_response(chat_answer(str(len(asked.request.headers.get("Authorization", "")))))


def main() -> None:
    """Serve all faults on a port."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080

    async def serve() -> None:
        endpoint = Misbehaving()
        app = web.Application(client_max_size=1 << 30)

        async def handle(request: web.Request) -> web.StreamResponse:
            text = await request.read()
            response = await endpoint.answer(request, json.loads(text) if text else {})
            print(f"{request.path} {dict(endpoint.requests)}", file=sys.stderr)
            return response

        app.router.add_route("*", "/{path:.*}", handle)
        server = web.AppRunner(app)
        await server.setup()
        await web.TCPSite(server, "127.0.0.1", port).start()
        print("\n".join(f"http://127.0.0.1:{port}/{name}/v1" for name in ("fine", *FAULTS)))
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
