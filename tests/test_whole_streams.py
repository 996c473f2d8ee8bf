"""When a stream is a whole answer, and when it is none: what came before it ended decides, and not how it ended."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from runner.endpoint.client import ChatClient
from runner.endpoint.http import transport_errors
from runner.endpoint.http.timeouts import Timeouts
from runner.endpoint.http.transport import Call, Reply
from runner.errors import AttemptError
from runner.types import Attempt, Response
from tests.plain_requests import request

QUICK = Timeouts(first_byte=20, idle=0.08, total=20)


@dataclass
class Canned:
    """A reply with a stream; at its end it breaks off, stands still, or says that it still lives."""

    events: list[bytes]
    end: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    answered: bool = False
    at: int = 0

    async def read(self) -> bytes:
        self.at += 1
        if self.at <= len(self.events):
            return self.events[self.at - 1]
        if self.end == "break":
            raise transport_errors.body_broke_off("127.0.0.1:1")
        if self.end == "silence":
            await asyncio.Event().wait()
        if self.end == "pings":
            await asyncio.sleep(0.01)
            return b"event: ping\ndata: {}\n\n" + stops() + USAGE
        if self.end == "comments":
            await asyncio.sleep(0.01)
            return b": still here\n\n"
        return b""

    def close(self, *, answered: bool = False) -> None:
        self.answered = answered


@dataclass
class Wire:
    """A transport that gives these replies in turn."""

    replies: list[Canned]

    async def send(self, _call: Call) -> Reply:
        return self.replies.pop(0)

    def make_room(self, connections: int) -> None:
        pass

    async def close(self) -> None:
        pass


def event(**choice: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"model": "m", "choices": [{"index": 0, **choice}]}).encode()


def says(text: str, index: int = 0) -> bytes:
    return event(index=index, delta={"content": text})


def stops(index: int = 0, reason: str = "stop") -> bytes:
    return event(index=index, delta={}, finish_reason=reason)


async def ask(canned: Canned, *, choices: int = 1, chat: bool = True, timeouts: Timeouts = QUICK) -> Response:
    client = ChatClient(Wire([canned]), base_url="http://h/v1", headers={}, timeouts=timeouts)
    return await client.send(Attempt(request(stream=True, choices=choices, chat=chat), 1))


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
#: Streams, the choices that were asked for, and what is whole of them: the text, or None where it is no answer.
STREAMS: dict[str, tuple[list[bytes], int, str | None]] = {
    "text": ([says("a"), stops()], 1, "a"),
    "nothing": ([stops()], 1, ""),
    "no finish reason": ([says("a")], 1, None),
    "an empty finish reason": ([says("a"), stops(reason="")], 1, None),
    "a failed choice": ([says("a"), stops(reason="error")], 1, None),
    "a tool call": ([event(delta={"tool_calls": [CALL]}), stops(reason="tool_calls")], 1, ""),
    "half a tool call": ([event(delta={"tool_calls": [CALL]})], 1, None),
    "reasoning": ([event(delta={"reasoning": "hm"}), stops(reason="length")], 1, ""),
    "both of two": ([says("a"), stops(), says("b", 1), stops(1)], 2, "a"),
    "one of two": ([says("a"), stops()], 2, None),
    "one of two, the other begun": ([says("a"), says("b", 1), stops()], 2, None),
    "one more than asked for, begun": ([says("a"), stops(), says("b", 1)], 1, None),
    "text behind the finish reason": ([says("a"), stops(), says("b")], 1, "ab"),
}


@pytest.mark.parametrize("end", ["end", "break", "silence", "comments"])
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_whole_once_all_asked_choices_are_finished(name: str, end: str) -> None:
    events, choices, text = STREAMS[name]
    canned = Canned(events, end)
    if text is None:
        with pytest.raises(AttemptError):
            await ask(canned, choices=choices)
    else:
        answer = await ask(canned, choices=choices)
        assert (answer.output or "") == text
    assert canned.answered is (text is not None)


async def test_data_that_says_nothing_puts_no_end_off() -> None:
    answer = await ask(Canned([says("a"), stops()], "pings"))
    assert answer.output == "a"
    assert answer.latency_s is not None
    assert answer.latency_s < QUICK.total / 2


@pytest.mark.parametrize("end", ["end", "break", "silence", "comments"])
async def test_a_text_completion_is_whole_in_the_same_way(end: str) -> None:
    assert (await ask(Canned([event(text="a"), event(text="", finish_reason="stop")], end), chat=False)).output == "a"
    with pytest.raises(AttemptError):
        await ask(Canned([event(text="a")], end), chat=False)


ODD = {
    "an error": b'data: {"error":{"message":"the worker died","code":500}}\n\n',
    "a failed choice": stops(reason="error"),
    "an error event": b"event: error\ndata: the worker died\n\n",
    "no JSON": b"data: {the worker died\n\n",
    "no object": b"data: [1]\n\n",
    "another answer's end": b"data: [DONE]\n\n" + says("the worker died"),
}


@pytest.mark.parametrize("name", ODD)
async def test_what_follows_a_whole_answer_does_not_undo_it(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        answer = await ask(Canned([says("a"), stops(), USAGE, ODD[name], says("never")], "silence"))
    assert (answer.output, answer.usage.total_tokens) == ("a", 5)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (name != "another answer's end")
    assert not said or "after complete answers, which are kept" in said[0]
    if "an error" in name:
        assert "the worker died" in said[0]
    with pytest.raises(AttemptError):
        await ask(Canned([says("a"), ODD[name].removeprefix(b"data: [DONE]\n\n"), b"data: {oh\n\n", stops()], "end"))


async def test_the_words_behind_whole_answers_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    errors = [b'data: {"error":"trouble %d"}\n\n' % number for number in range(3)]
    wire = Wire([Canned([says("a"), stops(), error], "end") for error in errors])
    client = ChatClient(wire, base_url="http://h/v1", headers={}, timeouts=QUICK)
    with caplog.at_level(logging.WARNING):
        for _ in errors:
            assert (await client.send(Attempt(request(stream=True), 1))).output == "a"
    assert ["trouble 0" in record.getMessage() for record in caplog.records] == [True]


async def test_usage_that_is_late_is_waited_for() -> None:
    class Late(Canned):
        async def read(self) -> bytes:
            await asyncio.sleep(0.005)
            return await super().read()

    # The comments put nothing off, but there is time enough for them.
    patient = Timeouts(first_byte=20, idle=20, total=20)
    answer = await ask(Late([says("a"), stops(), b": 1\n\n", b": 2\n\n", USAGE], "end"), timeouts=patient)
    assert answer.usage.total_tokens == 5


@pytest.mark.parametrize("status", [200, 201, 206, 299])
async def test_a_stream_is_one_with_every_status_of_success(status: int) -> None:
    assert (await ask(Canned([says("a"), stops()], "end", status))).output == "a"
    with pytest.raises(AttemptError, match="stream_incomplete"):
        await ask(Canned([says("a")], "end", status))
