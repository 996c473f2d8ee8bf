"""A program that stands still for longer than a timeout keeps every answer that came meanwhile, and loses no connection."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop
from aiohttp import web

from runner.endpoint.client import ChatClient
from runner.endpoint.http.aiohttp_session import AiohttpTransport
from runner.endpoint.http.http1 import Http1Transport
from runner.endpoint.http.timeouts import Timeouts
from runner.endpoint.http.transport import Transport
from runner.pipeline.pipeline import InFlight, Pipeline
from runner.timers import timeout
from runner.types import Attempt, Response
from tests.misbehaving import DONE, USAGE, piece
from tests.plain_requests import request
from tests.serving import Served, chat_answer
from tests.test_client import Certificate, certificate

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.SelectorEventLoop, uvloop.Loop]
#: What is to run out while the program stands still, in which share of a second, and the characters of an answer.
CASES: dict[str, tuple[str, float, int]] = {
    "first_byte": ("first_byte", 1, 100),
    "first_byte, large": ("first_byte", 1, 2_000_000),
    "idle": ("idle", 1, 100),
    "idle, large": ("idle", 1, 2_000_000),
    "total": ("total", 1, 200_000),
    "stream, first_byte": ("first_byte", 1, 100),
    "stream, idle": ("idle", 1, 60_000),
    "stream, usage": ("idle", 4, 100),  # a quarter of it is left when the answer is whole
    "stream, total": ("total", 1, 60_000),
}
EACH = 2
Ways = list[tuple[str, Callable[[], Transport]]]


def limits_of(case: str, seconds: float) -> Timeouts:
    """Return the time that a case has, and much more for everything else."""
    phase, share, _ = CASES[case]
    return Timeouts(**(dict.fromkeys(("first_byte", "idle", "total"), 60 * seconds) | {phase: share * seconds}))


class Held:
    """A server that answers when it is told to: what a case has sent before, and the rest then."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.sent = threading.Semaphore(0)

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        case = str(body["messages"][-1]["content"])
        first, rest = parts(case)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream" if "stream" in case else "application/json"})
        if "first" not in case:
            await response.prepare(request)
            await response.write(first)
            first = b""
        self.came.release()
        await asyncio.to_thread(self.go_on.wait)
        await response.prepare(request)
        await response.write(first + rest[: 1 << 16])
        self.sent.release()
        await response.write(rest[1 << 16 :])
        await response.write_eof()
        return response


def parts(case: str) -> tuple[bytes, bytes]:
    text = "x" * CASES[case][2]
    if case == "stream, usage":
        return piece({"content": text}) + piece({}, "stop"), USAGE + DONE
    if "stream" in case:
        return piece({"content": text}), b": still here\n\n" * 99 + piece({}, "stop") + USAGE + DONE
    body = json.dumps(chat_answer(text)).encode()
    return body[:9], body[9:]


def attempt(case: str) -> Attempt:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": case}]}).encode()
    return Attempt(request(content=body), 1)


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


@contextmanager
def transports(own: Certificate, held: Held) -> Iterator[Ways]:
    room = len(CASES) * EACH
    with Served(held.answer) as plain, Served(held.answer, tls=own.server_side()) as tls:
        yield [
            (plain.url, lambda: Http1Transport(connections=room, connect_timeout=20)),
            (tls.url, lambda: AiohttpTransport(connections=room, connect_timeout=20, verify=str(own.path))),
        ]


@pytest.mark.long
@pytest.mark.parametrize("loop", LOOPS)
def test_what_came_while_the_program_stood_still_is_kept(
    loop: Callable[[], asyncio.AbstractEventLoop], own_certificate: Certificate
) -> None:
    # On a machine that is too slow to ask everything within a second there is more time for all.
    answers: list[Response | BaseException] | None = None
    for seconds in (1, 4, 16):
        held = Held()
        with transports(own_certificate, held) as ways, asyncio.Runner(loop_factory=loop) as runner:
            answers = runner.run(answers_to_all(held, ways, seconds))
        if answers is not None:
            break
    assert answers is not None
    cases = [case for case in CASES for _ in range(EACH)] * 2
    lost = [f"{case}: {answer}" for case, answer in zip(cases, answers, strict=True) if not isinstance(answer, Response)]
    assert lost == []
    for case, answer in zip(cases, answers, strict=True):
        assert isinstance(answer, Response)
        assert answer.output == "x" * CASES[case][2]
        assert answer.usage.total_tokens == 5


