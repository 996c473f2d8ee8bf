"""The value under the alias of an answer: its text to everything, its parts to those who ask, and the same after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from runner import jsontext
from runner.errors import RowError
from runner.output import PARTS, Output, asked_for_json, json_of, stand_in
from runner.reading.reasoning import split_reasoning
from runner.storage.records import End, end_of
from runner.templates.compile import compile_template
from runner.types import ErrorType, Failure, Item, Outcome, Request, Response, Result, Unit, Value
from tests.commands import Project, ask, metric, questions
from tests.serving import Served, chat_answer

CALLS = [
    {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
    {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
]
ANSWER = Output("Paris", tool_calls=json.dumps(CALLS), reasoning="I think", refusal=None, finish_reason="tool_calls")
ITEM = {"answer": ANSWER, "country": "France"}


def rendered(value: Any, item: Any = ITEM) -> Any:
    return compile_template(value).render(item)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("item.answer", "Paris"),
        ("{{item.answer}}", "Paris"),
        ("{{item['answer']}}!", "Paris!"),
        ("{{item.answer | upper}}", "PARIS"),
        ("{{item.answer.format(1)}}", "Paris"),
        ("{{item.answer ~ item.answer.reasoning}}", "ParisI think"),
        ("item.answer.tool_calls", CALLS),
        ("item.answer.tool_calls.1.function.name", "time"),
        ("item.answer.reasoning", "I think"),
        ("item.answer.refusal", None),
        ("item.answer.finish_reason", "tool_calls"),
        ("{{item.answer.finish_reason}}", "tool_calls"),
        ("{{item.answer['finish_reason']}}", "tool_calls"),
        ("{{item.answer.tool_calls[0].function.name}}", "weather"),
        ("{% for call in item.answer.tool_calls %}{{call.function.name}} {% endfor %}", "weather time "),
        ("{{item.answer.tool_calls}}", jsontext.encode_str(CALLS)),
        ("{{item.answer.refusal or 'none'}}", "none"),
        ("{% if item.answer == 'Paris' %}yes{% endif %}", "yes"),
        ({"content": ["item.answer", "{{item.country}}"]}, {"content": ["Paris", "France"]}),
    ],
)
def test_what_locators_and_templates_read(value: object, found: object) -> None:
    assert rendered(value) == found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("item.answer.text", "an answer is there, which has: content, finish_reason, reasoning, refusal, tool_calls"),
        ("item.answer._tool_calls", "an answer is there"),
        ("item.answer.__class__", "an answer is there"),
        ("item.answer.upper", "an answer is there"),
        ("item.answer.tool_calls.2", "`item.answer.tool_calls.2` is not there"),
        ("{{item.answer._tool_calls}}", "unsafe"),
        ("{{item.answer['_tool_calls']}}", "unsafe"),
        ("{{item.answer.__class__}}", "unsafe"),
        ("{{item.answer.__class__.__mro__}}", "unsafe"),
        ("{{item.answer.tool_calls.__class__}}", "unsafe"),
        ("{{item.answer.text}}", "no attribute 'text'"),
        ("{{item.answer.refusal}}", "a null cannot be printed"),
    ],
)
def test_what_they_must_not_read(value: str, message: str) -> None:
    with pytest.raises(RowError) as caught:
        rendered(value)
    assert message in str(caught.value)


def test_an_answer_has_its_parts_and_nothing_else_that_a_string_has_not() -> None:
    assert {name for name in dir(Output) if not name.startswith("_")} == PARTS | {n for n in dir(str) if not n.startswith("_")}


def test_what_one_reader_does_to_tool_calls_no_other_sees() -> None:
    output = Output("Paris", tool_calls=json.dumps(CALLS))
    output.tool_calls.pop()
    assert output.tool_calls == CALLS


def test_it_is_text_in_json() -> None:
    body = rendered({"messages": [{"role": "user", "content": "item.answer"}], "tools": "item.answer.tool_calls"})
    assert json.loads(jsontext.encode(body)) == {"messages": [{"role": "user", "content": "Paris"}], "tools": CALLS}


@pytest.mark.parametrize(("calls", "found"), [(None, []), ("", []), ("[]", []), ('{"a":1}', [{"a": 1}])])
def test_tool_calls_are_always_a_list(calls: str | None, found: list[object]) -> None:
    assert Output(None, tool_calls=calls).tool_calls == found


def test_what_stands_in_for_an_answer_has_every_part() -> None:
    output = stand_in("answer")
    assert output == "<answer>"
    assert rendered("{{item.answer.finish_reason}} {{item.answer.reasoning}} {{item.answer.refusal}}", {"answer": output})
    assert rendered("item.answer.tool_calls.0.function.arguments", {"answer": output}) == "{}"


# --- from a result, and from the journal ---

UNIT = Unit("a", 0, 0, "answer")
ITEM_OF_ROW = Item(item_id="a", index=0, row={}, place="rows.jsonl:1")


def result(answer: Response | Value | Failure, task_type: str = "chat_completion", request: Request | None = None) -> Result:
    outcome = Outcome(answer=answer, started_at=0, completed_at=0)
    return Result(unit=UNIT, task_type=task_type, outcome=outcome, item=ITEM_OF_ROW, request=request)


def through_the_journal(made: Result) -> End:
    """Return a result's record after it was written and read."""
    return msgspec.json.decode(msgspec.json.Encoder().encode(end_of(made, "http://127.0.0.1", ran_us=1)), type=End)


