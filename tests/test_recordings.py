"""What was recorded answers as the network did, with the network off; and a recording holds no secret."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from runner.endpoint.answers.responses import read_response
from runner.endpoint.client import ChatClient
from runner.endpoint.http.http1 import Http1Transport
from runner.endpoint.http.timeouts import Timeouts
from runner.endpoint.http.transport import Call, Transport
from runner.endpoint.recordings.names import request_hash, shared_name
from runner.endpoint.recordings.recorder import Recorder
from runner.endpoint.recordings.replayer import Replayer
from runner.errors import AttemptError, DatasetError, StorageError
from runner.evaluation import prepare
from runner.types import Attempt, ErrorType, Failure, Request, Response, Unit
from tests.faulty_files import files_no_larger_than
from tests.serving import Answer, Served, chat_answer
from tests.shared import CORPUS, needs_shared
from tests.test_client import HEAD, Raw, Script, reply, resetting, sending

KEY = "sk-CANARY-123"
HEADERS = {"Authorization": f"Bearer {KEY}", "X-Team": "evals-team"}
OFFLINE = "http://replay.invalid/v1"
PATIENT = Timeouts(first_byte=20, idle=20, total=20)
JSON = "Content-Type: application/json"
FORMS = ["recordings", "recordings.jsonl"]


def request_of(text: str = "hi", item: str = "row-1", *, stream: bool = False, chat: bool = True) -> Request:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}]}
    if stream:
        body["stream"] = True
    return Request(
        unit=Unit(item, 0, 0, "answer"),
        path="/chat/completions" if chat else "/completions",
        model="m",
        content=json.dumps(body).encode(),
        shown="",
        stream=stream,
        chat=chat,
    )


async def ask(transport: Transport, request: Request, url: str = OFFLINE, label: str = "run") -> Response | AttemptError:
    client = ChatClient(transport, base_url=url, headers=HEADERS, timeouts=PATIENT, run_label=label)
    try:
        return await client.send(Attempt(request, 1))
    except AttemptError as error:
        return error


async def record(path: Path, url: str, *requests: Request) -> list[Response | AttemptError]:
    """Ask a real server one request after the other, keeping everything."""
    transport = Recorder(Http1Transport(connections=1, connect_timeout=20), path, secrets=[KEY])
    try:
        return [await ask(transport, request, url) for request in requests]
    finally:
        await transport.close()


async def replay(path: Path, *requests: Request, label: str = "run") -> list[Response | AttemptError]:
    """Ask the recordings, at an address that does not exist."""
    transport = Replayer(path)
    return [await ask(transport, request, label=label) for request in requests]


def facts(answer: Response | AttemptError) -> dict[str, Any]:
    """Return what must be the same: all but the times, and the text of the body, in which the nulls are missing."""
    if isinstance(answer, Response):
        found = msgspec.structs.asdict(answer)
        return {name: value for name, value in found.items() if name not in {"body", "latency_s", "ttft_s", "text_repaired"}}
    failure = answer.failure
    return {
        "error_type": failure.error_type,
        "message": failure.message.replace("recorded: ", ""),
        "status_code": failure.status_code,
        "retry": answer.retry,
        "stops_run": answer.stops_run,
    }


def recordings_in(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return [json.loads(file.read_text()) for file in sorted(path.glob("*.json"))]


def texts_in(path: Path) -> bytes:
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return b"\n".join(str(file).encode() + b"\n" + file.read_bytes() for file in files if file.is_file())


# --- recorded, then replayed ---

TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": null}'}}
CHUNKS: list[dict[str, Any]] = [
    {"id": "r", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "o"}}]},
    {"choices": [{"index": 0, "delta": {"content": "k"}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
]
BYE = b"data: [DONE]\n\n"
EVENTS = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in CHUNKS)


def answer(**message: Any) -> bytes:
    return json.dumps({"id": "r1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


EXCHANGES: dict[str, Script] = {
    "plain": sending(reply(json.dumps(chat_answer("ü 😀")).encode(), JSON)),
    "tool calls": sending(reply(answer(content=None, tool_calls=[TOOL_CALL]), JSON)),
    "a refusal": sending(reply(answer(content=None, refusal="no"), JSON)),
    "nothing": sending(reply(answer(content=None), JSON)),
    "two choices": sending(
        reply(json.dumps({"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]}).encode(), JSON)
    ),
    "no UTF-8, a lone surrogate, NaN": sending(
        reply(b'{"choices":[{"message":{"content":"\xff\\ud800"},"logprobs":{"content":[NaN]}}]}', JSON)
    ),
    "a stream": sending(reply(EVENTS + b"data: [DONE]\n\n", "Content-Type: text/event-stream")),
    "a stream without an end": sending(reply(EVENTS.split(b"\n\n")[0] + b"\n\n", "Content-Type: text/event-stream")),
    "400": sending(reply(b'{"error":{"message":"it\'s \\"bad\\"","type":null,"code":400}}', JSON, status="400 Bad Request")),
    "401": sending(reply(b'{"error":{"message":"who?"}}', JSON, status="401 Unauthorized")),
    "404": sending(reply(b'{"detail":"Not Found"}', JSON, status="404 Not Found")),
    "429": sending(reply(b'{"error":{"message":"slow down"}}', JSON, status="429 Too Many Requests")),
    "quota": sending(reply(b'{"error":{"code":"insufficient_quota"}}', JSON, status="429 Too Many Requests")),
    "500": sending(reply(b'{"object":"error","message":"boom","code":500}', JSON, status="500 Internal Server Error")),
    "429, cut short": sending(
        reply(b'{"error":{"mess', "Retry-After: 7", status="429 Too Many Requests", length=99), close=True
    ),
    "a stream that says in its own way that it failed": sending(
        reply(EVENTS.split(b"\n\n")[0] + b'\n\ndata: {"code":503,"detail":"boom"}\n\n' + BYE, "Content-Type: text/event-stream")
    ),
    "a stream with errors that say nothing": sending(
        reply(EVENTS.replace(b'"choices"', b'"error":{"code":0},"choices"') + BYE, "Content-Type: text/event-stream")
    ),
    "500, empty": sending(reply(b"", status="500 Internal Server Error")),
    "502, a page": sending(reply(b"<html><title>502\n nginx</title>", status="502 Bad Gateway")),
    "503, text": sending(reply(b'down "for" now', status="503 Service Unavailable")),
    "an error in a 200": sending(reply(b'{"error":{"message":"boom","code":503}}', JSON)),
    "201": sending(reply(json.dumps(chat_answer("created")).encode(), JSON, status="201 Created")),
    "202, no answer": sending(reply(b'{"queued":true}', JSON, status="202 Accepted")),
    "a list": sending(reply(b"[1]", JSON)),
    "closed": sending(b"", close=True),
    "reset": resetting(),
    "whole, and cut short": sending(HEAD + answer(content="all of it"), close=True),
    "cut short": sending(HEAD + b'{"choices', close=True),
    "no HTTP": sending(b"SSH-2.0-OpenSSH_9.6\r\n", close=True),
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_replayed_exchange_comes_to_the_same(tmp_path: Path, form: str) -> None:
    path, requests = tmp_path / form, [request_of(name, name) for name in EXCHANGES]
    live: list[Response | AttemptError] = []
    async with Raw(sending(b"")) as server:
        for script, request in zip(EXCHANGES.values(), requests, strict=True):
            server.script = script
            live += await record(path, server.url, request)
    assert len(recordings_in(path)) == len(EXCHANGES)
    offline = await replay(path, *requests)
    differences = {
        name: (one, other)
        for name, one, other in zip(EXCHANGES, map(facts, live), map(facts, offline), strict=True)
        if one != other
    }
    assert differences == {}


@pytest.mark.parametrize("body", [b"", b"ok", b'{"choices":[{"mess', b'data: {"choices":[{"del'])
async def test_what_is_no_json_stays_what_it_was(tmp_path: Path, body: bytes) -> None:
    kind = "Content-Type: text/event-stream" if body.startswith(b"data") else JSON
    async with Raw(sending(reply(body, kind))) as server:
        (live,) = await record(tmp_path / "r", server.url, request_of())
    (offline,) = await replay(tmp_path / "r", request_of())
    for one in (live, offline):
        assert isinstance(one, AttemptError)
        assert (one.failure.error_type, one.retry) == (ErrorType.INVALID_RESPONSE, True)


async def test_nobody_there(tmp_path: Path) -> None:
    async with Raw(sending(b"")) as server:
        pass
    (live,) = await record(tmp_path / "r", server.url, request_of())
    (offline,) = await replay(tmp_path / "r", request_of())
    for one in (live, offline):
        assert isinstance(one, AttemptError)
        assert one.failure.error_type is ErrorType.CONNECT
        assert f"127.0.0.1:{server.port}: no connection" in one.failure.message


async def test_an_attempt_that_was_given_up_leaves_no_recording(tmp_path: Path) -> None:
    """What was cut off by this side's own clock is not what the server said."""

    async def slow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await writer.drain()
        await asyncio.sleep(20)

    transport = Recorder(Http1Transport(connections=1, connect_timeout=20), tmp_path / "r.jsonl")
    async with Raw(slow) as server:
        timeouts = Timeouts(first_byte=20, idle=0.1, total=20)
        client = ChatClient(transport, base_url=server.url, headers={}, timeouts=timeouts)
        with pytest.raises(AttemptError, match="idle"):
            await client.send(Attempt(request_of(), 1))
        await transport.close()
    assert not (tmp_path / "r.jsonl").exists()


