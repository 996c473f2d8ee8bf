"""The check tells what works from what is refused or overlooked, repeats it as a curl line, and keeps secrets to itself."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import wave
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiohttp import web

from runner.check.curl import Shell
from runner.check.judge import Verdict, judge_failure, judge_response
from runner.check.needs import needs_of
from runner.check.probes import PROBES, Expect, body_of
from runner.check.samples import COLOUR, png, wav
from runner.cli.main import main
from runner.config.model import Config
from runner.types import ErrorType, Failure, Response, Usage
from tests.calls import InThisProcess
from tests.serving import Seen, Served

KEY = "sk-a-key-that-nobody-may-see"
NAMES = {"models", *(probe.name for probe in PROBES)}
NEEDS_CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not at hand")


# --- an endpoint that can do everything, and can be told not to ---


@dataclass
class Able:
    """Answers all probes well, but for the features that it refuses (with a 400) or overlooks."""

    refuses: frozenset[str] = frozenset()
    overlooks: frozenset[str] = frozenset()
    status: int = 400
    models: Sequence[str] = ("m",)

    async def __call__(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.path.endswith("/models"):
            return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})
        if refused := sorted(set(features(body)) & self.refuses):
            said = {"error": {"message": f"{refused[0]} is not supported here", "type": "invalid_request_error"}}
            return web.json_response(said, status=self.status)
        answer = self.answer(body)
        if not body.get("stream") or "stream" in self.overlooks:
            return web.json_response(answer)
        return web.Response(text=self.events(body, answer), content_type="text/event-stream")

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        count = body["n"] if "n" in body and "n" not in self.overlooks else 1
        tokens = 57 if "max_tokens" in self.overlooks and "Count" in str(body) else 1
        return {
            "id": "1",
            "object": "chat.completion" if "messages" in body else "text_completion",
            "model": body["model"],
            "choices": [self.choice(index, body) for index in range(count)],
            "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens},
        }

    def choice(self, index: int, body: Mapping[str, Any]) -> dict[str, Any]:
        if "messages" not in body:
            return {"index": index, **self.completion(body), "finish_reason": "length"}
        choice: dict[str, Any] = {"index": index, "message": self.message(body), "finish_reason": "length"}
        if body.get("logprobs") and "logprobs" not in self.overlooks:
            choice["logprobs"] = {"content": [{"token": "Paris", "logprob": -0.1, "top_logprobs": []}]}
        return choice

    def message(self, body: Mapping[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = {"role": "assistant", "content": "Paris"}
        if "tools" in body and "tools" not in self.overlooks:
            arguments = (
                '{"city": "Par' if 16 in (body.get("max_tokens"), body.get("max_completion_tokens")) else '{"city": "Paris"}'
            )
            function = {"name": "get_weather", "arguments": arguments}
            said |= {"content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}
        form = body.get("response_format", {}).get("type")
        if form is not None and form not in self.overlooks:
            said["content"] = '{"city": "Paris", "letters": 5}'
        if "image" in features(body) and "image" not in self.overlooks:
            said["content"] = f"{COLOUR.capitalize()}."
        return said

    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        echoed = [body["prompt"]] if body.get("echo") and "echo" not in self.overlooks else []
        tokens = [*" ".join(echoed).split(), "."]
        numbers = [None, *[-0.5] * (len(tokens) - 1)] if echoed else [-0.5]
        logprobs = {"tokens": tokens, "token_logprobs": numbers} if "logprobs" in body else None
        return {"text": "".join([*echoed, " Paris"]), "logprobs": logprobs}

    def events(self, body: Mapping[str, Any], answer: dict[str, Any]) -> str:
        chunks = []
        for choice in answer["choices"]:
            piece = {name: value for name, value in choice.items() if name != "message"}
            if "message" in choice:
                delta = dict(choice["message"])
                delta["tool_calls"] = [{"index": 0, **call} for call in delta.get("tool_calls", [])]
                piece["delta"] = delta
            chunks.append({"id": "1", "model": answer["model"], "choices": [piece]})
        if body.get("stream_options", {}).get("include_usage") and "include_usage" not in self.overlooks:
            chunks.append({"id": "1", "model": answer["model"], "choices": [], "usage": answer["usage"]})
        return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def features(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words for what a body uses."""
    yield from body
    yield str(body.get("response_format", {}).get("type"))
    for message in body.get("messages", ()):
        for part in message["content"] if isinstance(message["content"], list) else ():
            yield {"image_url": "image"}.get(part["type"], part["type"])
            if part.get("image_url") == {"url": ""}:
                yield "empty image"


def able(*, refuses: Sequence[str] = (), overlooks: Sequence[str] = (), **more: Any) -> Able:
    """Return an endpoint that, as it should, refuses a picture without an address; unless it overlooks that."""
    refused = {*refuses, *(() if "empty image" in overlooks else ("empty image",))}
    return Able(refuses=frozenset(refused), overlooks=frozenset(overlooks), **more)


# --- the command ---


@dataclass
class Checked:
    """What the command printed and returned, and what the endpoint saw."""

    code: int
    out: str
    err: str
    seen: Sequence[Seen] = ()
    document: dict[str, Any] = field(default_factory=dict)

    def verdicts(self) -> dict[str, str]:
        return {title(one): one["verdict"] for one in self.document["requests"]}

    def one(self, wanted: str) -> dict[str, Any]:
        (found,) = (one for one in self.document["requests"] if title(one) == wanted)
        return dict(found)

    def needed(self) -> set[str]:
        return {title(one) for one in self.document["requests"] if one["needed_by"]}

    def not_working(self) -> set[str]:
        return {name for name, verdict in self.verdicts().items() if verdict != "works"}