async def answers_to_all(held: Held, ways: Ways, seconds: float) -> list[Response | BaseException] | None:
    """Ask for all cases, and stand still once that was read; return what came, or None where a time was over before."""
    begun = time.monotonic()
    opened = [(url, make()) for url, make in ways]
    clients = [
        (case, ChatClient(transport, base_url=url, headers={}, timeouts=limits_of(case, seconds)))
        for url, transport in opened
        for case in CASES
    ]
    tasks = [asyncio.create_task(client.send(attempt(case))) for case, client in clients for _ in range(EACH)]
    assert await asyncio.to_thread(came, held, len(tasks))
    await asyncio.sleep(0.1)  # what was sent before is here too
    in_time = time.monotonic() - begun < 0.8 * seconds
    stand_still(held, len(tasks) if in_time else 0, seconds)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for _, transport in opened:
        await transport.close()
    return answers if in_time else None


def came(held: Held, count: int) -> bool:
    return all(held.came.acquire(timeout=20) for _ in range(count))


def stand_still(held: Held, count: int, seconds: float) -> None:
    """Block the loop until all that was asked is answered, and every time has run out."""
    held.go_on.set()
    for _ in range(count):
        assert held.sent.acquire(timeout=20)
    if count:
        time.sleep(1.1 * seconds)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_has_its_time_without_that_in_which_the_program_stood_still(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def for_ever() -> None:
        async with timeout(0.1):
            await asyncio.Event().wait()

    async def run() -> float:
        clock = asyncio.get_running_loop()
        async with timeout(0.2):
            await asyncio.sleep(0.01)
            time.sleep(0.3)  # noqa: ASYNC251  the program stands still
            await asyncio.sleep(0.05)
        begun = clock.time()
        with pytest.raises(TimeoutError):
            await for_ever()
        return clock.time() - begun

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(run()) >= 0.09


@pytest.mark.parametrize("loop", LOOPS)
def test_connections_that_came_about_while_the_program_stood_still_are_used(
    loop: Callable[[], asyncio.AbstractEventLoop], own_certificate: Certificate
) -> None:
    limits = Timeouts(first_byte=20, idle=20, total=20)

    async def run(plain: str, tls: str) -> list[Response]:
        ways: list[tuple[str, Transport]] = [
            (plain, Http1Transport(connections=1, connect_timeout=0.4)),
            (tls, AiohttpTransport(connections=1, connect_timeout=0.4, verify=str(own_certificate.path))),
        ]
        clients = [ChatClient(transport, base_url=url, headers={}, timeouts=limits) for url, transport in ways]
        tasks = [asyncio.create_task(client.send(attempt("total"))) for client in clients]
        for _ in range(3):
            await asyncio.sleep(0)
        time.sleep(0.6)  # noqa: ASYNC251  the program stands still
        answers = await asyncio.gather(*tasks)
        for _, transport in ways:
            await transport.close()
        return answers

    with Served() as plain, Served(tls=own_certificate.server_side()) as tls, asyncio.Runner(loop_factory=loop) as runner:
        assert [answer.output for answer in runner.run(run(plain.url, tls.url))] == ["total", "total"]


async def test_what_is_cancelled_by_others_is_no_timeout() -> None:
    async def connect() -> None:
        async with timeout(20):
            await asyncio.Event().wait()

    task = asyncio.create_task(connect())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_block_that_is_over_in_time_is_never_cancelled() -> None:
    async with timeout(0.02):
        pass
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_end_of_a_drain_drops_nothing_that_is_there(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    came = bytearray()

    async def run() -> None:
        here, there = socket.socketpair()
        here.setblocking(False)
        in_flight = InFlight()
        pipeline = Pipeline(
            steps=[], samples=iter(()), concurrency=1, sink=lambda _: None, known=lambda *_: None, in_flight=in_flight
        )

        async def work() -> None:
            came.extend(await asyncio.get_running_loop().sock_recv(here, 1))

        with here, there:
            worker = asyncio.create_task(work())
            pipeline._workers.add(worker)  # its request is on the wire
            in_flight.workers.add(worker)
            pipeline.drain("enough", within=0.01)
            await asyncio.sleep(0)
            there.send(b"x")
            time.sleep(0.05)  # noqa: ASYNC251  the program stands still until both are due
            await worker

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
    assert came == b"x"
