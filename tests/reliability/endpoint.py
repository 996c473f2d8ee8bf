"""A chat endpoint as a process of its own, fast and obedient: how it behaves can be changed at any moment.

`python -m tests.reliability.endpoint` prints its port. It answers on `/v1/chat/completions` with `re: ` and the question; what
it does instead is decided by `POST /control` with a JSON object (see Behaviour), and `GET /stats` tells what it has seen.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

from tests.commands import ROOT
from tests.encoders import ENCODERS
from tests.serving import chat_answer

__all__ = ["ECHOES", "KINDS", "Behaviour", "Endpoint", "endpoint"]


@dataclass
class Behaviour:
    """What the endpoint does with a request."""

    #: Seconds until an answer, at least and at most.
    latency: tuple[float, float] = (0.005, 0.015)
    #: The status of an answer that is an error, and which share of the answers are.
    error: int = 500
    error_share: float = 0.0
    #: Requests a second that are allowed, and at once after a pause; the others get 429 and `Retry-After: 1`.
    rate: float | None = None
    burst: float = 20.0
    #: How many are worked on at once, while the others wait; each takes longer by this share for each other one.
    slots: int | None = None
    longer: float = 0.0
    #: How many are taken, with those that wait; the others get 503.
    room: int | None = None
    #: Connections are reset when a question comes.
    dead: bool = False
    #: From this question on every answer, good or bad, holds the caller's key, each in another way.
    echo_from: int | None = None


@dataclass
class _State:
    behaviour: Behaviour = field(default_factory=Behaviour)
    random: random.Random = field(default_factory=lambda: random.Random(1))
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    #: When a question was last answered, on the clock that all processes share.
    answered_at: dict[str, float] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    last_arrival: float = 0.0
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))
    flying: int = 0
    most_flying: int = 0
    tokens: float = 0.0
    tokens_at: float = 0.0
    #: How many are worked on, and what begins when one of them ends.
    busy: int = 0
    waiting: deque[Callable[[], None]] = field(default_factory=deque)

    def allows(self) -> bool:
        """Take a token, where there is one."""
        rate, now = self.behaviour.rate, time.monotonic()
        if rate is None:
            return True
        self.tokens = min(self.behaviour.burst, self.tokens + (now - self.tokens_at) * rate)
        self.tokens_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def begin(self, work: Callable[[], None]) -> None:
        """Begin a work as soon as there is a slot."""
        slots = self.behaviour.slots
        if slots is not None and self.busy >= slots:
            self.waiting.append(work)
            return
        self.busy += 1
        work()

    def end(self) -> None:
        """Take note that a work has ended: the next one begins."""
        self.busy -= 1
        if self.waiting:
            self.begin(self.waiting.popleft())


class _Connection(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self._state = state
        self._received = b""
        #: The answers that are to come.
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._numbers = itertools.count()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        for timer in self._timers.values():
            timer.cancel()
            self._state.end()
        self._state.flying -= len(self._timers)
        self._timers.clear()

    def _reset(self) -> None:
        handle = self._transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            length = end + 4 + int(lines.get(b"content-length", b"0"))
            if len(self._received) < length:
                return
            body, self._received = self._received[end + 4 : length], self._received[length:]
            self._request(head, body)

    def _request(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path == b"/control":
            self._state.behaviour = Behaviour(**json.loads(body))
            self._send(200, b"{}")
        elif path == b"/count":
            self._send(200, str(self._state.statuses[200]).encode())
        elif path == b"/stats":
            self._send(200, json.dumps(_stats(self._state)).encode())
        else:
            self._chat(head, json.loads(body))

    def _chat(self, head: bytes, body: dict[str, Any]) -> None:
        state = self._state
        behaviour, question = state.behaviour, str(body["messages"][-1]["content"])
        state.asked[question] += 1
        state.last_arrival = time.monotonic()
        state.arrivals.append(state.last_arrival)
        if behaviour.dead:
            self._reset()
            return
        if not state.allows():
            state.statuses[429] += 1
            self._send(429, b'{"error":{"message":"slow down"}}', b"Retry-After: 1\r\n")
            return
        if behaviour.room is not None and state.busy + len(state.waiting) >= behaviour.room:
            state.statuses[503] += 1
            self._send(503, b'{"error":{"message":"no room"}}')
            return
        state.begin(partial(self._begin, head, question))

    def _begin(self, head: bytes, question: str) -> None:
        state, behaviour = self._state, self._state.behaviour
        if self._transport.is_closing():  # who asked has left while it waited
            state.end()
            return
        state.flying += 1
        state.most_flying = max(state.most_flying, state.flying)
        fails = state.random.random() < behaviour.error_share
        latency, number = state.random.uniform(*behaviour.latency), next(self._numbers)
        latency *= 1 + behaviour.longer * (state.busy - 1)
        loop = asyncio.get_running_loop()
        self._timers[number] = loop.call_later(latency, self._answer, number, head, question, fails)

    def _answer(self, number: int, head: bytes, question: str, fails: bool) -> None:
        state = self._state
        del self._timers[number]
        state.flying -= 1
        state.end()
        first, place = state.behaviour.echo_from, int(question.rpartition(" ")[2])
        if first is not None and place >= first:
            self._transport.write(_echo(head, place - first))
            return
        if fails:
            state.statuses[state.behaviour.error] += 1
            self._send(state.behaviour.error, b'{"error":{"message":"it went wrong"}}')
            return
        state.statuses[200] += 1
        self._send(200, json.dumps(chat_answer(f"re: {question}")).encode())
        state.answered[question] += 1
        state.answered_at[question] = time.monotonic()

    def _send(self, status: int, body: bytes, more: bytes = b"") -> None:
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n" % (status, more, len(body))
        self._transport.write(head + body)


#: What an echoing endpoint answers to the n-th question: status, media type, further headers, body. KEY becomes the key.
ECHOES = [
    ("401 No", "application/json", "WWW-Authenticate: KEY\r\n", '{"error":{"message":"Incorrect API key provided: KEY."}}'),
    ("200 OK", "application/json", "", json.dumps(chat_answer("your key is KEY"))),
    ("400 Bad Request", "application/json", "", '{"error":{"message":"bad key KEY","code":"KEY","type":"KEY"}}'),
    ("500 Oops", "text/html", "", "<html><title>KEY</title><p>Authorization: Bearer KEY</html>"),
    ("429 Slow", "application/json", "Retry-After: 0\r\nx-ratelimit-reset-requests: KEY\r\n", '{"error":{"message":"KEY"}}'),
    ("302 Found", "text/plain", "Location: http://127.0.0.1:9/?key=KEY\r\n", "see /?key=KEY"),
    ("422 Bad KEY", "application/json", "x-request-id: KEY\r\n", '{"detail":[{"msg":"KEY"}]}'),
    ("200 OK", "application/json", "", '{"error":{"message":"in a 200: KEY"}}'),
    ("200 OK", "text/html", "", "<html>a gateway wants KEY</html>"),
    ("200 OK", "application/json", "", '{"choices": [], "KEY": "KEY"}'),
    ("200 OK", "application/json", "", '{"choices": "broken KEY'),
    ("200 OK", "text/event-stream", "", 'data: {"error":{"message":"KEY"}}\n\n'),
    ("200 OK", "text/event-stream", "", 'data: {"choices":[{"index":0,"delta":{"content":"KEY"}}]}\n\n'),
    ("413 Big", "text/plain", "", "KEY" * 3),
    ("200 OK", "application/json", "", json.dumps(chat_answer("URL"))),
    ("200 OK", "application/json", "", json.dumps(chat_answer("BASE64"))),
]
#: How many of them write the key in a way of their own; behind them the same refusal comes in all the ways of strangers.
KINDS = len(ECHOES)
ECHOES += [("400 Bad Request", "application/json", "", f'{{"error":{{"message":"<<{name}>>"}}}}') for name in ENCODERS]
ECHOES += [("400 Bad Request", "text/html", "", f"<html><title><<{name}>></title></html>") for name in ENCODERS]
ECHOES += [("500 Oops", f"text/plain; charset={name}", "", "no: KEY") for name in ("utf-16", "utf-16-le", "utf-16-be")]


def _echo(head: bytes, number: int) -> bytes:
    found = re.search(rb"(?im)^authorization: Bearer (.*?)\r?$", head)
    assert found is not None
    key = found[1].decode()
    status, kind, more, body = ECHOES[number % len(ECHOES)]
    body = re.sub("<<(.*?)>>", lambda found: ENCODERS[found[1]](key), body)
    body = body.replace("BASE64", base64.b64encode(f"Bearer {key}".encode()).decode()).replace("URL", quote(key, safe=""))
    body = body.replace("KEY", json.dumps(key)[1:-1] if "json" in kind or "stream" in kind else key)
    content = body.encode(kind.rpartition("charset=")[2] if "charset=" in kind else "utf-8")
    start = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}".replace("KEY", key)
    return f"{start}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _stats(state: _State) -> dict[str, Any]:
    return {
        "asked": state.asked,
        "answered": state.answered,
        "answered_at": state.answered_at,
        "statuses": {str(status): count for status, count in state.statuses.items()},
        "last_arrival": state.last_arrival,
        "arrivals": list(state.arrivals),
        "most_flying": state.most_flying,
    }


async def _serve() -> None:
    state = _State()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(state), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@dataclass
class Endpoint:
    """The process, seen from the campaign."""

    port: int
    #: Ends the process at once.
    kill: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def behave(self, behaviour: Behaviour) -> None:
        """Behave otherwise from now on."""
        self._call("/control", json.dumps(asdict(behaviour)).encode())

    def answers(self) -> int:
        """Return how many good answers were given."""
        return int(self._call("/count"))

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._call("/stats"))
        return found

    def _call(self, path: str, body: bytes | None = None) -> bytes:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET" if body is None else "POST", path, body)
            return connection.getresponse().read()


@contextmanager
def endpoint(behaviour: Behaviour | None = None) -> Iterator[Endpoint]:
    """Start an endpoint; it ends with the block."""
    words = [sys.executable, "-m", "tests.reliability.endpoint"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = Endpoint(int(process.stdout.readline()), process.kill)
        if behaviour is not None:
            found.behave(behaviour)
        yield found
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    asyncio.run(_serve())
