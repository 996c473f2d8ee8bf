"""Judges: a verdict is one of the choices, or it is an error that was paid; never a score that nobody gave."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import runner
from runner.errors import RunStopped, common_words
from runner.pipeline.rehearsal import NoCalls
from runner.reading.verdicts import verdict_in
from runner.storage.records import end_of, tokens_of
from runner.tasks.guided_decoding import GuidedDecodingConfig
from runner.tasks.judge import OfChoices, UnreadableError
from runner.tasks.mediafiles import MediaFiles
from runner.templates.compile import compile_template
from runner.types import ErrorType, Failure, Item, Outcome, Request, Response, Sample, Usage
from tests.commands import Project, questions
from tests.serving import Served, chat_answer

YES_NO = ["Yes", "No"]

VERDICTS: list[tuple[str, list[str], str | None]] = [
    ("Yes", YES_NO, "Yes"),
    ("yes", YES_NO, "Yes"),
    (" NO.\n", YES_NO, "No"),
    ('"Yes"', YES_NO, "Yes"),
    ("**Yes!**", YES_NO, "Yes"),
    ("I would say yes.", YES_NO, "Yes"),
    ("Yes, it is right.", YES_NO, "Yes"),
    ("The answer is **no**", YES_NO, "No"),
    ('I would say "no" here', YES_NO, "No"),
    ("No: the date is wrong.", YES_NO, "No"),
    ("There is no doubt that it fits", YES_NO, None),
    ("It has no mistakes.", YES_NO, None),
    ("It is correct (the date fits).", ["correct", "wrong"], "correct"),
    ("The better one is A.", ["A", "B"], "A"),
    ("This is a good answer, and a long one", ["A", "B"], None),
    ("A reply as this cannot be judged", ["A", "B"], None),
    ("Both have a flaw, so B.", ["A", "B"], "B"),
    ("The first answer is bad", ["first", "second", "tie"], None),
    ("First, I looked at both", ["first", "second", "tie"], None),
    ("The better one is the second.", ["first", "second", "tie"], "second"),
    ("There is no doubt that it fits.\nYes", YES_NO, "Yes"),
    ("Verdict: No", YES_NO, "No"),
    ("Yes or no, who knows", YES_NO, None),
    ("It is not a yes", YES_NO, None),
    ("I don't say yes", YES_NO, None),
    ("non-correct", ["correct", "wrong"], None),
    ("This is not correct.", ["correct", "wrong"], None),
    ("It is partially correct.", ["correct", "partially correct"], "partially correct"),
    ("Maybe", YES_NO, None),
    ("Eyesore", YES_NO, None),
    ("", YES_NO, None),
    ("<think>No, no, no</think>Yes", YES_NO, "Yes"),
    ("<think>It is Yes", YES_NO, None),
    ('{"verdict": "Yes"}', YES_NO, "Yes"),
    ('```json\n{"verdict": "no"}\n```', YES_NO, "No"),
    ('{"verdict": "Yes', YES_NO, None),
    ('{"verdict": "perhaps yes"}', YES_NO, None),
    ('{"other": "Yes"}', YES_NO, None),
    ('{"verdict": 4}', ["4", "5"], "4"),
    ("4", ["4", "5"], "4"),
    ("I give it 4.5", ["4", "5"], None),
    ("I give it 4/5", ["4", "5"], None),
    ("-4", ["4", "5"], None),
    ("C++.", ["C", "C++"], "C++"),
    ("I write C++, only", ["C", "C++"], "C++"),
    # announced, in a fence behind other words, in a tag or a box
    ("No errors here.\n\nFinal verdict: Yes.", YES_NO, "Yes"),
    ("No errors.\n**My final verdict is:** yes", YES_NO, "Yes"),
    ("No answer", YES_NO, None),
    ("It says little.\nAnswer", ["answer", "silence"], "answer"),
    ('So:\n```json\n{"verdict": "No", "reason": "yes and no"}\n```', YES_NO, "No"),
    ('So:\n```json\n{"other": "No"}\n```', YES_NO, None),
    ("<verdict>Yes</verdict>", YES_NO, "Yes"),
    (r"\boxed{Yes}", YES_NO, "Yes"),
    ("Yes - it fits", YES_NO, "Yes"),
    ("Verdict: correct ✅", ["correct", "incorrect"], "correct"),
    ("हाँ।", ["हाँ", "नहीं"], "हाँ"),
    ('{"verdict": true}', ["true", "false"], "true"),
    ('{"verdict": true}', ["1", "0"], None),
    ('{"verdict": 4.0}', ["4", "5"], "4"),
    ('{"verdict": NaN}', ["4", "5"], None),
    # preferred
    ("Assistant A is better.", ["A", "B", "tie"], "A"),
    ("Assistant [B] is better", ["A", "B", "tie"], "B"),
    ("[[B]] is clearly the better one", ["A", "B", "tie"], "B"),
    ("(A) is good", ["A", "B", "tie"], None),
    ("A is much better than B.", ["A", "B", "tie"], None),
    ("It is not clear that A is better.", ["A", "B", "tie"], None),
    # granted in part, or asked
    ("It is mostly correct.", ["correct", "wrong"], None),
    ("almost correct", ["correct", "wrong"], None),
    ("I cannot say it is correct.", ["correct", "wrong"], None),
    ("It fails to be correct.", ["correct", "wrong"], None),
    ("Is it correct?", ["correct", "wrong"], None),
]


@pytest.mark.parametrize(("text", "choices", "verdict"), VERDICTS)
def test_a_verdict_is_plain_or_none(text: str, choices: list[str], verdict: str | None) -> None:
    assert verdict_in(text, choices) == verdict


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["yes " * 100_000, "not " * 100_000 + "yes", "y" * 400_000, 'yes"' * 100_000, "yes" + " " * 400_000 + "x"]
)
def test_no_text_holds_up_a_verdict(text: str) -> None:
    """What looked back to the beginning from each of its places would not come to its end."""
    assert verdict_in(text, YES_NO) in {None, "Yes"}


# --- whole runs ---

Reply = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def judge(alias: str = "", **configuration: Any) -> dict[str, Any]:
    """Return a task that asks for a verdict on the row's question."""
    settings = {"model": "judge", "prompt": "Is it right? {{item.question}}", "choices": YES_NO} | configuration
    task = {"task_type": "auto_evaluation.guided_decoding"} | ({"alias": alias} if alias else {})
    return task | {"configuration": {key: value for key, value in settings.items() if value is not None}}


