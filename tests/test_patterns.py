"""Patterns of metrics mean what Python's `re` means, and come to an end."""

from __future__ import annotations

import asyncio
import re
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.tasks.metric import MetricConfig
from runner.tasks.metrics.patterns import SlowPatternError, check_pattern, find_all, find_first, with_patience
from runner.types import Failure, Item, Sample, Value
from tests.commands import Project, ask
from tests.serving import Served

PATTERNS = [
    *(
        r"\d+",
        r"answer is (\w+)",
        r"(?i)final:\s*(.*)$",
        r"\[[^\]]+\]",
        r"(?P<x>a)|b",
        r"\bfoo\b",
        r"(?<=a)b",
        r"x*",
        "",
        "^",
        "$",
    ),
    *(
        r"(?s).*?",
        r"\Z",
        "{",
        "a{,3}",
        "a{2}",
        "a{1,2}",
        "(?>a+)b",
        "a++",
        "[^\\n]*",
        "(?m)^x$",
        r"[\w-]+",
        "(x)?y",
        "(?i)ß",
        "(?i)İ",
    ),
    *(r"\N{BULLET}", "\\x41", r"(a)\1", "a{e}", "(a){e<=1}", "(?:foo){e<=2}", "x{d}", "a{i}", r"\\boxed{(.*?)}", r"\\text{e}"),
    *(
        "[[a]",
        "[a||b]",
        "[a&&b]",
        "[[:alpha:]]",
        "[]a]",
        "[^]a]",
        r"[\]{e}]",
        "[a]{2}",
        "[{]e}",
    ),
]
TEXTS = [
    *(
        "",
        "a",
        "b",
        "aab ba b",
        "foo bar 12 3",
        "answer is Paris\nFinal: X\n",
        "ß ſ ss İ i",
        "{a} a{e} #x",
        "日本 é ٣",
        "[x] [y]",
    ),
    *(r"\boxed{42} \boxed{43}", r"\text{e}", "x{d} x{e} b{e} ab{e}", "a{i} foo{e<=2} fo", "• A aa [:alpha:] e}", "\u2028x\ny"),
]


def by_re(pattern: str, text: str) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = re.compile(pattern)
    return [match[1 if compiled.groups else 0] for match in compiled.finditer(text)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_what_it_means_to_python(pattern: str) -> None:
    for text in TEXTS:
        assert find_all(pattern, text) == by_re(pattern, text), text


PIECES = st.sampled_from(
    [
        *"ab1{}[]e,^-:.|",
        r"\d",
        r"\w+?",
        r"\b",
        r"\{",
        r"\[",
        "(a)",
        "(?:b)",
        "{1,2}",
        "{e}",
        "{e<=1}",
        "a*",
        "[ab]",
        "[^b]",
        "[[:a:]]",
        "(?=a)",
    ]
)


@pytest.mark.filterwarnings("ignore")
@given(st.lists(PIECES, max_size=6).map("".join), st.text("ab1{}[]e,:- \n", max_size=12))
def test_any_pattern_means_what_it_means_to_python(pattern: str, text: str) -> None:
    try:
        wanted = by_re(pattern, text)
    except re.error:
        with pytest.raises(re.error):
            check_pattern(pattern)
        return
    assert find_all(pattern, text) == wanted


@pytest.mark.parametrize("pattern", ["(", "*a", "[z-a]", r"\p{L}", "(?R)", r"(?<x>a)", "a{2,1}", "(?i"])
def test_what_python_does_not_take_is_no_pattern(pattern: str) -> None:
    with pytest.raises(re.error):
        check_pattern(pattern)


SLOW = r"(a|aa)+$"
LONG = "a" * 60 + "b"


def test_a_catastrophic_pattern_comes_to_an_end() -> None:
    with pytest.raises(SlowPatternError, match=r"\(a\|aa\)\+\$.* takes more than 1 s"):
        find_first(SLOW, LONG)
    with with_patience(), pytest.raises(SlowPatternError):
        find_all(SLOW, LONG)


async def outcome(**configuration: Any) -> tuple[Any, int]:
    """Return what a metric says, and how often the loop had its turn meanwhile."""
    config = MetricConfig.model_validate({"task_type": "metric", "configuration": configuration})
    task: Any = config.build(None, None)  # type: ignore[arg-type]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    counting = asyncio.create_task(count())
    try:
        sample = Sample(Item(item_id="row", index=0, row={"text": LONG}, place="rows:1"), 0)
        return (await task.run(sample, {"text": LONG})).outcome.answer, turns
    finally:
        counting.cancel()


@pytest.mark.parametrize(
    "configuration",
    [
        {"type": "exact_match", "candidate": "item.text", "reference": "x", "extract": SLOW},
        {"type": "regex", "candidate": "item.text", "reference": SLOW},
    ],
)
async def test_it_costs_the_metric_s_row_and_does_not_hold_up_the_loop(configuration: dict[str, Any]) -> None:
    found, turns = await outcome(**configuration)
    assert isinstance(found, Failure)
    assert SLOW in found.message
    assert turns > 10


async def test_a_pattern_that_needs_a_moment_more_is_right_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.tasks.metrics.patterns._MOMENT_S", 1e-9)
    found, _ = await outcome(type="regex", candidate="item.text", reference="(a|aa)+b$")
    assert isinstance(found, Value)
    assert found.value == 1.0


def test_the_completion_is_kept(tmp_path: Any) -> None:
    score = {"task_type": "metric", "alias": "right"}
    score |= {"configuration": {"type": "exact_match", "candidate": "item.answer", "reference": "x", "extract": SLOW}}  # type: ignore[dict-item]
    with Served() as endpoint:
        project = Project(tmp_path / "slow", endpoint.url, rows=[{"id": "1", "question": LONG}], tasks=[ask(), score])
        project.run_here()
    (answer,), (error,) = project.results(), project.errors()
    assert (answer["task"], answer["output"]) == ("answer", LONG)
    assert (error["task"], error["error_type"]) == ("right", "template")
    assert SLOW in error["message"]