MAYBE = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@example("◁THINK▷", None, None, None, None)  # a mark of reasoning: the answer was cut off within it
@given(MAYBE, MAYBE, MAYBE, MAYBE, st.none() | st.just(json.dumps(CALLS)))
def test_an_answer_reads_the_same_from_the_journal(
    text: str | None, reasoning: str | None, refusal: str | None, finish_reason: str | None, calls: str | None
) -> None:
    response = Response(output=text, reasoning=reasoning, refusal=refusal, finish_reason=finish_reason, tool_calls=calls)
    made = result(response)
    for output in (made.output, through_the_journal(made).read_back):
        assert isinstance(output, Output)
        answer, in_text = split_reasoning(text or "")
        assert output == (answer or "")
        thought = in_text if reasoning is None else reasoning
        assert (output.reasoning, output.refusal, output.finish_reason) == (thought, refusal, finish_reason)
        assert output.tool_calls == (CALLS if calls else [])


@pytest.mark.parametrize("body", ['{"response_format":{"type":"json_object"}}', "{}"])
def test_whether_it_is_json_is_the_same_from_the_journal(body: str) -> None:
    request = Request(unit=UNIT, path="/chat/completions", model="m", content=b"{}", shown=body, stream=False)
    made = result(Response(output='{"age": 7}'), request=request)
    for output in (made.output, through_the_journal(made).read_back):
        assert isinstance(output, Output)
        assert asked_for_json(output) == ("response_format" in body)
        assert json_of(output) == {"age": 7}


async def extracting(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    question = str(body["messages"][-1]["content"])
    is_cut = question == "question 1" and "response_format" in body
    return web.json_response(
        chat_answer('{"age": 7, "tags": ["a"]' + ("" if is_cut else "}") if "question" in question else question)
    )


def test_later_tasks_read_an_answer_as_json(tmp_path: Path) -> None:
    later = "{{ item.extraction.tags[0] }} {{ item.extraction.age + 1 }} {{ item.extraction }}"
    tasks = [
        ask("extraction", configuration={"response_format": {"type": "json_object"}}),
        ask("later", content=later, configuration={"seed": "item.extraction.age"}),
        metric("right", type="numeric", candidate="item.extraction.age", reference=7),
    ]
    with Served(extracting) as served:
        project = Project(tmp_path, served.url, rows=questions(2), tasks=tasks, limits={"fail_on_error": 5})
        assert project.run_here("--no-progress").returncode == 0
    (asked,) = [seen.body for seen in served.seen if "seed" in seen.body]
    assert (asked["messages"][0]["content"], asked["seed"]) == ('a 8 {"age": 7, "tags": ["a"]}', 7)
    assert {row["task"]: row["value"] for row in project.results() if row["item_id"] == "row-0"}["right"] == 1.0
    errors = {row["task"]: row["message"] for row in project.errors()}
    assert errors.keys() == {"later", "right"}
    assert errors["later"].startswith("configuration.messages.0.content: `tags` cannot be read: the answer is not JSON (")
    assert errors["right"].startswith("configuration.candidate: `item.extraction.age` cannot be read: the answer is not JSON (")


@pytest.mark.parametrize("value", [Value(0.5, "half"), Value(None, "text"), Value(None, None)])
def test_a_metric_reads_the_same_from_the_journal(value: Value) -> None:
    made = result(value, "metric")
    assert made.output == through_the_journal(made).read_back == (value.output if value.value is None else value.value)
    assert not isinstance(made.output, Output)


def test_a_failure_has_no_output() -> None:
    made = result(Failure(error_type=ErrorType.SERVER, message="down"))
    assert made.output is None
    assert through_the_journal(made).read_back is None


def test_an_answer_may_name_the_model_of_a_later_request() -> None:
    request = Request(
        unit=UNIT, path="/chat/completions", model=Output("m", finish_reason="stop"), content=b"{}", shown="{}", stream=False
    )
    assert through_the_journal(result(Response(output="x"), request=request)).model == "m"
