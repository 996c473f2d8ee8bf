"""A stream is one answer, however it is cut into pieces; and where it breaks off, it is an error and never a shorter answer.

Hypothesis draws whole streams with their answers (`tests.streams`); they go through the client on a transport that cuts them
up. What only a network does (resets, silence, a line that stays open) is tried on real sockets.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from runner.endpoint.answers.sse import EventReader
from runner.endpoint.client import ChatClient
from runner.endpoint.http.http1 import Http1Transport
from runner.endpoint.http.timeouts import Timeouts
from runner.endpoint.http.transport import Call, Reply, Transport
from runner.errors import AttemptError
from runner.structs import replace
from runner.types import Attempt, ErrorType, Failure, Request, Response, Usage
from tests import plain_requests
from tests.streams import Framing, Stream, streams

SLOW = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
PATIENT = Timeouts(first_byte=20, idle=20, total=40)
UNKNOWN = Usage()
request = partial(plain_requests.request, stream=True)


async def ask(transport: Transport, wanted: Request, *, url: str = "http://x/v1", timeouts: Timeouts = PATIENT) -> Any:
    """Return the response, or the error that was raised."""
    client = ChatClient(transport, base_url=url, headers={}, timeouts=timeouts)
    try:
        return await client.send(Attempt(wanted, 1))
    except AttemptError as error:
        return error
    finally:
        await transport.close()


# --- events ---


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\r\rdata:  b\r\n\r\n", [b"a", b" b"]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b": c\n\nid: 1\nevent: x\ndata: a\nretry: 5\nunknown: y\n\nevent: y\n\n", [b"a"]),
        (b"\n\n\r\r\ndata: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data: \xe2\x80\xa8\x0b\x0c\x85\x1c\n\n", [b"\xe2\x80\xa8\x0b\x0c\x85\x1c"]),
        (b"data\n\ndata:\n\n", [b"", b""]),
        # Where nothing ends the last event, it counts if it is whole, which JSON shows.
        (b"data: [DONE]", [b"[DONE]"]),
        (b'data: {"a":\ndata: 1}\r', [b'{"a":\n1}']),
        (b'data: {"a":1', []),
        (b"data: [DO", []),
        (b"dat", []),
        (b"\xef\xbb", []),
        (b"", []),
    ],
)
def test_events(body: bytes, events: list[bytes]) -> None:
    for split in range(len(body) + 1):
        reader = EventReader()
        assert reader.feed(body[:split]) + reader.feed(body[split:]) + reader.finish() == events
    reader = EventReader()
    assert [event for byte in body for event in reader.feed(bytes([byte]))] + reader.finish() == events


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_there_with_its_last_line_end(end: bytes) -> None:
    """A CR may be half of a CRLF, but the event that it ends must not wait for what may never come."""
    reader = EventReader()
    assert reader.feed(b"data: a" + end + end) == [b"a"]
    assert reader.feed(b"data: b" + end) == []
    assert reader.feed(end + b"data: c" + end + end) == [b"b", b"c"]
    assert reader.finish() == []


# --- whole streams, in pieces ---


@dataclass(frozen=True)
class Given:
    """A transport whose replies come in given pieces, and then end or break."""

    pieces: Sequence[bytes]
    breaks: bool = False

    async def send(self, call: Call) -> Reply:
        return GivenReply(iter([piece for piece in self.pieces if piece]), self.breaks)

    def make_room(self, connections: int) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass
class GivenReply:
    """Its reply."""

    pieces: Iterator[bytes]
    breaks: bool
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})

    async def read(self) -> bytes:
        piece = next(self.pieces, b"")
        if not piece and self.breaks:
            raise AttemptError(Failure(error_type=ErrorType.CONNECT, message="the line broke"), retry=True)
        return piece

    def close(self, *, answered: bool = False) -> None:
        pass


def read(stream: Stream, pieces: Sequence[bytes], *, breaks: bool = False) -> Any:
    return asyncio.run(ask(Given(pieces, breaks), request(chat=stream.chat, choices=len(stream.choices))))


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut a body at some places, or into single bytes where there are none."""
    ends = sorted({place % (len(body) + 1) for place in places}) if places else range(len(body))
    return [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


def check(found: Any, stream: Stream, usages: Sequence[Usage]) -> None:
    """Check that a response is a stream's answer."""
    assert isinstance(found, Response), found
    body = json.loads(found.body)
    assert body["choices"] == stream.choices
    assert body["object"] == ("chat.completion" if stream.chat else "text_completion")
    first = stream.choices[0]
    message = first["message"] if stream.chat else {"content": first["text"]}
    assert found.output == message["content"]
    assert (found.reasoning or "") == message.get("reasoning", message.get("reasoning_content", ""))
    assert found.refusal == message.get("refusal")
    assert json.loads(found.tool_calls or "[]") == message.get("tool_calls", [])
    assert found.finish_reason == first["finish_reason"]
    assert json.loads(found.logprobs or "null") == first.get("logprobs")
    assert json.loads(found.choices or "[]") == (stream.choices if len(stream.choices) > 1 else [])
    assert (found.response_id, found.response_model) == ("c-1", "m")
    assert found.usage in usages
    assert (found.ttft_s is None) == (not has_content(stream))


def has_content(stream: Stream) -> bool:
    for choice in stream.choices:
        message = choice["message"] if stream.chat else choice
        names = ("content", "text", "reasoning", "reasoning_content", "refusal", "tool_calls")
        if any(message.get(name) for name in names):
            return True
    return False


def usage_of(stream: Stream) -> Usage:
    return Usage(**stream.usage) if stream.usage else UNKNOWN


@SLOW
@given(streams(), st.lists(st.integers(0, 10_000), max_size=6))
def test_any_pieces_give_the_answer(stream: Stream, places: list[int]) -> None:
    check(read(stream, cut(stream.body, places)), stream, [usage_of(stream)])


@pytest.mark.long
@SLOW
@given(streams(), st.integers(0, 1_000_000), st.booleans())
def test_a_stream_that_breaks_off_is_an_error_or_the_whole_answer(stream: Stream, place: int, breaks: bool) -> None:
    """Also after a choice has ended, as long as another has not; what breaks after the last one's end is only the line."""
    # Near the place where it becomes whole is where it could go wrong.
    ends = [1 + place % len(stream.body), *(stream.whole_from + near for near in (-1, 0, 1, 2, 9))]
    for end in ends:
        body = stream.body[:end]
        found = read(stream, [body], breaks=breaks)
        if len(body) >= stream.whole_from:
            check(found, stream, [usage_of(stream), *([UNKNOWN] if len(body) < stream.usage_from else [])])
            continue
        assert isinstance(found, AttemptError), (stream, body)
        assert found.failure.error_type is ErrorType.INVALID_RESPONSE
        assert found.retry
        assert "broke off" in found.failure.message


@pytest.mark.parametrize("done", [False, True])
def test_a_stream_that_breaks_off_between_two_choices(done: bool) -> None:
    """The first has ended and the second not begun: only the server's word tells that from a whole answer."""
    body = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n' + b"data: [DONE]\n\n" * done
    found = asyncio.run(ask(Given([body]), request(choices=2)))
    assert isinstance(found, Response if done else AttemptError), found


# --- errors inside a stream ---

ERRORS: list[tuple[dict[str, Any], ErrorType]] = [
    ({"message": "slow down", "code": 429}, ErrorType.RATE_LIMIT),
    ({"message": "busy", "type": "overloaded", "code": "503"}, ErrorType.SERVER),
    ({"message": "too much", "code": 400, "type": "exceed_context_size_error"}, ErrorType.CONTEXT_LENGTH),
    ({"message": 'your "error" is 🦜', "code": 400}, ErrorType.REQUEST),
    ({"message": "filtered", "code": 400, "type": "content_filter"}, ErrorType.CONTENT_FILTER),
    ({"message": "who are you", "code": 401}, ErrorType.AUTH),
    ({"message": "no credit", "code": 402}, ErrorType.QUOTA),
    ({"message": "hm"}, ErrorType.INVALID_RESPONSE),
]
FORMS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "an object": lambda error: [f"data: {json.dumps({'error': error})}"],
    "an object beside a chunk": lambda error: [
        f"data: {json.dumps({'choices': [{'delta': {'content': ''}, 'finish_reason': 'error'}], 'error': error})}"
    ],
    "a flat object": lambda error: [f"data: {json.dumps({'object': 'error', **error})}"],
    "a flat object of no kind": lambda error: [f"data: {json.dumps(error)}"],
    "a line without a field": lambda error: [json.dumps({"error": error})],
    "lines without a field": lambda error: json.dumps([{"error": error}], indent=1).split("\n"),
    "a list": lambda error: [f"data: {json.dumps([{'error': error}])}"],
    "an event": lambda error: ["event: error", f"data: {json.dumps({'error': error})}"],
    "an event with a flat object": lambda error: ["event:error", f"data:{json.dumps(error)}"],
    "an event with a flat object of a type": lambda error: [f"data: {json.dumps({'type': 'error', **error})}", "event: error"],
    "a field": lambda error: [f"error: {json.dumps(error)}"],
    "a field with an object": lambda error: [f"error:{json.dumps({'error': error}, ensure_ascii=False)}"],
}
TEXTS = ["Once ", "upon "]


