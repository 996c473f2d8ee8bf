"""`tool_call_match` compares calls as JSON: order of keys and of parallel calls aside, everything counts, each as often."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.output import Output
from runner.tasks.metrics import METRICS
from runner.tasks.metrics.base import Settings
from runner.types import Value
from tests.calls import InThisProcess
from tests.test_metric import judged, refused, verdict


def call(name: str, arguments: object = None, **more: Any) -> dict[str, Any]:
    """Return a call as an endpoint sends it."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": text}} | more


def answer(*calls: dict[str, Any], text: str | None = None) -> Output:
    return Output(text, tool_calls=json.dumps(calls) if calls else None, finish_reason="tool_calls")


PARIS = {"name": "weather", "arguments": {"city": "Paris", "days": 3}}
OSLO = {"name": "weather", "arguments": {"city": "Oslo", "days": 3}}


@pytest.mark.parametrize(
    ("calls", "reference", "right"),
    [
        # the shapes of a reference
        ([call("weather", {"city": "Paris", "days": 3})], [PARIS], True),
        ([call("weather", {"city": "Paris", "days": 3})], PARIS, True),
        ([call("weather", {"city": "Paris", "days": 3})], [{"type": "function", "function": PARIS}], True),
        ([call("weather", {"city": "Paris", "days": 3})], call("weather", {"days": 3, "city": "Paris"}), True),
        ([call("weather", {"city": "Paris", "days": 3})], json.dumps([PARIS]), True),
        ([call("weather", {"city": "Paris", "days": 3})], [json.dumps(PARIS)], True),
        ([call("weather", PARIS["arguments"])], {"content": None, "tool_calls": [call("weather", PARIS["arguments"])]}, True),
        ([call("weather", {"city": "Paris", "days": 3})], {"role": "assistant", "content": None, "function_call": PARIS}, True),
        # names and arguments
        ([call("weather", {"days": 3, "city": "Paris"})], PARIS, True),
        ([call("forecast", {"city": "Paris", "days": 3})], PARIS, False),
        ([call("Weather", {"city": "Paris", "days": 3})], PARIS, False),
        ([call("weather", {"city": "paris", "days": 3})], PARIS, False),
        ([call("weather", {"city": "Paris ", "days": 3})], PARIS, False),
        ([call("weather", {"city": "Paris"})], PARIS, False),
        ([call("weather", {"city": "Paris", "days": 3, "unit": "C"})], PARIS, False),
        ([call("weather", {"city": "Paris", "days": 3.0})], PARIS, True),
        ([call("weather", {"city": "Paris", "days": "3"})], PARIS, False),
        ([call("weather", {"city": "Paris", "days": None})], PARIS, False),
        ([call("f", {"a": True})], {"name": "f", "arguments": {"a": 1}}, False),
        ([call("f", {"a": 0})], {"name": "f", "arguments": {"a": False}}, False),
        ([call("f", {"a": [True]})], {"name": "f", "arguments": {"a": [1]}}, False),
        ([call("f", {"a": None})], {"name": "f", "arguments": {}}, False),
        ([call("f", {"a": [1, 2]})], {"name": "f", "arguments": {"a": [2, 1]}}, False),
        ([call("f", {"a": {"b": [{"c": 1, "d": 2.0}]}})], {"name": "f", "arguments": {"a": {"b": [{"d": 2, "c": 1}]}}}, True),
        ([call("f", {"a": {"b": [{"c": 1}]}})], {"name": "f", "arguments": {"a": {"b": [{"c": 2}]}}}, False),
        ([call("f", {"a": "é"})], {"name": "f", "arguments": '{"a": "\\u00e9"}'}, True),
        ([call("f", '{"a": 1e2}')], {"name": "f", "arguments": {"a": 100}}, True),
        ([call("f", '{"a": 12345678901234567890}')], {"name": "f", "arguments": {"a": 12345678901234567891}}, False),
        # no arguments, in each of its shapes
        ([call("now")], {"name": "now"}, True),
        ([call("now", "")], {"name": "now", "arguments": {}}, True),
        ([{"function": {"name": "now", "arguments": None}}], {"name": "now", "arguments": None}, True),
        ([{"function": {"name": "now", "arguments": {}}}], {"name": "now", "arguments": "{}"}, True),
        ([{"function": {"name": "f", "arguments": {"a": 1}}}], {"name": "f", "arguments": {"a": 1}}, True),
        # how many, in any order
        ([call("weather", PARIS["arguments"]), call("weather", OSLO["arguments"])], [OSLO, PARIS], True),
        ([call("weather", PARIS["arguments"])], [OSLO, PARIS], False),
        ([call("weather", PARIS["arguments"]), call("weather", OSLO["arguments"])], [PARIS], False),
        ([call("weather", PARIS["arguments"])] * 2, [PARIS, PARIS], True),
        ([call("weather", PARIS["arguments"])] * 2, [PARIS, OSLO], False),
        ([call("weather", PARIS["arguments"])] * 2, [PARIS], False),
        ([call("weather", PARIS["arguments"])], [PARIS, PARIS], False),
        # none wanted
        ([], [], True),
        ([], "[]", True),
        ([], {"role": "assistant", "content": "Hello", "tool_calls": None}, True),
        ([call("now")], [], False),
        ([], [PARIS], False),
        # any one of several
        ([call("weather", OSLO["arguments"])], [[PARIS], [OSLO]], True),
        ([], [[PARIS], []], True),
        ([call("now")], [[PARIS], []], False),
        # calls that cannot be read
        ([call("weather", '{"city": "Par')], PARIS, False),
        ([call("weather", "Paris")], PARIS, False),
        ([call("weather", "[1]")], PARIS, False),
        ([call("weather", '"{}"')], {"name": "weather"}, False),
        ([call("", {})], PARIS, False),
        ([{"type": "custom", "custom": {"name": "weather", "input": "Paris"}}], PARIS, False),
        ([call("now", "{")], [], False),
        ([call("f", '{"a":' + "[" * 5000 + "]" * 5000 + "}")], {"name": "f"}, False),
    ],
)  # fmt: skip
async def test_calls_are_right_or_wrong(calls: list[dict[str, Any]], reference: object, right: bool) -> None:
    assert await verdict("tool_call_match", answer(*calls), reference) is right
    assert await verdict("tool_call_match", answer(*calls).tool_calls, reference) is right
    if calls:
        assert await verdict("tool_call_match", json.dumps(calls), reference) is right


