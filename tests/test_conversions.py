"""A template that computes a value gives it with its type where one is wanted, and what cannot be converted is an error."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RowError
from runner.templates.compile import compile_template
from runner.types import Blob

ITEM: dict[str, Any] = {
    "temp": "0.7",
    "count": " 16 ",
    "gap": "16.0",
    "word": "abc",
    "empty": "",
    "nan": float("nan"),
    "null": None,
    "n": 7,
    "x": 2.9,
    "yes": "True",
    "refs": "Nothing happens; It is fine",
    "json": '{"a": [1, null, "é"], "n": 1e2}',
    "o": {"q": "é <b> & 'x'", "n": "你好"},
    "list": [3, 1],
    "blob": Blob(b"abc"),
    "date": dt.date(2026, 1, 2),
}


def value_of(template: str) -> Any:
    """Return what a template gives where a value is wanted."""
    return compile_template(template, ("configuration", "key"), lambda _path: "value").render(ITEM)


def text_of(template: str) -> Any:
    return compile_template(template, ("configuration", "key")).render(ITEM)


@pytest.mark.parametrize(
    ("template", "value", "text"),
    [
        ("{{ item.temp | float }}", 0.7, "0.7"),
        ("{{item.count|int}}\n", 16, "16\n"),
        (" {{ item.gap | int }} ", 16, " 16 "),
        ("{{ item.x | int }}", 2, "2"),
        ("{{ 'ff' | int(base=16) }}", 255, "255"),
        ("{{ item.word | int(default=3) }}", 3, "3"),
        ("{{ item.word | float(0.5) }}", 0.5, "0.5"),
        ("{{ item.yes | bool }}", True, "true"),
        ("{{ 0 | bool }}", False, "false"),
        ("{{ item.word | bool(default=false) }}", False, "false"),
        ("{{ item.json | fromjson }}", {"a": [1, None, "é"], "n": 100.0}, '{"a":[1,null,"é"],"n":100.0}'),
        ("{{ (item.json | fromjson).a[2] }}", "é", "é"),
        ("{{ item.o | fromjson }}", ITEM["o"], json.dumps(ITEM["o"], ensure_ascii=False, separators=(",", ":"))),
        ("{{ item.refs.split('; ') }}", ["Nothing happens", "It is fine"], '["Nothing happens","It is fine"]'),
        ("{{ item.list | sort }}", [1, 3], "[1,3]"),
        ("{{ item.list[:1] }}", [3], "[3]"),
        ("{{ (item.n, item.temp) }}", [7, "0.7"], '[7,"0.7"]'),
        ("{{ item.n == 7 }}", True, "true"),
        ("{{ item.n if item.word else 0 }}", 7, "7"),
        ("{{ {'image': item.blob.missing | default(1)} }}", {"image": 1}, '{"image":1}'),
        # what is a field, more than one expression, or text stays text
        ("{{ item.n }}", "7", "7"),
        ("{{ item.o['q'] }}", "é <b> & 'x'", "é <b> & 'x'"),
        ("{{ item.list }}", "[3,1]", "[3,1]"),
        ("{{ item.n | int }}{{ item.n | int }}", "77", "77"),
        ("n: {{ item.n | int }}", "n: 7", "n: 7"),
        ("{% if true %}{{ item.n | int }}{% endif %}", "7", "7"),
        ("{{ item.n | int | string }}", "7", "7"),
        ("{{ item.word | strip }}{{ ' a ' | strip }}", "abca", "abca"),
        ("{{ item.count | strip }}", "16", "16"),
    ],
)
def test_a_computed_value_has_its_type_where_one_is_wanted(template: str, value: object, text: str) -> None:
    found = value_of(template)
    assert (found, type(found)) == (value, type(value))
    assert text_of(template) == text


def test_bytes_within_a_computed_value_stay_bytes() -> None:
    assert value_of("{{ [item.blob, item.n] }}") == [ITEM["blob"], 7]
    assert value_of("{{ [item.date] }}") == ["2026-01-02"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ item.word | int }}", "'abc' is not a whole number (`default=` sets one"),
        ("{{ item.word | float }}", "'abc' is not a number"),
        ("{{ item.empty | int }}", "'' is not a whole number"),
        ("{{ item.null | float }}", "null is not a number"),
        ("{{ item.list | int }}", "a list is not a whole number"),
        ("{{ item.nan | float }}", "is not a number"),
        ("{{ item.nan | int }}", "is not a whole number"),
        ("{{ '1e999' | float }}", "'1e999' is not a number"),
        ("{{ ('9' * 5000) | int }}", "is not a whole number"),
        ("{{ '12abc' | int }}", "'12abc' is not a whole number"),
        ("{{ 'z' | int(base=16) }}", "'z' is not a whole number"),
        ("{{ 'maybe' | bool }}", "'maybe' is not a boolean"),
        ("{{ 2 | bool }}", "2 is not a boolean"),
        ("{{ item.word | fromjson }}", "'abc' is not JSON: Expecting value"),
        ("{{ item.empty | fromjson }}", "'' is not JSON"),
        ("{{ item.nope | int }}", "no attribute 'nope'"),
        ("{{ item.nope | fromjson }}", "no attribute 'nope'"),
        ("{{ item.nope | tojson }}", "no attribute 'nope'"),
        ("{{ item.nan | tojson }}", "ValueError"),
        ("{{ item.list | map('int') | tojson }}", "a generator cannot be written as JSON"),
        ("{{ item.list | map('int') }}", "a generator cannot be printed"),
        ("{{ item.null or none }}", "a null cannot be printed"),
        ("{{ [item.nope] }}", "no attribute 'nope'"),
    ],
)
def test_what_cannot_be_converted_is_the_error_of_the_row(template: str, message: str) -> None:
    for render in (value_of, text_of):
        with pytest.raises(RowError) as caught:
            render(template)
        assert str(caught.value).startswith("configuration.key: ")
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ item.o | tojson }}", '{"q": "é <b> & \'x\'", "n": "你好"}'),
        ("{{ item.o | tojson(indent=2) }}", '{\n  "q": "é <b> & \'x\'",\n  "n": "你好"\n}'),
        ("{{ item.o | tojson(2) | length }}", "37"),
        ("{{ (item.o | tojson(ensure_ascii=true, sort_keys=true))[:14] }}", '{"n": "\\u4f60\\'),
        ("{{ item.list | tojson(separators=(',', ':')) }}", "[3,1]"),
        ('{"q": {{ item.word | tojson }}, "d": {{ item.date | tojson }}}', '{"q": "abc", "d": "2026-01-02"}'),
        ("{{ item.null | tojson }} {{ true | tojson }}", "null true"),
        ("{{ item.blob | tojson }}", f'"{Blob(b"abc")}"'),
    ],
)
def test_json_is_written_as_chat_templates_expect_it(template: str, text: str) -> None:
    assert text_of(template) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_json_comes_back_as_it_went(value: object) -> None:
    written = compile_template("{{ item.v | tojson }}").render({"v": value})
    assert written == json.dumps(value, ensure_ascii=False)
    read = compile_template("{{ [item.t | fromjson] }}", (), lambda _path: "value").render({"t": written})
    assert read == [value]


@pytest.mark.parametrize(
    "template",
    [
        "{{ ('[' ~ '1,' * 1100000 ~ '1]') | fromjson }}",
        "{{ [item.word] * 1000 | tojson(separators=(item.word * 1000000, ':')) }}",
        "{{ ([1] * 100000) | tojson(indent=1000) }}",
    ],
)
def test_what_json_would_hold_is_counted(template: str) -> None:
    with pytest.raises(RowError, match="larger than 16 MiB"):
        text_of(template)


def test_text_that_holds_too_much_is_not_read_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.templates.conversions.jsontext.decode", None)
    with pytest.raises(RowError, match="larger than 16 MiB"):
        text_of("{{ ('[' ~ '1,' * 1100000 ~ '1]') | fromjson }}")


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("bash ${#arr[@]} and then {{ item.word }} and #} rest", "bash ${#arr[@]} and then abc and #} rest"),
        ("{#1} {{ item.word }}", "{#1} abc"),
        ("{# {{ item.word }} #}", "{# abc #}"),
        ("{#- {{ item.word }} -#}", "{#- abc -#}"),
        ("{% raw %}{# {{x}} {% y %} #}{% endraw %}{{ item.n }}", "{# {{x}} {% y %} #}7"),
        ("{#1}", "{#1}"),
    ],
)
def test_there_are_no_comments_in_prompts(text: str, rendered: str) -> None:
    assert text_of(text) == rendered
