"""What rows give reaches the wire as the API takes it: typed, without padding, as messages; what does not fit is never sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner import jsontext
from runner.check.samples import png
from runner.errors import RowError
from runner.tasks.chat_completion import ChatCompletionConfig
from runner.tasks.completion import CompletionConfig
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.mediatype import data_url
from runner.types import Blob, Outcome, Request, Unit
from tests.calls import InThisProcess

PNG = png()
PICTURE = data_url("image/png", PNG)
HI = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": null}'}}


async def never(_request: Request) -> Outcome:
    raise NotImplementedError


def sent(row: dict[str, Any], files: MediaFiles | None = None, **configuration: Any) -> dict[str, Any]:
    """Return the body that a chat task sends for a row."""
    configuration = {"model": "m", "messages": [HI]} | configuration
    config = ChatCompletionConfig.model_validate({"task_type": "chat_completion", "configuration": configuration})
    return body_of(config, row, files)


def body_of(
    config: ChatCompletionConfig | CompletionConfig, row: dict[str, Any], files: MediaFiles | None = None
) -> dict[str, Any]:
    task = config.build(never, files or MediaFiles(), InThisProcess())
    request = task.render(Unit("a", 0, 0, "answer"), row)  # type: ignore[attr-defined]  # a request's task can
    body: dict[str, Any] = json.loads(request.content)
    return body


def messages(value: Any) -> Any:
    return sent({"v": value}, messages="item.v")["messages"]


def refused(value: Any, written: Any = "item.v", **configuration: Any) -> str:
    with pytest.raises(RowError) as caught:
        sent({"v": value}, **({"messages": written} if written is not None else {}), **configuration)
    return str(caught.value)


# --- parameters ---


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("temperature", "0.7", 0.7),
        ("temperature", " 1 ", 1),
        ("temperature", ".5", 0.5),
        ("temperature", "1e-1", 0.1),
        ("temperature", 1, 1),
        ("temperature", None, None),
        ("max_tokens", "16", 16),
        ("max_tokens", "16.0", 16),
        ("max_tokens", 16.0, 16),
        ("seed", "-7", -7),
        ("logprobs", "true", True),
        ("logprobs", "True", True),
        ("parallel_tool_calls", "FALSE", False),
        ("user", 7, "7"),
        ("user", "7", "7"),
        ("model", 4.5, "4.5"),
        ("stop", "7", "7"),
        ("stop", 7, "7"),
        ("stop", ["a", "b"], ["a", "b"]),
        ("stop", '["a"]', '["a"]'),
        ("tool_choice", '{"a": 1}', '{"a": 1}'),
        ("logit_bias", '{"7": 1}', {"7": 1}),
        ("tools", '[{"type": "function", "function": {"name": "f"}}]', [{"type": "function", "function": {"name": "f"}}]),
        ("tools", ['{"type": "function"}', None, [{"type": "x", "y": None}]], [{"type": "function"}, {"type": "x"}]),
        ("response_format", '{"type": "json_object"}', {"type": "json_object"}),
        ("response_format", {"type": "json_object", "json_schema": None}, {"type": "json_object"}),
        ("modalities", '["text"]', ["text"]),
    ],
)
def test_a_value_of_the_row_is_brought_to_the_type_of_its_parameter(key: str, given: object, value: object) -> None:
    for written in ("item.v", "{{ item.v }}") if isinstance(given, str) else ("item.v",):
        configuration: dict[str, Any] = {key: written}
        found = sent({"v": given}, **configuration)[key]
        assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "template", "value"),
    [
        ("temperature", "{{ item.t | float }}", 0.7),
        ("temperature", "{{ item.t }}", 0.7),
        ("max_tokens", "{{ item.n | int * 2 }}", 32),
        ("max_tokens", "{% if item.n %}{{ item.n }}{% endif %}0", 160),
        ("stop", "{{ item.stops.split('|') }}", ["a", "b"]),
        ("user", "{{ item.o }}", '{"k":1}'),
        ("metadata", {"o": "{{ item.o }}", "n": "{{ item.n | int }}"}, {"o": '{"k":1}', "n": "16"}),
        (
            "tools",
            [{"function": {"parameters": "{{ item.schema | fromjson }}"}}],
            [{"function": {"parameters": {"type": "object"}}}],
        ),
        ("extra_body", {"k": "{{ item.n | int }}", "choice": "{{ item.stops.split('|') }}", "o": "{{ item.o }}"}, None),
    ],
)
def test_a_template_gives_a_value_where_the_api_takes_one(key: str, template: Any, value: object) -> None:
    row = {"t": "0.7", "n": "16", "stops": "a|b", "o": {"k": 1}, "schema": '{"type": "object"}'}
    body = sent(row, **{key: template})
    if key == "extra_body":
        assert (body["k"], body["choice"], body["o"]) == (16, ["a", "b"], '{"k":1}')
    else:
        assert body[key] == value


@pytest.mark.parametrize("content", ["{{ item.o }}", "{{ item.n | int }}", "{{ item.list + [1] }}", "{{ item.yes }}"])
def test_a_message_s_content_stays_text(content: str) -> None:
    row = {"o": {"k": 1}, "n": "7", "list": [1], "yes": True}
    texts = {"{{ item.o }}": '{"k":1}', "{{ item.n | int }}": "7", "{{ item.list + [1] }}": "[1,1]", "{{ item.yes }}": "true"}
    parts = [{"type": "text", "text": content}]
    found = sent(row, messages=[{"role": "user", "content": content}, {"role": "user", "content": parts}])["messages"]
    assert found[0]["content"] == found[1]["content"][0]["text"] == texts[content]


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("temperature", "hot", "configuration.temperature: should be a number, and is 'hot'"),
        ("temperature", "", "configuration.temperature: should be a number, and is ''"),
        ("temperature", "nan", "should be a number, and is 'nan'"),
        ("temperature", True, "should be a number, and is true"),
        ("temperature", [1], "should be a number, and is [1]"),
        ("max_tokens", "1.5", "should be a whole number, and is '1.5'"),
        ("seed", 7.5, "should be a whole number, and is 7.5"),
        ("logprobs", "yes", "should be true or false, and is 'yes'"),
        ("tools", "none", "should be a list, and is 'none'"),
        ("tools", ["none"], "configuration.tools.0: should be an object"),
        ("response_format", "json", "should be an object, and is 'json'"),
        ("user", {"a": 1}, 'should be a text, and is {"a":1}'),
        ("stop", {"a": 1}, "should be a text or a list, and is"),
    ],
)
def test_what_does_not_fit_is_the_error_of_the_row(key: str, given: object, message: str) -> None:
    assert message in refused(given, None, **{key: "item.v"})


def test_text_completions_take_texts_and_lists() -> None:
    configuration = {"model": "m", "prompt": "{{ item.list }}", "max_tokens": "{{ item.n }}", "suffix": "item.n"}
    config = CompletionConfig.model_validate({"task_type": "completion", "configuration": configuration})
    assert body_of(config, {"list": [1], "n": "5"}) == {"model": "m", "prompt": "[1]", "max_tokens": 5, "suffix": "5"}


# --- nulls ---


def test_the_padding_of_parquet_is_left_out() -> None:
    padded = {"role": "assistant", "content": None, "name": None, "tool_calls": [CALL | {"index": None}], "function_call": None}
    tool = {"role": "tool", "content": "1", "tool_call_id": "a", "tool_calls": None}
    parts = [
        {"type": "text", "text": "a", "image_url": None},
        {"type": "image_url", "text": None, "image_url": {"url": "u", "detail": None}},
    ]
    user = {"role": "user", "content": parts, "name": None}
    assert messages([{**HI, "name": None, "tool_calls": None}, padded, tool, user, None]) == [
        HI,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "1", "tool_call_id": "a"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]},
    ]


def test_a_null_that_is_data_stays() -> None:
    schema = {
        "type": "object",
        "title": None,
        "properties": {
            "city": {"type": "string", "enum": ["a", None], "default": None, "const": None, "items": None},
            "default": {"type": "string", "enum": None},
            "units": None,
        },
        "default": {"a": None},
    }
    tool = {"type": "function", "function": {"name": "f", "strict": None, "parameters": schema}}
    kept = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["a", None], "default": None, "const": None},
            "default": {"type": "string"},
        },
        "default": {"a": None},
    }
    assert sent({"v": [tool]}, tools="item.v")["tools"] == [{"type": "function", "function": {"name": "f", "parameters": kept}}]
    call = {"id": "a", "function": {"name": "f", "arguments": {"x": None}}, "index": None}
    assert messages([{"role": "assistant", "tool_calls": [call]}])[0]["tool_calls"] == [
        {"id": "a", "function": {"name": "f", "arguments": {"x": None}}}
    ]


def test_what_the_config_spells_out_is_sent_as_it_is() -> None:
    written = [{"role": "user", "content": "{{ item.v }}", "name": None}, {"role": "x", "content": [None], "y": None}]
    assert sent({"v": "hi"}, messages=written)["messages"][1] == written[1]
    assert sent({"v": "hi"}, messages=written)["messages"][0]["name"] is None
    assert sent({"v": "hi"}, messages=[HI], tools=[{"strict": None}], seed=None)["tools"] == [{"strict": None}]


# --- lists of messages ---

LISTS: list[tuple[Any, list[dict[str, Any]]]] = [
    ([HI], [HI]),
    (json.dumps([HI]), [HI]),
    (f" {json.dumps([SYSTEM, HI], indent=1)}\n", [SYSTEM, HI]),
    ([[SYSTEM], HI], [SYSTEM, HI]),
    ([json.dumps(SYSTEM), HI], [SYSTEM, HI]),
]


@pytest.mark.parametrize(("value", "expected"), LISTS)
def test_a_list_of_messages_is_found_in_what_the_row_holds(value: Any, expected: list[dict[str, Any]]) -> None:
    assert messages(value) == expected
    assert sent({"v": value}, messages=[SYSTEM, "item.v"])["messages"] == [SYSTEM, *expected]
    assert sent({"v": value}, messages="{{ item.v }}")["messages"] == expected


def test_lists_and_messages_stand_beside_each_other() -> None:
    row = {"history": [HI, {"role": "assistant", "content": "yes"}], "none": None, "q": "why?"}
    written = ["item.none", SYSTEM, "item.history", "{{ item.history[:1] }}", {"role": "user", "content": "item.q"}]
    assert sent(row, messages=written)["messages"] == [SYSTEM, *row["history"], HI, {"role": "user", "content": "why?"}]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([{"from": "human", "value": "hi"}], [HI]),
        ([{"from": "system", "value": "Be brief."}, {"from": " Human ", "value": "hi"}], [SYSTEM, HI]),
        ([{"from": "gpt", "value": "yes", "weight": 1}], [{"role": "assistant", "content": "yes"}]),
        ([{"from": "user", "value": "hi", "role": None, "content": None}], [HI]),
        ([{"from": "assistant", "content": "yes"}, HI], [{"role": "assistant", "content": "yes"}, HI]),
        (json.dumps([{"from": "human", "value": "hi"}]), [HI]),
    ],
)
def test_turns_of_sharegpt_are_messages(turns: Any, expected: list[dict[str, Any]]) -> None:
    assert messages(turns) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("What?", "configuration.messages: should be a list, such as [{role: user, content: …}], and is 'What?'"),
        (HI, "configuration.messages: should be a list, such as [{role: user"),
        (7, "configuration.messages: should be a list"),
        ('"text"', "configuration.messages: should be a list"),
        ([], "configuration.messages: is empty"),
        (None, "configuration.messages: is empty"),
        ([None], "configuration.messages: is empty"),
        (["What?"], "configuration.messages.0: should be an object, or a list of them, and is 'What?'"),
        ([7], "configuration.messages.0: should be an object, and is 7"),
        ([HI, {"content": "x"}], "configuration.messages.1: has no `role`; there is: content; a message is {role: user"),
        ([{"role": 7, "content": "x"}], "configuration.messages.0: has no `role`, because 7 is not one"),
        ([{"role": "user"}], "configuration.messages.0.content: is missing"),
        ([{"role": "user", "content": None}], "configuration.messages.0.content: is null"),
        (
            [{"role": "user", "content": {"a": 1}}],
            'configuration.messages.0.content: should be a text or a list of parts, and is {"a":1}',
        ),
        (
            [{"from": "observation", "value": "x"}],
            "configuration.messages.0.from: 'observation' is not one of system, human, user, gpt",
        ),
        ([{"from": "human", "value": None}], "configuration.messages.0.content: is null"),
        ([[HI, [{"role": "user"}]]], "configuration.messages.0.1.0.content: is missing"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "configuration.messages.0.content.0.text: is null"),
        ([{"role": "user", "content": []}], "configuration.messages.0.content: nothing is left of it"),
    ],
)
def test_what_is_no_list_of_messages_is_the_error_of_the_row(value: Any, message: str) -> None:
    assert message in refused(value)


@pytest.mark.parametrize("value", [7, True, {"a": 1}, None])
def test_a_content_that_is_no_text_is_not_sent(value: object) -> None:
    assert "configuration.messages.0.content: " in refused(value, [{"role": "user", "content": "item.v"}])


# --- media ---


def parts(row: dict[str, Any], *written: Any) -> Any:
    content = [{"type": "text", "text": "What?"}, *written]
    return sent(row, messages=[{"role": "user", "content": content}])["messages"][0]["content"][1:]


def image(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize(
    ("part", "missing"),
    [
        (image("item.v"), None),
        (image("item.v", detail="low"), None),
        (image("item.v"), {"bytes": None, "path": None}),
        (image("item.v"), []),
        (image("item.v"), [None]),
        (image("item.list[2]"), None),
        (image("item.list.2"), None),
        (image("item.list[-3]"), None),
        ({"type": "image_url", "image_url": "item.v"}, None),
        ({"type": "image_url", "image_url": "item.v"}, {"url": None}),
        ({"type": "input_audio", "input_audio": {"data": "item.v", "format": "wav"}}, None),
        ({"type": "audio_url", "audio_url": {"url": "item.v"}}, None),
        ({"type": "video_url", "video_url": {"url": "item.v"}}, None),
        ({"type": "file", "file": {"file_data": "item.v", "filename": "a.pdf"}}, None),
        ("item.v", None),
        ("item.v", []),
        ("item.v", {"type": "image_url", "image_url": None}),
        ("item.v", {"type": "image_url", "text": None, "image_url": {"url": None, "detail": None}}),
    ],
)
def test_a_medium_that_is_null_is_left_out(part: Any, missing: Any) -> None:
    row = {"v": missing, "list": ["a", "b"]}
    assert parts(row, part, image("http://h/a.png")) == [image("http://h/a.png")]
    with pytest.raises(RowError, match=r"configuration\.messages\.0\.content: nothing is left of it"):
        sent(row, messages=[{"role": "user", "content": [part]}])


def test_a_list_of_media_becomes_a_part_for_each() -> None:
    row = {"list": ["http://h/a.png", None, Blob(PNG), {"bytes": Blob(PNG), "path": None}]}
    pictures = ["http://h/a.png", PICTURE, PICTURE]
    assert parts(row, image("item.list", detail="low")) == [image(url, detail="low") for url in pictures]
    short = {"type": "image_url", "image_url": "item.list"}
    assert parts(row, short) == [{"type": "image_url", "image_url": url} for url in pictures]
    assert parts(row, image("item.list[-2]"), image("{{ item.list[:1] }}")) == [image(PICTURE), image("http://h/a.png")]


def test_parts_of_the_row_stand_among_those_of_the_config() -> None:
    row = {"parts": [{"type": "text", "text": "b", "image_url": None}, image(Blob(PNG))]}
    assert parts(row, "item.parts", {"type": "text", "text": "c"}) == [
        {"type": "text", "text": "b"},
        image(PICTURE),
        {"type": "text", "text": "c"},
    ]
    assert sent(row, messages=[{"role": "user", "content": "item.parts"}])["messages"][0]["content"][1] == image(PICTURE)


def test_a_file_that_is_named_by_its_id_stays() -> None:
    part = {"type": "file", "file": {"file_data": "item.none", "file_id": "item.v"}}
    assert parts({"v": "f-1", "none": None}, part, image("item.v"))[0] == {"type": "file", "file": {"file_id": "f-1"}}


def test_what_a_row_moves_does_not_trust_it_with_the_config_s_files(tmp_path: Path) -> None:
    """Only a `file:` that the config itself spells out may lead anywhere, wherever it and the row's come to stand."""
    elsewhere, own = tmp_path / "secret.png", tmp_path / "data"
    elsewhere.write_bytes(PNG)
    own.mkdir()
    files = MediaFiles(directory=own)
    outside = image(f"file:{elsewhere}")
    spliced = ["item.v", {"role": "user", "content": [outside]}]
    assert sent({"v": [HI]}, files, messages=spliced)["messages"][1]["content"] == [image(PICTURE)]
    for messages_written, row in (
        (["item.v", {"role": "user", "content": [outside]}], [HI, {"role": "user", "content": [outside]}]),
        (["item.v", {"role": "user", "content": [outside]}], [{"role": "user", "content": [outside]}]),
        ([{"role": "user", "content": ["item.v", outside]}], outside),
        ([{"role": "user", "content": [image("item.v"), outside]}], [outside["image_url"]["url"]]),
    ):
        with pytest.raises(RowError, match="leads out of"):
            sent({"v": row}, files, messages=messages_written)


def test_what_is_nested_too_deeply_is_the_error_of_the_row() -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    assert "nested too deeply" in refused(deep)
    assert "nested too deeply" in refused([{"type": "function", "x": deep}], None, tools="item.v")


def test_a_row_is_not_changed() -> None:
    value = [{**HI, "name": None, "content": [image(None), {"type": "text", "text": "a", "image_url": None}]}]
    before = jsontext.encode(value)
    messages(value)
    assert jsontext.encode(value) == before