@pytest.mark.parametrize(
    ("candidate", "reference", "right"),
    [
        (None, [], True),
        ("", [], True),
        ("It is sunny.", [], True),
        ("42", [], True),
        (None, PARIS, False),
        ("It is sunny.", PARIS, False),
        (json.dumps(PARIS), PARIS, True),
        ("{}", [], False),
        (PARIS, PARIS, True),
        (7, PARIS, False),
        (Output(json.dumps(PARIS)), PARIS, False),
    ],
)
async def test_calls_may_stand_in_a_text_but_not_in_that_of_an_answer(
    candidate: object, reference: object, right: bool
) -> None:
    assert await verdict("tool_call_match", candidate, reference) is right


async def test_extract_finds_calls_in_the_text_of_an_answer() -> None:
    text = Output(f"Let me see. <tool_call>{json.dumps(PARIS)}</tool_call>")
    settings = {"extract": "(?s)<tool_call>(.*?)</tool_call>"}
    assert await verdict("tool_call_match", text, PARIS, **settings)
    assert not await verdict("tool_call_match", Output("It is sunny."), PARIS, **settings)
    assert await verdict("tool_call_match", Output("It is sunny."), [], **settings)


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({}, False),
        ({"ignore_case": True}, False),
        ({"ignore_case": True, "ignore_punctuation": True}, True),
        ({"ignore_arguments": True}, True),
        ({"ignore_arguments": ["city"]}, True),
        ({"ignore_arguments": ["day"]}, False),
        ({"ignore_arguments": []}, False),
        ({"ignore_arguments": False}, False),
    ],
)
async def test_less_may_count(settings: dict[str, Any], right: bool) -> None:
    made = answer(call("weather", {"city": "PARIS.", "days": 3}))
    assert await verdict("tool_call_match", made, PARIS, **settings) is right
    assert not await verdict("tool_call_match", made, {"name": "forecast", "arguments": {}}, **settings)


