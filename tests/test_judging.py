"""The figures of judges: held against the statistics themselves, and in whole runs, where pairs are asked in both orders."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.analysis.statistics.agreement import cohen_kappa, position_bias, weighted_kappa
from runner.results.judges_said import said_of_judges
from runner.results.judging import Judges, judges_of
from runner.results.pairs import pairings_of
from runner.storage.records import End
from tests.commands import Project, ask, here, questions
from tests.records import failure, result
from tests.serving import Served, chat_answer
from tests.statistics_adapter import alpha_of, counted
from tests.test_judges import judge, said

KIND = "auto_evaluation.guided_decoding"
GRADES = ["1", "2", "3", "4", "5"]


def end(index: int, alias: str, verdict: str | None, row: Mapping[str, Any] | None = None, **more: Any) -> End:
    common = {"task_type": KIND, "item": json.dumps(row or {}), "model": "judge"} | more
    if verdict is None:
        return failure(index, alias, **common | {"error_type": "no_verdict", "latency_s": 1.0})
    return result(index, alias, output=verdict, **common)


def judged(tasks: list[dict[str, Any]], items: Iterable[list[End]]) -> dict[str, Any]:
    document = {"tasks": tasks}
    judges = Judges(judges_of(document), pairings_of(document))
    for ends in items:
        judges.add_item(ends)
    report = judges.report()
    assert report is not None
    json.dumps(report, allow_nan=False)
    return report


def test_without_judges_there_is_nothing() -> None:
    assert Judges(judges_of({"tasks": [ask()]})).report() is None


def test_verdicts_are_counted_by_choice() -> None:
    ends = [end(0, "j", "Yes"), end(1, "j", "Yes"), end(2, "j", None), end(3, "j", "Yes")]
    ends += [failure(4, "j", task_type=KIND), result(5, "j", task_type=KIND, skipped=True, output=None, request=None)]
    found = judged([judge("j")], [[one] for one in ends])["by_task"]["j"]
    assert (found["n"], found["verdicts"], found["no_verdict"]) == (3, {"Yes": 3, "No": 0}, 1)
    assert (found["errors"], found["skipped"]) == (1, 1)
    assert "agreement" not in found
    assert found["own_model"] is None


def test_agreement_with_people_is_that_of_the_statistics() -> None:
    draw = random.Random(1)
    people = [draw.choice(GRADES) for _ in range(300)]
    verdicts = [grade if draw.random() < 0.6 else draw.choice(GRADES) for grade in people]
    # Columns hold numbers as often as texts; who says nothing, or what is no grade, is left out.
    shown: list[Any] = [one if index % 3 else (float(one) if index % 2 else int(one)) for index, one in enumerate(people)]
    items = [[end(n, "j", verdict, {"human": human})] for n, (verdict, human) in enumerate(zip(verdicts, shown, strict=True))]
    items += [[end(300, "j", "1", {"human": None})], [end(301, "j", "1", {})], [end(302, "j", "1", {"human": "seven"})]]
    items += [[end(303, "j", None, {"human": "1"})]]
    found = judged([judge("j", choices=GRADES) | {"agree_with": "item.human"}], items)["by_task"]["j"]["agreement"]
    kappa = cohen_kappa(counted(people, verdicts))
    assert (found["n"], found["unlabelled"], found["with"]) == (300, 3, "item.human")
    assert (found["share"], found["kappa"], found["stderr"]) == pytest.approx((kappa.agreement, kappa.kappa, kappa.stderr))
    assert kappa.kappa is not None
    assert kappa.stderr is not None
    assert found["ci95"] == pytest.approx([kappa.kappa - 1.959964 * kappa.stderr, kappa.kappa + 1.959964 * kappa.stderr])
    assert found["weighted"] == {
        "linear": pytest.approx(weighted_kappa(counted(people, verdicts), GRADES)),
        "quadratic": pytest.approx(weighted_kappa(counted(people, verdicts), GRADES, squared=True)),
    }
    assert {(one, other): n for one, row in found["confusion"].items() for other, n in row.items()} == Counter(
        zip(people, verdicts, strict=True)
    )


@pytest.mark.parametrize(
    ("human", "label"),
    [
        ("Yes", "Yes"),
        ("no.", "No"),
        (1, "Yes"),
        (0.0, "No"),
        (True, "Yes"),
        (2, None),
        ("perhaps", None),
        (["Yes", "No"], None),
    ],
)
def test_people_may_say_it_in_their_own_way(human: Any, label: str | None) -> None:
    tasks = [judge("j", scores={"Yes": 1, "No": 0}) | {"agree_with": "item.human"}]
    found = judged(tasks, [[end(0, "j", "Yes", {"human": human})]])["by_task"]["j"]["agreement"]
    assert found["confusion"] == ({} if label is None else {label: {"Yes": 1}})


def test_kappa_is_null_where_chance_has_no_room() -> None:
    tasks = [judge("j") | {"agree_with": "item.human"}]
    found = judged(tasks, [[end(n, "j", "Yes", {"human": "Yes"})] for n in range(5)])["by_task"]["j"]["agreement"]
    assert (found["share"], found["kappa"], found["ci95"], found["weighted"]) == (1.0, None, None, None)
    nothing = judged(tasks, [])["by_task"]["j"]["agreement"]
    assert (nothing["n"], nothing["share"], nothing["kappa"]) == (0, None, None)


@pytest.mark.parametrize("human", ["Yes", "No"])
def test_few_that_always_or_never_agree_prove_nothing(human: str) -> None:
    """The formula finds no error there; an interval of no width would say that it is certain."""
    tasks = [judge("j") | {"agree_with": "item.human"}]
    other = {"Yes": "No", "No": "Yes"}[human]
    items = [[end(0, "j", "Yes", {"human": human})], [end(1, "j", "No", {"human": other})]]
    found = judged(tasks, items)
    agreement = found["by_task"]["j"]["agreement"]
    assert (agreement["kappa"], agreement["stderr"], agreement["ci95"]) == (1 if human == "Yes" else -1, 0, None)
    assert any(words.endswith(f"Cohen's kappa {agreement['kappa']:.4f} (n = 2)") for _, words in said_of_judges(found))


def test_what_is_said_of_judges_leaves_out_no_failure() -> None:
    letters = [f"c{n}" for n in range(30)]
    found = judged([judge("j", choices=letters)], [[end(0, "j", "c1")], [end(1, "j", None)]])
    ((_, words),) = said_of_judges(found)
    assert words.startswith("c0 0 · c1 1 ·")
    assert words.endswith(" · c19 0 · 10 more in evaluation.json · no verdict 1")


def test_pairs_of_which_none_was_decided_agree_in_nothing() -> None:
    failed = [failure(0, f"b{which}", task_type=KIND if which else "metric", item="{}") for which in ("", ".ab", ".ba")]
    found = judged([pairwise() | {"alias": "b"}], [failed])
    assert ("b", "no pairs") in list(said_of_judges(found))


def test_judges_with_the_same_choices_are_compared() -> None:
    draw = random.Random(2)
    names = ["j1", "j2", "j3"]
    units = [[draw.choice(["Yes", "No", None]) for _ in names] for _ in range(200)]
    tasks = [*(judge(name) for name in names), judge("other", choices=GRADES)]
    items = [
        [*(end(n, name, one) for name, one in zip(names, unit, strict=True)), end(n, "other", "1")]
        for n, unit in enumerate(units)
    ]
    (panel,) = judged(tasks, items)["between"]
    assert panel["judges"] == names
    assert panel["alpha"] == pytest.approx(alpha_of(units))
    assert panel["n"] == sum(sum(one is not None for one in unit) > 1 for unit in units)
    for pair, (one, other) in zip(panel["pairs"], [(0, 1), (0, 2), (1, 2)], strict=True):
        both = [unit for unit in units if unit[one] is not None and unit[other] is not None]
        assert pair["judges"] == [names[one], names[other]]
        assert pair["n"] == len(both)
        assert pair["kappa"] == pytest.approx(cohen_kappa(Counter((unit[one], unit[other]) for unit in both)).kappa)


def test_what_has_no_verdict_is_told_by_the_length_of_what_was_judged() -> None:
    tasks = [ask("reply"), judge("j", prompt="{{item.reply}}")]
    items = []
    for n, length in enumerate([*range(100, 200), *range(1000, 1100), *range(5000, 5100)]):
        is_long = length >= 5000
        items.append([result(n, "reply", output="x" * length, model="m"), end(n, "j", None if is_long and n % 2 else "Yes")])
    random.Random(3).shuffle(items)
    found = judged(tasks, items)["by_task"]["j"]["no_verdict_by_length"]
    assert found["of"] == ["reply"]
    assert [(one["n"], one["no_verdict"], one["share"]) for one in found["thirds"]] == [
        (100, 0, 0.0),
        (100, 0, 0.0),
        (100, 50, 0.5),
    ]
    assert [one["longest"] for one in found["thirds"]] == pytest.approx([200, 1100, 5100], rel=0.03)


def test_a_judge_of_its_own_model_is_told() -> None:
    tasks = [ask("reply"), judge("j", prompt="{{item.reply}}")]
    items = [[result(n, "reply", model="judge" if n < 2 else "m"), end(n, "j", "Yes")] for n in range(5)]
    assert judged(tasks, items)["by_task"]["j"]["own_model"] == {"judged": 2, "model": "judge"}


def test_a_run_tells_what_its_judges_say(tmp_path: Path) -> None:
    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = body["messages"][-1]["content"]
        if body["model"] == "m" and "right" not in text:
            return web.json_response(chat_answer(f"re: {text}"))
        number = int(text.rpartition(" ")[2])
        return web.json_response(said("Yes" if number % 2 else "No" if number else "Perhaps"))

    rows = [{**row, "human": "Yes" if row["n"] % 2 or row["n"] == 2 else "No"} for row in questions(10)]
    zero = {"inference_args": {"temperature": 0}, "scores": {"Yes": 1, "No": 0}}
    prompt = "right? {{item.reply}}"
    tasks = [
        ask("reply"),
        judge("j1", model="m", prompt=prompt, **zero) | {"agree_with": "item.human"},
        judge("j2", prompt=prompt, **zero),
        judge("j3", prompt="right? {{item.reply}} {{ item.n + 1 }}", **zero),
        {
            "task_type": "metric",
            "alias": "vote",
            "configuration": {"type": "vote", "candidates": ["item.j1", "item.j2", "item.j3"]},
        },
        {
            "task_type": "metric",
            "alias": "mean",
            "configuration": {"type": "mean", "candidates": ["item.j1", "item.j2", "item.j3"]},
        },
    ]
    with Served(answer) as served:
        project = Project(tmp_path / "p", served.url, rows=rows, tasks=tasks, limits={"concurrency": 4, "fail_on_error": 1.0})
        done = project.run_here()
    assert done.returncode == 0, done.stderr
    judges = project.evaluation["totals"]["judges"]
    assert judges["by_task"]["j1"]["verdicts"] == {"Yes": 5, "No": 4}
    assert judges["by_task"]["j1"]["no_verdict"] == 1
    assert judges["by_task"]["j1"]["agreement"]["share"] == pytest.approx(8 / 9)
    assert judges["between"][0]["pairs"][0]["kappa"] == 1.0
    assert "j1         Yes 5 · No 4 · no verdict 1" in done.stdout
    assert "agrees with item.human: 0.8889, Cohen's kappa 0." in done.stdout
    assert "`j1` judges 10 answers of its own model, m: models tend to prefer" in done.stdout
    assert "`j2` judges" not in done.stdout
    assert "j1, j2, j3 agree: Krippendorff's alpha" in done.stdout
    values = {(row["task"], row["item_id"]): (row["output"], row["value"]) for row in project.results()}
    assert values["vote", "row-1"] == ("Yes", 1.0)
    assert values["vote", "row-2"] == ("No", 0.0)
    assert values["mean", "row-1"][1] == pytest.approx(2 / 3)
    assert ("vote", "row-0") not in values


def test_a_tie_of_a_panel_has_no_verdict(tmp_path: Path) -> None:
    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said(body["model"]))

    tasks = [
        judge("j1", model="Yes"),
        judge("j2", model="No"),
        {"task_type": "metric", "alias": "vote", "configuration": {"type": "vote", "candidates": ["item.j1", "item.j2"]}},
    ]
    with Served(answer) as served:
        project = Project(tmp_path / "p", served.url, rows=questions(1), tasks=tasks)
        project.run_here()
    (error,) = project.errors()
    assert (error["task"], error["error_type"]) == ("vote", "no_verdict")


# --- pairs ---


def pairwise(**settings: Any) -> dict[str, Any]:
    configuration = {"model": "judge", "a": "item.a", "b": "item.b", "prompt": "1: {{first}} 2: {{ second }}"} | settings
    return {"task_type": "auto_evaluation.pairwise", "alias": "better", "configuration": configuration}


async def compare(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Prefer the answer with the larger number; the first one where they are equal, and none where both are 0."""
    first, second = (int(part.split()[0]) for part in body["messages"][-1]["content"].removeprefix("1: ").split(" 2: "))
    verdict = "tie" if first == second == 0 else "first" if first >= second else "second"
    return web.json_response(said(verdict))


