"""What goes onto the wire is what the config names: every parameter by its own name, with its own JSON type, and nothing else.

Configs are written as YAML and run by the command line; a server keeps each body, which is compared as JSON text, so that 1
and 1.0 differ. Concurrency is 1 and there is one row, so the requests come in the order of the tasks.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from tests.commands import here
from tests.serving import Seen, Served, chat_answer

ROOT = Path(__file__).resolve().parents[1]
KEY = "sk-CANARY-wire"


async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer a chat or a text completion, streamed where that is asked for."""
    chat = request.path.endswith("/chat/completions")
    if body.get("stream"):
        piece = {"delta": {"content": "ok"}} if chat else {"text": "ok"}
        text = f"data: {json.dumps({'choices': [{**piece, 'finish_reason': 'stop'}]})}\n\ndata: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")
    return web.json_response(chat_answer() if chat else {"choices": [{"index": 0, "text": "ok", "finish_reason": "stop"}]})


def run(folder: Path, config: str, row: Mapping[str, Any], *, path: str = "", options: Sequence[str] = ()) -> list[Seen]:
    """Run a config with one row; return the requests that came, each of which must have become a result."""
    (folder / "rows.jsonl").write_text(f"{json.dumps(row)}\n", encoding="utf-8")
    (folder / "wire.yaml").write_text(config, encoding="utf-8")
    with Served(answer) as server:
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment |= {"URL": f"{server.url}{path}", "API_KEY": KEY, "FOLDER": str(folder)}
        done = here(str(folder / "wire.yaml"), *options, environment=environment)
    assert done.returncode == 0, done.stderr
    results = pq.read_table(folder / "results" / "wire" / "latest" / "results.parquet").to_pylist()
    # What is kept as the request is what was sent.
    assert [json.loads(row["request"]) for row in results] == [seen.body for seen in server.seen]
    return server.seen


def exactly(value: Any) -> str:
    """Return JSON text in which 1 and 1.0 differ and the order of members does not count."""
    return json.dumps(value, sort_keys=True)


HEAD = """
name: wire
dataset: ${FOLDER}/rows.jsonl
endpoint: {base_url: "${URL}", api_key_env: API_KEY, headers: {Accept: application/json}}
limits: {concurrency: 1}
output: ${FOLDER}/results
tasks:
"""