def said(text: str | None, reason: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
    return chat_answer() | {"choices": [choice]}


#: What the endpoint says to each row, and the verdict.
ANSWERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "choice": (said("Yes"), "Yes"),
    "another case": (said("no"), "No"),
    "quotes": (said("'Yes'."), "Yes"),
    "prose": (said("I think the answer is no."), "No"),
    "json": (said('{"verdict": "Yes"}'), "Yes"),
    "think": (said("<think>Yes? No.</think>\n\nNo"), "No"),
    "two": (said("Yes and no"), None),
    "else": (said("Perhaps"), None),
    "refused": (said(None, refusal="I cannot judge, so no."), None),
    "filtered": (said("Yes", "content_filter"), None),
    "nothing": (said(""), None),
    "null": (said(None), None),
    "half": (said('{"verdict": "Ye', "length"), None),
    "cut off": (said("Yes", "length"), None),
    "half a think": (said("<think>So it is Yes"), None),
}
ROWS = [{"id": name, "question": name} for name in ANSWERS]


async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    name = body["messages"][-1]["content"].removeprefix("Is it right? ")
    return web.json_response(ANSWERS[name][0])


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Project:
    read_it = {
        "task_type": "chat_completion",
        "alias": "why",
        "configuration": {"model": "m", "messages": [{"role": "user", "content": "Is it right? {{item.correct | lower}}"}]},
    }
    with Served(why_or_answer) as served:
        tasks = [
            judge("correct", scores={"Yes": 1, "No": 0}, inference_args={"temperature": 0}),
            read_it,
            {"task_type": "metric", "alias": "score", "configuration": {"type": "score", "candidate": "item.correct"}},
        ]
        project = Project(
            tmp_path_factory.mktemp("judges") / "p",
            served.url,
            rows=ROWS,
            tasks=tasks,
            limits={"concurrency": 2, "max_error_rate": 1.0},
        )
        project.run_here()
    return project


