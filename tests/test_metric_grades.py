"""What a judge says is read for sure or not at all: a grade that cannot be told is an error of its row, and never a grade."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.output import Output
from runner.types import ErrorType, Failure, Value
from tests.commands import Project, ask
from tests.serving import Served, chat_answer
from tests.test_metric import judged, refused

TO_TEN = {"min": 1, "max": 10}


async def value_of(candidate: object, **settings: Any) -> Value:
    found = await judged({"candidate": candidate, "reference": None}, candidate="item.candidate", **settings)
    assert isinstance(found, Value), found
    return found


async def without_verdict(row: dict[str, Any], **configuration: Any) -> str:
    found = await judged(row, **configuration)
    assert isinstance(found, Failure)
    assert found.error_type is ErrorType.NO_VERDICT
    return found.message


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("8", 8),
        (Output("8"), 8),
        (8, 8),
        (7.5, 7.5),
        (" **8**.\n", 8),
        ("8/10", 8),
        ("8 out of 10", 8),
        ("I give it 8 of 10!", 8),
        ("Score: 8", 8),
        ("score = 8.25", 8.25),
        ("Rating: [[8]]", 8),
        ("**Grade:** 8/10", 8),
        ("The score is 8 because 2 facts of 5 are missing.", 8),
        ('{"reason": "2 errors in 30 lines", "final_score": 8}', 8),
        ("Score (1-10): 3", None),
        ("There are 2 mistakes.\nScore: 8", 8),
        ("Score: 8. Again: score: 8", 8),
        ("Clarity: 7\nDepth: 5\n**Overall:** 6", 6),
        ("Overall, 2 of 3 facts are there", None),
        ("The score is not 8.", None),
        ("It isn't a 9/10 but an 8", 8),
        ("the 8th try", None),
        ("It has 2 mistakes, so 8", None),
        ("Accuracy score: 3\nStyle score: 5", None),
        ("Score: 7-8", None),
        ("score 7 to 8", None),
        ("on a scale from 1 to 10 it is a 7", None),
        ("Score: N/A", None),
        ("4/5", None),
        ("Score: 4 out of 5", None),
        ("0", None),
        ("11", None),
        ("-3", None),
        ("1,000", None),
        ("3.1.4", None),
        ("v2", None),
        ("eight", None),
        ("", None),
        (None, None),
        ([], None),
        (True, None),
        (float("nan"), None),
        ("9" * 400, None),
    ],
)
async def test_a_score_is_read_for_sure_or_not_at_all(text: object, grade: float | None) -> None:
    if grade is None:
        message = await without_verdict({"candidate": text, "reference": None}, type="score", **TO_TEN)
        assert message.startswith("no verdict: ")
        assert "`candidate`" in message
        assert len(message) < 300
    else:
        assert await value_of(text, type="score", **TO_TEN) == Value(grade, f"{grade:g}")


async def test_a_score_without_bounds_is_any_number() -> None:
    assert await value_of("-250.5", type="score") == Value(-250.5, "-250.5")
    assert await value_of("4/5", type="score") == Value(4.0, "4")
    assert await value_of("2 of 3 say 7", type="score", extract=r"say (\d)") == Value(7.0, "7")


@pytest.mark.parametrize("text", ["score " * 30_000, "1 " * 30_000, "8" + " " * 100_000 + "/", "8 out " * 20_000])
async def test_no_text_holds_up_a_score(text: str) -> None:
    """What tries each way to share a run of white space would not come to its end."""
    assert "no verdict" in str(await judged({"candidate": f"{text} 3.1.4 2", "reference": None}, type="score", max=0))


async def test_a_mean_is_that_of_all_its_grades() -> None:
    grades = ["Score: 7", 8, "9/10"]
    assert await value_of(grades, type="mean", **TO_TEN) == Value(8.0, "8")
    assert await value_of([0.1] * 10, type="mean") == Value(0.1, "0.1")
    assert await value_of([5e-78, 1.0, "3"], type="mean", max=5) == Value(4 / 3, "1.33333333333333")
    for second in ("", None, "11", "7 or 8"):
        assert "`candidates.1`" in await without_verdict({"candidate": ["7", second], "reference": None}, type="mean", **TO_TEN)
    others: list[Any] = [[], "7", None, 7]
    for alone in others:
        message = await without_verdict({"candidate": alone, "reference": None}, type="mean")
        assert message == "no verdict: `candidates` is not a list of the verdicts of several judges"


VOTES: list[tuple[list[Any], Any, dict[str, Any], tuple[float | None, str] | None]] = [
    (["Yes", "Yes", "No"], "Yes", {}, (1.0, "Yes")),
    (["No", "Yes", "No"], "Yes", {}, (0.0, "No")),
    (["No", "Yes", "No"], ["Maybe", "No", None], {}, (1.0, "No")),
    ([" Yes\n", "Yes", "No"], "Yes", {}, (1.0, "Yes")),
    (["yes", "YES.", "No"], "Yes", {"ignore_case": True, "ignore_punctuation": True}, (1.0, "yes")),
    (["yes", "Yes", "No"], "Yes", {}, None),
    (["Yes", "No"], "Yes", {}, None),
    (["Yes", "Yes", "No", "No"], "Yes", {}, None),
    (["Yes", "Yes", "No", "Maybe"], "Yes", {}, None),
    (["Yes"], "Yes", {}, (1.0, "Yes")),
    ([1.0, 1, "1"], 1, {}, (1.0, "1")),
    ([True, True, False], True, {}, (1.0, "true")),
    (["so: B", "so: B", "so: C"], "B", {"extract": r"so: (.)"}, (1.0, "B")),
    (["so: B", "so: B", "C"], "B", {"extract": r"so: (.)"}, None),
    (["Yes", "Yes", ""], "Yes", {}, None),
    (["Yes", "Yes", None], "Yes", {}, None),
    ([], "Yes", {}, None),
]


@pytest.mark.parametrize(("labels", "reference", "settings", "expected"), VOTES, ids=range(len(VOTES)))
async def test_a_vote_needs_more_than_half(
    labels: list[Any], reference: Any, settings: dict[str, Any], expected: tuple[float | None, str] | None
) -> None:
    row = {"candidate": labels, "reference": reference}
    if expected is None:
        assert (await without_verdict(row, type="vote", **settings)).startswith("no verdict: ")
    else:
        assert await judged(row, type="vote", **settings) == Value(*expected)


@pytest.mark.parametrize("reference", [None, "", [], ["Yes", ""]])
async def test_a_vote_with_an_empty_reference_is_an_error(reference: object) -> None:
    row = {"candidate": ["Yes", "Yes"], "reference": reference}
    assert await refused(row, type="vote") == "configuration.reference: is empty, so no label can be right"


PANEL = {
    "fine": ["Score: 9", "8", "10/10"],
    "two of three": ["Score: 9", "9", "4"],
    "apart": ["2", "5", "9"],
    "silent": ["9", "", "9"],
}


async def panel(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    number, _, question = body["messages"][-1]["content"].partition(" ")
    return web.json_response(chat_answer(PANEL[question][int(number)]))


def test_a_panel_of_judges(tmp_path: Path) -> None:
    """Each task beside the judges reads their answers; nothing that is unreadable has a value."""
    judges = [ask(f"j{number}", f"{number} {{{{item.question}}}}") for number in range(3)]
    said = [f"item.j{number}" for number in range(3)]
    tasks = [
        *judges,
        *(
            {"task_type": "metric", "alias": f"s{number}", "configuration": {"type": "score", "candidate": one, **TO_TEN}}
            for number, one in enumerate(said)
        ),
        {"task_type": "metric", "alias": "average", "configuration": {"type": "mean", "candidates": said, **TO_TEN}},
        {"task_type": "metric", "configuration": {"type": "vote", "candidates": ["item.s0", "item.s1", "item.s2"]}},
    ]
    with Served(panel) as server:
        rows = [{"id": question, "question": question} for question in PANEL]
        made = Project(tmp_path, server.url, rows=rows, tasks=tasks, more={"limits": {"fail_on_error": 1.0}})
        dry = made.run_here("--dry-run")
        assert "4 rows, 0 of them bad" in dry.stdout + dry.stderr
        assert made.run_here("--no-progress").returncode == 0
    found = {(row["item_id"], row["task"]): row["value"] for row in made.results()}
    assert [found[question, "average"] for question in ("fine", "apart")] == pytest.approx([9.0, 16 / 3])
    assert found["two of three", "vote"] == 9.0
    errors = {(row["item_id"], row["task"]): (row["error_type"], row["message"]) for row in made.errors()}
    assert errors.keys() == {
        ("silent", "s1"),
        ("silent", "average"),
        ("silent", "vote"),
        ("apart", "vote"),
        ("fine", "vote"),
    }
    assert errors["silent", "average"] == (
        "no_verdict",
        "no verdict: `candidates.1`, '', has no number; find the right one with `extract`",
    )
    assert errors["silent", "vote"][0] == "dependency"
    assert errors["apart", "vote"] == (
        "no_verdict",
        "no verdict: no label has more than half of the votes: '2': 1, '5': 1, '9': 1",
    )
    average = json.loads((made.run_dir / "evaluation.json").read_text())["totals"]["metrics"]["average"]
    assert average["mean"] == pytest.approx((9 + 22 / 3 + 16 / 3) / 3)
    assert average["errors"] == 1
