"""What a metric takes for the answer: the steps of `take`, and the reasoning that is no part of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from runner.output import Output
from runner.tasks.metrics.base import Settings
from runner.types import Value
from tests.shared import SHARED
from tests.test_metric import judged, verdict

TABLE = SHARED / "reference" / "extraction.json"


async def taken(candidate: object, **settings: Any) -> str | None:
    found = await judged({"candidate": candidate, "reference": "x"}, type="exact_match", **settings)
    assert isinstance(found, Value)
    return found.output


@pytest.mark.parametrize(
    ("steps", "text", "answer"),
    [
        (["boxed"], r"so \boxed{4}", "4"),
        (["boxed"], "so 4", None),
        (["last_line"], "a\nb", "b"),
        (["first_line", "boxed"], "\\boxed{1}\n\\boxed{2}", "1"),
        ([{"after": "Answer:"}, "first_line"], "Answer: B\nBye", "B"),
        (["code_block", {"json": "a.0"}], '```json\n{"a": ["b"]}\n```', "b"),
        ([{"regex": r"is (\w+)|= (\w+)"}], "is a, = b", "b"),
        ([{"regex": r"is (\w+)", "which": "first"}], "is a, is b", "a"),
        ([{"regex": r"IS (\w+)", "ignore_case": True}], "is a", "a"),
        ([{"regex": r"z"}, "boxed"], r"\boxed{4}", None),
        ([{"after": "Answer:"}, "number"], "Answer: 72. (24 + 48 in 2 steps)", "72"),
        ([{"after": "Answer:"}, "code_block"], "Answer:\n\n```python\nx = 1\n```", "x = 1"),
        ([{"after": "####"}, "number"], "6*7\n#### 42\n\nQuestion: A farmer has 7 cows", "42"),
        (["last_line", "letter"], "A is wrong.\nSo: **B**", "B"),
    ],
)
async def test_each_step_takes_up_what_the_one_before_has_found(steps: list[Any], text: str, answer: str | None) -> None:
    assert await taken(text, take=steps) == answer


@pytest.mark.parametrize(
    ("text", "settings", "answer"),
    [
        ("<think>Rome?</think>\nParis", {}, "Paris"),
        ("<think>Rome?", {}, None),
        ("<think>Rome?", {"keep_reasoning": True}, "<think>Rome?"),
        ("<think>Rome?</think> Paris", {"keep_reasoning": True}, "<think>Rome?</think> Paris"),
        ("<think>is Rome</think> is Paris", {"extract": r"is (\w+)", "extract_from": "first"}, "Paris"),
        ("<think>is Rome</think> Paris", {"extract": r"is (\w+)"}, None),
        ("<think>Rome</think> Paris", {"extract": r"(?s)</think>(.*)"}, "Paris"),
        ("<think>Rome</think> Paris", {"extract": r"<think>(.*)<\/think>"}, "Rome"),
        ("<think>Rome", {"extract": r"(?s)(?:.*</think>)?(.*)"}, None),
        ("Paris", {"extract": r"(?s)(?:.*</think>)?(.*)"}, "Paris"),
    ],
)
async def test_reasoning_is_no_part_of_the_answer_unless_it_is_asked_for(
    text: str, settings: dict[str, Any], answer: str | None
) -> None:
    assert await taken(text, **settings) == answer
    assert await taken(Output(text), **settings) == answer


@pytest.mark.parametrize(
    ("candidate", "reference", "settings", "right"),
    [
        ("cafe\u0301", "café", {}, True),
        ("Paris", "paris", {}, False),
        ("Paris.", "Paris", {"ignore_punctuation": True}, True),
        ("1.25", "12.5", {"ignore_punctuation": True}, False),
        ("C", "C#", {"ignore_punctuation": True}, False),
        ("The Eiffel Tower", "Eiffel Tower", {"normalize": ["articles"]}, True),
        ("café", "cafe", {"normalize": ["accents"]}, True),
        ("42", 42.0, {}, True),
        ("42.0", 42.0, {}, True),
        ("4", 42.0, {}, False),
        ("y", ["x", None], {}, False),
        ("x", ["x", None, ""], {}, True),
        ("Paris, of course", "Paris", {"at": "begin"}, True),
        ("Parisian", "Paris", {"at": "begin"}, False),
        ("It is Paris", "Paris", {"at": "end"}, True),
        ("Paris it is", "Paris", {"at": "end"}, False),
        ("It is 1.42", "42", {"at": "end"}, False),
        ("It is -5", "5", {"at": "end"}, False),
    ],
)
async def test_exact_match(candidate: str, reference: object, settings: dict[str, Any], right: bool) -> None:
    assert await verdict("exact_match", candidate, reference, **settings) is right


async def test_contains_may_ask_for_whole_words() -> None:
    assert await verdict("contains", "a comparison", "paris")
    assert not await verdict("contains", "a comparison", "paris", whole_words=True)
    assert await verdict("contains", "in Paris.", "Paris", whole_words=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"take": ["box"]}, "take.0"),
        ({"take": [{"regex": "("}]}, "is not a regular expression"),
        ({"take": [{"after": ""}]}, "after"),
        ({"take": ["boxed"], "extract": "a"}, "`take` and `extract`"),
        ({"normalize": ["everything"]}, "normalize.0"),
        ({"at": "middle"}, "at"),
    ],
)
def test_a_step_that_is_none_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(settings)


@pytest.mark.skipif(not TABLE.is_file(), reason="the table of right values is not at hand")
async def test_steps_find_what_a_careful_person_would() -> None:
    for row in json.loads(TABLE.read_text())["rows"]:
        step, _, marker = row["step"].partition(":")
        text, more = (
            (row["text"], {}) if isinstance(row["text"], str) else (row["text"]["text"], {"choices": row["text"]["choices"]})
        )
        found = await taken(
            text, take=[{"after": marker} if marker else step], keep_reasoning=True, ignore_whitespace=False, **more
        )
        expected = row["expected"]
        assert found == (f"{expected:.15g}" if isinstance(expected, int | float) else expected), row