def failing(lines: Sequence[str], *, ends: Sequence[str], finished: bool, done: bool) -> bytes:
    """Return a stream that begins well and then sends an event of these lines."""
    framing = Framing(ends)
    for text in TEXTS:
        framing.event(f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}")
    if finished:
        framing.event('data: {"choices":[{"delta":{},"finish_reason":"stop"}]}')
    framing.event(*lines)
    if done:
        framing.event("data: [DONE]")
    return framing.body


@SLOW
@given(
    error=st.sampled_from(ERRORS),
    form=st.sampled_from(sorted(FORMS)),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1, max_size=3),
    finished=st.booleans(),
    done=st.booleans(),
    places=st.lists(st.integers(0, 10_000), max_size=3),
)
def test_an_error_in_a_stream_is_what_it_says(
    *, error: tuple[dict[str, Any], ErrorType], form: str, ends: list[str], finished: bool, done: bool, places: list[int]
) -> None:
    said, kind = error
    body = failing(FORMS[form](said), ends=ends, finished=finished, done=done)
    found = asyncio.run(ask(Given(cut(body, places)), request()))
    if finished:  # the answer was whole before
        assert isinstance(found, Response), found
        assert (found.output, found.finish_reason) == ("Once upon ", "stop")
        return
    assert isinstance(found, AttemptError), found
    assert found.failure.error_type is kind
    assert said["message"] in found.failure.message
    assert "Once upon " in (found.failure.response_body or "")  # what came before is kept, but not as an answer


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["event: error", "data: Internal Server Error"], "Internal Server Error"),
        (["error: out of memory"], "out of memory"),
        (["event: error", 'data: "out of memory"'], "out of memory"),
        (["event: error", "data: two", "data: lines"], "two\nlines"),
        (["event: error"], "error"),
        (["event: error", "data: null"], "error"),
        (["event: error", "data: {}"], "error"),
        (["event: error", 'data: {"error": null, "message": "m-7"}'], "m-7"),
        (["event: error", 'data: {"detail": "m-8"}'], "m-8"),
        (["event: error", 'data: ["m-9"]'], "m-9"),
        (['data: {"error": "m-10"}'], "m-10"),
        (['data: {"error": ["m-11"]}'], "m-11"),
        (["event: error", 'data: {"error": {}}'], "error"),
        (["event: error", 'data: {"error": {"code": null}, "detail": "m-12"}'], "m-12"),
        (['data: {"detail": [{"msg": "m-13"}]}'], "m-13"),
        (['data: {"success": false, "choices": null, "msg": "m-14"}'], "m-14"),
        (['data: {"errors": ["m-15"]}', "", 'data: {"choices": [], "usage": {"prompt_tokens": 1}}'], "m-15"),
    ],
)
def test_an_error_that_is_no_object_is_an_error_too(lines: list[str], words: str) -> None:
    body = failing(lines, ends=["\n"], finished=False, done=True)
    found = asyncio.run(ask(Given([body]), request()))
    assert isinstance(found, AttemptError), found
    assert found.failure.error_type is ErrorType.INVALID_RESPONSE
    assert words in found.failure.message


