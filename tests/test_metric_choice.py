"""The metric `choice`: a reference is a letter, an index or the text of an option, and so is right what the answer chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runner.errors import UsageError
from runner.evaluation import prepare
from runner.tasks.metrics.base import Settings
from runner.types import Value
from tests.commands import ask, metric
from tests.serving import Served
from tests.test_metric import judged, refused, verdict
from tests.trials import config_of

CITIES = ["Rome", "Paris", "Paris, Texas", "Oslo"]


@pytest.mark.parametrize(
    ("candidate", "reference", "settings", "right"),
    [
        ("B) chair", "B", {}, True),
        ("B) chair", "b", {}, True),
        ("B) chair", "(B)", {}, True),
        ("B) chair", "**B**", {}, True),
        ("B) chair", "B. chair", {}, True),
        ("B) chair", "C", {}, False),
        ("B) chair", ["A", "B"], {}, True),
        ("B) chair", ["A", None], {}, False),
        ("chair", "B", {}, False),
        ("", "B", {}, False),
        (None, "B", {}, False),
        ("B/C", "B", {}, False),
        ("<think>The answer is A.</think>\nB", "B", {}, True),
        ("<think>… The answer is B maybe, but", "B", {}, False),
        # numbers, and letters of other scripts
        ("(2)", 2, {"letters": "1234"}, True),
        ("(2)", "2", {"letters": [1, 2, 3, 4]}, True),
        ("(2)", 2.0, {"letters": [1, 2, 3, 4]}, True),
        ("ii", "II", {"letters": ["i", "ii", "iii"]}, True),
        ("Ответ: Б", "Б", {"letters": "АБВГ"}, True),
        ("答案是乙", "乙", {"letters": "甲乙丙丁"}, True),
        # an index, or the text of an option
        ("B", 1, {"choices": CITIES}, True),
        ("B", 1.0, {"choices": CITIES}, True),
        ("B", "1", {"choices": CITIES}, True),
        ("A", 1, {"choices": CITIES}, False),
        ("B", "Paris", {"choices": CITIES}, True),
        ("B", "PARIS.", {"choices": CITIES}, True),
        ("C", "Paris, Texas", {"choices": CITIES}, True),
        ("B", "B. Paris", {"choices": CITIES}, True),
        ("I'd go with Paris.", "B", {"choices": CITIES}, True),
        ("I'd go with Paris, Texas.", 2, {"choices": CITIES}, True),
        ("Rome or Oslo", "A", {"choices": CITIES}, False),
        ("B", "12", {"choices": ["11", "12"]}, True),
        ("(2)", 2, {"choices": CITIES, "letters": "1234"}, True),
        ("(2)", 3, {"choices": CITIES, "letters": "1234"}, False),
        # as datasets have them
        ("B", 1, {"choices": {"A": "Rome", "B": "Paris", "C": None}}, True),
        ("(2)", "Paris", {"choices": {"text": ["Rome", "Paris"], "label": ["1", "2"]}}, True),
        ("2", "2", {"choices": {"text": ["Rome", "Paris"], "label": [1, 2]}}, True),
        ("Paris", "B", {"choices": [{"label": "A", "text": "Rome"}, {"label": "B", "text": "Paris"}]}, True),
        ("Paris", "B", {"choices": '["Rome", "Paris"]'}, True),
        ("It is 7.", 1, {"choices": [6, 7]}, True),
        ("E", "B", {"choices": CITIES}, False),
        # all that are right together
        ("The answers are A and C", "AC", {"several": True}, True),
        ("The answers are A and C", "A, C", {"several": True}, True),
        ("The answers are A and C", "C and A", {"several": True}, True),
        ("The answers are A and C", '["A", "C"]', {"several": True}, True),
        ("The answers are A and C", ["A", "C"], {"several": True}, True),
        ("The answers are A and C", [0, 2], {"several": True, "choices": CITIES}, True),
        ("The answers are A and C", "[0, 2]", {"several": True, "choices": CITIES}, True),
        ("The answers are A and C", ["Rome", "Paris, Texas"], {"several": True, "choices": CITIES}, True),
        ("Rome and Oslo", "AD", {"several": True, "choices": CITIES}, True),
        ("The answer is A", "AC", {"several": True}, False),
        ("A, B and C", "AC", {"several": True}, False),
        ("A or C", "AC", {"several": True}, False),
        ("A", "A", {"several": True}, True),
        ("A, C", ["A", "C"], {}, False),
        ("1, 3", "13", {"several": True, "letters": "1234"}, True),
    ],
)
async def test_choice(candidate: object, reference: object, settings: dict[str, Any], right: bool) -> None:
    assert await verdict("choice", candidate, reference, **settings) is right


@pytest.mark.parametrize(
    ("candidate", "settings", "output"),
    [
        ("So the answer is (b).", {}, "B"),
        ("Paris", {"choices": CITIES}, "B"),
        ("A or B", {}, None),
        ("C and A", {"several": True}, "A, C"),
        ("A or B", {"several": True}, None),
    ],
)
async def test_the_letter_that_was_chosen_is_kept(candidate: str, settings: dict[str, Any], output: str | None) -> None:
    found = await judged({"candidate": candidate, "reference": "A"}, type="choice", **settings)
    assert isinstance(found, Value)
    assert found.output == output


async def test_each_row_may_have_options_of_its_own() -> None:
    for options, value in ((["tea", "coffee"], 0.0), (["coffee", "tea"], 1.0)):
        row = {"candidate": "tea", "reference": 1, "options": options}
        found = await judged(row, type="choice", choices="item.options")
        assert isinstance(found, Value)
        assert found.value == value
    row = {"candidate": "tea", "reference": 1, "a": "coffee", "b": "tea"}
    assert await judged(row, type="choice", choices=["item.a", "item.b"]) == Value(1.0, "B")


@pytest.mark.parametrize(
    ("reference", "settings", "message"),
    [
        ("Z", {}, "'Z' is not one of the letters A, B, C, D; an index from 0, or the text of an option, needs `choices`"),
        (1, {}, "1 is not one of the letters A, B, C, D; an index from 0, or the text of an option, needs `choices`"),
        (["A", "AC"], {}, "'AC' is not one of the letters A, B, C, D; if several are right together, set `several: true`"),
        ("AZ", {"several": True}, "'AZ' is not one of the letters"),
        ("?", {"several": True}, "'?' is not one of the letters"),
        (
            4,
            {"choices": CITIES},
            "4 is not one of the letters A, B, C, D, and neither the text of an option nor its index from 0: [",
        ),
        (-1, {"choices": CITIES}, "-1 is not one of the letters A, B, C, D"),
        ("9" * 5000, {"choices": CITIES}, "'9999"),
        (True, {"choices": CITIES}, "True is not one of the letters A, B, C, D"),
        ("A. Paris", {"choices": CITIES}, "'A. Paris' is not one of the letters A, B, C, D"),  # for that is B
        ("same", {"choices": ["same", "Same"]}, "'same' is not one of the letters A, B"),
        ([], {}, "is empty, so no answer can be right"),
    ],
)
@pytest.mark.parametrize("candidate", ["A", None])
async def test_a_reference_that_names_no_option_is_an_error_whatever_the_candidate(
    reference: object, settings: dict[str, Any], message: str, candidate: object
) -> None:
    row = {"candidate": candidate, "reference": reference}
    found = await refused(row, type="choice", letters="ABCD", **settings)
    assert found.startswith(f"configuration.reference: {message}")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("Rome, Paris", "'Rome, Paris' is not a list of options, and not JSON of one"),
        (7, "7 is neither a list of options nor a mapping from letters to them"),
        ([], "[] is neither a list of options nor a mapping from letters to them"),
        (["Rome"], "['Rome'] should have two options or more, each with a letter of its own"),
        ({}, "{} should have two options or more"),
        ({"text": ["a", "b"], "label": ["A", "A"]}, "{'text': ['a', 'b'], 'label': ['A', 'A']} should have two options"),
        ({"text": ["a", "b"], "label": ["A"]}, "{'text': ['a', 'b'], 'label': ['A']} has 2 options and 1 letters"),
        (list("abcde"), "['a', 'b', 'c', 'd', 'e'] has 5 options and 4 letters; name as many in `letters`"),
    ],
)
async def test_options_without_sense_are_an_error_of_the_row(choices: object, message: str) -> None:
    row = {"candidate": "A", "reference": "A", "options": choices}
    found = await refused(row, type="choice", choices="item.options", letters="ABCD")
    assert found.startswith(f"configuration.choices: {message}")


@pytest.mark.parametrize("letters", ["A", "AA", "Aa", [], [1], [1, "1"], ["A", " "], [True, False], "item.letters", 1234])
def test_letters_that_do_not_differ_are_refused_before_anything_is_sent(letters: object) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"letters": letters})


def test_where_indexes_have_no_options_nothing_is_sent(tmp_path: Path) -> None:
    rows = [{"id": str(n), "question": f"q{n}", "target": n % 4, "options": CITIES} for n in range(12)]
    right = metric("right", type="choice", reference="item.target")
    with Served() as served:
        project = config_of(tmp_path / "without", served.url, rows=rows, tasks=[ask(), right])
        with pytest.raises(UsageError, match=r"0 is not one of the letters .* needs `choices`"):
            prepare(project.config, environment={}).run()
        assert served.seen == []
        right = metric("right", type="choice", reference="item.target", choices="item.options")
        project = config_of(tmp_path / "with", served.url, rows=rows, tasks=[ask(), right])
        assert prepare(project.config, environment={}).run().errors == 0