async def why_or_answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if body["model"] == "m":
        return web.json_response(chat_answer(f"why {body['messages'][0]['content']}"))
    return await answer(request, body)


def of(project: Project, task: str = "correct") -> tuple[dict[str, Any], dict[str, Any]]:
    results = {row["item_id"]: row for row in project.results() if row["task"] == task}
    return results, {row["item_id"]: row for row in project.errors() if row["task"] == task}


async def test_what_names_no_choice_is_said_and_is_of_one_kind() -> None:
    reading = OfChoices(compile_template(YES_NO), {})
    kinds = set()
    for text in ("maybe", '{"choice": "Maybe"}', "I don't know\nwhich", "x" * 9000):
        with pytest.raises(UnreadableError) as caught:
            await reading.verdict(text, {})
        message = str(caught.value)
        assert text.replace('"', "'").splitlines()[0][:20] in message
        assert len(message) < 400
        kinds.add(common_words(message).rstrip("…"))
    assert len(kinds) == 1


@pytest.mark.parametrize("name", ANSWERS)
def test_only_a_readable_verdict_has_a_value(judged: Project, name: str) -> None:
    reply, verdict = ANSWERS[name]
    results, errors = of(judged)
    scores, without = of(judged, "score")
    if verdict is None:
        assert name not in results
        text = reply["choices"][0]["message"]["content"]
        assert (errors[name]["error_type"], errors[name]["response_body"]) == ("no_verdict", text or "")
        assert errors[name]["attempts"] == 1
        assert without[name]["error_type"] == "dependency"
    else:
        assert (results[name]["output"], results[name]["value"]) == (verdict, float(verdict == "Yes"))
        assert json.loads(results[name]["response"]) == reply
        assert scores[name]["value"] == float(verdict == "Yes")
        assert of(judged, "why")[0][name]["output"] == f"why Is it right? {verdict.lower()}"


def test_what_has_no_verdict_is_counted_as_paid(judged: Project) -> None:
    readable = sum(verdict is not None for _, verdict in ANSWERS.values())
    totals = judged.evaluation["totals"]
    requests = len(ANSWERS) + readable
    assert (totals["requests"], totals["attempts"]) == (requests, requests)
    assert (totals["tokens"]["prompt_tokens"], totals["tokens"]["completion_tokens"]) == (3 * requests, 2 * requests)
    assert totals["empty"] == 0
    assert totals["errors"] == {"dependency": 2 * (len(ANSWERS) - readable), "no_verdict": len(ANSWERS) - readable}


def test_a_resume_knows_what_was_used_for_nothing(tmp_path: Path) -> None:
    """Tokens of an answer without a verdict count towards `max_tokens`, also those of an earlier start."""

    async def unreadable(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said("Perhaps"))

    tasks = [judge(inference_args={"temperature": 0})]
    with Served(unreadable) as served:
        limits = {"concurrency": 1, "max_tokens": 20}
        project = Project(tmp_path / "p", served.url, rows=questions(10), tasks=tasks, limits=limits)
        first = project.run_here()
        second = project.run_here("--resume")
    assert (first.returncode, second.returncode) == (3, 3)
    assert len(served.seen) == 4
    assert "20 tokens are used of 20" in second.stdout