@pytest.mark.parametrize("event", ['{"type": "ping"}', '{"choices": null}', "{}"])
def test_what_is_no_chunk_is_no_error_where_the_answer_goes_on(event: str) -> None:
    pieces = [TEXT_CHUNK, f"data: {event}\n\n".encode(), TEXT_CHUNK, b"data: [DONE]\n\n"]
    assert asyncio.run(ask(Given(pieces), request())).output == "Paris Paris "
    assert (
        "broke off after 2 events: the line broke"
        in asyncio.run(ask(Given(pieces[:2], breaks=True), request())).failure.message
    )
    pieces[-1:] = [FINISH_CHUNK, pieces[1], b"data: [DONE]\n\n"]
    assert asyncio.run(ask(Given(pieces), request())).output == "Paris Paris 🦜"


def test_an_error_that_says_nothing_is_none_and_neither_is_usage() -> None:
    nothing = {"error": {"code": 0, "message": "", "param": None}}
    counts = {"prompt_tokens": 3, "completion_tokens": 2}
    first = {"choices": [{"delta": {"content": "Par"}, **nothing}], **nothing}
    last = {"choices": [{"delta": {"content": "is"}, "finish_reason": "stop"}], "usage": counts, **nothing}
    stream = said(first, last, {"choices": [], "usage": {}, **nothing})
    assert (stream.output, stream.usage.total_tokens) == ("Paris", 5)


