"""A real HTTP endpoint for tests, on 127.0.0.1 and in a thread of its own, so that it serves this process and others alike."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

__all__ = ["Answer", "Credit", "Seen", "Served", "at_length", "chat_answer", "in_chunks", "in_thread", "packed"]

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def chat_answer(text: str = "ok", **more: Any) -> dict[str, Any]:
    """Return a whole chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        **more,
    }


async def echo(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer with the text of the last message."""
    return web.json_response(chat_answer(str(body["messages"][-1]["content"])))


class Credit:
    """Answers with the question as long as there is credit; one question or model is wrong."""

    def __init__(self, left: int = 1000, wrong: str = "none") -> None:
        self.left, self.wrong = left, wrong

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """Answer, or say why there is no answer."""
        if self.wrong in {body["messages"][-1]["content"], body["model"]}:
            return web.json_response({"error": {"message": "wrong"}}, status=422)
        self.left -= 1
        if self.left < 0:
            return web.json_response({"error": {"message": "no", "code": "insufficient_quota"}}, status=402)
        return await echo(request, body)


async def at_length(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer with the text of the last message and twenty kilobytes more."""
    return web.json_response(chat_answer(f"{body['messages'][-1]['content']} {'x' * 20_000}"))


async def in_chunks(request: web.Request, *chunks: Mapping[str, Any]) -> web.StreamResponse:
    """Answer with a stream of these chunks, to its end."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for chunk in chunks:
        await response.write(b"data: %b\n\n" % json.dumps(chunk).encode())
    await response.write(b"data: [DONE]\n\n")
    return response


def packed(bodies: Mapping[str, tuple[str, bytes]]) -> Answer:
    """Answer some texts with their media type and bytes, which are gzip; any other text is echoed."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = body["messages"][-1]["content"]
        if text not in bodies:
            return await echo(request, body)
        kind, data = bodies[text]
        return web.Response(body=data, headers={"Content-Type": kind, "Content-Encoding": "gzip"})

    return answer


def in_thread(serve: Callable[[threading.Event], Coroutine[Any, Any, None]]) -> threading.Thread:
    """Serve in a thread and a loop of its own; return once the event is set, which says that it is served."""
    started = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(started)), daemon=True)
    thread.start()
    assert started.wait(10)
    return thread


@dataclass
class Served:
    """An endpoint in a `with` block. `answer` decides what each POST gets; every request is kept in `seen`."""

    answer: Answer = echo
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self._thread = in_thread(self._serve)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Be there no more."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        server = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
        await server.setup()
        site = web.TCPSite(server, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.url = f"{'http' if self.tls is None else 'https'}://127.0.0.1:{server.addresses[0][1]}/v1"
        started.set()
        await self._stop.wait()
        await server.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.read()
        body = json.loads(text) if text else {}
        self.seen.append(Seen(request.path, dict(request.headers), body))
        return await self.answer(request, body)