def title(one: Mapping[str, Any]) -> str:
    return f"{one['name']}+stream" if one["stream"] else str(one["name"])


def chat(**configuration: Any) -> dict[str, Any]:
    more: dict[str, Any] = {name: configuration.pop(name) for name in ("stream", "alias") if name in configuration}
    asked = {"model": "m", "messages": [{"role": "user", "content": "{{item.q}}"}]} | configuration
    return {"task_type": "chat_completion", **more, "configuration": asked}


def completion(**configuration: Any) -> dict[str, Any]:
    return {"task_type": "completion", "configuration": {"model": "m", "prompt": "{{item.q}}"} | configuration}


def config_of(url: str, *tasks: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "trial",
        "data": more.pop("data", [{"q": "two?"}]),
        "endpoint": {"base_url": url} | more.pop("endpoint", {}),
        "tasks": list(tasks) or [chat()],
    } | more


@pytest.fixture(autouse=True)
def _no_key_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name == "OPENAI_API_KEY" or "proxy" in name.lower():
            monkeypatch.delenv(name)


@dataclass
class Command:
    """The command, run inside this process."""

    directory: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, config: Mapping[str, Any], *options: str) -> Checked:
        path = self.directory / "config.yaml"
        path.write_text(json.dumps(config))
        code = main(["check", str(path), *options])
        out, err = self.capture.readouterr()
        return Checked(code, out, err, document=json.loads(out) if "--json" in options and out else {})

    def against(self, answer: Able, *tasks: Mapping[str, Any], **more: Any) -> Checked:
        """Check an endpoint that is there for this check only."""
        with Served(answer) as served:
            checked = self(config_of(served.url, *tasks, **more), "--json")
            checked.seen = list(served.seen)
        return checked


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, capsys)


# --- what works, what is refused, what is overlooked ---


def test_an_endpoint_that_can_do_everything_works_throughout(check: Command) -> None:
    checked = check.against(able())
    assert checked.not_working() == set()
    assert checked.code == 0
    assert {one["name"] for one in checked.document["requests"]} == {*NAMES, "task:chat_completion"}


def test_everything_is_asked_exactly_once(check: Command) -> None:
    checked = check.against(able())
    posts = [json.dumps(seen.body) for seen in checked.seen if seen.body]
    assert max(Counter(posts).values()) == 1
    assert len(checked.seen) == len(checked.document["requests"])


def test_a_server_error_is_not_asked_again(check: Command) -> None:
    checked = check.against(able(refuses=["seed"], status=503))
    assert checked.one("seed")["status"] == 503
    assert sum("seed" in seen.body for seen in checked.seen) == 2, "whole and streamed"


@pytest.mark.parametrize(
    ("overlooked", "wrong", "says"),
    [
        ("n", {"n", "n+stream"}, "asked for n: 2, got 1"),
        ("logprobs", {"logprobs", "logprobs+stream"}, "no logprobs"),
        ("json_object", {"json_object", "json_object+stream"}, "the answer does not fit response_format: not JSON"),
        ("json_schema", {"json_schema", "json_schema+stream"}, "the answer does not fit response_format: not JSON"),
        ("tools", {"tools", "tools+stream", "tools_whole", "tools_whole+stream"}, "no tool call"),
        ("image", {"image", "image+stream"}, "the picture is orange"),
        ("empty image", {"image_empty"}, "answered as if nothing were missing"),
        ("echo", {"completions_logprobs", "completions_logprobs+stream"}, "the prompt is not echoed"),
        ("max_tokens", {"max_tokens", "max_completion_tokens"}, "asked for 16 tokens at most, got 57"),
    ],
)
def test_what_is_overlooked_is_wrong(check: Command, overlooked: str, wrong: set[str], says: str) -> None:
    checked = check.against(able(overlooks=[overlooked]))
    assert checked.not_working() == wrong
    for name in wrong:
        found = checked.one(name)
        assert (found["verdict"], found["status"], found["error_type"]) == ("wrong", 200, None)
        assert says in found["message"]
    assert checked.code == 0, "the config needs none of it"


@pytest.mark.parametrize(
    ("overlooked", "says"), [("stream", "it came whole, not as a stream"), ("include_usage", "no usage, which")]
)
def test_a_stream_that_is_none_or_lacks_its_usage_is_wrong(check: Command, overlooked: str, says: str) -> None:
    checked = check.against(able(overlooks=[overlooked]))
    streams = {name for name in checked.verdicts() if name.endswith("+stream")}
    assert checked.not_working() == streams
    assert all(says in checked.one(name)["message"] for name in streams)


@pytest.mark.parametrize("feature", ["n", "seed", "logprobs", "json_schema", "tools", "image", "audio_url", "input_audio"])
def test_what_is_refused_says_so_in_the_servers_words(check: Command, feature: str) -> None:
    checked = check.against(able(refuses=[feature]))
    refused = {name: one for name in checked.not_working() if (one := checked.one(name))}
    assert {feature, f"{feature}+stream"} <= refused.keys()
    for one in refused.values():
        assert (one["verdict"], one["status"], one["error_type"]) == ("refused", 400, "request")
        assert one["message"] == f"400 Bad Request: {feature} is not supported here"


