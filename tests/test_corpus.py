"""The recorded answers of eleven providers, served over real HTTP in friendly and hostile framings, must be read right.

The test command reads them all in one framing, and some in the most hostile one; the campaign reads all in every one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from runner.endpoint.answers.sse import EventReader
from runner.endpoint.client import ChatClient
from runner.endpoint.http.http1 import Http1Transport
from runner.endpoint.http.timeouts import Timeouts
from runner.endpoint.http.transport import Call, Reply, Transport
from runner.errors import AttemptError
from runner.types import Attempt, ErrorType, Failure, Request, Response, Unit
from tests.shared import CORPUS, needs_shared
from tests.variations import CAMPAIGN, some

pytestmark = needs_shared

FRAMINGS = {
    "plain": [],
    "seven bytes a piece, comments, no [DONE], escapes": ["--frag", "7", "--keepalive", "--no-done", "--ascii"],
    "nulls stripped": ["--nulls", "strip"],
    "CRLF": ["--eol", "crlf", "--nulls", "strip"],
}
TIMEOUTS = Timeouts(first_byte=30, idle=30, total=50)


@dataclass
class Noting:
    """A transport that notes the pieces of every body."""

    inner: Transport
    note: Callable[[list[bytes]], None]

    async def send(self, call: Call) -> Reply:
        pieces: list[bytes] = []
        self.note(pieces)
        return Noted(await self.inner.send(call), pieces)

    def make_room(self, connections: int) -> None:
        pass

    async def close(self) -> None:
        await self.inner.close()


@dataclass
class Noted:
    inner: Reply
    pieces: list[bytes]

    @property
    def status(self) -> int:
        return self.inner.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.inner.headers

    async def read(self) -> bytes:
        self.pieces.append(piece := await self.inner.read())
        return piece

    def close(self, *, answered: bool = False) -> None:
        self.inner.close(answered=answered)


def manifest() -> list[dict[str, Any]]:
    with (CORPUS / "manifest.jsonl").open() as lines:
        entries = [json.loads(line) for line in lines]
    return [entry for entry in entries if entry["endpoint"].endswith("/completions")]


@contextmanager
def served(options: Sequence[str]) -> Iterator[str]:
    command = [sys.executable, str(CORPUS / "serve_recordings.py"), "--root", str(CORPUS / "recordings"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


async def ask_all(
    url: str, entries: Sequence[dict[str, Any]], note: Callable[[list[bytes]], None] | None = None
) -> list[Response | Failure]:
    transport = Http1Transport(connections=8, connect_timeout=30)
    through: Transport = Noting(transport, note) if note else transport
    places = asyncio.Semaphore(8)

    async def ask(entry: dict[str, Any]) -> Response | Failure:
        client = ChatClient(through, base_url=f"{url}/r/{quote(entry['file'])}/v1", headers={}, timeouts=TIMEOUTS)
        path = entry["endpoint"].removeprefix("/v1")
        unit = Unit(entry["file"], 0, 0, "t")
        request = Request(
            unit=unit, path=path, model=None, content=b"{}", shown="{}", stream=bool(entry["stream"]), chat="chat" in path
        )
        async with places:
            try:
                return await client.send(Attempt(request, 1))
            except AttemptError as error:
                return error.failure

    try:
        return await asyncio.gather(*map(ask, entries))
    finally:
        await transport.close()


def differences(expected: dict[str, Any], found: Response) -> Iterator[str]:
    """Name what is not as expected. What was null or absent on the wire cannot be told apart in a recording."""
    reasoning = expected.get("reasoning_content") or expected.get("reasoning")
    pairs: dict[str, tuple[Any, Any]] = {
        "content": (expected["content"] or "", found.output or ""),
        "reasoning": (reasoning or "", found.reasoning or ""),
        "refusal": (expected.get("refusal") or "", found.refusal or ""),
        "finish_reason": (expected["finish_reason"], found.finish_reason),
        "tool_calls": (expected.get("tool_calls") or [], calls_of(found)),
        "n_choices": (expected.get("n_choices", 1), len(json.loads(found.choices)) if found.choices else 1),
        "logprobs": ((expected.get("logprobs") or {}).get("tokens") or "", text_of_logprobs(found)),
    }
    usage = expected["usage"] or {}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        pairs[name] = (usage.get(name), getattr(found.usage, name))
    if "choices" in expected:
        pairs["choices"] = (
            [(one["index"], one["content"] or "", one["finish_reason"]) for one in expected["choices"]],
            [
                (one["index"], one["message"].get("content") or "", one["finish_reason"])
                for one in json.loads(found.choices or "[]")
            ],
        )
    if "logprobs" not in expected:
        del pairs["logprobs"]
    for name, (wanted, got) in pairs.items():
        if wanted != got:
            yield f"{name}: expected {str(wanted)[:200]!r}, found {str(got)[:200]!r}"


def lacks_finish_reason(expected: dict[str, Any]) -> bool:
    """Whether only `[DONE]` says that a stream is whole, as of TGI's tool calls."""
    return not expected["finish_reason"]