@pytest.mark.parametrize("call_id", [{}, {"id": ""}, {"id": None}])
def test_whole_calls_without_ids_are_told_apart_though_they_share_an_index(call_id: dict[str, Any]) -> None:
    calls = [{"name": "f", "arguments": '{"x":1}'}, {"name": "g", "arguments": "{}"}, {"name": "f", "arguments": '{"x":2}'}]
    deltas = [{"tool_calls": [{"index": 0, **call_id, "function": call}]} for call in calls]
    deltas.append({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]})
    stream = said(*({"choices": [{"delta": delta}]} for delta in deltas), {"choices": [{"delta": {}, "finish_reason": "stop"}]})
    assert [call["function"] for call in json.loads(stream.tool_calls)] == calls


@pytest.mark.parametrize("data", ["null", "7", '"text"', "[]", "[1]", "{", "nonsense", "{}x"])
def test_what_is_no_chunk_is_an_error(data: str) -> None:
    found = asyncio.run(ask(Given([failing([f"data: {data}"], ends=["\n"], finished=False, done=True)]), request()))
    assert isinstance(found, AttemptError), found
    assert found.failure.error_type is ErrorType.INVALID_RESPONSE


# --- whatever a server streams ---

WILD_TEXT = st.text(st.characters(exclude_categories=()), max_size=4)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.integers(0, 1) | WILD_TEXT
NAMES = st.sampled_from(
    re.findall(
        r"\w+",
        "choices delta message content text index error usage tool_calls function function_call name arguments logprobs "
        "reasoning role finish_reason id object type code audio data created model prompt_tokens",
    )
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8)
CALLS = st.lists(
    st.dictionaries(NAMES, JSON, max_size=3) | st.fixed_dictionaries({"function": JSON, "index": LEAVES}), max_size=2
)
DELTAS = st.fixed_dictionaries({}, optional={"content": JSON, "tool_calls": CALLS, "function_call": JSON, "audio": JSON})
CHOICES = st.fixed_dictionaries({"delta": DELTAS | JSON}, optional={"index": LEAVES, "finish_reason": LEAVES, "logprobs": JSON})
CHUNKS = st.fixed_dictionaries({"choices": st.lists(CHOICES, max_size=2)}, optional={"usage": JSON, "error": JSON, "id": JSON})
WILD_EVENTS = st.lists(st.binary(max_size=8) | (CHUNKS | JSON).map(lambda chunk: json.dumps(chunk).encode()), max_size=4)