def test_an_empty_picture_refused_with_a_5xx_works_with_a_word_of_warning(check: Command) -> None:
    checked = check.against(able(status=500))
    assert checked.one("image_empty")["verdict"] == "works"
    assert "a run retries" in checked.one("image_empty")["message"]


def test_what_came_is_told(check: Command) -> None:
    checked = check.against(able())
    assert checked.one("logprobs")["present"] == ["usage", "logprobs"]
    assert checked.one("tools+stream")["present"] == ["usage", "tool_calls"]
    assert checked.one("n")["present"] == ["usage", "choices"]
    assert checked.one("chat")["finish_reason"] == "length"
    assert checked.one("chat")["answer"] == "Paris"
    assert checked.one("chat")["ttft_s"] is None
    assert checked.one("chat+stream")["ttft_s"] > 0
    assert checked.one("chat")["latency_s"] > 0
    assert checked.one("models")["message"] == "it lists m"


def test_a_model_that_is_not_listed_is_pointed_out(check: Command) -> None:
    checked = check.against(able(models=["a", "b"]))
    assert checked.one("models")["message"] == "not listed: m; it lists a, b"
    assert checked.one("models")["verdict"] == "works", "some servers take any name"


@pytest.mark.parametrize("tasks", [[chat(model="gpt-5o")], [chat(model="gpt-5o"), completion(model="gpt-6")]])
def test_a_model_that_there_is_not_is_said_once_with_those_that_there_are(check: Command, tasks: list[Any]) -> None:
    async def refuse(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        message = f"The model `{body.get('model')}` does not exist"
        return web.json_response({"error": {"message": message, "type": "NotFoundError", "code": 404}}, status=404)

    with Served(refuse) as served:
        said = check(config_of(served.url, *tasks))
        asked = len(served.seen)
    models = {task["configuration"]["model"] for task in tasks}
    assert said.code == 1
    assert said.out.splitlines()[1:] == ["the check ended there"]
    assert all(f"404 Not Found: The model `{model}` does not exist" in said.out for model in models)
    assert asked == 1 + 3 * len(models)  # the list, and of each two for the length, and the task's own


def test_only_what_is_needed_is_asked_where_that_is_wanted(check: Command, caplog: pytest.LogCaptureFixture) -> None:
    with Served(able()) as served, caplog.at_level("INFO"):
        said = check(config_of(served.url, chat(temperature=0, stream=True)), "--json", "--only-needed")
    assert said.code == 0
    assert set(said.verdicts()) == {
        *("models", "max_tokens", "max_completion_tokens"),
        *("temperature", "chat+stream", "task:chat_completion+stream"),
    }
    assert f"in {len(said.document['requests'])} requests" in caplog.text


def test_models_that_cannot_be_listed_are_refused(check: Command) -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"detail": "Not Found"}, status=404)
        return await able()(request, body)

    checked = check.against(answer)  # type: ignore[arg-type]  # any handler will do
    assert checked.one("models") | {"latency_s": 0, "curl": ""} == {
        "name": "models",
        "model": None,
        "path": "/models",
        "stream": False,
        "needed_by": [],
        "verdict": "refused",
        "status": 404,
        "error_type": "auth",
        "latency_s": 0,
        "ttft_s": None,
        "finish_reason": None,
        "present": [],
        "message": "404 Not Found: Not Found",
        "answer": "",
        "notes": [],
        "curl": "",
    }
    assert checked.code == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"<html>", "is not JSON"), (b'{"object":"list"}', "`data` is missing"), (b"[]", "`data` is missing")],
)
def test_a_list_of_models_that_is_none_is_wrong(check: Command, body: bytes, says: str) -> None:
    async def answer(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=body) if request.method == "GET" else await able()(request, asked)

    found = check.against(answer).one("models")  # type: ignore[arg-type]  # any handler will do
    assert found["verdict"] == "wrong"
    assert says in found["message"]


# --- parameters that are refused stay out of the other probes ---


def test_max_completion_tokens_takes_the_place_of_a_refused_max_tokens(check: Command) -> None:
    checked = check.against(able(refuses=["max_tokens"]), chat(max_completion_tokens=5))
    failing = checked.not_working()
    assert failing == {"max_tokens"} | {name for name in checked.verdicts() if name.startswith("completions")}
    assert checked.one("chat")["notes"] == ["asked with max_completion_tokens instead of max_tokens, which is refused"]
    assert checked.one("max_completion_tokens")["notes"] == []
    assert checked.code == 0


def test_a_refused_temperature_is_left_out(check: Command) -> None:
    checked = check.against(able(refuses=["temperature"]), completion(), chat())
    assert checked.not_working() == {"temperature", "completions", "completions+stream"}
    assert checked.one("image")["notes"] == ["asked without temperature, which is refused"]
    assert checked.code == 1


def test_a_server_without_chat_hides_nothing(check: Command) -> None:
    checked = check.against(able(refuses=["messages"]), completion(echo=True, logprobs=1))
    assert {name for name, verdict in checked.verdicts().items() if verdict == "works"} == {
        *("models", "image_empty", "task:completion"),
        *("completions", "completions+stream", "completions_logprobs", "completions_logprobs+stream"),
    }
    assert checked.one("chat")["notes"] == []
    assert checked.code == 0