@pytest.mark.parametrize(("temperature", "requests"), [(0, 1), (None, 2), (0.7, 2)])
def test_it_is_asked_again_once_where_chance_may_help(tmp_path: Path, temperature: float | None, requests: int) -> None:
    texts = iter(["Perhaps", "Yes", "Perhaps"])

    async def in_turn(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said(next(texts)))

    args = {} if temperature is None else {"temperature": temperature}
    with Served(in_turn) as served:
        project = Project(tmp_path / "p", served.url, rows=questions(1), tasks=[judge(inference_args=args)])
        project.run_here()
    assert len(served.seen) == requests
    totals = project.evaluation["totals"]
    assert (totals["attempts"], totals["tokens"]["prompt_tokens"], totals["tokens"]["completion_tokens"]) == (
        requests,
        3 * requests,
        2 * requests,
    )
    (row,) = project.results() if requests == 2 else project.errors()
    assert row["attempts"] == requests
    if requests == 2:
        assert (row["output"], row["value"], row["total_tokens"]) == ("Yes", None, 10)


def test_twice_unreadable_is_an_error_that_was_paid_twice(tmp_path: Path) -> None:
    async def unreadable(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said("Perhaps"))

    with Served(unreadable) as served:
        project = Project(tmp_path / "p", served.url, rows=questions(3), tasks=[judge()])
        project.run_here()
    assert len(served.seen) == 6
    assert [(row["error_type"], row["attempts"]) for row in project.errors()] == [("no_verdict", 2)] * 3
    assert project.evaluation["totals"]["tokens"]["prompt_tokens"] == 3 * 6


def test_a_500_is_the_endpoints_and_no_verdict_is_not(tmp_path: Path) -> None:
    """One row's answers are 500, and all others have no verdict: neither makes the endpoint look down."""

    async def some_broken(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if "question 3" in body["messages"][-1]["content"]:
            return web.json_response({"error": {"message": "broken"}}, status=500)
        return web.json_response(said("Perhaps"))

    with Served(some_broken) as served:
        limits = {"concurrency": 4, "max_attempts": 2}
        project = Project(
            tmp_path / "p", served.url, rows=questions(12), tasks=[judge(inference_args={"temperature": 0})], limits=limits
        )
        done = project.run_here()
    assert "down" not in done.stderr
    kinds = {row["item_id"]: row["error_type"] for row in project.errors()}
    assert kinds == {f"row-{n}": "server" if n == 3 else "no_verdict" for n in range(12)}


def test_a_judge_that_says_nothing_stops_the_run(tmp_path: Path) -> None:
    """Verdicts that cannot be read count towards `max_error_rate`: the rest would be paid for nothing."""

    async def unreadable(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said("Perhaps"))

    with Served(unreadable) as served:
        project = Project(tmp_path / "p", served.url, rows=questions(400), tasks=[judge(inference_args={"temperature": 0})])
        done = project.run_here()
    assert done.returncode == 3
    assert "200 of them no_verdict" in done.stdout
    assert len(served.seen) < 210


@pytest.mark.parametrize("stops", [True, False])
def test_a_refused_format_names_the_other_guides(tmp_path: Path, *, stops: bool) -> None:
    async def refuse(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not stops and "question 0" not in body["messages"][-1]["content"]:
            return web.json_response(said("Yes"))
        return web.json_response({"error": {"message": "Unknown parameter: response_format"}}, status=400)

    with Served(refuse) as served:
        project = Project(tmp_path / "p", served.url, rows=questions(60), tasks=[judge()])
        done = project.run_here()
    told = done.stdout if stops else project.errors()[0]["message"]
    assert "Unknown parameter: response_format; the server does not accept `response_format`" in told
    assert "structured_outputs (vLLM), guided_choice" in told
    assert done.returncode == (3 if stops else 0)


GUIDES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"guide": "structured_outputs"}, {"structured_outputs": {"choice": YES_NO}}),
    ({"guide": "guided_choice"}, {"guided_choice": YES_NO}),
    ({"guide": "none"}, {}),
    (
        {},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "verdict",
                    "schema": {
                        "type": "object",
                        "properties": {"verdict": {"type": "string", "enum": YES_NO}},
                        "required": ["verdict"],
                        "additionalProperties": False,
                    },
                    "strict": True,
                },
            }
        },
    ),
    (
        {
            "system_prompt": "Be {{item.id}}.",
            "guide": "none",
            "inference_args": {"max_tokens": "item.n", "extra_body": {"min_p": 0.1}},
        },
        {"max_tokens": 0 + 7, "min_p": 0.1, "messages": [{"role": "system", "content": "Be row-7."}]},
    ),
]


