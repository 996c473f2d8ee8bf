"""What a config asks for every row alike and no server takes is refused at its place; what may be a server's own is left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from runner.config.loading import load_config
from runner.errors import ConfigError
from runner.tasks.vocabulary import PARTS, ROLES
from tests.commands import ask
from tests.trials import config_of

USER = {"role": "user", "content": "{{ item.q }}"}
PARAMETERS = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
URL = {"url": "https://h/a.png"}


def refused(folder: Path, task: dict[str, Any]) -> list[str]:
    """Return what is wrong with a task in a config, with its place below the configuration; and nothing where it is well."""
    trial = config_of(folder, "http://127.0.0.1:1", rows=[{"id": "1", "q": "x"}], tasks=[task])
    try:
        load_config(trial.config, (), {})
    except ConfigError as error:
        place = re.compile(rf"{re.escape(str(trial.config))}:\d+: tasks\.0\.configuration\.")
        return [place.sub("", mistake) if place.match(mistake) else f"no place: {mistake}" for mistake in error.mistakes]
    return []


def chat(**configuration: Any) -> dict[str, Any]:
    task = ask()
    return task | {"configuration": {"model": "m", "messages": [USER]} | configuration}


def saying(*messages: Any) -> dict[str, Any]:
    return chat(messages=list(messages))


def of_parts(*parts: Any) -> dict[str, Any]:
    return saying({"role": "user", "content": list(parts)})


def completion(prompt: Any) -> dict[str, Any]:
    return {"task_type": "completion", "configuration": {"model": "m", "prompt": prompt}}


def judge(**configuration: Any) -> dict[str, Any]:
    settings = {"model": "m", "prompt": "{{ item.q }}", "choices": ["a", "b"]} | configuration
    return {"task_type": "auto_evaluation.guided_decoding", "configuration": settings}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        # messages
        (chat(messages="hi"), 'messages: should be a list, and is a text for every row; write [{role: user, content: "hi"}]'),
        (chat(messages="Q: {{ item.q }}"), "messages: should be a list, and is a text for every row; write [{role: user, "),
        (chat(messages="{{ item.q }} please"), "messages: should be a list, and is a text for every row"),
        (chat(messages=USER), 'messages: should be a list, and is {"'),
        (chat(messages=[]), "messages: should not be empty, got []"),
        (chat(messages=None), "messages: should be a list, and is empty"),
        (saying("hi"), 'messages.0: should be a message, and is a text for every row; write {role: user, content: "hi"}'),
        (saying(USER, "Q: {{ item.q }}"), "messages.1: should be a message, and is a text for every row"),
        (saying(USER, [USER]), "messages.1: should be a mapping of keys"),
        (saying({"content": "x"}), "messages.0: has no `role`; there is: content; a message is {role: user"),
        (saying({"from": "human", "value": "x"}), "messages.0: has no `role`; there is: from, value"),
        (saying({"role": "user"}), "messages.0.content: is missing"),
        (saying({"role": "user", "content": None}), "messages.0.content: is null"),
        (saying({"role": "user", "content": 7}), "messages.0.content: should be a text or a list of parts, and is 7"),
        (saying({"role": "user", "content": []}), "messages.0.content: is empty"),
        (saying({"role": "user", "contents": "x"}), "messages.0.contents: unknown key; did you mean `content`?"),
        (saying({"rol": "user", "content": "x"}), "messages.0.rol: unknown key; did you mean `role`?"),
        (saying({"role": "assistant", "contnet": "x"}), "messages.0.contnet: unknown key; did you mean `content`?"),
        (saying({"role": "usr", "content": "x"}), "messages.0.role: is 'usr'; did you mean 'user'?"),
        (saying(USER, {"role": "Assistant", "content": "x"}), "messages.1.role: is 'Assistant'; did you mean 'assistant'?"),
        (saying({"role": "sytem", "content": "x"}), "messages.0.role: is 'sytem'; did you mean 'system'?"),
        # parts
        (of_parts({"type": "txt", "text": "x"}), "messages.0.content.0.type: is 'txt'; did you mean 'text'?"),
        (of_parts({"type": "image", "image_url": URL}), "messages.0.content.0.type: is 'image'; did you mean 'image_url'?"),
        (of_parts({"type": 5, "text": "x"}), "messages.0.content.0.type: should be a text, and is 5"),
        (of_parts({"text": "x"}), "messages.0.content.0: has no `type`; a part is {type: text, text: …}"),
        (of_parts({"type": "text", "content": "x"}), "messages.0.content.0: has no `text`, which a part of this type needs"),
        (of_parts({"type": "text", "text": 5}), "messages.0.content.0.text: should be a text, and is 5; put it into quotes"),
        (of_parts({"type": "image_url", "url": "https://h"}), "messages.0.content.0: has no `image_url`, which a part"),
        (
            of_parts({"type": "image_url", "image_url": {"uri": "x"}}),
            "messages.0.content.0.image_url: has no `url`; there is: uri",
        ),
        (
            of_parts({"type": "image_url", "image_url": {"url": "pics/cat.png"}}),
            "messages.0.content.0.image_url.url: 'pics/cat.png' is not a URL; a local file is written file:pics/cat.png",
        ),
        (of_parts({"type": "image_url", "image_url": "cat.JPG"}), "messages.0.content.0.image_url: 'cat.JPG' is not a URL"),
        (
            of_parts({"type": "image_url", "image_url": URL | {"url": "C:\\cat.png"}}),
            "image_url.url: 'C:\\\\cat.png' is not a URL",
        ),
        # tools
        (chat(tools=TOOL), "tools: should be a list"),
        (chat(tools=["weather"]), "tools.0: should be a mapping of keys"),
        (chat(tools="the {{ item.q }}"), "tools: should be a list, and 'the {{ item.q }}' is a text for every row"),
        (chat(tools=[{"type": "functon", "function": {}}]), "tools.0.type: is 'functon'; did you mean 'function'?"),
        (chat(tools=[{"type": "function", "name": "f"}]), "tools.0: has no `function`; write {type: function, function: "),
        (chat(tools=[{"type": "function", "function": {"nam": "f"}}]), "tools.0.function: has no `name`"),
        (
            chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "objekt"}}}]),
            'tools.0.function.parameters: is not a valid JSON schema: type: "objekt"',
        ),
        (chat(tools=[TOOL], tool_choice="requird"), "tool_choice: is 'requird'; did you mean 'required'?"),
        (
            chat(tools=[TOOL], tool_choice="weather"),
            "tool_choice: 'weather' is a tool; write {type: function, function: ",
        ),
        (
            chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "wether"}}),
            "tool_choice.function.name: 'wether' is not one of the `tools`; did you mean 'weather'?",
        ),
        (
            chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "buy"}}),
            "tool_choice.function.name: 'buy' is not one of the `tools`; there is: weather",
        ),
        (
            chat(tools=[TOOL], tool_choice={"type": "function", "name": "weather"}),
            "tool_choice: names no function; write {type",
        ),
        # formats
        (chat(response_format="json_object"), "response_format: should be a mapping of keys"),
        (chat(response_format={"typ": "json_object"}), "response_format: has no `type`; known are: text, json_object"),
        (chat(response_format={"type": "json-schema"}), "response_format.type: is 'json-schema'; did you mean 'json_schema'?"),
        (chat(response_format={"type": "json_schema"}), "response_format: has no `json_schema`; write {type: json_schema, "),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}),
            'response_format.json_schema.schema: is not a valid JSON schema: type: "strin"',
        ),
        # the others
        (chat(temperature="{{ item.q }} degrees"), "temperature: should be a number, and '{{ item.q }} degrees' is a text"),
        (chat(stop=5), "stop: should be a valid string"),
        (chat(service_tier="prority"), "service_tier: is 'prority'; did you mean 'priority'?"),
        (
            chat(tools=[TOOL], tool_choice={"type": "funtion", "function": {"name": "weather"}}),
            "tool_choice.type: is 'funtion'; did you mean 'function'?",
        ),
        (chat(reasoning_effort="hihg"), "reasoning_effort: is 'hihg'; did you mean 'high'?"),
        (chat(modalities=["txt"]), "modalities.0: is 'txt'; did you mean 'text'?"),
        (chat(extra_body={"model": "n"}), "extra_body.model: is also set beside `extra_body`; leave one of them out"),
        (chat(extra_body={"stream": True}), "extra_body.stream: goes beside `configuration`, as `stream: true`"),
        (completion([]), "prompt: should not be empty"),
        (completion([{"text": "x"}]), 'prompt.0: should be a text, or tokens, and is {"text":"x"}'),
        (judge(choices="yes, {{ item.q }}"), "choices: should be a list, and 'yes, {{ item.q }}' is a text for every row"),
        (judge(inference_args={"reasoning_effort": "lo"}), "inference_args.reasoning_effort: is 'lo'; did you mean 'low'?"),
    ],
)
def test_what_no_server_takes_is_refused_at_its_place(tmp_path: Path, task: dict[str, Any], said: str) -> None:
    (mistake,) = refused(tmp_path, task)
    assert said in mistake


FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": PARAMETERS}}


@pytest.mark.parametrize(
    "task",
    [
        # what the row gives is the row's
        *(chat(messages=one) for one in ("item.messages", "{{ item.messages }}", "{{item.a}}{{item.b}}", "[{{ item.a }}, {}]")),
        *(saying(one) for one in ("item.shots", "{{ item.shot }}", '{"role": "user", "content": "{{ item.q }}"}')),
        saying("item.shots", USER),
        saying({"role": "{{ item.role }}", "content": "x"}, {"role": "item.role", "content": "item.parts"}),
        of_parts({"type": "item.kind", "text": "x"}, "item.part", {"type": "image_url", "image_url": "item.picture"}),
        of_parts({"type": "image_url", "image_url": {"url": "{{ item.q }}.png"}}),
        chat(tools="item.tools", tool_choice={"type": "function", "function": {"name": "f"}}),
        chat(tools=[{"type": "function", "function": "item.f"}], tool_choice={"type": "function", "function": {"name": "f"}}),
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "item.f"}}),
        chat(tool_choice="item.choice", response_format="{{ item.form }}", temperature="{{ item.a }}.5", seed="1{{ item.n }}"),
        chat(logit_bias='{"{{ item.token }}": -100}', stop="no {{ item.q }}"),
        chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "item.type"}}}),
        # what only some servers have is theirs
        *(saying({"role": role, "content": "x"}) for role in ("ipython", "tool_response", "context", "observation", "model")),
        saying({"role": "{{ 'usr' }}", "content": "x"}),
        of_parts({"type": "image_embeds", "image_embeds": "x"}, {"type": "thinking", "thinking": "x"}, "a text"),
        of_parts({"type": "image", "image": "cat.png"}, {"type": "input_text", "text": "x"}, {"image_url": URL}),
        of_parts({"type": "image_url", "image_url": {"url": "iVBORw0KGgo="}}, {"type": "file", "file": {"file_id": "f-1"}}),
        chat(tools=[{"type": "web_search"}, {"googleSearch": {}}], tool_choice="any"),
        chat(tool_choice="required", extra_body={"tools": [TOOL]}),
        chat(tool_choice={"type": "function", "function": {"name": "of_the_server"}}, top_logprobs=3),
        chat(response_format={"type": "regex", "value": "a"}, reasoning_effort="max", service_tier="on_demand"),
        chat(response_format={"type": "json_schema", "schema": PARAMETERS}, top_logprobs=3, logprobs=True),
        chat(extra_body={"stream": False, "top_logprobs": 2}),
        # and what all have
        *(saying({"role": role, "content": "x", "tool_call_id": "1"}) for role in ROLES),
        saying(USER, {"role": "assistant", "content": None, "tool_calls": []}, {"role": "assistant"}),
        of_parts(*({"type": kind, kind: "x" if kind in {"text", "refusal"} else URL} for kind in PARTS[:2])),
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "weather"}}, response_format=FORM),
        completion(["a", "{{ item.q }}"]),
        completion([[1, 2]]),
        judge(inference_args={"reasoning_effort": "low", "top_logprobs": 0}),
        judge(choices="item.choices") | {"samples": 2},
    ],
    ids=lambda task: json.dumps(task["configuration"])[:60],
)
def test_what_a_row_gives_and_what_is_a_server_s_own_is_left_alone(tmp_path: Path, task: dict[str, Any]) -> None:
    assert refused(tmp_path, task) == []


def test_a_mistake_is_said_once_and_beside_all_others(tmp_path: Path) -> None:
    task = chat(messages=[{"role": "usr", "content": "x"}, {"role": "user"}], temprature=1, tools=["f"])
    assert [mistake.split(": ")[0] for mistake in sorted(refused(tmp_path, task))] == [
        *("messages.0.role", "messages.1.content", "temprature", "tools.0")
    ]