@pytest.mark.long
def test_another_answer_to_the_same_seed_is_noted(check: Command) -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        whole = able()
        said = whole.answer(body) if body else {}
        if "seed" in body and not body["stream"]:
            said["choices"][0]["message"]["content"] = "A cow."
            return web.json_response(said)
        return await whole(request, body)

    checked = check.against(answer)  # type: ignore[arg-type]  # any handler will do
    assert checked.one("seed")["verdict"] == "works"
    assert checked.one("seed")["notes"] == ["the same seed gave different answers with and without streaming"]
    assert check.against(able()).one("seed")["notes"] == []


# --- what the config needs ---


IMAGE_ROW = {"q": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "?"}]}


@pytest.mark.parametrize(
    ("task", "row", "needed"),
    [
        (chat(), {"q": "x"}, {"chat"}),
        (chat(stream=True), {"q": "x"}, {"chat+stream"}),
        (chat(stream=True, temperature=0), {"q": "x"}, {"chat+stream", "temperature"}),
        (chat(max_tokens=5, top_p=0.5, seed=3), {"q": "x"}, {"chat", "max_tokens", "top_p", "seed"}),
        (chat(max_completion_tokens=5), {"q": "x"}, {"chat", "max_completion_tokens"}),
        (chat(n=1), {"q": "x"}, {"chat"}),
        (chat(n=2, stream=True), {"q": "x"}, {"chat+stream", "n+stream"}),
        (chat(n="item.n"), {"q": "x", "n": 3}, {"chat", "n"}),
        (chat(logprobs=True), {"q": "x"}, {"chat", "logprobs"}),
        (chat(logprobs=False), {"q": "x"}, {"chat"}),
        (chat(tools=[{"type": "function", "function": {"name": "f"}}]), {"q": "x"}, {"chat", "tools_whole"}),
        (chat(response_format={"type": "json_object"}), {"q": "x"}, {"chat", "json_object"}),
        (chat(response_format={"type": "json_schema"}), {"q": "x"}, {"chat", "json_schema"}),
        (chat(response_format={"type": "text"}), {"q": "x"}, {"chat"}),
        (chat(messages=[{"role": "user", "content": "item.q"}]), IMAGE_ROW, {"chat", "image"}),
        (chat(extra_body={"seed": 5}), {"q": "x"}, {"chat", "seed"}),
        (
            chat(messages=[{"role": "user", "content": [{"type": "audio_url"}, {"type": "input_audio"}]}]),
            {"q": "x"},
            {"chat", "audio_url", "input_audio"},
        ),
        (completion(temperature=1, max_tokens=3), {"q": "x"}, {"completions"}),
        (completion(logprobs=0, echo=True), {"q": "x"}, {"completions", "completions_logprobs"}),
        (completion(logprobs=1), {"q": "x"}, {"completions"}),
    ],
)
def test_the_tasks_say_which_probes_are_needed(task: dict[str, Any], row: dict[str, Any], needed: set[str]) -> None:
    config = Config.model_validate(config_of("http://h/v1", task))
    needs = needs_of(config, [row])
    assert {f"{name}+stream" if stream else name for _, name, stream in needs.aliases} == needed
    assert {alias for aliases in needs.aliases.values() for alias in aliases} == {task["task_type"]}
    assert [alias for own in needs.own for alias in own.needed_by] == [task["task_type"]]


def test_without_a_row_that_can_be_rendered_the_configuration_is_looked_at() -> None:
    config = Config.model_validate(config_of("http://h/v1", chat(seed=1, n="item.n", extra_body={"logprobs": True})))
    for rows in ([], [{"other": 1}]):
        needs = needs_of(config, rows)
        assert {name for _, name, _ in needs.aliases} == {"chat", "seed", "logprobs"}
        assert needs.own == []


def test_a_model_of_the_row_is_the_first_rows(check: Command) -> None:
    rows = [{"q": "x", "model": "first"}, {"q": "x", "model": "second"}]
    judge = chat(alias="judge", messages=[{"role": "user", "content": "{{item.reply}}"}], model="judge-1")
    tasks = chat(alias="reply", model="item.model"), judge, chat(alias="again", model="judge-1", seed=1)
    checked = check.against(able(models=["first", "judge-1"]), *tasks, data=rows)
    assert checked.document["models"] == ["first", "judge-1"]
    needed = {(one["model"], one["name"]): one["needed_by"] for one in checked.document["requests"] if one["needed_by"]}
    assert needed == {
        ("first", "chat"): ["reply"],
        ("first", "task:reply"): ["reply"],
        ("judge-1", "chat"): ["judge", "again"],
        ("judge-1", "seed"): ["again"],
        ("judge-1", "task:judge"): ["judge"],
        ("judge-1", "task:again"): ["again"],
    }


def test_a_tasks_own_first_request_is_sent_as_a_run_would(check: Command) -> None:
    task = chat(stream=True, stop=["\n"], extra_body={"top_k": 20})
    checked = check.against(able(), task, data=[{"q": "first"}, {"q": "second"}])
    own = [seen.body for seen in checked.seen if "first" in str(seen.body)]
    assert own == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "first"}],
            "stop": ["\n"],
            "top_k": 20,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