# --- the requests of NeMo Evaluator's guide to testing an endpoint, as `curl -d` would send them ---

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
CURLS: dict[str, tuple[str, str]] = {
    "chat": (
        "/v1/chat/completions",
        """{"messages": [{"role": "user", "content": "Add 2 and 3 in Python."}],
            "model": "my-model", "temperature": 0.6, "top_p": 0.95, "max_tokens": 256, "stream": false}""",
    ),
    "completions": (
        "/v1/completions",
        """{"prompt": "Add 2 and 3 in Python.",
            "model": "my-model", "temperature": 0.6, "top_p": 0.95, "max_tokens": 256, "stream": false}""",
    ),
    "image": (
        "/v1/chat/completions",
        """{"messages": [{"role": "user", "content": [
              {"type": "image_url", "image_url": {"url": "data:image/png;base64,PNG"}},
              {"type": "text", "text": "What is this?"}]}],
            "model": "my-model", "stream": false, "max_tokens": 16, "temperature": 0.0, "top_p": 1.0}""",
    ),
    "function_calling": (
        "/v1/chat/completions",
        """{"model": "my-model", "stream": false, "max_tokens": 16, "temperature": 0.0, "top_p": 1.0,
            "messages": [{"role": "user", "content": "What is the slope of y = 3x + 2?"}],
            "tools": [{"type": "function", "function": {
              "name": "slope", "description": "Finds the slope of a line.",
              "parameters": {"type": "object", "properties": {
                "line": {"type": "string", "description": "The line."},
                "range": {"type": "array", "items": {"type": "number"}, "description": "Default is [0.0, 3.4]."}},
                "required": ["line"]}}}]}""",
    ),
    "audio": (
        "/v1/chat/completions",
        """{"max_tokens": 256, "model": "my-model", "messages": [{"content": [
              {"audio_url": {"url": "data:audio/wav;base64,WAV"}, "type": "audio_url"},
              {"text": "Write down what is said:", "type": "text"}], "role": "user"}],
            "temperature": 0.0, "top_p": 1.0}""",
    ),
    "completions_logprob": (
        "/v1/completions",
        """{"prompt": "3 + 3 = 6", "model": "my-model", "max_tokens": 1, "logprobs": 1, "echo": true}""",
    ),
}
GUIDE = """
  - task_type: chat_completion
    alias: chat
    configuration:
      model: my-model
      messages: [{role: user, content: Add 2 and 3 in Python.}]
      temperature: 0.6
      top_p: 0.95
      max_tokens: 256
      extra_body: {stream: false}
  - task_type: completion
    alias: completions
    configuration:
      model: my-model
      prompt: Add 2 and 3 in Python.
      temperature: 0.6
      top_p: 0.95
      max_tokens: 256
      extra_body: {stream: false}
  - task_type: chat_completion
    alias: image
    configuration:
      model: my-model
      messages:
        - role: user
          content:
            - type: image_url
              image_url: {url: "data:image/png;base64,{{ item.png }}"}
            - {type: text, text: "What is this?"}
      max_tokens: 16
      temperature: 0.0
      top_p: 1.0
      extra_body: {stream: false}
  - task_type: chat_completion
    alias: function_calling
    configuration:
      model: my-model
      messages: [{role: user, content: "What is the slope of y = 3x + 2?"}]
      tools:
        - type: function
          function:
            name: slope
            description: Finds the slope of a line.
            parameters:
              type: object
              properties:
                line: {type: string, description: The line.}
                range: {type: array, items: {type: number}, description: "Default is [0.0, 3.4]."}
              required: [line]
      max_tokens: 16
      temperature: 0.0
      top_p: 1.0
      extra_body: {stream: false}
  - task_type: chat_completion
    alias: audio
    configuration:
      model: my-model
      messages:
        - role: user
          content:
            - type: audio_url
              audio_url: {url: "data:audio/wav;base64,{{ item.wav }}"}
            - {type: text, text: "Write down what is said:"}
      max_tokens: 256
      temperature: 0.0
      top_p: 1.0
  - task_type: completion
    alias: completions_logprob
    configuration: {model: my-model, prompt: 3 + 3 = 6, max_tokens: 1, logprobs: 1, echo: true}
"""


def test_the_requests_of_nemos_guide_are_those_of_curl(tmp_path: Path) -> None:
    """The guide's URL is the full one of a chat; the text completions find their own path all the same."""
    seen = run(tmp_path, HEAD + GUIDE, {"png": PNG, "wav": WAV}, path="/chat/completions")
    assert [request.path for request in seen] == [path for path, _ in CURLS.values()]
    for request, (name, (_, text)) in zip(seen, CURLS.items(), strict=True):
        body = text.replace("base64,PNG", f"base64,{PNG}").replace("base64,WAV", f"base64,{WAV}")
        assert exactly(request.body) == exactly(json.loads(body)), name
        headers = {header: request.headers.get(header) for header in ("Content-Type", "Authorization", "Accept")}
        assert headers == {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {KEY}",
            "Accept": "application/json",
        }


# --- every parameter by its own name ---