PAIRS = {"a": ("9 is long", "1"), "b": ("1", "9"), "tie": ("0", "0"), "inconsistent": ("5", "5")}


@pytest.mark.parametrize("swap", [True, False])
def test_a_pair_is_won_in_both_orders_or_not_at_all(tmp_path: Path, *, swap: bool) -> None:
    rows = [{"id": name, "a": a, "b": b} for name, (a, b) in PAIRS.items()]
    with Served(compare) as served:
        project = Project(tmp_path / "p", served.url, rows=rows, tasks=[pairwise(swap=swap)])
        done = project.run_here()
    assert done.returncode == 0, done.stderr
    assert len(served.seen) == (8 if swap else 4)
    rest = {"inconsistent": (0.5, "inconsistent") if swap else (1.0, "a")}
    found = {row["item_id"]: (row["value"], row["output"]) for row in project.results() if row["task"] == "better"}
    assert found == {"a": (1.0, "a"), "b": (0.0, "b"), "tie": (0.5, "tie")} | rest
    assert {row["task"] for row in project.results()} == {"better", "better.ab", *(["better.ba"] if swap else [])}
    totals = project.evaluation["totals"]
    assert totals["metrics"]["better"]["mean"] == (0.5 if swap else 0.625)
    figures = totals["judges"]["pairwise"]["better"]
    assert figures["longer"] == {"n": 1, "won": 1, "share": 1.0}
    if swap:
        assert figures["consistent"] == 0.75
        assert figures["first_place"]["won"] == figures["first_place"]["n"] == 1
        assert "inconsistent 1; the first position won 1 of the 1 inconsistent pairs (p = 1)" in done.stdout
    else:
        assert (figures["consistent"], figures["swap"]) == (None, False)
        assert "asked in one order only" in done.stdout