@pytest.mark.parametrize(
    ("refused", "task", "code"),
    [
        ("seed", chat(seed=1), 1),
        ("seed", chat(), 0),
        ("top_k", chat(extra_body={"top_k": 3}), 1),  # no probe is about it: the task's own request is
        ("messages", completion(), 0),
        ("prompt", chat(), 0),
        ("prompt", completion(), 1),
    ],
)
def test_it_exits_with_0_only_if_what_is_needed_works(check: Command, refused: str, task: dict[str, Any], code: int) -> None:
    checked = check.against(able(refuses=[refused]), task)
    assert checked.code == code
    assert checked.document["works"] == (code == 0)


# --- what ends a check ---


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_refused_connection_is_said_once(check: Command, options: Sequence[str]) -> None:
    with Served() as served:
        url = served.url
    checked = check(config_of(url), *options)
    assert checked.code == 1
    said = checked.document["stopped"] if options else checked.out
    assert said.count("no connection") == 1
    assert len(checked.out.splitlines()) == 2 or options


@pytest.mark.parametrize(("key", "says"), [(KEY, "the key is the one in $OPENAI_API_KEY"), ("", "no key was sent")])
def test_a_wrong_key_is_said_once(check: Command, monkeypatch: pytest.MonkeyPatch, key: str, says: str) -> None:
    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        said = f"Incorrect API key provided: {request.headers.get('Authorization')}"
        return web.json_response({"error": {"message": said, "code": "invalid_api_key"}}, status=401)

    monkeypatch.setenv("OPENAI_API_KEY", key)
    with Served(answer) as served:
        checked = check(config_of(served.url))
        assert len(served.seen) == 2
    assert checked.code == 1
    assert checked.out.count("Incorrect API key") == 1
    assert says in checked.out
    assert KEY not in checked.out + checked.err


def test_an_endpoint_that_has_no_room_is_not_waited_for(check: Command) -> None:
    async def answer(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "come back tomorrow"}}, status=429, headers={"Retry-After": "60"})

    with Served(answer) as served:
        checked = check(config_of(served.url))
        assert len(served.seen) == 2
    assert (checked.code, checked.out.count("come back tomorrow")) == (1, 1)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (config_of("ftp://nowhere"), "is not a URL"),
        (config_of("http://h", chat(modle="m")), "unknown key"),
        (
            config_of("http://h", {"task_type": "metric", "configuration": {"type": "exact_match", "candidate": "item.q"}}),
            "",
        ),
    ],
)
def test_mistakes_of_the_config_are_the_users_and_nothing_is_sent(check: Command, config: dict[str, Any], says: str) -> None:
    checked = check(config)
    assert checked.code == 2
    assert says in checked.err
    assert checked.out == ""


def test_a_config_that_asks_no_model_cannot_be_checked(check: Command) -> None:
    metric = {"type": "exact_match", "candidate": "item.q", "reference": "item.q"}
    checked = check(config_of("http://h", {"task_type": "metric", "configuration": metric}))
    assert checked.code == 2
    assert "no task names a model" in checked.err


# --- recordings ---


def test_with_replay_the_tasks_own_request_is_answered_and_the_rest_is_refused(check: Command, tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    with Served(able()) as served:
        recorded = config_of(served.url, endpoint={"record": str(recordings)}, output=str(tmp_path / "results"))
        assert check(recorded, "--json").code == 0
        assert not recordings.exists(), "a check is no part of what is recorded"
        (tmp_path / "run.yaml").write_text(json.dumps(recorded))
        assert main(["run", str(tmp_path / "run.yaml"), "--no-progress"]) == 0
        check.capture.readouterr()
    endpoint = {"base_url": None, "replay": str(recordings)}
    checked = check(config_of("", endpoint=endpoint), "--json")
    assert {name for name, verdict in checked.verdicts().items() if verdict == "works"} == {"task:chat_completion"}
    assert checked.code == 1
    assert {one["curl"] for one in checked.document["requests"]} == {None}


# --- what is printed ---

REQUEST_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "model": {"type": ["string", "null"]},
        "path": {"enum": ["/models", "/chat/completions", "/completions"]},
        "stream": {"type": "boolean"},
        "needed_by": {"type": "array", "items": {"type": "string"}},
        "verdict": {"enum": ["works", "refused", "wrong"]},
        "status": {"type": ["integer", "null"]},
        "error_type": {"enum": [None, *ErrorType]},
        "latency_s": {"type": "number"},
        "ttft_s": {"type": ["number", "null"]},
        "finish_reason": {"type": ["string", "null"]},
        "present": {"type": "array", "items": {"enum": ["usage", "reasoning", "tool_calls", "logprobs", "choices"]}},
        "message": {"type": "string"},
        "answer": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
        "curl": {"type": ["string", "null"]},
    },
}
REQUEST_SCHEMA["required"] = list(REQUEST_SCHEMA["properties"])  # type: ignore[call-overload]  # it is a mapping
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["endpoint", "models", "works", "stopped", "requests"],
    "properties": {
        "endpoint": {"type": "string"},
        "models": {"type": "array", "items": {"type": "string"}},
        "works": {"type": "boolean"},
        "stopped": {"type": ["string", "null"]},
        "requests": {"type": "array", "items": REQUEST_SCHEMA},
    },
}