#: Each known parameter of a chat completion, in YAML and as JSON.
PARAMETERS: list[tuple[str, str, str]] = [
    ("audio", "{voice: alloy, format: wav}", '{"voice": "alloy", "format": "wav"}'),
    ("frequency_penalty", "0.5", "0.5"),
    ("frequency_penalty", "-2", "-2"),
    ("function_call", "auto", '"auto"'),
    ("function_call", "{name: f}", '{"name": "f"}'),
    ("functions", "[{name: f, parameters: {type: object}}]", '[{"name": "f", "parameters": {"type": "object"}}]'),
    ("logit_bias", '{"50256": -100, "7": 0.5}', '{"50256": -100, "7": 0.5}'),
    ("logprobs", "true", "true"),
    ("max_completion_tokens", "7", "7"),
    ("max_tokens", "7", "7"),
    ("metadata", '{a: "1", b: no}', '{"a": "1", "b": "no"}'),
    ("modalities", "[text, audio]", '["text", "audio"]'),
    ("n", "2", "2"),
    ("parallel_tool_calls", "false", "false"),
    ("prediction", "{type: content, content: x}", '{"type": "content", "content": "x"}'),
    ("presence_penalty", "1.0", "1.0"),
    ("reasoning_effort", "low", '"low"'),
    ("response_format", "{type: json_object}", '{"type": "json_object"}'),
    (
        "response_format",
        "{type: json_schema, json_schema: {name: s, strict: true, schema: {type: object, required: []}}}",
        '{"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"type": "object", "required": []}}}',
    ),
    ("seed", "0", "0"),
    ("seed", "14150443913665712000", "14150443913665712000"),
    ("service_tier", "default", '"default"'),
    ("stop", r'"\n"', r'"\n"'),
    ("stop", r'[END, "🦜"]', r'["END", "\ud83e\udd9c"]'),
    ("store", "true", "true"),
    ("stream_options", "{include_usage: false}", '{"include_usage": false}'),
    ("temperature", "0", "0"),
    ("temperature", "0.0", "0.0"),
    ("temperature", "1", "1"),
    ("temperature", "1.0", "1.0"),
    ("temperature", "1e-6", "1e-06"),
    ("temperature", "0.30000000000000004", "0.30000000000000004"),
    ("tool_choice", "required", '"required"'),
    ("tool_choice", "{type: function, function: {name: f}}", '{"type": "function", "function": {"name": "f"}}'),
    ("tools", "[{type: function, function: {name: f}}]", '[{"type": "function", "function": {"name": "f"}}]'),
    ("top_k", "20", "20"),
    ("top_logprobs", "3", "3"),
    ("top_p", "1", "1"),
    ("top_p", "0.95", "0.95"),
    ("user", '"7"', '"7"'),
]
NAMES = sorted({name for name, _, _ in PARAMETERS})
SGP = re.findall(
    r"\w+",
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata modalities "
    "n parallel_tool_calls prediction presence_penalty reasoning_effort response_format seed stop store temperature "
    "tool_choice tools top_k top_logprobs top_p",
)
MESSAGES = [{"role": "user", "content": "hi"}]
PLAIN: dict[str, Any] = {"model": "m", "messages": MESSAGES}
BASE = "model: m\nmessages: [{role: user, content: hi}]\n"
#: Every parameter again, each in a body of its own that a row could hold.
IN_THE_ROW = [{**PLAIN, name: json.loads(value)} for name, _, value in PARAMETERS]
INSIDE = """
model: "m-{{ item.n }}"
messages: [item.message, {role: user, content: "{{ item.values[0].model }}: {{ item.message.content }}"}]
logit_bias: {"7": item.bias}
response_format: {type: json_schema, json_schema: item.schema}
tools: [{type: function, function: {name: f, parameters: item.schema}}]
extra_body: {top_a: item.bias, deep: [{er: item.none}], text: "{{ item.bias }}"}
"""
#: What `extra_body` is, and what of it goes into the body.
EXTRAS: list[tuple[str, dict[str, Any]]] = [
    ("{}", {}),
    ("null", {}),
    ("{min_p: 0.05, guided_choice: [a, b], nothing: null}", {"min_p": 0.05, "guided_choice": ["a", "b"], "nothing": None}),
    ("{chat_template_kwargs: {enable_thinking: false}}", {"chat_template_kwargs": {"enable_thinking": False}}),
    ("{stop_token_ids: [1, 2], extra_body: {min_p: 1}}", {"stop_token_ids": [1, 2], "extra_body": {"min_p": 1}}),
]
#: What a streamed task's configuration adds, and what of it goes into the body.
STREAMED: list[tuple[str, dict[str, Any]]] = [
    ("", {"stream_options": {"include_usage": True}}),
    ("stream_options: {include_usage: false}", {"stream_options": {"include_usage": False}}),
    ("stream_options: {}", {"stream_options": {}}),
    ("stream_options: null", {"stream_options": None}),
    ("stream_options: item.options", {"stream_options": {"x": 1}}),
    ("extra_body: {stream_options: {include_obfuscation: false}}", {"stream_options": {"include_obfuscation": False}}),
]
#: Configurations of text completions, in YAML and as JSON.
COMPLETIONS: list[tuple[str, str]] = [
    ("prompt: Once upon", '{"prompt": "Once upon"}'),
    ('prompt: ""', '{"prompt": ""}'),
    ("prompt: [Once, upon]", '{"prompt": ["Once", "upon"]}'),
    ("prompt: [1, 2, 50256]", '{"prompt": [1, 2, 50256]}'),
    ("prompt: [[1, 2], [3]]", '{"prompt": [[1, 2], [3]]}'),
    ('prompt: "{{ item.text }}!"', '{"prompt": "\\ud83e\\udd9c!"}'),
    ("prompt: item.tokens", '{"prompt": [7, 8]}'),
    ("prompt: [item.text, b]", '{"prompt": ["\\ud83e\\udd9c", "b"]}'),
    ("prompt: a\nmax_tokens: 0\necho: true\nlogprobs: 0", '{"prompt": "a", "max_tokens": 0, "echo": true, "logprobs": 0}'),
    ("prompt: a\nlogprobs: 5\necho: false", '{"prompt": "a", "logprobs": 5, "echo": false}'),
    ("prompt: a\nsuffix: z\nn: 2\nbest_of: 3", '{"prompt": "a", "suffix": "z", "n": 2, "best_of": 3}'),
    (
        "prompt: a\nlogit_bias: {'7': -1}\nuser: me\nseed: 3",
        '{"prompt": "a", "logit_bias": {"7": -1}, "user": "me", "seed": 3}',
    ),
    ("prompt: a\nstop: [x]\ntop_p: 1\ntop_k: 2", '{"prompt": "a", "stop": ["x"], "top_p": 1, "top_k": 2}'),
    (
        "prompt: a\ntemperature: 1.0\npresence_penalty: 0\nfrequency_penalty: 0.0",
        '{"prompt": "a", "temperature": 1.0, "presence_penalty": 0, "frequency_penalty": 0.0}',
    ),
    ("prompt: a\nsuffix: null\nlogprobs: item.count", '{"prompt": "a", "suffix": null, "logprobs": 2}'),
    ("prompt: a\nextra_body: {min_tokens: 1}", '{"prompt": "a", "min_tokens": 1}'),
]
ROW = {
    "n": 1,
    "values": IN_THE_ROW,
    "bias": 1.0,
    "schema": {"x": [1, 1.0]},
    "none": None,
    "message": MESSAGES[0],
    "options": {"x": 1},
    "text": "🦜",
    "tokens": [7, 8],
    "count": 2,
}
CHAT, TEXT, STREAM = "task_type: chat_completion", "task_type: completion", "stream: true"
#: What is run, in parts: what each task has, and the configurations.
PARTS: dict[str, tuple[list[str], list[str]]] = {
    "set": ([CHAT], [f"{BASE}temperature: 0.5"]),
    "plain": ([CHAT], [BASE]),
    "not streamed": ([CHAT, "stream: false"], [BASE]),
    "parameters": ([CHAT], [f"{BASE}{name}: {text}" for name, text, _ in PARAMETERS]),
    "nulls": ([CHAT], [f"{BASE}{name}: null" for name in NAMES]),
    "all null": ([CHAT], [BASE + "\n".join(f"{name}:" for name in NAMES)]),
    "locators": (
        [CHAT],
        ["\n".join(f"{name}: item.values.{number}.{name}" for name in body) for number, body in enumerate(IN_THE_ROW)],
    ),
    "inside": ([CHAT], [INSIDE]),
    "extras": ([CHAT], [f"extra_body: {text}\n{BASE}temperature: 1" for text, _ in EXTRAS]),
    "streamed": ([CHAT, STREAM], [BASE + text for text, _ in STREAMED]),
    "completions": ([TEXT], [f"model: m\n{text}" for text, _ in COMPLETIONS]),
    "streamed completions": ([TEXT, STREAM], [f"model: m\nprompt: hi\n{text}" for text, _ in STREAMED]),
}