def numbered() -> Answer:
    """Answer each request with its number."""
    count = itertools.count(1)

    async def serve(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(chat_answer(f"answer {next(count)}"))

    return serve


@pytest.mark.parametrize(
    "tail", [b"", BYE, b'data: {"error":"it died"}\n\n', b"data: {oh\n\n", b"data: [1]\n\n", BYE + b"data: {oh\n\n", None]
)
@pytest.mark.parametrize("form", FORMS)
async def test_a_whole_stream_is_recorded_without_what_follows_it(tmp_path: Path, form: str, tail: bytes | None) -> None:
    """With None the line stands still, and the stream has no end."""
    body = EVENTS + (tail or b"")
    data = reply(body, "Content-Type: text/event-stream", length=len(body) + (tail is None))
    async with Raw(sending(data)) as server:
        transport = Recorder(Http1Transport(connections=1, connect_timeout=20), tmp_path / form)
        timeouts = Timeouts(first_byte=20, idle=0.2, total=20)
        client = ChatClient(transport, base_url=server.url, headers={}, timeouts=timeouts, run_label="run")
        live = await client.send(Attempt(request_of(stream=True), 1))
        await transport.close()
    (offline,) = await replay(tmp_path / form, request_of(stream=True))
    assert facts(live) == facts(offline)
    assert (live.output, live.usage.total_tokens) == ("ok", 3)
    (recording,) = recordings_in(tmp_path / form)
    assert [chunk["__data__"] for chunk in recording["response"]["body"]] == CHUNKS


# --- whole runs ---

CONFIG = """
name: recorded
data: [{{n: 1}}, {{n: 2}}, {{n: 2}}, {{n: 4}}]
endpoint: {{{endpoint}}}
tasks:
  - task_type: chat_completion
    alias: reply
    samples: 2
    configuration: {{model: m, messages: [{{role: user, content: "{{{{item.n}}}}"}}]}}
limits: {{max_attempts: 2, concurrency: 1}}
output: "{output}"
"""


def run(folder: Path, name: str, endpoint: str) -> Path:
    config = folder / f"{name}.yaml"
    config.write_text(CONFIG.format(endpoint=endpoint, output=folder / name))
    return prepare(config, environment={"OPENAI_API_KEY": KEY}).run().run


@pytest.mark.parametrize("form", FORMS)
def test_a_run_from_recordings_gives_the_same_results(tmp_path: Path, form: str) -> None:
    counted: Counter[str] = Counter()

    async def serve(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = body["messages"][0]["content"]
        counted[text] += 1
        if text == "4":
            return web.json_response({"error": {"message": "no fours"}}, status=400)
        return web.json_response(chat_answer(f"answer {counted[text]} to {text}"))

    path = tmp_path / form
    with Served(serve) as server:
        first = run(tmp_path, "live", f'base_url: "{server.url}?api-key={KEY}", record: "{path}"')
    again = run(tmp_path, "offline", f'replay: "{path}"')
    columns = ["item_id", "sample_index", "task", "output", "prompt_tokens", "response_id", "attempts", "request"]
    live, offline = (pq.read_table(place / "results.parquet").select(columns).to_pylist() for place in (first, again))
    # The two equal rows got different answers, and each has its own again.
    assert len({row["output"] for row in live}) == len(live) == 6
    assert live == offline
    columns = ["item_id", "sample_index", "error_type", "message", "status_code", "attempts"]
    live, offline = (pq.read_table(place / "errors.parquet").select(columns).to_pylist() for place in (first, again))
    assert len(live) == 2
    assert live == offline
    assert KEY.encode() not in texts_in(path)


# --- the files ---


@pytest.mark.parametrize("form", FORMS)
async def test_no_header_and_no_secret_is_in_a_recording(tmp_path: Path, form: str) -> None:
    echoes = [
        reply(json.dumps(chat_answer(f"your key is {KEY}", key=KEY)).encode(), JSON, f"X-Echo: {KEY}"),
        reply(json.dumps({"error": {"message": f"bad key '{KEY}'"}}).encode(), JSON, status="401 Unauthorized"),
        reply(f"<title>{KEY}</title>".encode(), status="502 Bad Gateway"),
        reply(b"data: " + json.dumps(CHUNKS[1] | {"k": KEY}).encode() + b"\n\n", "Content-Type: text/event-stream"),
    ]
    path = tmp_path / form
    async with Raw(sending(b"")) as server:
        for number, data in enumerate(echoes):
            server.script = sending(data)
            await record(path, f"{server.url}?api-key={KEY}", request_of(f"{number}"))
    text = texts_in(path)
    assert len(recordings_in(path)) == len(echoes)
    for word in (KEY, "CANARY", "evals-team", "api-key", "X-Echo", "Authorization"):
        assert word.encode() not in text, word
    assert text.count(b"[redacted]") >= len(echoes)
    for recording in recordings_in(path):
        assert recording["request"]["headers"] == {}
        assert recording["request"]["url"] == f"{server.url}/chat/completions"
    for file in [path] if path.is_file() else path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


async def test_a_short_placeholder_for_a_key_is_not_cut_out_of_numbers(tmp_path: Path) -> None:
    inner = Http1Transport(connections=1, connect_timeout=20)
    transport = Recorder(inner, tmp_path / "r", secrets=["0", "content", "m"])
    with Served() as server:
        live = await ask(transport, request_of("10 men"), server.url)
        await transport.close()
    (offline,) = await replay(tmp_path / "r", request_of("10 men"))
    assert facts(live) == facts(offline)
    assert isinstance(live, Response)


def test_a_recording_has_llama_stacks_form_and_name(tmp_path: Path) -> None:
    with Served() as server:
        asyncio.run(record(tmp_path / "r", server.url, request_of("hi", "row-7")))
    (file,) = (tmp_path / "r").iterdir()
    found = json.loads(file.read_text())
    body = json.loads(request_of().content)
    label = "run::answer[row-7-0]"
    assert found == {
        "test_id": label,
        "request": {
            "method": "POST",
            "url": f"{server.url}/chat/completions",
            "headers": {},
            "body": body,
            "endpoint": "/v1/chat/completions",
            "model": "m",
        },
        "response": {
            "body": {"__type__": "openai.types.chat.chat_completion.ChatCompletion", "__data__": chat_answer("hi")},
            "is_streaming": False,
        },
        "id_normalization_mapping": {},
    }
    # Outside of a test there is no id, and their client puts its whole path behind the base URL.
    identity = {"method": "POST", "endpoint": "/v1/v1/chat/completions", "body": body, "test_id": None}
    assert file.stem == _hash(identity)
    assert file.read_text().startswith('{\n  "test_id"')
    assert file.read_text().endswith("}\n")


async def test_units_with_equal_bodies_have_files_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "r"
    requests = [request_of("hi", f"row-{number}") for number in (1, 2, 3)]
    with Served(numbered()) as server:
        await record(path, server.url, *requests)
        named = {
            file.stem: recording["test_id"] for file, recording in zip(sorted(path.iterdir()), recordings_in(path), strict=True)
        }
        # Again, with what is there: each unit's recording is replaced, and keeps its name.
        await record(path, server.url, *reversed(requests))
    again = {
        file.stem: recording["test_id"] for file, recording in zip(sorted(path.iterdir()), recordings_in(path), strict=True)
    }
    body = json.loads(request_of().content)
    assert named == again
    assert named[shared_name("POST", f"{server.url}/chat/completions", "/chat/completions", body)] == "run::answer[row-1-0]"
    assert outputs(await replay(path, *requests)) == ["answer 6", "answer 5", "answer 4"]


async def test_an_older_recording_of_a_unit_is_replaced_whatever_its_name(tmp_path: Path) -> None:
    """Else the older one would be played as the first of two."""
    body = json.loads(request_of().content)
    name = request_hash("POST", "http://127.0.0.1:1/v1/chat/completions", body, "run::answer[row-1-0]")
    put(tmp_path / "r", name, "hi", "old", "run::answer[row-1-0]")
    put(tmp_path / "r", "other", "hi", "another's", "run::answer[row-2-0]")
    with Served(numbered()) as server:
        await record(tmp_path / "r", server.url, request_of())
    assert outputs(await replay(tmp_path / "r", request_of(), request_of("hi", "row-2"))) == ["answer 1", "another's"]


async def test_what_their_recorder_made_is_not_replaced(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/v1/chat/completions"
    put(tmp_path / "r", shared_name("POST", url, "/chat/completions", json.loads(request_of().content)), "hi", "theirs")
    with Served(numbered()) as server:
        await record(tmp_path / "r", server.url, request_of())
    assert outputs(await replay(tmp_path / "r", request_of())) == ["answer 1"]
    texts = [
        recording["response"]["body"]["__data__"]["choices"][0]["message"]["content"]
        for recording in recordings_in(tmp_path / "r")
    ]
    assert sorted(texts) == ["answer 1", "theirs"]


def _hash(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h:1/v1/chat/completions?key=1", "/v1/v1/chat/completions"),
        ("http://h:1/chat/completions", "/v1/chat/completions"),
        ("https://h/api/openai/chat/completions", "/api/openai/v1/chat/completions"),
        (
            "https://adb-1.2.cloud.databricks.com/serving-endpoints/chat/completions",
            "__databricks__/serving-endpoints/v1/chat/completions",
        ),
    ],
)
def test_their_client_builds_its_path_in_a_way_of_its_own(url: str, path: str) -> None:
    body = {"model": "m", "temperature": 0.123456, "top_k": 3, "stream": True, "min_p": {"a": None}}
    arguments = {"model": "m", "temperature": 0.12346, "stream": True, "extra_body": {"top_k": 3, "min_p": {"a": None}}}
    identity = {"body": arguments, "endpoint": path, "method": "POST", "test_id": None}
    assert shared_name("post", url, "/chat/completions", body) == _hash(identity)


UUID = "869ae0c0-ab85-ca6f-e5d0-024381443c27"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"t": 0.1}, {"t": 0.1000000001}, True),
        ({"t": 0.1}, {"t": 0.1001}, False),
        ({"t": 1}, {"t": 2}, False),
        ({"t": "pi is 3.14159265"}, {"t": "pi is 3.14159299"}, True),
        ({"t": "pi is 3.141"}, {"t": "pi is 3.142"}, False),
        ({"t": "score: 0.5, x"}, {"t": "score:  -7e-3, x"}, True),
        ({"t": "a, attributes: {'b': 1} c"}, {"t": "a c"}, True),
        ({"t": f"document_id: {UUID}"}, {"t": f"document_id: {UUID[::-1].replace('g', 'a')}"}, False),
        ({"t": f"document_id: {UUID}"}, {"t": f"document_id: {UUID.replace('8', '9')}"}, True),
        ({"t": f"<|{UUID}|>"}, {"t": f"<|{UUID.replace('8', '9')}|>"}, True),
        ({"t": f"id {UUID}"}, {"t": f"id {UUID.replace('8', '9')}"}, False),
        ({"t": [{"u": ["score: 1"]}]}, {"t": [{"u": ["score: 2"]}]}, True),
        ({"extra_body": {"project_id": 1, "k": 2}}, {"extra_body": {"project_id": 9, "k": 2}}, True),
        ({"extra_body": {"k": 1}}, {"extra_body": {"k": 2}}, False),
        ({"extra_body": None}, {"extra_body": []}, False),
        ({"stream_options": {"include_usage": True}}, {}, False),
    ],
)
def test_what_the_name_of_a_recording_blurs(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    hashes = [request_hash("post", "https://a.example/v1/chat/completions", body, "t") for body in (one, other)]
    assert (hashes[0] == hashes[1]) == same


def test_what_the_name_of_a_recording_depends_on() -> None:
    body = {"stream_options": {"include_usage": True}, "model": "m"}
    url = "https://a.example/v1/chat/completions"
    name = request_hash("POST", url, body, "t")
    assert name == request_hash("post", "http://b.example/v1/chat/completions?x=1", body, "t")
    assert name != request_hash("GET", url, body, "t")
    assert name != request_hash("POST", "https://a.example/chat/completions", body, "t")
    assert name != request_hash("POST", url, body, "u")
    assert name != request_hash("POST", url, body, None)
    bedrock = "https://bedrock-runtime.us-west-2.amazonaws.com/v1/chat/completions"
    assert request_hash("POST", bedrock, body, "t") == request_hash("POST", url, {"model": "m"}, "t")


# --- which recording answers ---


def put(path: Path, name: str, text: str, answer_text: str, test_id: str | None = None) -> None:
    """Write a recording as another program would."""
    path.mkdir(exist_ok=True)
    request = {"method": "POST", "url": "https://a.example/v1/v1/chat/completions", "headers": {}}
    data = chat_answer(answer_text) | {"usage": None, "service_tier": None}
    recording = {
        "test_id": test_id,
        "request": request | {"body": json.loads(request_of(text).content), "endpoint": "/v1/chat/completions", "model": "m"},
        "response": {"body": {"__type__": "x.Y", "__data__": data}, "is_streaming": False},
    }
    (path / f"{name}.json").write_text(json.dumps(recording))


def outputs(answers: list[Response | AttemptError]) -> list[str | None]:
    return [one.output if isinstance(one, Response) else str(one) for one in answers]


async def test_equal_bodies_are_told_apart_by_their_unit(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        put(tmp_path / "r", f"{number}", "hi", f"answer {number}", f"run::answer[row-{number}-0]")
    requests = [request_of("hi", f"row-{number}") for number in (2, 3, 1, 3, 2)]
    assert outputs(await replay(tmp_path / "r", *requests)) == [f"answer {number}" for number in (2, 3, 1, 3, 2)]


async def test_several_recordings_of_one_unit_are_played_in_their_order_and_the_last_one_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    async with Raw(sending(reply(b"{}", status="503 Service Unavailable"))) as server:
        await record(path, server.url, request_of())
        server.script = EXCHANGES["plain"]
        await record(path, server.url, request_of())
    first, *others = await replay(path, *[request_of()] * 4)
    assert isinstance(first, AttemptError)
    assert outputs(others) == ["ü 😀"] * 3


async def test_a_unit_that_was_not_recorded_gets_an_answer_to_the_same_body(tmp_path: Path) -> None:
    put(tmp_path / "r", "1", "hi", "first", "another test")
    put(tmp_path / "r", "2", "hi", "second", "a third one")
    assert outputs(await replay(tmp_path / "r", *[request_of()] * 3)) == ["first", "second", "second"]


@pytest.mark.parametrize(
    ("one", "other"), [("1.234561", "1.234562"), ("score: 3", "score: 4"), ("a, attributes: {x}", "a, attributes: {y}")]
)
async def test_prompts_that_differ_in_a_number_are_never_mixed_up(tmp_path: Path, one: str, other: str) -> None:
    """Their names would be the same but for the unit; an answer to another prompt would look like a good one."""
    put(tmp_path / "r", "1", one, f"to {one}", "x")
    put(tmp_path / "r", "2", other, f"to {other}", "x")
    assert outputs(await replay(tmp_path / "r", request_of(other), request_of(one))) == [f"to {other}", f"to {one}"]


async def test_a_miss_is_a_clear_error_that_is_not_tried_again(tmp_path: Path) -> None:
    put(tmp_path / "r", "1", "hi", "answer")
    misses = [request_of("hello"), request_of("hi", stream=True), request_of("hi", chat=False)]
    for request, miss in zip(misses, await replay(tmp_path / "r", *misses), strict=True):
        assert isinstance(miss, AttemptError)
        assert (miss.failure.error_type, miss.retry, miss.stops_run) == (ErrorType.REQUEST, False, None)
        message = f"replay: there is no recording of {request.path} with this body (model 'm') in {tmp_path / 'r'}"
        assert miss.failure.message.startswith(message)


async def test_the_nulls_that_an_sdk_puts_in_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "r", "1", "hi", "answer")
    (found,) = await replay(tmp_path / "r", request_of())
    assert isinstance(found, Response)
    assert "null" not in found.body
    assert "usage" not in found.body


def test_other_json_files_in_the_directory_do_not_disturb(tmp_path: Path) -> None:
    put(tmp_path / "r", "1", "hi", "answer")
    for number, text in enumerate(["{", "[]", "{}", '{"request": 7}', '{"request": {"url": "x"}}', "\ud800"]):
        (tmp_path / "r" / f"other-{number}.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    (tmp_path / "r" / "deep" / "er").mkdir(parents=True)
    assert len(Replayer(tmp_path / "r")._found) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "cannot be read: No such file or directory"),
        ("none.jsonl", None, "cannot be read: No such file or directory"),
        ("empty.jsonl", b"\n\n", "holds no recordings"),
        ("torn.jsonl", b'\n{"request": {"url"', "torn.jsonl: offset 1: is not a recording"),
        ("other.jsonl", b'{"a": 1}\n', "other.jsonl: offset 0: is not a recording"),
    ],
)
def test_a_replay_of_nothing_is_wrong_usage(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        Replayer(tmp_path / name)


def test_a_directory_without_recordings_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no recordings"):
        Replayer(tmp_path)


# --- a disk that does not take it ---


@pytest.mark.parametrize("form", FORMS)
async def test_a_recording_that_does_not_fit_stops_the_run_but_loses_no_answer(tmp_path: Path, form: str) -> None:
    transport = Recorder(Http1Transport(connections=1, connect_timeout=20), tmp_path / form)
    with Served() as server, files_no_larger_than(200):
        assert isinstance(await ask(transport, request_of(), server.url), Response)
        with pytest.raises(StorageError, match="the recording cannot be written"):
            await ask(transport, request_of(), server.url)
        assert len(server.seen) == 1
    with pytest.raises(StorageError, match="the recording cannot be written"):
        await transport.close()


async def test_a_directory_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    transport = Recorder(Http1Transport(connections=1, connect_timeout=20), tmp_path / "r")
    (tmp_path / "r").rmdir()
    with Served() as server:
        assert isinstance(await ask(transport, request_of(), server.url), Response)
    with pytest.raises(StorageError, match="No such file or directory"):
        await transport.close()


def stream_of(*chunks: dict[str, Any], content_type: str = "text/event-stream") -> Any:
    """Serve chunks, and then close the connection without [DONE]."""

    async def serve(_request: web.Request, _body: Any) -> web.Response:
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        return web.Response(text=text, content_type=content_type)

    return serve


async def test_a_stream_that_broke_off_between_two_choices_is_replayed_as_broken(tmp_path: Path) -> None:
    """The client asked for two answers and got one: replayed it must not become a whole answer."""
    request = request_of(stream=True)
    request = msgspec.structs.replace(request, choices=2, content=request.content[:-1] + b', "n": 2}')
    with Served(stream_of(*CHUNKS)) as server:
        (live,) = await record(tmp_path / "r", server.url, request)
    (again,) = await replay(tmp_path / "r", request)
    assert isinstance(live, AttemptError)
    assert isinstance(again, AttemptError)
    assert again.failure.error_type is live.failure.error_type is ErrorType.INVALID_RESPONSE


async def test_a_stream_of_another_type_is_recorded_as_the_stream_it_is(tmp_path: Path) -> None:
    with Served(stream_of(*CHUNKS, content_type="text/plain")) as server:
        (live,) = await record(tmp_path / "r", server.url, request_of(stream=True))
    (again,) = await replay(tmp_path / "r", request_of(stream=True))
    assert isinstance(live, Response)
    assert facts(again) == facts(live)


# --- the recordings of others ---

HEAD_FILES = CORPUS / "recordings" / "head"


@needs_shared
def test_the_names_of_real_recordings_are_reproduced() -> None:
    """All without streaming; of the others those that were not named before file search results were blurred."""
    counted: Counter[tuple[bool, bool]] = Counter()
    for file in HEAD_FILES.rglob("*.json"):
        recording = json.loads(file.read_text())
        request = recording["request"]
        if not request.get("endpoint", "").endswith("/completions") or len(file.stem) != 64:
            continue
        name = request_hash(request["method"], request["url"], request["body"], recording.get("test_id"))
        counted[bool(request["body"].get("stream")), name == file.stem] += 1
    assert counted[False, True] >= 50
    assert counted[False, False] == 0
    assert counted[True, True] / (counted[True, True] + counted[True, False]) > 0.8
    assert (counted[False, True] + counted[True, True]) / counted.total() > 0.88


@needs_shared
def test_real_recordings_made_outside_of_a_test_have_the_name_that_ours_get() -> None:
    """Their client's base URL and SDK arguments are made of what went over the wire, and its name of these again."""
    same: Counter[bool] = Counter()
    for file in (CORPUS / "recordings").rglob("*.json"):
        recording = json.loads(file.read_text())
        request = recording.get("request") or {}
        arguments, endpoint = request.get("body") or {}, request.get("endpoint") or ""
        if recording.get("test_id") is not None or len(file.stem) != 64 or not endpoint.endswith("/completions"):
            continue
        if request_hash(request["method"], request["url"], arguments, None) == file.stem:
            path = endpoint.removeprefix("/v1")
            sent = {name: value for name, value in arguments.items() if name != "extra_body"} | arguments.get("extra_body", {})
            url = request["url"].removesuffix(endpoint) + path
            same[shared_name(request["method"], url, path, sent) == file.stem] += 1
    assert same[True] >= 15
    assert same[False] == 0


def has_null(value: Any) -> bool:
    """Whether a member of an object is null, at any depth."""
    if isinstance(value, dict):
        return any(member is None or has_null(member) for member in value.values())
    return isinstance(value, list) and any(map(has_null, value))


@needs_shared
async def test_real_recordings_answer_as_they_lie() -> None:
    """Every exchange without streaming gets the answer that its own SDK saw."""
    with (CORPUS / "manifest.jsonl").open() as lines:
        entries = [json.loads(line) for line in lines]
    transport, asked = Replayer(CORPUS / "recordings"), 0
    for entry in entries:
        if entry["src"] != "head" or entry["stream"] or not entry["endpoint"].endswith("/completions"):
            continue
        recording = json.loads((CORPUS / "recordings" / entry["file"]).read_text())
        body = recording["request"]["body"]
        body |= body.pop("extra_body", {})
        path = entry["endpoint"].removeprefix("/v1")
        call = Call(url=OFFLINE + path, headers={}, content=json.dumps(body).encode(), label=recording.get("test_id") or "")
        reply_ = await transport.send(call)
        answered = await reply_.read()
        asked += 1
        assert await reply_.read() == b""
        if entry["exception"]:
            assert reply_.status >= 400
            continue
        assert not has_null(json.loads(answered))
        response = read_response(answered, request_of(chat="chat" in path))
        assert (response.output or "") == (entry["expected"]["content"] or "")
        assert response.finish_reason == entry["expected"]["finish_reason"]
    assert asked >= 50


async def test_a_recorded_failure_of_another_program_is_a_broken_connection(tmp_path: Path) -> None:
    put(tmp_path / "r", "1", "hi", "")
    recording = json.loads((tmp_path / "r" / "1.json").read_text())
    recording["response"] = {
        "body": None,
        "is_streaming": False,
        "is_exception": True,
        "exception_data": {"category": "builtin", "type": "SomethingElse", "message": "m", "status_code": None, "body": None},
        "exception_message": "m",
    }
    (tmp_path / "r" / "1.json").write_text(json.dumps(recording))
    (found,) = await replay(tmp_path / "r", request_of())
    assert isinstance(found, AttemptError)
    assert found.failure == Failure(error_type=ErrorType.CONNECT, message="recorded: m")
    assert found.retry


def test_the_shipped_recordings_answer_the_shipped_dataset() -> None:
    """The default config asks for nothing else, with the network off and no key."""
    root = Path(__file__).parents[1]
    replayer = Replayer(root / "datasets" / "recordings" / "primer.jsonl")
    rows = (root / "datasets" / "primer.jsonl").read_text().splitlines()
    assert sum(len(found.places) for found in replayer._found.values()) == len(rows) == 240
