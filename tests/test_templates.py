"""A locator gives the value with its type, a template gives text, and what is not there is that row's error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RowError
from runner.templates.compile import Template, TemplateMistake, compile_template, is_template
from runner.types import Blob, ErrorType

ITEM: dict[str, Any] = {
    "text": "hi",
    "n": 7,
    "x": 1.5,
    "yes": True,
    "null": None,
    "list": ["a", {"b": [1, 2]}],
    "map": {"deep": {"er": "found"}, "0": "zero", "a b": 1},
    "empty": "",
}


def rendered(value: Any, item: dict[str, Any] | None = None) -> Any:
    return compile_template(value).render(ITEM if item is None else item)


def refused(value: Any, item: dict[str, Any] | None = None) -> str:
    """Return the message of a row that lacks what a value reads."""
    template = compile_template(value, ("configuration", "key"))
    with pytest.raises(RowError) as caught:
        template.render(ITEM if item is None else item)
    assert caught.value.failure.error_type is ErrorType.TEMPLATE
    return caught.value.failure.message


# Locators


@pytest.mark.parametrize("name", sorted(ITEM))
def test_a_locator_gives_the_very_value(name: str) -> None:
    assert rendered(f"item.{name}") is ITEM[name]


@pytest.mark.parametrize(
    ("locator", "value"),
    [
        ("item.map.deep.er", "found"),
        ("item.map.deep", {"er": "found"}),
        ("item.list.0", "a"),
        ("item.list.1.b.1", 2),
        ("item.map.0", "zero"),
    ],
)
def test_dots_reach_inside_and_numbers_index_lists(locator: str, value: object) -> None:
    assert rendered(locator) == value


@pytest.mark.parametrize(
    ("locator", "what_is_there"),
    [
        ("item.nope", "there is: text, n, x, yes, null, list, map, empty"),
        ("item.map.nope", "there is: deep, 0, a b"),
        ("item.map.deep.er.x", "a str is there"),
        ("item.list.2", "a list of 2 is there"),
        ("item.list.-1", "a list of 2 is there"),
        ("item.list.first", "a list of 2 is there"),
        ("item.null.x", "a null is there"),
        ("item.n.x", "a int is there"),
        ("item.text.upper", "a str is there"),
    ],
)
def test_a_locator_to_nothing_names_its_place_and_what_is_there(locator: str, what_is_there: str) -> None:
    assert refused(locator) == f"configuration.key: `{locator}` is not there; {what_is_there}"


def test_a_locator_in_an_empty_row_says_so() -> None:
    assert refused("item.a", {}) == "configuration.key: `item.a` is not there; there is: nothing"


@pytest.mark.parametrize(
    "text",
    ["item", "item.", "item..a", "items.a", "item.a b", "an item.a", "Item.a", "item.a[", "{item.a}", "“item.a”"],
)
def test_only_a_whole_string_is_a_locator(text: str) -> None:
    assert not is_template(text)
    assert rendered(text) == text


@pytest.mark.parametrize("value", [7, None, True, 1.5, ["item.a"], {"a": "item.a"}, b"item.a"])
def test_only_a_string_is_a_template(value: object) -> None:
    assert not is_template(value)


# Templates


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{item.text}}!", "hi!"),
        ("{{ item['text'] }}", "hi"),
        ("{{item.map['a b']}}", "1"),
        ("{{item.n}} {{item.x}} {{item.n + 1}}", "7 1.5 8"),
        ("{{item.yes}} {{item.n == 7}}", "true true"),
        ("{{item.list}}", '["a",{"b":[1,2]}]'),
        ("{{item.map.deep}}", '{"er":"found"}'),
        ("{{(1, 'a')}}", '[1,"a"]'),
        ("{{item.list[1].b | join('-')}}", "1-2"),
        ("{{item.list[1].b | map('string') | list}}", '["1","2"]'),
        ("{{item.empty}}", ""),
        ("{{item.null or 'none'}}", "none"),
        ("{% for key, value in item.map.deep.items() %}{{key}}={{value}}{% endfor %}", "er=found"),
        ("{% if item.nope is defined %}{{item.nope}}{% else %}-{% endif %}", "-"),
        ("{{item.nope if item.nope is defined else '-'}}", "-"),
        ("{{item.nope | default('-')}}", "-"),
        ("{{item.nope is undefined}}", "true"),
        ("{% raw %}{{x}}{% endraw %}", "{{x}}"),
        ("a{# no comment #}{{''}}b", "a{# no comment #}b"),
        ("{{item.text}}\n", "hi\n"),
        ("<b>{{'<&>'}}</b>", "<b><&></b>"),
        ("{{'é😀'}}", "é😀"),
        ("{{'\\ud800'}}", "\ufffd"),
    ],
)
def test_a_template_gives_text(template: str, text: str) -> None:
    assert rendered(template) == text


def test_bytes_are_printed_as_a_placeholder() -> None:
    assert rendered("{{item.image}}", {"image": Blob(b"abc")}) == "<3 bytes, sha256 ba7816bf8f01cfea>"


@pytest.mark.parametrize("name", ["keys", "items", "values", "get", "pop", "copy", "update"])
def test_a_column_with_the_name_of_a_method_is_the_column(name: str) -> None:
    assert rendered(f"{{{{item.{name}}}}}", {name: "column"}) == "column"
    assert rendered(f"{{{{item.inner.{name}}}}}", {"inner": {name: "column"}}) == "column"


@pytest.mark.parametrize("name", ["keys", "items", "values", "get", "copy"])
def test_where_that_column_is_missing_the_method_is_not_printed(name: str) -> None:
    assert 'a method cannot be printed (item["…"] reads the column of that name)' in refused(f"{{{{item.{name}}}}}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{item.nope}}", "`item` has no attribute 'nope'; there is: text, n, x, "),
        ("{{item['nope']}}", "`item` has no attribute 'nope'; there is: text, "),
        ("{{item.map.nope.x}}", "`item` has no attribute 'nope'"),
        ("{% if item.nope %}{% endif %}", "has no attribute 'nope'"),
        ("{% for x in item.nope %}{% endfor %}", "has no attribute 'nope'"),
        ("{{item.null}}", "a null cannot be printed (use `{{ … or 'text' }}` if a null is expected)"),
        ("{{none}}", "a null cannot be printed"),
        ("{{item.text.upper}}", "a method cannot be printed"),
        ("{{item.list | map('string')}}", "a generator cannot be printed (put `| list` or `| join` after it)"),
        ("{{item.map.keys()}}", "a dict_keys cannot be printed (put `| list`"),
        ("{{1 / 0}}", "ZeroDivisionError: division by zero"),
        ("{{item.text + 1}}", "TypeError: can only concatenate str"),
        ("{{item.text | int(default='x') + 1}}", "TypeError"),
        ("{{item.text | int}}", "'hi' is not a whole number"),
        ("{{range(10 ** 9)}}", "OverflowError: Range too big"),
        ("{% include 'x' %}", "TypeError: no loader for this environment specified"),
    ],
)
def test_what_cannot_be_printed_is_the_error_of_the_row(template: str, message: str) -> None:
    found = refused(template)
    assert found.startswith("configuration.key: ")
    assert message in found


@pytest.mark.parametrize(
    "template",
    [
        "{{''.__class__.__mro__}}",
        "{{''.__class__}}",
        "{{item.__class__}}",
        "{{item['__class__']}}",
        "{{item | attr('__class__')}}",
        "{{item.text.format.__globals__}}",
        "{{'{0.__class__}'.format(item)}}",
        "{{item.text.__init__.__globals__}}",
        "{{(1).__class__.__base__.__subclasses__()}}",
        "{{cycler.__init__.__globals__.os}}",
        "{{item.update({'a': 1}).__class__}}",
    ],
)
def test_the_sandbox_lets_nothing_out(template: str) -> None:
    assert "unsafe" in refused(template) or "has no attribute" in refused(template)


def test_undefined_stands_for_its_own_place_only() -> None:
    template = compile_template({"a": "{{item.a}}", "b": "{{item.b}}"}, ("configuration",))
    assert template.render({"a": "1", "b": "2"}) == {"a": "1", "b": "2"}
    with pytest.raises(RowError, match=r"^configuration\.b: "):
        template.render({"a": "1"})


# Compiling


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{item.a", "the template does not parse: unexpected end of template"),
        ("{% if %}", "the template does not parse: Expected an expression"),
        ("{% if item.a %}", "the template does not parse: Unexpected end of template"),
        ("a\nb\n{% zap %}", "Encountered unknown tag 'zap'. (line 3 of the template)"),
        ("{{item.a | zap}}", "No filter named 'zap'. (line 1 of the template)"),
        ("{{item.a is zap}}", "No test named 'zap'. (line 1 of the template)"),
        ("{{x}} {% raw %", "literal text goes between {% raw %} and {% endraw %}"),
        (
            "{{nope}}",
            "there is no `nope`; the row is `item`, so write `item.nope`; literal text goes between",
        ),
        ("{{item[x]}} {{row['a b'].c}}", 'so write `item.x`; there is no `row`; the row is `item`, so write `item["a b"]`'),
        ("{{nope is defined}}", "there is no `nope`"),
        ("{{loop.index}}", "there is no `loop`"),
        ("{{str(item.a)}}", "there is no function `str`"),
    ],
)
def test_a_template_that_does_not_compile_is_a_mistake_of_the_config(template: str, message: str) -> None:
    with pytest.raises(TemplateMistake) as caught:
        compile_template({"messages": [{"content": "x"}, {"content": template}]}, ("configuration",))
    assert caught.value.path == ("configuration", "messages", 1, "content")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "required", "optional"),
    [
        ("item.a.b", {"a"}, set()),
        ("{{item.a}} {{item['b']}}", {"a", "b"}, set()),
        ("{{item.a.b.c}}", {"a"}, set()),
        ("{{item.a | default('')}}", set(), {"a"}),
        ("{{item.a.b | d('')}}", set(), {"a"}),
        ("{% if item.a is defined %}{{item.a}}{% endif %}{{item.b}}", {"b"}, {"a"}),
        ("{{item.a if item.a is defined else item.b}}", set(), {"a", "b"}),
        ("{% if item.a %}{{item.b}}{% endif %}", {"a", "b"}, set()),
        ("{% for x in item.a %}{{x.b}}{% endfor %}", {"a"}, set()),
        ("{% set x = 'a' %}{{item[x]}} {{item}}", set(), set()),
        ('item["a b"].c', {"a b"}, set()),
        ("no template: item.a", set(), set()),
        ({"x": "item.a", "y": ["{{item.b}}", 7]}, {"a", "b"}, set()),
    ],
)
def test_what_a_template_reads_is_known(value: object, required: set[str], optional: set[str]) -> None:
    template = compile_template(value)
    assert {reference.field for reference in template.references if reference.required} == required
    assert {reference.field for reference in template.references if not reference.required} - {None} == optional
    assert template.fields == required | optional


@pytest.mark.parametrize(
    ("value", "whole"), [("{{item}}", True), ("{{item | tojson}}", True), ("{{item[item.a]}}", True), ("{{item.a}}", False)]
)
def test_a_template_that_reads_all_of_the_row_says_so(value: str, whole: bool) -> None:
    assert any(reference.field is None for reference in compile_template(value).references) == whole


def test_references_know_their_places() -> None:
    template = compile_template({"a": ["x", "item.b"], "c": {"d": "{{item.e}}"}}, ("configuration",))
    assert {(one.path, one.field) for one in template.references} == {
        (("configuration", "a", 1), "b"),
        (("configuration", "c", "d"), "e"),
    }


def test_what_is_constant_is_shared_by_all_rows() -> None:
    system = {"role": "system", "content": ["long text"]}
    value = {"model": "m", "messages": [system, {"role": "user", "content": "{{item.text}}"}]}
    template = compile_template(value)
    first, second = template.render({"text": "1"}), template.render({"text": "2"})
    assert [one["messages"][1]["content"] for one in (first, second)] == ["1", "2"]
    assert first["messages"][0] is second["messages"][0] is system
    assert compile_template(system).render({}) is system


def test_what_is_rendered_does_not_change_what_was_compiled() -> None:
    value = {"messages": [{"content": "{{item.text}}"}]}
    template = compile_template(value)
    template.render({"text": "1"})["messages"].append("more")
    assert template.render({"text": "2"}) == {"messages": [{"content": "2"}]}
    assert value == {"messages": [{"content": "{{item.text}}"}]}


WORDS = st.text(max_size=15).filter(lambda text: not is_template(text))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.from_regex(r"[^\s.{}\[\]]+", fullmatch=True)


@given(VALUES)
def test_a_value_without_templates_renders_to_itself(value: object) -> None:
    template = compile_template(value)
    assert template.render({}) is value
    assert template.references == ()


@given(name=NAMES, value=VALUES)
def test_a_locator_renders_to_the_value_itself(name: str, value: object) -> None:
    template = compile_template({"key": f"item.{name}", "same": [f"item.{name}"]})
    found = template.render({name: value})
    assert found["key"] is value
    assert found["same"][0] is value
    assert template.fields == {name}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_comes_through_a_template_unchanged(text: str) -> None:
    assert rendered("{{item.text}}", {"text": text}) == text


# --- templates of texts and fields only, which are filled in without Jinja ---


@given(
    st.lists(st.sampled_from(["text ", "{{item.a}}", "{{ item.b.c }}", "{{item.n}}", "\n", "{{item.x}}"]), min_size=1),
    st.sampled_from(["plain", "", "ünï\ud800code", "<b>&", 7, -3, True, None, 1.5, [1], {"k": 1}, Blob(b"123")]),
)
def test_filling_in_gives_what_jinja_gives(pieces: list[str], value: Any) -> None:
    """A comment makes no difference to the text, but keeps a template from being filled in."""
    item = {"a": value, "b": {"c": value}, "n": 12}
    template = "".join(pieces)
    found, wanted = (
        result_of(compile_template(text, ("t",)), item) for text in (template, template + "{% if false %}{% endif %}")
    )
    assert found == wanted


def result_of(template: Template, item: dict[str, Any]) -> str:
    try:
        return str(template.render(item))
    except RowError as error:
        return f"error: {error}"
