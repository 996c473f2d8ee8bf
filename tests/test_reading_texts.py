"""What makes texts alike, and where in a text an answer stands."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.reading.fences import code_block, json_part, unfenced
from runner.reading.lines import after, first_line, last_line
from runner.reading.texts import NORMALIZATIONS, Normalization, composed, stands_in, without_punctuation


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("cafe\u0301", "café"),
        ("ＡＢＣ！", "ABC!"),
        ("ﾊﾟﾘ", "パリ"),
        ("a\u3000b", "a b"),
        ("Paris\u200b", "Paris"),
        ("\ufeffParis\u2060", "Paris"),
        ("co\u00adop", "coop"),
        ("❤\ufe0f", "❤"),
        ("\u200fالقاهرة\u200e", "القاهرة"),
    ],
)
def test_what_only_looks_other_is_the_same(text: str, other: str) -> None:
    assert composed(text) == other


@pytest.mark.parametrize("text", ["½", "²", "ﬁ", "É", "ß", "“a”", "−1", "中", "あ", "한"])
def test_what_means_something_else_stays(text: str) -> None:
    assert composed(text) == text


def test_a_long_text_is_composed_like_a_short_one_and_no_accents_take_for_ever() -> None:
    assert composed("cafe\u0301 " * 5000) == "café " * 5000
    assert len(composed("e" + "\u0301\u0327" * 200_000)) > 300_000


@given(st.text())
def test_composed_is_what_any_form_of_a_text_comes_to(text: str) -> None:
    assert composed(unicodedata.normalize("NFD", text)) == composed(composed(text)) == composed(text)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Paris.", "Paris"),
        ("**Paris**", "Paris"),
        ("「東京」", "東京"),
        ("《红楼梦》", "红楼梦"),
        ("दिल्ली।", "दिल्ली"),
        ("القاهرة،", "القاهرة"),
        ("“Hello”, she said…", "Hello she said"),
        ("it's well-known", "its wellknown"),
        ("€5 or $5", "5 or 5"),
        ("5%", "5"),
        ("1.25", "1.25"),
        ("12,5", "12,5"),
        ("1,234.50", "1234.50"),
        ("1'234'567", "1234567"),
        (".5.", ".5"),
        ("-5", "-5"),
        ("−5", "-5"),
        ("3–5", "3-5"),
        ("1/2", "1/2"),
        ("3:45.", "3:45"),
        ("1, 2, 3", "1 2 3"),
        ("C#", "C#"),
        ("C++.", "C++"),
        ("# C", " C"),
        ("A-", "A-"),
        ("A- Paris", "A Paris"),
        ("x < y", "x < y"),
    ],
)
def test_punctuation_goes_and_what_means_something_stays(text: str, bare: str) -> None:
    assert without_punctuation(text) == bare


@given(
    st.from_regex(r"-?[0-9]{1,9}(\.[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(["{}.", "({})", "“{}”", "**{}**", "「{}」", "{}!"]),
)
def test_no_number_becomes_another_one(number: str, dress: str) -> None:
    assert float(without_punctuation(dress.format(number))) == float(number)


@pytest.mark.parametrize(
    ("name", "text", "normal"),
    [
        ("articles", "the cat and An owl, a", "  cat and   owl,  "),
        ("articles", "theatre banana", "theatre banana"),
        ("accents", "Café Čapek, naïve Ångström", "Cafe Capek, naive Angstrom"),
        ("accents", "दिल्ली が", "दिल्ली が"),
        ("compatibility", "½ ² ﬁ", "1⁄2 2 fi"),
    ],
)
def test_what_else_can_be_left_out(name: Normalization, text: str, normal: str) -> None:
    assert NORMALIZATIONS[name](text) == normal


@pytest.mark.parametrize(
    ("part", "text", "is_there"),
    [
        ("Paris", "It is Paris.", True),
        ("Paris", "A comparison", False),
        ("Paris", "Parisian Paris", True),
        ("car", "carpet, scar", False),
        ("C++", "I like C++", True),
        ("巴黎", "答案是巴黎。", True),
        ("파리", "정답은 파리입니다", True),
        ("B", "答案是B。", True),
        ("42", "x42", False),
        ("", "a", True),
        # a number is not a part of another one
        ("42", "It is 1.42", False),
        ("42", "42.5", False),
        ("234", "1,234", False),
        ("5", "It is -5.", False),
        ("5", "(−5)", False),
        ("5", "3-5", True),
        ("42", "It is 42.", True),
        ("42", "42, 43", True),
        ("-5", "It is -5.", True),
    ],
)
def test_whole_words(part: str, text: str, is_there: bool) -> None:
    assert stands_in(part, text) is is_there


@pytest.mark.parametrize(
    ("text", "inside", "alone"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}', '{"a": 1}'),
        ("```\na\n```", "a", "a"),
        ("  ~~~\na\n~~~ ", "a", "a"),
        ("x\n```python\na\nb\n```", "a\nb", None),
        ("```\na\n```\n```\nb\n```", "b", None),
        ("````\n```\na\n```\n````", "```\na\n```", "```\na\n```"),
        ("```\n```", "", ""),
        ("```\na", None, None),
        ("```\na\n```\n```\nb", None, None),
        ("`a`", None, None),
        ("a", None, None),
    ],
)
def test_what_stands_in_a_fence(text: str, inside: str | None, alone: str | None) -> None:
    assert code_block(text) == inside
    assert unfenced(text) == (text if alone is None else alone)


@pytest.mark.parametrize(
    ("text", "path", "found"),
    [
        ('{"a": {"b": [1, "x"]}}', "a.b.1", "x"),
        ('{"a": {"b": [1, "x"]}}', "a.b.0", "1"),
        ('{"a": {"b": [1, "ü"]}}', "a.b", '[1, "ü"]'),
        ('{"a": true}', "a", "true"),
        ('{"a": null}', "a", None),
        ('{"a": 1}', "b", None),
        ('["x"]', "0", "x"),
        ('["x"]', "1", None),
        ('```json\n{"a": "b"}\n```', "a", "b"),
        ('Sure! {"a": "b"} Bye.', "a", "b"),
        ("[see] {a}", "a", None),
        ("none", "", None),
        ('"x"', "", "x"),
    ],
)
def test_a_part_of_the_json_in_a_text(text: str, path: str, found: str | None) -> None:
    assert json_part(text, path) == found


@pytest.mark.parametrize(
    ("marker", "text", "rest"),
    [
        ("####", "6*7\n#### 42", "42"),
        ("Answer:", "Answer: 5? no. Answer: 6", "6"),
        ("Answer:", "**Answer:** 6", "6"),
        ("Answer:", "Answer: **Oslo**", "Oslo"),
        ("Answer:", "### **Final Answer: Oslo**\nIt is **north**.", "Oslo\nIt is **north**."),
        ("Answer:", "**Final** Answer: `f(x)`.", "f(x)."),
        ("Answer:", "**Answer:** **Oslo**", "Oslo"),
        ("Answer:", "**Answer:** a * b ** 2", "a * b ** 2"),
        ("Answer:", "* Answer: 2 * 3", "2 * 3"),
        ("Answer:", "Answer: _x_1", "x_1"),
        ("Answer:", "Answer:\n```\nx\n```", "```\nx\n```"),
        ("Answer:", "nothing", None),
        ("Answer:", "answer: 6", None),
        ("Answer:", "Answer:", ""),
    ],
)
def test_what_stands_behind_a_marker(marker: str, text: str, rest: str | None) -> None:
    assert after(marker, text) == rest


def test_a_marker_may_stand_in_any_case() -> None:
    assert after("Answer:", "ANSWER: 5, answer: 6", ignore_case=True) == "6"


def test_lines_that_are_blank_do_not_count() -> None:
    assert (first_line("\n a \n b\n\n"), last_line("\n a \n b\n \n")) == ("a", "b")
    assert first_line(" \n") is last_line("") is None
