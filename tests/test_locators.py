"""A locator reaches any column by its name, and says what is there where its own is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config.misspelt import meant_by, why_no_locator
from runner.errors import RowError
from runner.output import Output, stand_in
from runner.templates.compile import compile_template, is_template
from runner.templates.locators import steps_of, written

JSON_BODY = '{"response_format":{"type":"json_object"}}'
ITEM: dict[str, Any] = {
    "Correct Answer": "Paris",
    "target": "Rome",
    "choices": ["a", ["b", {"c": "deep"}]],
    "a": {"b": {"c": [1, 2]}, "x.y": "dotted", "": "unnamed"},
    "réponse": "oui",
    "答案": {"一": "eins"},
    'say "hi"': 1,
    "it's": 2,
    "back\\slash": 3,
    "a[0]": "flat",
    "0": "zero",
    "none": None,
    "json": Output('{"age": 7, "upper": "field", "list": [1, {"x": 2}]}', request=JSON_BODY, finish_reason="stop"),
    "array": Output("[1, 2]", request='{"guided_json":{"type":"array"}}'),
    "broken": Output('{"age": 7', request=JSON_BODY),
    "plain": Output('{"age": 7}', request='{"messages":[{"content":"\\"response_format\\""}]}'),
}


def rendered(value: Any) -> Any:
    return compile_template(value, ("configuration", "key")).render(ITEM)


@pytest.mark.parametrize(
    ("locator", "value"),
    [
        ('item["Correct Answer"]', "Paris"),
        ("item['target']", "Rome"),
        ("item.choices[0]", "a"),
        ("item.choices[-1][1].c", "deep"),
        ("item.choices.1.1.c", "deep"),
        ('item["a"]["b"].c[1]', 2),
        ("item.a[ 'x.y' ]", "dotted"),
        ('item.a[""]', "unnamed"),
        ("item.réponse", "oui"),
        ('item.答案["一"]', "eins"),
        ("item['say \"hi\"']", 1),
        ('item["say \\"hi\\""]', 1),
        ('item["it\'s"]', 2),
        (r'item["back\\slash"]', 3),
        ('item["a[0]"]', "flat"),
        ("item[0]", "zero"),
        (" item.target", "Rome"),
        ("item.target \n", "Rome"),
        ("\titem['target']\u00a0", "Rome"),
    ],
)
def test_any_column_and_member_can_be_read(locator: str, value: object) -> None:
    assert is_template(locator)
    assert rendered(locator) == value
    assert rendered([locator, {"deep": locator}]) == [value, {"deep": value}]


@pytest.mark.parametrize(
    "text",
    [
        "item",
        "item[",
        "item[]",
        "item['a]",
        'item["a"',
        "item[a]",
        "item.a[:3]",
        "item['a'].",
        "item.a['b'] c",
        "items['a']",
        "item['a']b",
    ],
)
def test_what_is_no_locator_is_a_text(text: str) -> None:
    assert steps_of(text) is None
    assert rendered(text) == text


@pytest.mark.parametrize(
    ("locator", "message"),
    [
        ('item["Correct"]', '`item["Correct"]` is not there; there is: Correct Answer, target'),
        ("item.choices[2]", "`item.choices[2]` is not there; a list of 2 is there"),
        (" item.choices[-3] ", "`item.choices[-3]` is not there; a list of 2 is there"),
        ("item.choices['0x']", "a list of 2 is there"),
        ("item.target[0]", "a str is there"),
        ("item.none['x']", "a null is there"),
        ("item.plain.age", "an answer is there, which has: content, finish_reason"),
        ("item.broken.age", "the answer is not JSON (Expecting ',' delimiter at character 9): '{\"age\": 7'"),
        ("item.json.nope", "there is: age, upper, list"),
        ("item.array[2]", "a list of 2 is there"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(locator: str, message: str) -> None:
    with pytest.raises(RowError) as caught:
        rendered(locator)
    assert str(caught.value).startswith("configuration.key: `item")
    assert message in str(caught.value)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=3))
def test_what_is_written_as_a_locator_reads_as_it(names: list[str]) -> None:
    assert steps_of(written(*names)) == names


# --- answers in JSON ---


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("item.json.age", 7),
        ("item.json['list'][1].x", 2),
        ("item.json.upper", "field"),
        ("item.array[1]", 2),
        ("item.json", '{"age": 7, "upper": "field", "list": [1, {"x": 2}]}'),
        ("item.json.finish_reason", "stop"),
        ("item.json.tool_calls", []),
        ("{{ item.json.age + 1 }} {{ item.json['age'] }} {{ item.json.upper }}", "8 7 field"),
        ("{{ item.json.list[1].x }}{{ item.array[0] }}{{ item.json[:4] }}", '21{"ag'),
        ("{{ item.json.strip() | length }}{{ item.broken.strip() }}", '51{"age": 7'),
        ("{{ item.json.nope | default('-') }}{{ 'yes' if item.json.age is defined }}", "-yes"),
        ("{% for one in item.json.list %}{{ one }};{% endfor %}", '1;{"x":2};'),
        ("{{ item.plain.upper() }}{{ (item.plain | fromjson).age }}", '{"AGE": 7}7'),
    ],
)
def test_an_answer_asked_for_as_json_is_its_text_and_read_as_json(value: str, found: object) -> None:
    assert rendered(value) == found


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ item.broken.age }}", "configuration.key: `age` cannot be read: the answer is not JSON"),
        ("{{ item.broken['age'] }}", "the answer is not JSON"),
        ("{{ item.broken | fromjson }}", "'{\"age\": 7' is not JSON: "),
        ("{{ item.json.nope }}", "the answer has no 'nope'; there is: age, upper, list"),
        ("{{ item.plain.age }}", "no attribute 'age'"),
        ("{{ item.json._request }}", "the answer has no '_request'"),
        ("{{ item.json.__class__ }}", "unsafe"),
    ],
)
def test_a_member_that_an_answer_lacks_is_the_error_of_the_row(template: str, message: str) -> None:
    with pytest.raises(RowError, match="configuration") as caught:
        rendered(template)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("body", "is_json"),
    [
        ('{"response_format":{"type":"json_schema","json_schema":{}}}', True),
        ('{"response_format":{"type":"text"}}', False),
        ('{"structured_outputs":{"json":{}}}', True),
        ('{"structured_outputs":{"choice":["a"]}}', False),
        ('{"guided_json":null}', False),
        ('{"response_format":null}', False),
        ("{}", False),
    ],
)
def test_the_request_says_whether_json_was_asked_for(body: str, is_json: bool) -> None:
    item = {"answer": Output('{"age": 7}', request=body)}
    read = compile_template("item.answer.age").render
    if is_json:
        assert read(item) == 7
    else:
        with pytest.raises(RowError, match="an answer is there"):
            read(item)


def test_what_stands_in_for_an_answer_in_json_has_every_member() -> None:
    item = {"answer": stand_in("answer", is_json=True)}
    template = compile_template(["item.answer.a.b[0]", "{{ item.answer.a['b'].c }} {{ item.answer.x.strip() }}", "item.answer"])
    assert template.render(item) == ["<answer.a.b.0>", "<answer.a.b.c> <answer.x.strip>", "<answer>"]


# --- what is nearly one ---


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("item.Correct Answer", 'item["Correct Answer"]'),
        ("Item.target", "item.target"),
        ("items.target", "item.target"),
        ("ITEM['target']", "item['target']"),
        ("item.target | upper", "{{ item.target | upper }}"),
        ("item.text[:100]", "{{ item.text[:100] }}"),
        ("“item.answer”", "item.answer"),
        ("'item.answer'", "item.answer"),
        ("`item.answer`", "item.answer"),
        ("«item.answer»", "item.answer"),
        ("{item.answer}", "item.answer"),
        ("$item.answer", "item.answer"),
        ("<item.answer>", "item.answer"),
        ("item. target", "item.target"),
        ("item..target", "item.target"),
        ("item.a + item.b", "{{ item.a + item.b }}"),
    ],
)
def test_what_is_nearly_a_locator_is_told_what_was_meant(text: str, meant: str) -> None:
    why = why_no_locator(text)
    assert why is not None
    assert f"; write {meant};" in why
    assert meant_by(text) == meant


@pytest.mark.parametrize("text", ["“{{ item.answer }}”", " „{{ item.answer }}“", "«{{ item.a }} {{ item.b }}»"])
def test_quotes_around_a_template_are_no_part_of_a_value(text: str) -> None:
    assert "quotation marks" in str(why_no_locator(text))


@pytest.mark.parametrize(
    "text",
    [
        "item",
        "items",
        "an item.",
        "Paris",
        "item 7",
        "itemise.it",
        "the item.target",
        '"{{ item.a }}"',
        "item.a",
        "{{ item.a }}",
    ],
)
def test_other_texts_are_not_doubted(text: str) -> None:
    assert why_no_locator(text) is None