@pytest.mark.parametrize(("settings", "sent"), GUIDES, ids=range(len(GUIDES)))
def test_what_is_sent(tmp_path: Path, settings: dict[str, Any], sent: dict[str, Any]) -> None:
    async def yes(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said("Yes"))

    with Served(yes) as served:
        project = Project(tmp_path / "p", served.url, rows=questions(8)[7:], tasks=[judge(**settings)])
        assert project.run_here().returncode == 0
    (seen,) = served.seen
    asked = {"role": "user", "content": "Is it right? question 7"}
    messages = [*sent.get("messages", []), asked]
    assert seen.body == {"model": "judge", **sent, "messages": messages}
    assert project.results()[0]["task"] == "auto_evaluation_guided_decoding"
    assert project.results()[0]["task_type"] == "auto_evaluation.guided_decoding"


SCHEMA = {
    "type": "object",
    "properties": {"grade": {"type": ["integer", "null"]}, "reason": {"type": "string"}},
    "required": ["grade", "reason"],
}
FORMS: dict[str, tuple[str, float | None, str | None]] = {
    "grade": ('{"grade": 4, "reason": "fine"}', 4.0, "fine"),
    "null": ('{"grade": null, "reason": "who knows"}', None, "who knows"),
    "fenced": ('```json\n{"grade": 2, "reason": "poor"}\n```', 2.0, "poor"),
    "behind words": ('It is fair.\n```json\n{"grade": 3, "reason": "fair"}\n```', 3.0, "fair"),
    "think": ('<think>{"grade": 1}</think>{"grade": 5, "reason": "good"}', 5.0, "good"),
    "lacks": ('{"grade": 4}', None, None),
    "text": ("It is a 4", None, None),
    "half": ('{"grade": 4, "rea', None, None),
    "wrong": ('{"grade": "four", "reason": "x"}', None, None),
    "huge": ('{"grade": 1e300, "reason": "x"}', None, None),
    "long": (f'{{"grade": {"9" * 400}, "reason": "x"}}', None, None),
}


