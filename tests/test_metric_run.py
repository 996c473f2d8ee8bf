"""Whole runs with tools: what an endpoint calls, streamed or not, is scored the same, also when it comes from the journal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.cli.main import main
from runner.storage.journal import segments_of
from tests.commands import Project, ask
from tests.serving import Served, chat_answer, in_chunks
from tests.variations import some

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]
PARIS, OSLO = {"city": "Paris", "days": 3}, {"city": "Oslo", "days": 1}
SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}

#: Each question: what the endpoint calls, as (name, arguments as sent), or the text that it answers.
SAID: dict[str, list[tuple[str, str]] | str] = {
    "right": [("weather", json.dumps(PARIS)), ("weather", json.dumps(OSLO))],
    "other order": [("weather", '{"days": 1.0, "city": "Oslo"}'), ("weather", json.dumps(PARIS))],
    "one too few": [("weather", json.dumps(PARIS))],
    "cut off": [("weather", json.dumps(PARIS)), ("weather", '{"city": "Os')],
    "text instead": "It is sunny in Paris and Oslo.",
    "none wanted": "Hello!",
    "old form": [("now", "{}")],
    "as json": '{"city": "Paris"}',
}
#: Each row: its question, the calls that are wanted, and the value of the metric.
ROWS: list[tuple[str, Any, float]] = [
    ("right", [{"name": "weather", "arguments": PARIS}, {"name": "weather", "arguments": OSLO}], 1.0),
    ("other order", [{"name": "weather", "arguments": json.dumps(PARIS)}, {"name": "weather", "arguments": OSLO}], 1.0),
    ("one too few", [{"name": "weather", "arguments": PARIS}, {"name": "weather", "arguments": OSLO}], 0.0),
    ("cut off", [{"name": "weather", "arguments": PARIS}, {"name": "weather", "arguments": OSLO}], 0.0),
    ("text instead", [{"name": "weather", "arguments": PARIS}], 0.0),
    ("none wanted", [], 1.0),
    ("old form", {"type": "function", "function": {"name": "now", "arguments": "{}"}}, 1.0),
    ("as json", [], 1.0),
]


def message_of(said: list[tuple[str, str]] | str, *, old: bool) -> dict[str, Any]:
    if isinstance(said, str):
        return {"role": "assistant", "content": said}
    if old:
        return {"role": "assistant", "content": None, "function_call": {"name": said[0][0], "arguments": said[0][1]}}
    calls = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(said)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def deltas_of(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a message in pieces: the calls side by side, their arguments a few characters at a time."""
    if (whole := message.get("function_call")) is not None:
        yield {"role": "assistant", "function_call": {"name": whole["name"], "arguments": ""}}
        yield {"function_call": {"arguments": whole["arguments"]}}
    elif message["content"] is not None:
        yield {"role": "assistant", "content": message["content"]}
    calls = message.get("tool_calls", [])
    for index, call in enumerate(calls):
        yield {"tool_calls": [{"index": index, **call, "function": {"name": call["function"]["name"], "arguments": ""}}]}
    longest = max((len(call["function"]["arguments"]) for call in calls), default=0)
    for start in range(0, longest, 5):
        for index, call in enumerate(calls):
            if piece := call["function"]["arguments"][start : start + 5]:
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer as `SAID` has it; a judge gets its prompt back."""
    question = body["messages"][-1]["content"]
    if "tools" not in body:
        return web.json_response(chat_answer(question))
    message = message_of(SAID[question], old=question == "old form")
    finish = "stop" if message["content"] is not None else "function_call" if "function_call" in message else "tool_calls"
    if not body.get("stream"):
        whole: dict[str, Any] = chat_answer()
        whole["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
        return web.json_response(whole)
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas_of(message)]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": "m"}
    return await in_chunks(request, *({**chunk, "choices": [choice]} for choice in choices))


def metric(alias: str, kind: str, candidate: str, reference: Any, **settings: Any) -> dict[str, Any]:
    configuration = {"type": kind, "candidate": candidate, "reference": reference, **settings}
    return {"task_type": "metric", "alias": alias, "configuration": configuration}


def tasks(*, stream: bool) -> list[dict[str, Any]]:
    return [
        ask("answer", "{{item.question}}", stream=stream, configuration={"tools": "item.tools", "parallel_tool_calls": True}),
        metric("called", "tool_call_match", "item.answer", "item.calls"),
        metric("called_list", "tool_call_match", "item.answer.tool_calls", "item.calls"),
        metric("named", "tool_call_match", "item.answer", "item.calls", ignore_arguments=True),
        metric("is_city", "json_schema", "item.answer", SCHEMA),
        metric("stopped", "exact_match", "item.answer.finish_reason", "stop"),
        ask("judge", "{{item.answer}}|{{item.answer.finish_reason}}|{{item.answer.tool_calls | length}}"),
        ask("repeat", "item.answer"),
    ]


def project(directory: Path, url: str, *, stream: bool = False) -> Project:
    rows = [{"id": question, "question": question, "calls": calls, "tools": TOOLS} for question, calls, _ in ROWS]
    return Project(directory, url, rows=rows, tasks=tasks(stream=stream))


def found(made: Project) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Return each result's value and output."""
    assert made.errors() == []
    return {(row["item_id"], row["task"]): (row["value"], row["output"]) for row in made.results()}


