"""A metric says 1.0 or 0.0 for each candidate; a missing answer is wrong, and a reference without sense is that row's error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from runner.output import Output
from runner.tasks.mediafiles import MediaFiles
from runner.tasks.metric import MetricConfig, MetricTask
from runner.tasks.metrics import METRICS
from runner.tasks.metrics.similarity import SIMILARITIES
from runner.types import ErrorType, Execute, Failure, Item, Outcome, Request, Sample, Value
from tests.calls import InThisProcess

LOCATED = {"candidate": "item.candidate", "reference": "item.reference"}


async def send_nothing(request: Request) -> Outcome:
    raise AssertionError(f"a metric sends nothing: {request}")


def task(**configuration: Any) -> MetricTask:
    config = MetricConfig.model_validate({"task_type": "metric", "configuration": LOCATED | configuration})
    execute: Execute = send_nothing
    built = config.build(execute, MediaFiles(), InThisProcess())
    assert isinstance(built, MetricTask)
    return built


async def judged(row: Mapping[str, Any], **configuration: Any) -> Value | Failure:
    item = Item(item_id="a", index=0, row=row, place="rows.jsonl:1")
    result = await task(**configuration).run(Sample(item, 2), row)
    assert (result.unit.item_id, result.unit.sample_index) == ("a", 2)
    assert (result.task_type, result.request, result.outcome.attempts) == ("metric", None, 0)
    assert isinstance(result.outcome.answer, Value | Failure)
    return result.outcome.answer


async def verdict(kind: str, candidate: object, reference: object, **settings: Any) -> bool:
    found = await judged({"candidate": candidate, "reference": reference}, type=kind, **settings)
    assert isinstance(found, Value), found
    assert found.value in {0.0, 1.0}
    return found.value == 1.0


async def refused(row: Mapping[str, Any], **configuration: Any) -> str:
    found = await judged(row, **configuration)
    assert isinstance(found, Failure)
    assert found.error_type is ErrorType.TEMPLATE
    return found.message


@pytest.mark.parametrize(
    ("candidate", "reference", "settings", "right"),
    [
        ("Paris", "Paris", {}, True),
        ("Paris", "London", {}, False),
        ("Paris", "paris", {}, False),
        ("Paris", "paris", {"ignore_case": True}, True),
        ("STRASSE", "straße", {"ignore_case": True}, True),
        ("Paris.", "Paris", {}, False),
        ("“Paris”…", "Paris", {"ignore_punctuation": True}, True),
        ("¿Qué?", "Qué", {"ignore_punctuation": True}, True),
        ("  Paris \n", "Paris", {}, True),
        ("New \t\n York", "New York", {}, True),
        ("New  York", "New York", {"ignore_whitespace": False}, False),
        ("Paris ", "Paris", {"ignore_whitespace": False}, False),
        ("Paris , France", "paris france", {"ignore_case": True, "ignore_punctuation": True}, True),
        ("Rome", ["Paris", "Rome"], {}, True),
        ("Rom", ["Paris", "Rome"], {}, False),
        ("7", 7, {}, True),
        (7, "7", {}, True),
        (True, "true", {}, True),
        ("false", False, {}, True),
        (1.0, 1.0, {}, True),
        ({"a": 1}, {"a": 1}, {}, True),
        ("", "Paris", {}, False),
        (None, "Paris", {}, False),
        ("null", None, {}, None),
    ],
)
async def test_exact_match(candidate: object, reference: object, settings: dict[str, Any], right: bool | None) -> None:
    if right is None:
        assert "is empty" in await refused({"candidate": candidate, "reference": reference}, type="exact_match", **settings)
    else:
        assert await verdict("exact_match", candidate, reference, **settings) is right


@pytest.mark.parametrize(
    ("candidate", "reference", "settings", "right"),
    [
        ("It is Paris, of course", "Paris", {}, True),
        ("It is paris", "Paris", {}, False),
        ("It is paris", "Paris", {"ignore_case": True}, True),
        ("New\nYork", "New York", {}, True),
        ("N.Y.", "NY", {"ignore_punctuation": True}, True),
        ("Rome", ["Paris", "Rome"], {}, True),
        ("Oslo", ["Paris", "Rome"], {}, False),
        ("", "Paris", {}, False),
        (None, "Paris", {}, False),
        ("it is 42", 42, {}, True),
    ],
)
async def test_contains(candidate: object, reference: object, settings: dict[str, Any], right: bool) -> None:
    assert await verdict("contains", candidate, reference, **settings) is right


@pytest.mark.parametrize(
    ("candidate", "pattern", "settings", "right"),
    [
        ("the answer: 42", r"\b42\b", {}, True),
        ("the answer: 421", r"\b42\b", {}, False),
        ("Yes", "^yes$", {}, False),
        ("Yes", "^yes$", {"ignore_case": True}, True),
        ("b", ["^a", "^b"], {}, True),
        ("a\nb", "^b", {}, False),
        ("a\nb", "(?m)^b", {}, True),
        ("", ".*", {}, False),
        (None, ".*", {}, False),
        ("7", 7, {}, True),
    ],
)
async def test_regex(candidate: object, pattern: object, settings: dict[str, Any], right: bool) -> None:
    assert await verdict("regex", candidate, pattern, **settings) is right


async def test_regex_keeps_what_it_found() -> None:
    found = await judged({"candidate": "it is 42!", "reference": r"\d+"}, type="regex")
    assert found == Value(1.0, "42")
    assert await judged({"candidate": "none", "reference": r"\d+"}, type="regex") == Value(0.0, None)


@pytest.mark.parametrize(
    ("candidate", "settings", "output"),
    [
        ("#### 7\n#### 8", {"extract": r"#### (\d+)"}, "8"),
        ("#### 7\n#### 8", {"extract": r"#### (\d+)", "extract_from": "first"}, "7"),
        ("#### 7\n#### 8", {"extract": r"#### \d+"}, "#### 8"),
        ("<think>1</think> 2", {"extract": r"(?s)</think>(.*)"}, "2"),
        ("nothing", {"extract": r"#### (\d+)"}, None),
        ("ab", {"extract": "(x)?b"}, None),
        (None, {"extract": ".*"}, None),
    ],
)
async def test_extract(candidate: object, settings: dict[str, Any], output: str | None) -> None:
    found = await judged({"candidate": candidate, "reference": "8"}, type="exact_match", **settings)
    assert found == Value(1.0 if output == "8" else 0.0, output)


@pytest.mark.parametrize(
    ("kind", "reference", "message"),
    [
        ("exact_match", None, "configuration.reference: is empty, so no answer can be right"),
        ("exact_match", "", "configuration.reference: is empty, so no answer can be right"),
        ("exact_match", [], "configuration.reference: is empty, so no answer can be right"),
        ("exact_match", ["", None], "configuration.reference: is empty, so no answer can be right"),
        ("exact_match", " ", "configuration.reference: nothing is left of [' '] once it is normalised"),
        ("exact_match", ["a", "?!"], "configuration.reference: nothing is left of ['a', '?!'] once it is normalised"),
        ("contains", "?!", "configuration.reference: nothing is left of ['?!'] once it is normalised"),
        ("regex", "(", "configuration.reference: '(' is not a regular expression: "),
        ("numeric", "many", "configuration.reference: 'many' is not a number"),
        ("numeric", [1, "many"], "configuration.reference: 'many' is not a number"),
    ],
)
@pytest.mark.parametrize("candidate", ["a", "", None])
async def test_a_reference_without_sense_is_an_error_whatever_the_candidate(
    kind: str, reference: object, message: str, candidate: object
) -> None:
    row = {"candidate": candidate, "reference": reference}
    assert (await refused(row, type=kind, ignore_punctuation=True)).startswith(message)


async def test_each_row_may_say_how_it_is_judged() -> None:
    row = {"candidate": "B) 42", "reference": "42"}
    for kind, value in (("exact_match", 0.0), ("contains", 1.0), ("numeric", 1.0), ("regex", 1.0)):
        found = await judged(row | {"kind": kind}, type="item.kind")
        assert isinstance(found, Value)
        assert found.value == value


@pytest.mark.parametrize("kind", ["exakt", "", None, 7, ["choice"], {}])
async def test_a_kind_that_is_none_is_an_error_of_the_row(kind: object) -> None:
    message = await refused({"candidate": "a", "reference": "a", "kind": kind}, type="item.kind")
    assert message.startswith(f"configuration.type: {kind!r} is not one of exact_match, contains, regex, numeric, math, choice")


@pytest.mark.parametrize("missing", ["candidate", "reference", "kind"])
async def test_a_field_that_is_missing_is_an_error_of_the_row(missing: str) -> None:
    row = {"candidate": "a", "reference": "a", "kind": "choice"}
    del row[missing]
    assert f"`item.{missing}` is not there" in await refused(row, type="item.kind")


async def test_templates_can_join_what_is_compared() -> None:
    found = await judged(
        {"a": "x", "b": "y"}, type="exact_match", candidate="{{item.a}}{{item.b}}", reference=["no", "{{item.a}}y"]
    )
    assert found == Value(1.0, "xy")


@pytest.mark.parametrize("kind", sorted(METRICS.keys() - {*SIMILARITIES, "math"}))  # their texts come from another process
async def test_what_a_metric_keeps_is_plain_text(kind: str) -> None:
    """The journal takes no other kind of string."""
    candidates = {"score": Output("7"), "mean": [Output("7")], "vote": [Output("B")], "cosine_similarity": Output("[1]")}
    references: dict[str, Any] = {"json_schema": {}, "tool_call_match": [], "numeric": 7, "cosine_similarity": [1]}
    row = {"candidate": candidates.get(kind, Output("B")), "reference": references.get(kind, "B")}
    found = await judged(row, type=kind, ignore_whitespace=False)
    assert isinstance(found, Value)
    assert found.output is None or type(found.output) is str