def test_the_json_has_its_shape(check: Command) -> None:
    jsonschema.validate(check.against(able(refuses=["seed"], overlooks=["n"])).document, SCHEMA)
    jsonschema.validate(check(config_of("http://127.0.0.1:1"), "--json").document, SCHEMA)


def test_the_table_marks_what_is_needed_and_the_lines_of_what_fails_follow(check: Command) -> None:
    with Served(able(refuses=["seed"], overlooks=["n"])) as served:
        checked = check(config_of(served.url, chat(seed=1)))
    table, *blocks, end = checked.out.strip().split("\n\n")
    heading, *lines = table.splitlines()
    assert heading == f"m at {served.url}"
    rows = {re.split(r"\s{2,}", line.lstrip("* "))[0]: line for line in lines}
    assert rows["chat"].startswith("*")
    assert rows["chat, stream"].startswith(" ")
    assert re.search(r"seed +refused +400 .* - +- +400 Bad Request: seed is not supported here", rows["seed"])
    assert re.search(r"n +WRONG +200 .* length +usage +asked for n: 2, got 1: 'Paris'", rows["n"])
    assert [block.splitlines()[0] for block in blocks] == [
        "# n: wrong: asked for n: 2, got 1",
        "# seed: refused: 400 Bad Request: seed is not supported here",
        "# task chat_completion: refused: 400 Bad Request: seed is not supported here",
    ]
    assert all(block.splitlines()[1].startswith("curl ") for block in blocks)
    assert end.splitlines()[:2] == [
        "* needed by the tasks of this config (chat_completion): 1 of 3 work",
        "  does not work: seed (refused), task chat_completion (refused)",
    ]
    assert checked.code == 1


@pytest.mark.long
def test_every_line_is_there_when_asked_for(check: Command) -> None:
    with Served(able()) as served:
        config = config_of(served.url)
        assert "\ncurl " not in check(config).out
        asked = check(config, "--curl").out
    assert asked.count("\ncurl ") == len(served.seen) // 2


def test_on_a_narrow_terminal_lines_are_cut(check: Command) -> None:
    from runner.check import CheckReport, Finding

    finding = Finding(
        name="chat",
        model="m",
        path="/chat/completions",
        stream=False,
        needed_by=["a"],
        verdict=Verdict.REFUSED,
        status=400,
        error_type="request",
        message="word " * 100,
    )
    text = CheckReport(models=["m"], findings=[finding]).text(width=80, every_line=False)
    table, in_full, _ = text.split("\n\n")
    assert {len(line) for line in table.splitlines()} <= set(range(101))
    assert table.endswith("…")
    assert in_full.count("word") == 100


# --- curl ---