def calls_of(found: Response) -> list[dict[str, Any]]:
    calls = json.loads(found.tool_calls or "[]")
    return [
        {"id": call["id"], "type": call["type"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in calls
    ]


def text_of_logprobs(found: Response) -> str:
    """Return the tokens of logprobs as one text."""
    logprobs = json.loads(found.logprobs or "null") or {}
    return "".join(token["token"] for token in logprobs.get("content") or [])


def thinned(entries: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Return all entries to the campaign, and every so manyth to the test command: those of a provider stand together."""
    return entries[:: 1 if CAMPAIGN else step]


@pytest.mark.long
@pytest.mark.timeout(170)
@pytest.mark.parametrize("framing", some(list(FRAMINGS), 2))
def test_every_recording_is_read_right(framing: str) -> None:
    entries = manifest()
    assert len(entries) == 527
    entries = thinned(entries, 1 if framing == "plain" else 9)
    with served(FRAMINGS[framing]) as url:
        answers = asyncio.run(ask_all(url, entries))
    wrong: list[str] = []
    for entry, answer in zip(entries, answers, strict=True):
        expected = entry["expected"]
        if isinstance(answer, Failure):
            if not entry["exception"] and not ("--no-done" in FRAMINGS[framing] and lacks_finish_reason(expected)):
                wrong.append(f"{entry['file']}: {answer.error_type}: {answer.message}")
        elif entry["exception"]:
            wrong.append(f"{entry['file']}: a recorded error was read as an answer")
        else:
            wrong += [f"{entry['file']}: {difference}" for difference in differences(expected, answer)]
    assert not wrong, f"{len(wrong)} of {len(entries)}:\n" + "\n".join(wrong[:20])


#: Each byte as a piece of its own.
BYTES = [bytes([number]) for number in range(256)]


def events(pieces: Iterable[bytes]) -> list[bytes]:
    reader, found = EventReader(), []
    for piece in pieces:
        if data := reader.feed(piece):
            found += data
    return found + reader.finish()


@pytest.mark.long
def test_every_stream_that_comes_a_byte_at_a_time_has_the_same_events() -> None:
    """From a connection many bytes would be read together. That an answer may come in pieces of some bytes is tried above."""
    entries = thinned([entry for entry in manifest() if entry["stream"] and not entry["exception"]], 10)
    bodies: list[list[bytes]] = []
    with served(FRAMINGS["CRLF"]) as url:
        asyncio.run(ask_all(url, entries, bodies.append))
    assert len(bodies) == len(entries) > 30
    for pieces in bodies:
        body = b"".join(pieces)
        whole = events([body])
        assert len(whole) > 1
        assert events(map(BYTES.__getitem__, body)) == whole


def test_recorded_errors_have_the_right_kind_and_the_providers_words() -> None:
    entries = [entry for entry in manifest() if entry["exception"]]
    with served([]) as url:
        answers = asyncio.run(ask_all(url, entries))
    assert entries
    for entry, answer in zip(entries, answers, strict=True):
        error = entry["expected"]["error"]
        assert isinstance(answer, Failure), entry["file"]
        assert answer.status_code == error["status"]
        said = error["body"]["message"]
        innermost = json.loads(said)["error"]["message"] if said.startswith("{") else said
        assert innermost in answer.message, entry["file"]
        assert answer.error_type is kind_of(error["status"], said), (entry["file"], answer)


def kind_of(status: int, said: str) -> ErrorType:
    if status == 400 and "context length" in said:
        return ErrorType.CONTEXT_LENGTH
    return {400: ErrorType.REQUEST, 404: ErrorType.AUTH, 500: ErrorType.SERVER}[status]
