"""Conditions decide which rows a task is run for: by a table, as mistakes of a config, and in whole runs that are resumed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp import web

import runner
from runner.errors import RowError
from runner.output import Output
from runner.tasks.condition_models import ADAPTER, CompiledCondition, Condition
from runner.tasks.conditions import OPERATORS
from tests.commands import Holding, Project, ask, asked, metric, questions
from tests.serving import Served

ITEM = {
    "s": "math",
    "n": 10,
    "one": 1.0,
    "null": None,
    "list": ["a", 1],
    "deep": {"x": {"y": 3}},
    "yes": True,
    "reply": Output("Yes"),
}


def const(value: Any) -> dict[str, Any]:
    return {"op": "const", "value": value}


def var(path: str) -> dict[str, Any]:
    return {"op": "var", "path": path}


def two(op: str, left: Any, right: Any) -> dict[str, Any]:
    return {"op": op, "left": left, "right": right}


def several(op: str, *operands: Any) -> dict[str, Any]:
    return {"op": op, "operands": list(operands)}


def holds(condition: Any) -> bool:
    return CompiledCondition(ADAPTER.validate_python(condition), ()).holds(ITEM)


TABLE: list[tuple[dict[str, Any], bool]] = [
    (const(True), True),
    (const(False), False),
    (var("item.yes"), True),
    (var("yes"), True),
    (two("eq", var("item.s"), const("math")), True),
    (two("eq", var("s"), const("Math")), False),
    (two("eq", var("item.reply"), const("Yes")), True),
    (two("eq", var("item.deep.x.y"), const(3)), True),
    (two("eq", var("item.one"), const(1)), True),
    (two("eq", var("item.yes"), const(1)), False),
    (two("ne", var("item.yes"), const(1)), True),
    (two("eq", var("item.list"), const(["a", 1.0])), True),
    (two("eq", var("item.list"), const(["a", True])), False),
    (two("eq", var("item.nope"), const(None)), True),
    (two("ne", var("item.s"), const("math")), False),
    (two("ne", var("item.s"), const(5)), True),
    (two("lt", const(2), var("item.n")), True),
    (two("lt", const("2"), var("item.n")), False),
    (two("gte", const("2"), var("item.n")), False),
    (two("lt", const("a"), const("b")), True),
    (two("lte", const(10), var("item.n")), True),
    (two("gt", const(10), var("item.n")), False),
    (two("gte", const(10), var("item.n")), True),
    (two("gte", const(None), const(1)), False),
    (two("lt", const(False), const(1)), False),
    ({"op": "in", "left": const("a"), "operands": [const("a"), const("b")]}, True),
    ({"op": "in", "left": var("item.s"), "operands": []}, False),
    ({"op": "not_in", "left": const(None), "operands": [const("a")]}, True),
    ({"op": "not_in", "left": var("item.s"), "operands": [var("item.s")]}, False),
    (several("and"), True),
    (several("or"), False),
    (several("and", const(True), const(False)), False),
    (several("or", const(False), const(True)), True),
    (several("or", const(True), const("no truth")), True),
    (several("not", two("eq", const(1), const(1))), False),
    (several("is_null", var("item.nope")), True),
    (several("is_null", var("item.null")), True),
    (several("is_null", var("item.s.deeper")), True),
    (several("is_not_null", var("item.s")), True),
    (several("or", two("eq", var("item.n"), const(5)), two("eq", var("item.n"), const(10))), True),
]


@pytest.mark.parametrize(("condition", "expected"), TABLE, ids=range(len(TABLE)))
def test_a_condition_holds_or_does_not(condition: dict[str, Any], *, expected: bool) -> None:
    assert holds(condition) is expected


@pytest.mark.parametrize("condition", [const(1), var("item.s"), several("and", const("yes")), several("not", const(None))])
def test_what_is_no_truth_is_an_error_of_its_row(condition: dict[str, Any]) -> None:
    with pytest.raises(RowError, match="true or false"):
        holds(condition)


MATH = two("eq", var("item.kind"), const("math"))


@pytest.mark.parametrize(
    ("condition", "place", "message"),
    [
        (two("equals", var("kind"), const(1)), "tasks.0.run_condition.op", "'equals' is not an operator"),
        (several("and", MATH | {"op": "eqq"}), "tasks.0.run_condition.operands.0.op", "did you mean `eq`?"),
        ({"left": const(1)}, "tasks.0.run_condition.op", "is missing"),
        (two("eq", const("item.kind"), const(1)), "tasks.0.run_condition.left.value", "{op: var, path: item.kind}"),
        (two("eq", var("item kind"), const(1)), "tasks.0.run_condition.left.path", "is not a path"),
        (several("not", MATH, MATH), "tasks.0.run_condition.operands", "at most 1 item"),
        (two("eq", var("knd"), const(1)), "tasks.0.run_condition.left.path", "`item.knd` is not a column of the dataset"),
        (MATH | {"rigt": 1}, "tasks.0.run_condition.rigt", "unknown key"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, condition: Any, place: str, message: str) -> None:
    rows = [{"id": "a", "question": "?", "kind": "math"}]
    done = Project(tmp_path / "p", "http://127.0.0.1:9/v1", rows=rows, tasks=[ask(run_condition=condition)]).run_here()
    assert done.returncode == 2
    assert place in done.stderr
    assert message in done.stderr


# --- whole runs ---

ROWS = [{**row, "kind": "math" if row["n"] % 3 == 0 else "prose"} for row in questions(9)]
TASKS = [
    ask(run_condition=MATH),
    ask("again", "{{item.answer}} again"),
    ask("other", "{{item.answer or 'nothing'}} other", run_condition=several("is_null", var("answer"))),
    metric(type="contains", candidate="item.again", reference="quest"),
]


def test_what_is_skipped_is_a_result_without_a_value(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path / "p", served.url, rows=ROWS, tasks=TASKS)
        done = project.run_here()
    assert done.returncode == 0, done.stderr
    assert len(served.seen) == 3 + 3 + 6
    rows = {(row["task"], row["item_id"]): row for row in project.results()}
    for row in ROWS:
        is_math = row["kind"] == "math"
        found = {task: rows[task, row["id"]] for task in ("answer", "again", "other", "correct")}
        assert {task: one["skipped"] for task, one in found.items()} == {
            "answer": not is_math,
            "again": not is_math,
            "other": is_math,
            "correct": not is_math,
        }
        for one in found.values():
            if one["skipped"]:
                assert (one["value"], one["output"], one["attempts"], one["request"]) == (None, None, 0, None)
        if not is_math:
            assert found["other"]["output"] == "nothing other"
    totals = project.evaluation["totals"]
    assert (totals["results"], totals["errors"], totals["skipped"]) == (36, {}, 6 + 6 + 3 + 6)
    assert (totals["metrics"]["correct"]["n"], totals["metrics"]["correct"]["errors"]) == (3, 0)
    assert project.evaluation["progress"]["items"]["successful"] == 9
    assert "every unit exactly once: 36 + 0 = 36, of which 21 skipped" in done.stdout
    wide = runner.load(project.run_dir).wide
    assert wide["answer"].isna().sum() == 6


def test_a_failed_input_comes_before_a_condition_that_reads_it_and_after_one_that_does_not(tmp_path: Path) -> None:
    async def refuse(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=400)

    reads_it = two("eq", var("item.answer"), const("x"))
    tasks = [
        ask(),
        ask("reads", "{{item.answer}}", run_condition=reads_it),
        ask("skipped", "{{item.answer}}", run_condition=MATH),
        ask("again", "{{item.skipped}}"),
    ]
    with Served(refuse) as served:
        project = Project(tmp_path / "p", served.url, rows=[row for row in ROWS if row["kind"] == "prose"][:1], tasks=tasks)
        project.run_here()
    assert [(row["task"], row["error_type"]) for row in project.errors()] == [("answer", "request"), ("reads", "dependency")]
    assert [(row["task"], row["skipped"]) for row in project.results()] == [("skipped", True), ("again", True)]


@pytest.mark.long
def test_a_killed_run_goes_on_with_what_it_skipped(tmp_path: Path) -> None:
    holding = Holding(at_once=4)
    with holding.served() as served:
        project = Project(tmp_path / "p", served.url, rows=ROWS, tasks=TASKS[:2], limits={"concurrency": 2})
        with project.started() as process:
            holding.wait_for(1)
            process.send_signal(signal.SIGKILL)
            process.wait()
        holding.release()
        before = len(served.seen)
        done = project.run_here("--resume")
    assert done.returncode == 0, done.stderr
    assert "of which 12 skipped" in done.stdout
    assert len(project.results()) == 18
    assert sum(row["skipped"] for row in project.results()) == 12
    assert len(served.seen) - before <= 6
    assert set(asked(served.seen)) >= {"question 0", "question 3", "question 6"}
    assert not {"question 1", "question 2"} & set(asked(served.seen))


def test_what_was_skipped_stays_so_when_it_is_read_back(tmp_path: Path) -> None:
    """A task that is added after a run reads of the journal that its input was skipped."""
    with Served() as served:
        project = Project(tmp_path / "p", served.url, rows=ROWS, tasks=TASKS[:1])
        assert project.run_here().returncode == 0
        project.tasks = TASKS[:3]
        project.write()
        count = len(served.seen)
        done = project.run_here("--resume")
    assert done.returncode == 0, done.stderr
    assert "of which 15 skipped" in done.stdout
    assert len(served.seen) - count == 3 + 6
    assert {row["output"] for row in project.results() if row["task"] == "other"} == {"nothing other", None}


def test_a_rehearsal_does_not_count_what_would_be_skipped(tmp_path: Path) -> None:
    bad = ask("bad", "{{item.missing}}", run_condition=two("eq", var("n"), const(-1)))
    rows = [{**row, "missing": "x"} if row["n"] == 0 else row for row in ROWS]
    project = Project(tmp_path / "p", "http://127.0.0.1:9/v1", rows=rows, tasks=[*TASKS[:1], bad])
    done = project.run_here("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "9 rows, 0 of them bad; 3 requests would be sent" in done.stdout + done.stderr


def test_a_condition_is_part_of_what_is_asked(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path / "p", served.url, rows=ROWS, tasks=TASKS[:1])
        assert project.run_here().returncode == 0
        project.tasks = [ask(run_condition=two("ne", var("item.kind"), const("math")))]
        project.write()
        done = project.run_here("--resume")
    assert done.returncode == 2
    assert "tasks.0.run_condition.op" in done.stderr


def test_all_operators_are_known_where_mistakes_are_explained() -> None:
    models = get_args(get_args(Condition)[0])
    assert {word for model in models for word in get_args(model.model_fields["op"].annotation)} == OPERATORS