def run(line: str, **environment: str) -> None:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(["sh", "-c", line], env=kept | environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def as_sent(seen: Sequence[Seen]) -> Counter[tuple[str, str]]:
    return Counter((one.path, json.dumps(one.body)) for one in seen)


@pytest.mark.long
@NEEDS_CURL
@pytest.mark.parametrize("save", [False, True])
def test_the_lines_send_what_the_check_sent(check: Command, tmp_path: Path, save: bool) -> None:
    photograph = base64.b64encode(os.urandom(30_000)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{photograph}"}}
    quoted = chat(alias="quoted", messages=[{"role": "user", "content": 'it\'s "$HOME" `date` \\ \n%'}])
    tasks = [quoted, chat(alias="photo", messages=[{"role": "user", "content": [part]}])]
    with Served(able()) as served:
        options = ["--save", str(tmp_path / "saved bodies")] if save else []
        checked = check(config_of(served.url, *tasks), "--json", *options)
        sent = as_sent(served.seen)
        served.seen.clear()
        for one in checked.document["requests"]:
            if not save and one["name"] == "task:photo":
                assert "--data-binary @BODY.json" in one["curl"]
                del sent[next(key for key in sent if photograph in key[1])]
            else:
                run(one["curl"])
        assert as_sent(served.seen) == sent
        assert all("application/json" in seen.headers["Content-Type"] for seen in served.seen)
    assert {len(one["curl"]) < 2_000 for one in checked.document["requests"]} == {True}


def test_the_end_says_how_to_get_a_body_that_is_too_long_for_a_line(check: Command) -> None:
    with Served(able(refuses=["messages"])) as served:
        config = config_of(served.url, chat(messages=[{"role": "user", "content": "word " * 10_000}]))
        assert "--save DIR writes" in check(config).out


def test_a_directory_that_cannot_be_written_is_wrong_usage(check: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checked = check(config_of("http://127.0.0.1:1"), "--save", str(tmp_path / "file"))
    assert checked.code == 2
    assert "--save" in checked.err


SECRETS = {
    "MY_KEY": KEY,
    "GATEWAY_TOKEN": "gateway-token-0123456789",
    "TEAM": "the team's name",
    "URL_KEY": "query-key-0123456789",
}


@NEEDS_CURL
def test_secrets_are_never_printed_and_the_lines_work_all_the_same(
    check: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if "seed" in body:
            return web.json_response({"error": {"message": f"no seed: {dict(request.headers)} {request.url}"}}, status=400)
        return await able()(request, body)

    literal = "literal-secret-0123456789"
    headers = {
        "X-Auth": "Bearer ${GATEWAY_TOKEN}",
        "X-Api-Key": literal,
        "X-Team": "${TEAM} of ${NOT_SET:-nobody}",
        "X-Plain": 'a "plain" $value',
    }
    with Served(answer) as served:
        endpoint = {"base_url": f"{served.url}?key=${{URL_KEY}}&v=1", "api_key_env": "MY_KEY", "headers": headers}
        config = config_of(served.url, endpoint=endpoint)
        checked = check(config, "--json", "--save", str(tmp_path / "saved"))
        printed = [checked.out, checked.err, *check(config, "--curl").out.splitlines()]
        printed += [path.read_text() for path in (tmp_path / "saved").iterdir()]
        sent = served.seen[0].headers
        served.seen.clear()
        run(checked.one("chat")["curl"], X_API_KEY=literal)
    for secret in (KEY, literal, SECRETS["GATEWAY_TOKEN"], SECRETS["URL_KEY"]):
        assert not any(secret in text for text in printed)
    line = checked.one("chat")["curl"]
    assert '-H "Authorization: Bearer $MY_KEY"' in line
    assert '-H "X-Auth: Bearer $GATEWAY_TOKEN"' in line
    assert '-H "X-Api-Key: $X_API_KEY"' in line
    assert "?'\"key=$URL_KEY\"'&'v=1" in line
    assert "no seed" in checked.one("seed")["message"]
    (again,) = served.seen
    for name in ("Authorization", *headers):
        assert again.headers[name] == sent[name]


def test_the_default_key_is_named_by_its_variable(check: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    checked = check.against(able())
    assert {seen.headers["Authorization"] for seen in checked.seen} == {f"Bearer {KEY}"}
    assert KEY not in checked.out
    assert all('-H "Authorization: Bearer $OPENAI_API_KEY"' in one["curl"] for one in checked.document["requests"])


@pytest.mark.parametrize(("verify", "word"), [(False, "-k"), ("/a b.pem", "--cacert '/a b.pem'"), (True, "-d '{}'")])
def test_tls_is_checked_as_in_the_config(verify: object, word: str) -> None:
    document = config_of("https://h/v1", endpoint={"verify": verify})
    line = Shell(Config.model_validate(document), document, {}).line("/chat/completions", b"{}")
    assert line.removesuffix(" -d '{}'" if verify is not True else "").endswith(word)


def test_an_escaped_variable_stays_text() -> None:
    document = config_of("http://h/v1", endpoint={"headers": {"X-A": "${V}$${W}`"}})
    config = Config.model_validate(config_of("http://h/v1", endpoint={"headers": {"X-A": "v${W}`"}}))
    line = Shell(config, document, {"V": "v"}).line("/models", None)
    assert r'-H "X-A: ${V}\${W}\`"' in line


# --- the judge, where no endpoint of the tests goes ---


def answered(output: str | None = "x", **more: Any) -> Response:
    return Response(output=output, **more)


def body(name: str, *, stream: bool = False) -> dict[str, Any]:
    (probe,) = (probe for probe in PROBES if probe.name == name)
    return body_of(probe, model="m", stream=stream, instead={})


def tool_call(name: str = "get_weather", arguments: object = '{"city":"Paris"}') -> str:
    return json.dumps([{"function": {"name": name, "arguments": arguments}}])


LENGTH = {"finish_reason": "length"}


@pytest.mark.parametrize(
    ("asked", "response", "expects", "fault"),
    [
        ("chat", answered(""), Expect.ANSWER, "an empty answer"),
        ("chat", answered(None), Expect.ANSWER, "an empty answer"),
        ("chat", answered(""), Expect.OWN, None),
        ("chat", answered(None, reasoning="hm"), Expect.ANSWER, None),
        ("chat", answered("", usage=Usage(reasoning_tokens=16), **LENGTH), Expect.ANSWER, None),
        ("chat", answered("", usage=Usage(reasoning_tokens=16)), Expect.ANSWER, "an empty answer"),
        ("chat", answered(ttft_s=0.1), Expect.ANSWER, "it came as a stream, which was not asked for"),
        ("chat", answered(choices='[{"text":"a"},{"text":"b"}]'), Expect.ANSWER, "asked for n: 1, got 2"),
        ("max_tokens", answered("1 " * 17), Expect.LIMIT, "asked for 16 tokens at most, got 17"),
        ("max_tokens", answered("1 " * 16), Expect.LIMIT, None),
        ("max_tokens", answered(usage=Usage(completion_tokens=40, reasoning_tokens=30)), Expect.LIMIT, None),
        ("json_schema", answered('{"city":"Paris","letters":"5"}'), Expect.ANSWER, 'letters: "5" is not of type "integer"'),
        ("json_schema", answered('{"city":"Paris","letters":true}'), Expect.ANSWER, "letters: true is not of type"),
        ("json_schema", answered('{"city":"Paris"}'), Expect.ANSWER, '"letters" is a required property'),
        ("json_schema", answered('{"city":"Paris","letters":5,"x":1}'), Expect.ANSWER, "Additional properties are not allowed"),
        ("json_object", answered("[1]"), Expect.ANSWER, '[1] is not of type "object"'),
        ("json_object", answered('{"a":', **LENGTH), Expect.ANSWER, "(it was cut off: finish_reason length)"),
        ("json_object", answered('```json\n{"a":1}\n```'), Expect.ANSWER, "the answer does not fit response_format: not JSON"),
        ("tools", answered(None, tool_calls=tool_call(arguments='{"ci'), **LENGTH), Expect.TOOL_CALL, None),
        ("tools", answered(None, tool_calls=tool_call(arguments='{"ci')), Expect.TOOL_CALL, "do not fit: not JSON"),
        ("tools", answered(None, tool_calls=tool_call("f")), Expect.TOOL_CALL, "a call of 'f', which was not declared"),
        ("tools", answered(None, tool_calls='["f"]'), Expect.TOOL_CALL, "a call of None"),
        ("tools", answered(None, tool_calls=tool_call(arguments={"city": 1})), Expect.TOOL_CALL, "do not fit"),
        ("tools_whole", answered(None, tool_calls=tool_call()), Expect.WHOLE_TOOL_CALL, None),
        ("tools_whole", answered(None, tool_calls=tool_call(arguments='{"ci'), **LENGTH), Expect.WHOLE_TOOL_CALL, "not JSON"),
        ("logprobs", answered(logprobs='{"content":null}'), Expect.ANSWER, "no logprobs"),
        ("logprobs", answered(logprobs='["?"]'), Expect.ANSWER, "no logprobs"),
        ("logprobs", answered(logprobs='{"content":[{"logprob":-1}]}'), Expect.ANSWER, None),
        (
            "completions_logprobs",
            answered("3 + 3 = 6.", logprobs='{"token_logprobs":[-1]}'),
            Expect.ANSWER,
            "logprobs of the answer only, none of the prompt",
        ),
        ("image", answered("I cannot see pictures"), Expect.COLOUR, "is it ignored?"),
        ("image", answered("", usage=Usage(reasoning_tokens=16), **LENGTH), Expect.COLOUR, None),
        ("image_empty", answered("Blue"), Expect.REFUSAL, "as if nothing were missing"),
    ],
)
async def test_answers_are_judged_by_what_was_asked_for(
    asked: str, response: Response, expects: Expect, fault: str | None
) -> None:
    verdict, message = await judge_response(body(asked), response, expects, InThisProcess())
    assert (verdict is Verdict.WORKS) == (fault is None), message
    assert (fault or "") in message


async def test_hidden_reasoning_alone_is_no_proof_that_a_stream_came_whole() -> None:
    response = answered("", usage=Usage(completion_tokens=16, reasoning_tokens=16), **LENGTH)
    judged = await judge_response(body("chat", stream=True), response, Expect.ANSWER, InThisProcess())
    assert judged == (Verdict.WORKS, "")


@pytest.mark.parametrize(
    ("kind", "status", "expects", "verdict"),
    [
        (ErrorType.REQUEST, 400, Expect.ANSWER, Verdict.REFUSED),
        (ErrorType.TIMEOUT, None, Expect.ANSWER, Verdict.REFUSED),
        (ErrorType.INVALID_RESPONSE, 200, Expect.ANSWER, Verdict.WRONG),
        (ErrorType.INVALID_RESPONSE, None, Expect.ANSWER, Verdict.REFUSED),
        (ErrorType.REQUEST, 422, Expect.REFUSAL, Verdict.WORKS),
        (ErrorType.CONNECT, None, Expect.REFUSAL, Verdict.REFUSED),
        (ErrorType.INVALID_RESPONSE, 200, Expect.REFUSAL, Verdict.WRONG),
    ],
)
def test_errors_are_refusals_unless_they_came_as_a_200(
    kind: ErrorType, status: int | None, expects: Expect, verdict: Verdict
) -> None:
    failure = Failure(error_type=kind, message="said", status_code=status)
    assert judge_failure(failure, expects).verdict is verdict
    assert "said" in judge_failure(failure, expects).message


# --- the bodies ---


def test_the_probes_of_nemo_are_asked_as_nemo_asks_them() -> None:
    general = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 256, "stream": False}
    assert general.items() <= body("chat").items()
    assert general.items() <= body("completions").items()
    assert {"max_tokens": 16, "temperature": 0.0, "top_p": 1.0}.items() <= body("tools").items()
    assert "tool_choice" not in body("tools")
    assert body("completions_logprobs") == {
        "model": "m",
        "prompt": "3 + 3 = 6",
        "max_tokens": 1,
        "logprobs": 1,
        "echo": True,
        "stream": False,
    }
    for name, kinds in {"image": ["image_url", "text"], "audio_url": ["audio_url", "text"]}.items():
        assert [part["type"] for part in body(name)["messages"][0]["content"]] == kinds
    assert {"max_tokens": 16, "temperature": 0.0, "top_p": 1.0}.items() <= body("image").items()
    assert body("audio_url")["max_tokens"] == 256


def test_the_sound_is_a_valid_wav() -> None:
    with wave.open(io.BytesIO(wav())) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
        frames = sound.readframes(sound.getnframes())
    assert len(frames) == 2 * 8_000
    assert len(set(frames)) > 10, "it is no silence"


def test_the_picture_is_a_valid_png_of_one_colour() -> None:
    data = png()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert int.from_bytes(data[at + 8 + size : at + 12 + size]) == zlib.crc32(kind + content)
        chunks[kind] = content
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert chunks[b"IHDR"] == (64).to_bytes(4) + (64).to_bytes(4) + bytes([8, 2, 0, 0, 0])
    rows = zlib.decompress(chunks[b"IDAT"])
    assert rows == (b"\0" + bytes([255, 140, 0]) * 64) * 64