def task_of(lines: Sequence[str]) -> str:
    """Return the YAML of a task."""
    return f"  - {indent(chr(10).join(lines), '    ').lstrip()}\n"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Seen]]:
    """Return the requests of each part."""
    tasks = [
        task_of([*more, f"alias: t{part}-{number}", "configuration:", indent(text, "  ")])
        for part, (more, texts) in enumerate(PARTS.values())
        for number, text in enumerate(texts)
    ]
    options = ["--set", "tasks.0.configuration.temperature=1.0", "--set", "tasks.0.configuration.max_tokens=5"]
    came = iter(run(tmp_path_factory.mktemp("wire"), HEAD + "".join(tasks), ROW, options=options))
    return {name: list(islice(came, len(texts))) for name, (_, texts) in PARTS.items()}


def check(seen: Sequence[Seen], expected: Sequence[Mapping[str, Any]]) -> None:
    assert [exactly(request.body) for request in seen] == [exactly(body) for body in expected]


def test_the_parameters_of_sgp_are_all_tried() -> None:
    assert set(NAMES) >= set(SGP)


@pytest.mark.long
def test_each_parameter_is_sent_as_named_and_no_other(seen: dict[str, list[Seen]]) -> None:
    """So `max_tokens` and `max_completion_tokens` are never swapped, and nothing has a default of its own."""
    check(seen["plain"] + seen["not streamed"], [PLAIN, PLAIN])
    check(seen["parameters"], IN_THE_ROW)
    for request, (name, _, _) in zip(seen["parameters"], PARAMETERS, strict=True):
        assert list(request.body) == ["model", "messages", name]