def test_the_place_that_wins_is_that_of_the_only_winner() -> None:
    draw = random.Random(4)
    items, first, inconsistent = [], 0, 0
    for n in range(500):
        ab, ba = (draw.choice(["first", "first", "second", "tie"]) for _ in range(2))
        who = {"first": "a", "second": "b", "tie": "tie"}[ab], {"first": "b", "second": "a", "tie": "tie"}[ba]
        outcome = who[0] if who[0] == who[1] else "inconsistent"
        inconsistent += outcome == "inconsistent"
        first += outcome == "inconsistent" and "first" in {ab, ba}
        items.append(
            [
                end(n, "better.ab", ab, {"a": "x", "b": "yy"}),
                end(n, "better.ba", ba),
                result(n, "better", task_type="metric", output=outcome, value=0.5, request=None),
            ]
        )
    found = judged([pairwise()], items)["pairwise"]["better"]
    share, interval, p = position_bias(first, inconsistent)
    assert interval is not None
    assert found["first_place"] == {"n": inconsistent, "won": first, "share": share, "ci95": list(interval), "p": p}
    assert found["consistent"] == pytest.approx(1 - inconsistent / 500)
    assert found["longer"]["won"] == found["outcomes"]["b"]


def test_an_order_without_a_verdict_leaves_the_pair_undecided(tmp_path: Path) -> None:
    async def half(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said("first" if "1: x" in body["messages"][-1]["content"] else "Perhaps"))

    with Served(half) as served:
        project = Project(tmp_path / "p", served.url, rows=[{"id": "r", "a": "x", "b": "y"}], tasks=[pairwise()])
        project.run_here()
    assert {row["task"]: row["error_type"] for row in project.errors()} == {"better.ba": "no_verdict", "better": "dependency"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "{{first}}"}, "lacks {{second}}"),
        ({"a": "old"}, "reads nothing"),
        ({"a": "item.nope"}, "`item.nope` is not a column of the dataset"),
        ({"choices": ["first"]}, "at least 2 items"),
        ({"prompt": "{{first}} {{second}} {{third}}"}, "there is no `third`"),
    ],
)
def test_a_mistake_in_a_pair_is_told(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    rows = [{"id": "r", "a": "x", "b": "y"}]
    done = Project(tmp_path / "p", "http://127.0.0.1:9/v1", rows=rows, tasks=[pairwise(**settings)]).run_here()
    assert done.returncode == 2
    assert message in done.stderr


def test_answers_of_tasks_are_compared_and_a_condition_skips_a_pair(tmp_path: Path) -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body["model"] == "judge":
            return await compare(request, body)
        return web.json_response(chat_answer(body["model"]))

    tasks = [
        ask("one", configuration={"model": "7"}),
        ask("two", configuration={"model": "3"}),
        pairwise(
            a="item.one",
            b="item.two",
            run_condition={"op": "ne", "left": {"op": "var", "path": "n"}, "right": {"op": "const", "value": 0}},
        ),
    ]
    with Served(answer) as served:
        project = Project(tmp_path / "p", served.url, rows=questions(3), tasks=tasks)
        done = project.run_here()
        project.run_here("--dry-run")
    assert done.returncode == 0, done.stderr
    found = [(row["output"], row["skipped"]) for row in project.results() if row["task"] == "better"]
    assert found == [(None, True), ("a", False), ("a", False)]
    assert "of which 3 skipped" in done.stdout


def test_answers_of_two_runs_are_compared(tmp_path: Path) -> None:
    """Each run has answered another way; items that only one has, or that failed in one, are left out."""

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = body["messages"][-1]["content"]
        if body["model"] == "judge":
            return await compare(_request, body)
        if body["model"] == "3" and "question 1" in text:
            return web.json_response({"error": {"message": "no"}}, status=400)
        return web.json_response(chat_answer(body["model"]))

    with Served(answer) as served:
        runs = {}
        for side, model, rows in (("a", "7", questions(4)), ("b", "3", list(reversed(questions(5))))):
            made = Project(
                tmp_path / side, served.url, name=side, rows=rows, tasks=[ask("reply", configuration={"model": model})]
            )
            made.run_here()
            runs[side] = str(made.run_dir)
        dataset = {"dataset": {"runs": runs, "task": "reply", "id": "id"}}
        project = Project(tmp_path / "p", served.url, tasks=[pairwise()], more=dataset)
        done = project.run_here()
        count = len(served.seen)
        again = project.run_here("--resume")
    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    assert len(served.seen) == count
    assert "2 of 5 items are left out" in done.stderr
    found = {row["item_id"]: (row["output"], json.loads(row["item"])) for row in project.results() if row["task"] == "better"}
    assert found == {
        f"row-{n}": ("a", {"id": f"row-{n}", "question": f"question {n}", "n": n, "a": "7", "b": "3"}) for n in (0, 2, 3)
    }


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"runs": {"a": "nowhere", "b": "nowhere"}, "task": "reply"}, "dataset.runs.a: nowhere"),
        ({"runs": {"a": "x"}, "task": "reply"}, "both `a` and `b`"),
        ({"runs": {"a": "x", "b": "y"}}, "the alias of the answers"),
        ({"path": "rows.jsonl", "task": "reply"}, "`task` works only with `runs`"),
    ],
)
def test_runs_that_are_not_there_are_told(tmp_path: Path, dataset: dict[str, Any], message: str) -> None:
    done = Project(tmp_path / "p", "http://127.0.0.1:9/v1", tasks=[pairwise()], more={"dataset": dataset}).run_here()
    assert done.returncode == 2
    assert message in done.stderr