@SLOW
@given(WILD_EVENTS, st.booleans(), st.booleans())
@example([b'{"choices":[{"delta":{"content":"a\xffb"},"finish_reason":"stop"}]}'], True, False)
@example([b'{"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}'], True, False)
@example([b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"], True, False)
def test_nothing_that_a_server_streams_is_a_crash(events: list[bytes], chat: bool, done: bool) -> None:
    body = b"".join(b"data: %b\n\n" % event for event in [*events, *([b"[DONE]"] if done else [])])
    found = asyncio.run(ask(Given([body]), request(chat=chat)))
    if isinstance(found, AttemptError):
        found.failure.message.encode()
        (found.failure.response_body or "").encode()
        return
    for name in ("output", "reasoning", "refusal", "tool_calls", "finish_reason", "choices", "logprobs", "body"):
        value = getattr(found, name)
        assert value is None or isinstance(value, str)
        (value or "").encode()


def said(*chunks: dict[str, Any]) -> Any:
    """Return what a stream of these chunks is read as."""
    events = [json.dumps(chunk).encode() for chunk in chunks]
    return asyncio.run(ask(Given([b"".join(b"data: %b\n\n" % event for event in [*events, b"[DONE]"])]), request()))


def test_other_types_than_the_usual_ones_are_read() -> None:
    stream = said(
        {"id": 7, "created": "2026-11-21", "choices": [{"index": None, "delta": {"content": [{"text": "a"}]}}]},
        {
            "id": 7,
            "usage": {"prompt_tokens": 3},
            "choices": [{"index": "0", "delta": {"content": "b"}, "finish_reason": "stop"}],
        },
        {"id": 7, "usage": "none", "choices": []},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]},
    )
    assert isinstance(stream, Response), stream
    assert (stream.output, stream.finish_reason, stream.response_id) == ("ab", "stop", None)
    assert stream.usage == Usage(prompt_tokens=3)


def test_thoughts_among_the_content_are_reasoning() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "let me "}]}
    choices = [
        {"delta": {"content": [thought]}},
        {"delta": {"content": [{"type": "thinking", "thinking": "think"}, {"type": "text", "text": "B"}]}},
        {"delta": {"content": "C"}, "logprobs": {"content": [{"token": "C"}]}},
        {"delta": {"content": ["D"]}, "logprobs": {"content": [{"token": "D"}]}},
        {"delta": {}, "finish_reason": "stop"},
    ]
    stream = said(*({"id": "c-1", "model": "m", "choices": [choice]} for choice in choices))
    assert isinstance(stream, Response), stream
    assert (stream.output, stream.reasoning) == ("BCD", "let me think")
    assert json.loads(stream.logprobs or "")["content"] == [{"token": "C"}, {"token": "D"}]


def test_a_prompt_that_an_error_in_a_stream_repeats_decides_nothing() -> None:
    words = "what is insufficient_quota"
    body = failing([f"data: {json.dumps({'error': {'code': 429, 'message': words}})}"], ends=["\n"], finished=False, done=True)
    for shown, kind in ((json.dumps({"prompt": words}), ErrorType.RATE_LIMIT), ("{}", ErrorType.QUOTA)):
        found = asyncio.run(ask(Given([body]), replace(request(), shown=shown)))
        assert found.failure.error_type is kind


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        ({"delta": {}, "finish_reason": "error"}, ErrorType.SERVER),
        ({"delta": {}, "finish_reason": "insufficient_system_resource"}, ErrorType.SERVER),
        ({"delta": {}, "finish_reason": "error", "error": {"code": 429, "message": "m"}}, ErrorType.RATE_LIMIT),
        ({"delta": {"content": "no"}, "error": {"code": 400, "message": "m"}}, ErrorType.REQUEST),
        ({"delta": {"content": "no"}, "error": "m"}, ErrorType.SERVER),
    ],
)
def test_a_choice_that_fails_in_a_stream_is_no_answer(failed: dict[str, Any], kind: ErrorType, done: bool) -> None:
    chunks = [{"id": "c-1", "model": "m", "choices": [choice]} for choice in ({"delta": {"content": "Once "}}, failed)]
    body = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n" * done
    found = asyncio.run(ask(Given([body]), request()))
    assert isinstance(found, AttemptError), found
    assert found.failure.error_type is kind
    assert "a choice ended with an error" in found.failure.message
    assert "Once " in (found.failure.response_body or "")