async def test_what_was_called_is_kept_as_json() -> None:
    made = answer(call("weather", '{ "city":"Oslo","days" : 3}'))
    assert await judged({"candidate": made, "reference": PARIS}, type="tool_call_match") == Value(
        0.0, '[{"name":"weather","arguments":{"city":"Oslo","days":3}}]'
    )
    broken = [call("weather", "{")]
    found = await judged({"candidate": answer(*broken), "reference": PARIS}, type="tool_call_match")
    assert isinstance(found, Value)
    assert json.loads(found.output or "") == broken


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (None, "null is not a list of tool calls"),
        ("", "'' is not JSON ("),
        ("weather", "'weather' is not JSON ("),
        (7, "7 is not a list of tool calls"),
        ("7", "7 is not a list of tool calls"),
        ({}, "{} is not a tool call"),
        ([{}], "{} is not a tool call"),
        ([None], "null is not a tool call"),
        ([7], "7 is not a tool call"),
        ([PARIS, []], "[] is not a tool call"),
        ({"name": ""}, '{"name":""} is not a tool call'),
        ({"name": 7, "arguments": {}}, '{"name":7,"arguments":{}} is not a tool call'),
        ({"name": "f", "args": {"a": 1}}, '{"name":"f","args":{"a":1}} has no `arguments`'),
        ({"name": "f", "arguments": "{"}, "'{' is not JSON ("),
        ({"name": "f", "arguments": [1]}, "the arguments of f, [1], are not an object"),
        ({"name": "f", "arguments": '"a"'}, "the arguments of f, 'a', are not an object"),
        ([[PARIS], [{}]], "{} is not a tool call"),
    ],
)
@pytest.mark.parametrize("candidate", [answer(call("now")), answer(), None])
async def test_a_reference_that_is_no_call_is_an_error_of_the_row(candidate: object, reference: object, message: str) -> None:
    found = await refused({"candidate": candidate, "reference": reference}, type="tool_call_match")
    assert found.startswith(f"configuration.reference: {message}")


async def test_calls_made_to_collide_are_compared_all_the_same() -> None:
    """Python hashes all of these numbers to nought."""
    calls = [call("f", {"a": number * (2**61 - 1)}) for number in range(6000)]
    began = time.thread_time()
    assert await verdict("tool_call_match", answer(*calls), list(reversed(calls)))
    assert not await verdict("tool_call_match", answer(*calls), calls[:-1])
    assert time.thread_time() - began < 5


async def test_a_reference_too_deep_to_be_compared_is_an_error_of_the_row() -> None:
    deep: Any = 0
    for _ in range(700):
        deep = [deep]
    reference = [{"name": "f", "arguments": {"a": deep}}]
    message = await refused({"candidate": answer(), "reference": reference}, type="tool_call_match")
    assert "is nested too deeply" in message


NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
CALLS = st.lists(st.tuples(st.sampled_from("fgh"), st.dictionaries(st.text(max_size=3), JSON, max_size=3)), max_size=4)


def matches(made: Output, reference: object) -> bool:
    judging: Any = METRICS["tool_call_match"].judge(made, reference, Settings(), InThisProcess())
    with pytest.raises(StopIteration) as end:  # it has nothing to wait for
        judging.send(None)
    return bool(end.value.value.value == 1.0)


def reordered(value: Any) -> Any:
    """Return the same JSON with its keys the other way round."""
    if isinstance(value, dict):
        return {key: reordered(member) for key, member in reversed(value.items())}
    return [reordered(member) for member in value] if isinstance(value, list) else value


@given(CALLS, st.randoms(use_true_random=False))
def test_calls_equal_themselves_however_they_are_ordered(calls: list[tuple[str, Any]], chance: random.Random) -> None:
    reference = [{"name": name, "arguments": arguments} for name, arguments in calls]
    made = [call(name, reordered(arguments)) for name, arguments in calls]
    chance.shuffle(made)
    assert matches(answer(*made), reference)
    assert matches(answer(*made), json.dumps(reference))
    assert not matches(answer(*made, call("one more")), reference)
    assert not matches(answer(*made), [*reference, {"name": "one more"}])


@given(JSON, JSON)
def test_arguments_are_equal_where_their_json_is(one: Any, other: Any) -> None:
    def told_apart(value: Any) -> Any:
        """Return a value that Python compares as JSON does."""
        if isinstance(value, dict):
            return {key: told_apart(member) for key, member in value.items()}
        return [told_apart(member) for member in value] if isinstance(value, list) else (isinstance(value, bool), value)

    equal = told_apart(one) == told_apart(other)
    assert matches(answer(call("f", {"a": one})), {"name": "f", "arguments": {"a": other}}) is equal