def forget(made: Project, *kept: str) -> None:
    """Take the results of all tasks but these out of the journal, as if the run had been killed before them."""
    wanted = [b'"task":"%b"' % alias.encode() for alias in kept]
    forgotten = 0
    for segment in segments_of(made.run_dir / "journal"):
        lines = segment.read_bytes().splitlines(keepends=True)
        left = [line for line in lines if b'"kind":"end"' not in line or any(task in line for task in wanted)]
        forgotten += len(lines) - len(left)
        segment.write_bytes(b"".join(left))
    assert forgotten


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.long
@pytest.mark.parametrize("stream", some([pytest.param(True, id="streamed"), pytest.param(False, id="whole")], 1))
def test_tool_calls_are_scored_now_and_after_a_resume(tmp_path: Path, stream: bool) -> None:
    with Served(answer) as server:
        made = project(tmp_path, server.url, stream=stream)
        assert main([str(made.config)]) == 0
        first = found(made)
        for question, _, value in ROWS:
            assert first[question, "called"][0] == value, question
            assert first[question, "called_list"][0] == value, question
            assert first[question, "is_city"][0] == float(question == "as json"), question
            assert first[question, "stopped"][0] == float(isinstance(SAID[question], str)), question
        assert first["cut off", "named"][0] == 0.0
        assert first["one too few", "named"][0] == 0.0
        assert first["right", "judge"][1] == "|tool_calls|2"
        assert first["none wanted", "repeat"][1] == "Hello!"
        assert first["old form", "judge"][1] == "|function_call|1"
        assert first["none wanted", "judge"][1] == "Hello!|stop|0"
        assert all(request.body["tools"] == TOOLS for request in server.seen if "tools" in request.body)
        asked = len(server.seen)
        assert asked == 3 * len(ROWS)

        made.delete_views()
        assert main([str(made.config), "--resume"]) == 0
        assert found(made) == first
        assert len(server.seen) == asked

        made.delete_views()
        forget(made, "answer", "judge", "repeat")
        assert main([str(made.config), "--resume"]) == 0
        assert found(made) == first
        assert len(server.seen) == asked

        made.delete_views()
        forget(made, "answer")
        assert main([str(made.config), "--resume"]) == 0
        assert found(made) == first
        assert len(server.seen) == asked + 2 * len(ROWS)


def test_a_dry_run_renders_what_reads_the_parts_of_an_answer(tmp_path: Path) -> None:
    made = project(tmp_path, "http://127.0.0.1:9")
    assert main([str(made.config), "--dry-run"]) == 0


def test_a_metric_that_breaks_costs_its_own_result_and_no_answer(tmp_path: Path) -> None:
    """The metrics walk their references with Python's own stack; where it ends depends on who called."""
    nested: Any = []
    for _ in range(800):
        nested = [nested]
    with Served(answer) as server:
        made = project(tmp_path, server.url)
        made.tasks = [made.tasks[0], made.tasks[1]]
        made.rows = [
            {**made.rows[0], "id": "breaks", "calls": [{"name": "weather", "arguments": {"city": nested}}]},
            made.rows[0],
        ]
        made.more = {"limits": {"fail_on_error": 1.0}}
        made.write()
        assert main([str(made.config)]) == 0
        kept = {(row["item_id"], row["task"]): row["value"] for row in made.results()}
        assert kept == {("breaks", "answer"): None, ("right", "answer"): None, ("right", "called"): 1.0}
        (failed,) = made.errors()
        assert (failed["item_id"], failed["task"], failed["error_type"]) == ("breaks", "called", "template")
        assert re.search("unexpected RecursionError|is nested too deeply", failed["message"])
        # Scoring again asks nobody.
        assert main([str(made.config), "--resume", "--retry-errors"]) == 0
        assert [row["item_id"] for row in made.errors()] == ["breaks"]
        assert len(server.seen) == 2
