"""The fault matrix, streams: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.commands import ask, questions
from tests.misbehaving import TAILS, Misbehaving, odd_events
from tests.reliability.canary import places_of
from tests.serving import Served, in_chunks
from tests.trials import SHORT, Ran, assert_failed, assert_retried, config_of, outputs, run, trial, tries

STREAMED = [ask(stream=True)]
KEY = "sk-CANARY-0123456789abcdef"


def streamed(folder: Path, url: str, **more: Any) -> Ran:
    return trial(folder, url, tasks=STREAMED, **more)


@pytest.mark.parametrize("fault", ["stream-error", "stream-error-event"])
def test_fault_65_error_event(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "once", endpoint.at(f"{fault}:1"))
        assert_retried(ran, "server", "the stream ended with an error", billed=True)
        final = streamed(tmp_path / "final", endpoint.at("stream-error-final"))
    error = assert_failed(final, "context_length", "too long", "may have been billed")
    assert "half an answer" in error["response_body"]


@pytest.mark.parametrize(("fault", "words"), [("stream-own-words", "the worker died"), ("stream-choice-abort", "“abort”")])
def test_fault_154_stream_fails_in_its_own_words(tmp_path: Path, fault: str, words: str) -> None:
    with Misbehaving() as endpoint:
        assert_retried(streamed(tmp_path / "p", endpoint.at(f"{fault}:1")), "server", words, billed=True)


def test_fault_66_stream_without_end(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "once", endpoint.at("stream-no-end:1"))
        assert_retried(ran, "invalid_response", "stream_incomplete", billed=True)
        whole = streamed(tmp_path / "whole", endpoint.at("stream-no-done"))
    assert outputs(whole)["row-0"] == "half an answer"
    assert tries(whole) == []


@pytest.mark.parametrize("fault", ["stream-cut", "stream-reset"])
def test_fault_67_stream_cut(tmp_path: Path, fault: str) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "p", endpoint.at(f"{fault}:1"))
    assert_retried(ran, "invalid_response", "broke off after 2 events", "stream_incomplete", billed=True)


def test_fault_68_stream_stalls(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "p", endpoint.at("stream-stall:1"), endpoint={"timeout": SHORT})
    assert_retried(ran, "timeout", "idle", billed=True)


def test_fault_69_comments_for_ever(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "p", endpoint.at("stream-comments:1"), endpoint={"timeout": SHORT})
    assert_retried(ran, "timeout", "idle", billed=True)


@pytest.mark.long
@pytest.mark.parametrize(("fault", "phase"), [("drip-head", "first_byte"), ("drip-body", "total"), ("drip-stream", "total")])
def test_fault_70_drip(tmp_path: Path, fault: str, phase: str) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "p", endpoint.at(f"{fault}:1"), endpoint={"timeout": SHORT})
    assert_retried(ran, "timeout", f"{phase}:", billed=True)


@pytest.mark.long
def test_fault_71_events_split_anywhere(tmp_path: Path) -> None:
    length = len(odd_events())
    rows = [{"id": str(at), "question": f"split {at}"} for at in range(length)]
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "p", endpoint.at("split-everywhere"), rows=rows, limits={"concurrency": 16})
        single = streamed(tmp_path / "bytes", endpoint.at("split-bytes"))
    assert length > 300
    assert set(outputs(ran).values()) == {"whole ü🦜日"}
    assert len(outputs(ran)) == length
    assert outputs(single)["row-0"] == "whole ü🦜日"


@pytest.mark.long
def test_fault_72_large_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.endpoint.client.LARGEST_BODY", 8 << 20)
    with Misbehaving() as endpoint:
        large = streamed(tmp_path / "large", endpoint.at("large-event"))
        many = streamed(tmp_path / "many", endpoint.at("many-events"))
        for fault in ("huge-stream", "huge-event"):
            ran = streamed(tmp_path / fault, endpoint.at(fault), limits={"concurrency": 1})
            assert_failed(ran, "invalid_response", "response_too_large")
    assert outputs(large)["row-0"] == "x" * 400_000
    assert outputs(many)["row-0"] == "x" * 20_000


def test_fault_73_json_for_a_stream(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "p", endpoint.at("json-for-stream"))
    assert outputs(ran)["row-0"] == "not streamed"
    assert tries(ran) == []


def test_fault_74_stream_options_rejected(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "p", endpoint.at("no-stream-options"), limits={"concurrency": 1})
        assert (ran.code, tries(ran)) == (0, []), ran.all_said
        assert ["stream_options" in seen.body for seen in endpoint.seen] == [True, False, False, False, False]
        assert ran.said.count("rejects stream_options") == 1
        # What is kept is what was sent at last, of results and of errors alike.
        assert [json.loads(row["request"]) for row in ran.results] == [seen.body for seen in endpoint.seen[1:]]
        named = ask(stream=True, configuration={"stream_options": {"include_usage": False}})
        own = trial(tmp_path / "named", endpoint.at("no-stream-options"), tasks=[named])
    assert_failed(own, "request", "stream_options")


def test_fault_75_after_done(tmp_path: Path) -> None:
    with Misbehaving() as endpoint:
        ran = streamed(tmp_path / "p", endpoint.at("after-done"))
    assert outputs(ran)["row-0"] == "ok"
    assert ran.results[0]["total_tokens"] == 2


@pytest.mark.parametrize("record", ["recordings", "recordings.jsonl"])
@pytest.mark.parametrize("place", ["content", "tool_calls"])
def test_fault_132_key_in_pieces(tmp_path: Path, record: str, place: str) -> None:
    async def in_pieces(request: web.Request, _body: Any) -> web.StreamResponse:
        choices: list[list[Any]] = []
        for letter in f"it is {KEY}, no?":
            call = {"index": 0, "function": {"arguments": letter}}
            delta = {"content": letter} if place == "content" else {"tool_calls": [call]}
            choices += [[{"index": 0, "delta": delta}], [{"index": 1, "delta": {"content": "x", "tool_calls": [call]}}]]
        ends = [{"index": index, "delta": {}, "finish_reason": "stop"} for index in range(2)]
        return await in_chunks(request, *({"choices": one} for one in (*choices, ends)))

    with Served(in_pieces) as endpoint:
        project = config_of(
            tmp_path / "p", endpoint.url, rows=questions(1), tasks=[ask(stream=True, configuration={"n": 2})],
            endpoint={"record": str(tmp_path / record)}, environment={"OPENAI_API_KEY": KEY},
        )  # fmt: skip
        ran = run(project)
    assert ran.code == 0, ran.all_said
    (file,) = [path for path in tmp_path.rglob("recordings*") if path.is_file()] or (tmp_path / record).iterdir()
    choices = [chunk["__data__"]["choices"][0] for chunk in json.loads(file.read_text())["response"]["body"]]
    texts = [
        delta.get("content", "") if place == "content" else delta["tool_calls"][0]["function"]["arguments"]
        for delta in (choice["delta"] for choice in choices if choice["index"] == 0)
        if delta
    ]
    assert "".join(texts) == "it is [redacted], no?"
    assert list(places_of([KEY], project.run_dir, ran.all_said)) == []


def test_fault_150_whole_stream_with_a_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.endpoint.client.LARGEST_BODY", 1 << 20)
    rows = [{"id": tail, "question": f"then {tail}"} for tail in TAILS]
    limits = {"concurrency": len(rows)}
    with Misbehaving() as endpoint:
        more: dict[str, Any] = {"endpoint": {"timeout": SHORT}, "rows": rows, "limits": limits}
        ran = streamed(tmp_path / "p", endpoint.at("whole-then"), **more)
        broken = streamed(tmp_path / "chunk", endpoint.at("whole-then-bad-chunk"))
        assert endpoint.requests["whole-then"] == len(rows)
    assert outputs(ran) == {tail: f"then {tail}" for tail in TAILS}
    assert (tries(ran), tries(broken)) == ([], [])
    assert outputs(broken)["row-0"] == "ok"
    assert {row["total_tokens"] for row in ran.results if row["item_id"] == "usage"} == {5}
    assert ran.said.count("after complete answers") == 1
    assert "after complete answers" not in broken.said
