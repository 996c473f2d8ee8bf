"""Patterns of metrics are Python's own; what they cannot decide in a second costs its row and holds up nobody."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from runner.foreign.patterns import find_answer, find_first
from runner.processes.pool import ProcessPool
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.metric import MetricConfig
from runner.types import Failure, Item, Sample, Value
from tests.test_metric import send_nothing


@pytest.mark.parametrize(
    ("pattern", "text", "first", "last"),
    [
        (r"\d+", "1 2 3", "1", "3"),
        (r"is (\w+)", "a is b, c is d", "b", "d"),
        ("(x)?y", "y xy y", "x", "x"),
        ("(x)?y", "y y", None, None),
        (r"(?P<x>a)|b", "a b", "a", "a"),
        (r"(?:is|was) (\d+)|= (\d+)", "is 1, = 2", "1", "2"),
        (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "#### 5", "5", "5"),
        (r"[\s\d]", " 1\n2\n", "1", "2"),
        ("x*", "x", "x", "x"),
        ("x*", "y", None, None),
        ("[^\n]*$", "reasons\nParis", "Paris", "Paris"),
        ("(?s)(.*)", "reasons\nParis", "reasons\nParis", "reasons\nParis"),
        ("[A-Za-z]*", " 4 Paris.", "Paris", "Paris"),
        ("a{e}", "a a{e}", "a{e}", "a{e}"),
        ("z", "abc", None, None),
        (r"\N{BULLET}", "• a •", "•", "•"),
        ("(?s)</think>(.*)", "<think></think>a\nb", "a\nb", "a\nb"),
    ],
)
def test_the_first_or_the_last_match_is_the_answer(pattern: str, text: str, first: str | None, last: str | None) -> None:
    assert find_answer(pattern, text, False, False) == first
    assert find_answer(pattern, text, True, False) == last


def test_the_first_match_is_found_in_any_case() -> None:
    assert find_answer("b(.)", "aBc", True, True) == "c"
    assert find_answer("b(.)", "aBc", True, False) is None
    assert find_first(["B+"], "abBc", False) == "B"
    assert find_first(["z", "B+", "c"], "abBc", True) == "bB"
    assert find_first(["z"], "abBc", True) is None


@pytest.mark.parametrize(
    "pattern", ["(", "*a", "[z-a]", r"\p{L}", "(?R)", r"(?<x>a)", "a{2,1}", "(?i", "a{99999999999}", "(" * 5000]
)
def test_what_python_does_not_take_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a regular expression: "):
        find_first([pattern], "a", False)


@pytest.mark.parametrize(("pattern", "is_shown"), [("(", "'('"), ("(" * 200, f"'{'(' * 200}'"), ("(" * 201, f"'{'(' * 200}…'")])
def test_what_is_wrong_with_a_pattern_is_said_in_few_words(pattern: str, is_shown: str) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"{is_shown} is not a regular expression: missing ), unterminated subpattern")
    ):
        find_first([pattern], "a", False)


#: Not its matching takes long, but its making.
ENDLESS = "|".join(f"a{number}(?:b|c)" for number in range(100_000))


async def outcomes(*rows: dict[str, Any], **configuration: Any) -> tuple[list[Any], int]:
    """Return what a metric says of each row, all at once, and how often the loop had its turn meanwhile."""
    config = MetricConfig.model_validate({"task_type": "metric", "configuration": configuration})
    pool = ProcessPool()
    task = config.build(send_nothing, MediaFiles(), pool)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    counting = asyncio.create_task(count())
    try:
        samples = [Sample(Item(item_id="row", index=0, row=row, place="rows:1"), 0) for row in rows]
        results = await asyncio.gather(*(task.run(sample, sample.item.row) for sample in samples))
        return [result.outcome.answer for result in results], turns
    finally:
        counting.cancel()
        await pool.close()


@pytest.mark.long
async def test_many_patterns_have_no_more_time_than_one() -> None:
    row = {"text": "a" * 22 + "b", "patterns": [f"(a|aa)+${number}" for number in range(5000)]}
    (found,), _ = await outcomes(row, type="regex", candidate="item.text", reference="item.patterns")
    assert isinstance(found, Failure)
    assert "one of the regular expressions cannot be matched with this text: it takes more than 1 s" in found.message


@pytest.mark.long
async def test_what_takes_too_long_costs_its_row_and_does_not_hold_up_the_loop() -> None:
    good = {"text": "aab", "pattern": "a+"}
    rows = [{"text": "b", "pattern": ENDLESS}, *[good] * 20]
    found, turns = await outcomes(*rows, type="regex", candidate="item.text", reference="item.pattern")
    assert found[1:] == [Value(1.0, "aa")] * 20
    failure = found[0]
    assert isinstance(failure, Failure)
    assert f"the regular expression '{ENDLESS[:100]}" in failure.message
    assert "takes more than 1 s" in failure.message
    assert len(failure.message) < 400
    assert turns > 10