def test_a_null_that_is_named_is_sent(seen: dict[str, list[Seen]]) -> None:
    """To a server that has a default, a null says something."""
    check(seen["nulls"], [PLAIN | {name: None} for name in NAMES])
    check(seen["all null"], [PLAIN | dict.fromkeys(NAMES)])


def test_a_locator_gives_any_parameter_its_value_and_type(seen: dict[str, list[Seen]]) -> None:
    check(seen["locators"], IN_THE_ROW)
    body = {
        "model": "m-1",
        "messages": [*MESSAGES, {"role": "user", "content": "m: hi"}],
        "logit_bias": {"7": 1.0},
        "response_format": {"type": "json_schema", "json_schema": {"x": [1, 1.0]}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": [1, 1.0]}}}],
        "top_a": 1.0,
        "deep": [{"er": None}],
        "text": "1.0",
    }
    check(seen["inside"], [body])


def test_the_extra_body_is_put_beside_the_rest(seen: dict[str, list[Seen]]) -> None:
    check(seen["extras"], [PLAIN | {"temperature": 1} | added for _, added in EXTRAS])


def test_a_stream_asks_for_usage_unless_it_says_otherwise(seen: dict[str, list[Seen]]) -> None:
    check(seen["streamed"], [PLAIN | {"stream": True} | added for _, added in STREAMED])
    completion = {"model": "m", "prompt": "hi", "stream": True}
    check(seen["streamed completions"], [completion | added for _, added in STREAMED])


def test_text_completions_are_sent_as_named(seen: dict[str, list[Seen]]) -> None:
    assert {request.path for request in seen["completions"]} == {"/v1/completions"}
    check(seen["completions"], [{"model": "m"} | json.loads(value) for _, value in COMPLETIONS])


def test_what_the_command_line_sets_is_sent(seen: dict[str, list[Seen]]) -> None:
    check(seen["set"], [PLAIN | {"temperature": 1.0, "max_tokens": 5}])
