"""`set_match` compares sets, however they are written down."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.output import Output
from runner.tasks.metrics import METRICS
from runner.tasks.metrics.base import Settings
from runner.types import Value
from tests.calls import InThisProcess
from tests.test_metric import judged, refused


@pytest.mark.parametrize(
    ("candidate", "reference", "settings", "right"),
    [
        ("red, green", ["green", "red"], {}, True),
        ("red\ngreen\n", "green; red", {}, True),
        ("red", "red", {}, True),
        ('```json\n["red"]\n```', ["red"], {}, True),
        ("So: red, green", ["green", "red"], {"take": [{"after": "So:"}]}, True),
        ("1234567890123456789", [1234567890123456789], {}, True),
        ("red, red, green,", ["red", "green"], {}, True),
        ('["red", "green"]', ["green", "red"], {}, True),
        ("red, green", '["green", "red"]', {}, True),
        (["red", "green"], ["green", "red"], {}, True),
        ([1, 2], ["2", 1], {}, True),
        ("1, 2", [1.0, 2.0], {}, True),
        (" New  York ;Oslo", ["Oslo", "New York"], {}, True),
        ("New  York", ["New York"], {"ignore_whitespace": False}, False),
        ("red,  ,green", ["green", "red"], {"ignore_whitespace": False}, True),
        ("Red, Green", ["green", "red"], {}, False),
        ("Red, Green.", ["green", "red"], {"ignore_case": True, "ignore_punctuation": True}, True),
        ("red", ["green", "red"], {}, False),
        ("red, green, blue", ["green", "red"], {}, False),
        ("It is {red, green}.", ["green", "red"], {"extract": r"\{(.*)\}"}, True),
        ("none", ["green", "red"], {"extract": r"\{(.*)\}"}, False),
        ("a, b", [["a"], ["b", "a"]], {}, True),
        ("a", [["a"], ["b", "a"]], {}, True),
        ("b", [["a"], ["b", "a"]], {}, False),
        ("", ["red"], {}, False),
        (None, ["red"], {}, False),
        ([], ["red"], {}, False),
        ("[red", ["[red"], {}, True),
        # as people and models write lists
        ("- red\n- green", ["green", "red"], {}, True),
        ("1. red\n2) green", ["green", "red"], {}, True),
        ("• **red**\n• `green`", ["green", "red"], {}, True),
        ("red, and green.", ["green", "red"], {}, True),
        ("red and green", ["green", "red"], {}, True),
        ("red, green", "green and red", {}, True),
        ("red, green and blue", ["green", "red"], {}, False),
        ("{3, 1}", [1, 3], {}, True),
        ("红、绿。", ["绿", "红"], {}, True),
        ("-5, 3", [5, 3], {}, False),
        (r"$\{3, 1\}$", [1, 3], {}, True),
        (r"So $\boxed{\{3, 1\}}$.", [1, 3], {"take": ["boxed"]}, True),
        (r"\{\frac{1}{2}, 3\}", ["3", r"\frac{1}{2}"], {}, True),
        ("(red, green)", ["green", "red"], {}, True),
        ("['red', 'green']", ["green", "red"], {}, True),
        ("“red”, “green”", ["green", "red"], {}, True),
        ("(1) red\n(2) green", ["green", "red"], {}, True),
        ("– red\n– green", ["green", "red"], {}, True),
        ("红、绿和蓝", ["绿", "红", "蓝"], {}, True),
        # what only looks like one
        ("Cuba, Trinidad and Tobago", ["Trinidad and Tobago", "Cuba"], {}, True),
        ("Mexico, U.S.", ["U.S.", "Mexico"], {}, True),
        ("candy, sand", ["sand", "candy"], {}, True),
        ("(a) red, (b) green", ["(b) green", "(a) red"], {}, True),
        ("[1], [2]", ["[2]", "[1]"], {}, True),
        ("战争、和平", ["和平", "战争"], {}, True),
    ],
)
async def test_set_match(candidate: object, reference: object, settings: dict[str, Any], right: bool) -> None:
    found = await judged({"candidate": candidate, "reference": reference}, type="set_match", **settings)
    assert isinstance(found, Value), found
    assert found.value == float(right)


@pytest.mark.parametrize(
    ("candidate", "output"),
    [(Output("b, a,a"), '["a","b"]'), ("", "[]"), (None, None), ([2, "x"], '["2","x"]')],
)
async def test_the_set_that_was_found_is_kept(candidate: object, output: str | None) -> None:
    assert await judged({"candidate": candidate, "reference": "z"}, type="set_match") == Value(0.0, output)


@pytest.mark.parametrize("reference", [None, "", [], " ; ,", [None], [["a"], []], "[]"])
@pytest.mark.parametrize("candidate", ["a", "", None])
async def test_an_empty_set_is_no_reference(candidate: object, reference: object) -> None:
    message = await refused({"candidate": candidate, "reference": reference}, type="set_match")
    assert message == "configuration.reference: is empty, so no answer can be right"


NAMES = st.sets(
    st.text("abcäß 1", min_size=1, max_size=4).filter(lambda text: text.strip() == text and "  " not in text), min_size=1
)


@given(NAMES, st.sampled_from([", ", "\n", ";", ",\n"]), st.randoms(use_true_random=False))
def test_a_set_is_itself_in_any_order_and_dress(names: set[str], between: str, chance: Any) -> None:
    shuffled = sorted(names)
    chance.shuffle(shuffled)
    judging: Any = METRICS["set_match"].judge(between.join(shuffled), sorted(names), Settings(), InThisProcess())
    with pytest.raises(StopIteration) as end:  # it has nothing to wait for
        judging.send(None)
    assert end.value.value.value == 1.0