def test_arguments_may_be_an_object_and_text_may_stand_beside_no_delta() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": {"x": 1}}}
    stream = said({"choices": [{"text": "a"}]}, {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "stop"}]})
    assert stream.output == "a"
    assert json.loads(stream.tool_calls) == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]


@pytest.mark.parametrize("first", [[], [{"delta": {"role": "assistant", "content": ""}}]])
def test_a_whole_message_behind_its_pieces_does_not_double_them(first: list[dict[str, Any]]) -> None:
    whole = {"message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}
    pieces = [{"delta": {"content": "Par"}}, {"delta": {"content": "is"}}]
    for choices in (
        [*first, *pieces, whole],
        [*first, whole],
        [{"message": {"content": "Par"}}, {"message": {"content": "is"}}],
    ):
        assert said(*({"model": "m", "choices": [choice]} for choice in choices)).output == "Paris"


# --- over real sockets ---

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TEXT_CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Paris "}}]}\n\n'
FINISH_CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"\xf0\x9f\xa6\x9c"},"finish_reason":"stop"}]}\n\n'
USAGE_CHUNK = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
WHOLE = TEXT_CHUNK + FINISH_CHUNK + USAGE_CHUNK + b"data: [DONE]\n\n"


def head(content_type: str | None = "text/event-stream", *more: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", *([f"Content-Type: {content_type}"] if content_type else []), *more]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def raw_server(handle: Handle) -> AsyncIterator[str]:
    """Serve bytes as they are written, on 127.0.0.1."""
    connections: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n{}")
            await handle(reader, writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    for writer, task in connections.items():
        writer.transport.abort()
        assert task is not None
        task.cancel()
    await asyncio.gather(*filter(None, connections.values()), return_exceptions=True)


async def ask_raw(handle: Handle, *, timeouts: Timeouts = PATIENT) -> Any:
    transport = Http1Transport(connections=2, connect_timeout=10)
    async with raw_server(handle) as url:
        return await ask(transport, request(), url=url, timeouts=timeouts)


def check_whole(found: Any, *, usage: bool = True) -> None:
    assert isinstance(found, Response), found
    assert (found.output, found.finish_reason) == ("Paris 🦜", "stop")
    assert found.usage == (Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5) if usage else UNKNOWN)


@pytest.mark.parametrize(
    ("content_type", "start"),
    [
        ("text/event-stream", b""),
        ("text/event-stream", b"\xef\xbb\xbf"),
        ("Text/Event-Stream; charset=utf-8", b"\r\n"),
        ("text/plain", b""),
        ("text/plain", b": keep-alive\n\n"),
        ("application/json", b""),
        ("application/json", b"id: 1\n"),
        ("x/y", b"event: x\n"),
        (None, b"retry: 1\n\n"),
        (None, b""),
    ],
)
async def test_single_bytes_of_any_type(content_type: str | None, start: bytes) -> None:
    """What is a stream shows in its first byte, where its type is wrong."""

    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(content_type))
        body = start + WHOLE
        for place in range(len(body)):
            writer.write(body[place : place + 1])
            await writer.drain()
            await asyncio.sleep(0.01 if place < 2 else 0)

    check_whole(await ask_raw(handle))


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