def test_a_pair_of_which_one_order_is_answered_is_not_asked_in_other_words(tmp_path: Path) -> None:
    """Its metric has no value, but the answers that there are belong to the old words."""

    async def half(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(said("first" if "1: x" in body["messages"][-1]["content"] else "Perhaps"))

    with Served(half) as served:
        project = Project(tmp_path / "p", served.url, rows=[{"id": "r", "a": "x", "b": "y"}], tasks=[pairwise()])
        project.run_here()
        project.tasks = [pairwise(prompt="Compare! 1: {{first}} 2: {{second}}")]
        project.write()
        done = project.run_here("--resume", "--retry-errors")
    assert done.returncode == 2
    assert "tasks.0.configuration.prompt" in done.stderr


def test_runs_with_pairs_and_skipped_rows_are_compared(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "a": str(n), "b": "4"} for n in range(9)]
    condition = {"op": "lt", "left": {"op": "var", "path": "item.a"}, "right": {"op": "const", "value": "8"}}
    with Served(compare) as served:
        runs = []
        for name, rows_of in (("one", rows), ("two", rows)):
            tasks = [pairwise(run_condition=condition)]
            made = Project(tmp_path / name, served.url, name=name, rows=rows_of, tasks=tasks)
            assert made.run_here().returncode == 0
            runs.append(str(made.run_dir))
    done = here("compare", *runs, "--gate", "better >= 0", environment={})
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^better +0\.4375 +0\.4375 ", done.stdout, re.MULTILINE)