def test_a_verdict_in_json(tmp_path: Path) -> None:
    async def reply(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said(FORMS[body["messages"][-1]["content"].removeprefix("Is it right? ")][0]))

    tasks = [
        judge("verdict", choices=None, response_format=SCHEMA, value="grade", inference_args={"temperature": 0}),
        {
            "task_type": "metric",
            "alias": "fine",
            "configuration": {"type": "exact_match", "candidate": "item.verdict.reason", "reference": "fine"},
        },
        {"task_type": "metric", "alias": "grade", "configuration": {"type": "mean", "candidates": ["item.verdict"]}},
    ]
    rows = [{"id": name, "question": name} for name in FORMS]
    with Served(reply) as served:
        project = Project(tmp_path / "p", served.url, rows=rows, tasks=tasks)
        project.run_here()
    assert served.seen[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "verdict", "schema": SCHEMA},
    }
    results, errors = of(project, "verdict")
    assert {name: row["value"] for name, row in results.items()} == {
        name: value for name, (_, value, reason) in FORMS.items() if reason is not None
    }
    assert json.loads(results["fenced"]["output"]) == {"grade": 2, "reason": "poor"}
    assert {name: row["error_type"] for name, row in errors.items()} == dict.fromkeys(
        (name for name, (*_, reason) in FORMS.items() if reason is None), "no_verdict"
    )
    assert {name: row["value"] for name, row in of(project, "fine")[0].items()} == {
        name: float(reason == "fine") for name, (*_, reason) in FORMS.items() if reason is not None
    }
    assert of(project, "grade")[0]["grade"]["value"] == 4.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"choices": None}, "needs either `choices` or `response_format`"),
        ({"response_format": SCHEMA}, "needs either `choices` or `response_format`"),
        ({"choices": []}, "should not be empty, got []"),
        ({"choices": ["Yes", "yes."]}, "differ in more than case or punctuation"),
        ({"scores": {"Maybe": 1}}, "'Maybe', which is not one of `choices`"),
        ({"value": "grade"}, "is a path into the JSON of a `response_format`"),
        ({"choices": None, "response_format": SCHEMA, "guide": "guided_choice"}, "is for `choices`"),
        ({"choices": None, "response_format": SCHEMA, "scores": {"a": 1}}, "need `value`"),
        ({"choices": None, "response_format": {"type": "nonsense"}}, "schema"),
        ({"guide": "grammar"}, "json_schema"),
        ({"inference_args": {"n": 2}}, "set `samples`"),
        ({"inference_args": {"response_format": {}}}, "goes beside `inference_args`"),
        ({"inference_args": {"temprature": 0}}, "did you mean `temperature`?"),
        ({"prompt": "Is item.question right?"}, "is sent as it is"),
        ({"prompt": "{{item.qestion}}"}, "is not a column of the dataset"),
        ({"run_condition": {"op": "eq"}}, "run_condition.left"),
        ({"agree_with": "item.humann"}, "`item.humann` is not a column of the dataset"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    task = judge("correct", **{key: value for key, value in settings.items() if key != "agree_with"})
    task |= {key: value for key, value in settings.items() if key == "agree_with"}
    done = Project(tmp_path / "p", "http://127.0.0.1:9/v1", tasks=[task]).run_here()
    assert done.returncode == 2
    assert message in done.stderr


def test_a_verdict_is_json_for_later_tasks_whatever_guides_it(tmp_path: Path) -> None:
    async def reply(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said('{"grade": 4, "reason": "fine"}'))

    fine = {"type": "exact_match", "candidate": "item.verdict.reason", "reference": "fine"}
    tasks = [
        judge("verdict", choices=None, response_format=SCHEMA, value="grade", guide="none"),
        {"task_type": "metric", "alias": "fine", "configuration": fine},
    ]
    with Served(reply) as served:
        project = Project(tmp_path / "p", served.url, rows=questions(1), tasks=tasks)
        done = project.run_here()
    assert done.returncode == 0, done.stderr
    assert served.seen[0].body.keys() == {"model", "messages"}
    assert of(project, "fine")[0]["row-0"]["value"] == 1.0
    wide = runner.load(project.run_dir).wide
    assert json.loads(wide["verdict"][0])["grade"] == 4


async def test_a_run_that_ends_meanwhile_keeps_what_was_paid() -> None:
    """The second question is not asked any more; the first answer is kept as what it is."""
    answers = iter([Response(output="Perhaps", usage=Usage(total_tokens=7))])

    async def execute(_request: Request) -> Outcome:
        if (answer := next(answers, None)) is None:
            raise RunStopped("enough")
        return Outcome(answer=answer, attempts=1, started_at=1, completed_at=2)

    config = GuidedDecodingConfig.model_validate(judge("j"))
    task = config.build(execute, MediaFiles(), NoCalls())
    item = Item(item_id="a", index=0, row={"question": "?"}, place="d:1")
    result = await task.run(Sample(item, 0), item.row)
    assert isinstance(result.outcome.answer, Failure)
    assert result.outcome.answer.error_type is ErrorType.NO_VERDICT
    assert result.paid is not None
    assert result.paid.usage.total_tokens == 7
    end = end_of(result, None, ran_us=0)
    assert (end.total_tokens, tokens_of(end), end.response_body, end.output, end.response) == (7, 7, "Perhaps", None, None)