async def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, once what was written has surely been read."""
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("how", ["chunked without its last chunk", "shorter than its length", "closed", "reset", "in an event"])
@pytest.mark.parametrize("finished", [False, True])
async def test_a_line_that_breaks(how: str, finished: bool) -> None:
    body = TEXT_CHUNK + FINISH_CHUNK * finished

    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match how:
            case "chunked without its last chunk":
                writer.write(head("text/event-stream", "Transfer-Encoding: chunked") + chunked(body))
            case "shorter than its length":
                writer.write(head("text/event-stream", "Content-Length: 1000") + body)
            case "in an event":
                writer.write(head("text/event-stream", "Transfer-Encoding: chunked") + chunked(body + USAGE_CHUNK[:30]))
            case _:
                writer.write(head() + body)
        if how == "reset":
            await reset(writer)

    found = await ask_raw(handle)
    if finished:
        check_whole(found, usage=False)
    else:
        assert isinstance(found, AttemptError), found
        assert (found.failure.error_type, found.retry) == (ErrorType.INVALID_RESPONSE, True)
        assert "broke off" in found.failure.message
        assert "Paris" in (found.failure.response_body or "")


QUICK = Timeouts(first_byte=20, idle=0.4, total=20)


@pytest.mark.parametrize("begun", [b"", TEXT_CHUNK])
@pytest.mark.parametrize("again", [b"", b": keep-alive\n\n", b":", b"event: ping\n\n"])
async def test_silence_and_comments_for_ever_end_with_the_idle_time(begun: bytes, again: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head() + begun)
        while again:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0.02)
        await reader.read()

    found = await ask_raw(handle, timeouts=QUICK)
    assert isinstance(found, AttemptError), found
    assert (found.failure.error_type, found.retry) == (ErrorType.TIMEOUT, True)
    assert found.failure.message.startswith("idle:")


async def test_data_for_ever_ends_with_the_total_time() -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head())
        while True:
            writer.write(TEXT_CHUNK)
            await writer.drain()
            await asyncio.sleep(0.02)

    found = await ask_raw(handle, timeouts=Timeouts(first_byte=20, idle=20, total=0.5))
    assert isinstance(found, AttemptError), found
    assert found.failure.message.startswith("total:")


@pytest.mark.parametrize("rest", [b"", USAGE_CHUNK])
async def test_an_answer_that_has_ended_is_kept_though_the_line_stays_open(rest: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head() + TEXT_CHUNK + FINISH_CHUNK + rest)
        await reader.read()

    check_whole(await ask_raw(handle, timeouts=QUICK), usage=bool(rest))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_done_returns_at_once_though_the_line_stays_open(end: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head() + WHOLE.replace(b"\n", end))
        await reader.read()

    async with asyncio.timeout(15):
        check_whole(await ask_raw(handle, timeouts=Timeouts(first_byte=500, idle=500, total=500)))


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain", None])
async def test_a_server_that_does_not_stream(content_type: str | None) -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(content_type))
        await asyncio.sleep(0.01)
        writer.write(b'{"choices":[{"message":{"content":"Paris \xf0\x9f\xa6\x9c"},"finish_reason":"stop"}]}')

    found = await ask_raw(handle)
    check_whole(found, usage=False)
    assert found.ttft_s is None


async def test_a_large_event() -> None:
    text = "🦜" * 100_000

    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
        writer.write(head() + b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n")

    found = await ask_raw(handle)
    assert isinstance(found, Response), found
    assert found.output == text


async def test_an_event_that_never_ends_is_not_held() -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head() + b"data: ")
        while True:
            writer.write(b"x" * (1 << 20))
            await writer.drain()

    found = await ask_raw(handle)
    assert isinstance(found, AttemptError), found
    assert "larger than 32 MiB" in found.failure.message


@pytest.mark.parametrize("resets", [False, True])
async def test_a_connection_that_the_server_has_closed_is_no_failure(resets: bool) -> None:
    """Some servers close a connection after a stream without a word: nobody read the next request, so it is sent again."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(head("text/event-stream", "Transfer-Encoding: chunked") + chunked(WHOLE) + b"0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n{}")
        if resets:
            await reset(writer)

    transport = Http1Transport(connections=1, connect_timeout=10)
    async with raw_server(handle) as url:
        client = ChatClient(transport, base_url=url, headers={}, timeouts=PATIENT)
        try:
            for _ in range(3):
                check_whole(await client.send(Attempt(request(), 1)))
        finally:
            await transport.close()
    assert connections == 3


def test_an_event_of_many_lines_in_many_pieces_is_put_together_once() -> None:
    reader = EventReader()
    began = time.thread_time()
    for _ in range(2000):
        assert reader.feed(b": " + b"x" * 16_000 + b"\n") == []
    assert reader.feed(b"\ndata: a\n") == []
    assert reader.feed(b"\n") == [b"a"]
    assert time.thread_time() - began < 5


def test_an_event_of_absurdly_many_lines_is_no_answer() -> None:
    (data,) = EventReader().feed(b"data: {}\n" * 60_000 + b"\n")
    assert data == b"an event of more than 50,000 lines"
