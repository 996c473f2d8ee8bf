"""Rescoring: a run's answers judged once more. Nothing is sent, nothing of the run changes, and the scores are those of a run
that was asked anew and got the same answers.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner.evaluation import prepare
from runner.pipeline.rescoring import opened_rescoring
from runner.pipeline.resume import Asked, identity_of
from runner.storage.journal import segments_of
from runner.storage.ledger import Ledger
from runner.storage.records import Close, End, as_cached, tokens_of
from runner.storage.rundir import RunDir
from tests.commands import CORRECT, PATIENCE_S, Holding, Project, ask, asked, here, metric, questions
from tests.records import END, ends_in, failure, opening, result, write_segment
from tests.serving import Served, chat_answer

HAS_A_2 = metric("has_a_2", type="contains", reference="2")
OF_THE_ROW = metric("has_a_2", type="contains", candidate="item.question", reference="2")
JUDGE = ask("verdict", "Is {{item.answer}} right?")


def rescore(project: Project, *options: str, run: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Rescore the project's first run by its config, in this process."""
    source = project.runs[0] if run is None else run
    return here("rescore", str(source), str(project.config), *options, environment=project._environment())


def rows_of(run: Path, name: str = "results") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(run / f"{name}.parquet").to_pylist()
    return found


def values_of(run: Path) -> dict[tuple[Any, ...], Any]:
    """Return what metrics have said, by unit."""
    return {
        (row["task"], row["item_id"], row["item_index"], row["sample_index"]): (row["value"], row["output"])
        for row in rows_of(run)
        if row["task_type"] == "metric"
    }


def evaluation_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_bytes())
    return found


def content_of(run: Path) -> dict[str, str]:
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in run.rglob("*") if path.is_file()
    }


def judged_anew(project: Project, *tasks: Mapping[str, Any]) -> None:
    """Write the config with other tasks, and leave the dataset alone: a run may be reading it."""
    config = json.loads(project.config.read_text()) | {"tasks": tasks, "limits": project.limits} | dict(project.more)
    project.config.write_text(json.dumps(config))


def wrong(_request: web.Request, text: str) -> web.StreamResponse | None:
    """Refuse one question, and cut another answer off."""
    if text.endswith(" 3"):
        return web.json_response({"error": {"message": "not this one"}}, status=400)
    if text.endswith(" 4"):
        cut = chat_answer("question")
        cut["choices"][0]["finish_reason"] = "length"
        return web.json_response(cut)
    return None


async def odd(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    text = str(body["messages"][-1]["content"])
    return wrong(request, text) or web.json_response(chat_answer(text))


# --- the same scores ---


@pytest.mark.parametrize(
    ("samples", "dataset"),
    [(1, {}), (1, {"limit": 5}), (2, {"shuffle": 7}), (3, {"shuffle": 7, "limit": 5})],
)
def test_the_scores_are_those_of_a_run_that_is_asked_anew(tmp_path: Path, samples: int, dataset: Mapping[str, Any]) -> None:
    with Served(odd) as served:
        project = Project(tmp_path, served.url, tasks=[ask(samples=samples), HAS_A_2])
        project.dataset.write_text(f"{project.dataset.read_text()}no JSON\n")
        more = {"dataset": {"path": str(project.dataset), "id": "id"} | dict(dataset)}
        project.config.write_text(json.dumps(json.loads(project.config.read_text()) | more))
        assert project.run_here().returncode == 1
        before, seen = content_of(project.runs[0]), len(served.seen)
        config = json.loads(project.config.read_text())
        config["tasks"] = [HAS_A_2 | {"alias": "other"}, CORRECT, ask(samples=samples)]  # in another order, too
        config["analysis"] = {"by": ["item.n"]}
        project.config.write_text(json.dumps(config))
        found = rescore(project)
        assert found.returncode == 1, found.stderr
        assert len(served.seen) == seen
        assert project.run_here().returncode == 1
    old, rescored, fresh = project.runs
    assert content_of(old) == before
    assert values_of(rescored) == values_of(fresh)
    kept, anew = evaluation_of(rescored), evaluation_of(fresh)
    assert kept["rescored_from"] == str(old)
    assert "rescored_from" not in anew
    for name in ("metrics", "results", "errors", "truncated", "empty"):
        assert kept["totals"][name] == anew["totals"][name]
    assert kept["progress"]["items"]["total"] == anew["progress"]["items"]["total"]
    for one, other in zip(rows_of(rescored, "errors"), rows_of(fresh, "errors"), strict=True):
        assert [one[name] for name in ("item_id", "task", "error_type")] == [
            other[name] for name in ("item_id", "task", "error_type")
        ]


def test_nothing_counts_as_sent(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        project.run_here()
    judged_anew(project, ask(), CORRECT)
    found = rescore(project)
    assert found.returncode == 0, found.stderr
    old, new = project.runs
    answers = [row for row in rows_of(new) if row["task"] == "answer"]
    assert {(row["cached"], row["attempts"], row["latency_s"], row["ttft_s"]) for row in answers} == {(True, 0, None, None)}
    same = ("item_id", "output", "total_tokens", "response", "request", "completed_at", "endpoint", "finish_reason")
    for was, now in zip(rows_of(old), answers, strict=True):
        assert {name: now[name] for name in same} == {name: was[name] for name in same}
    assert not any(row["cached"] for row in rows_of(new) if row["task"] == "correct")
    totals = evaluation_of(new)["totals"]
    assert (totals["requests"], totals["attempts"], totals["cached"]) == (0, 0, 10)
    assert sum(totals["tokens"].values()) == 0
    assert "10 answers reused, nothing sent for them" in found.stdout
    assert f"rescored   {old}" in found.stdout
    with closing(Ledger.read(new / "journal")) as ledger:
        assert ledger.tokens == 0


@given(END)
def test_what_is_taken_says_the_same_and_has_cost_nothing(end: End) -> None:
    taken = as_cached(end)
    assert tokens_of(taken) == 0
    assert as_cached(taken) == taken
    assert taken.cost in {None, 0.0}
    spent = {
        "cost",
        "cached",
        "attempts",
        "used_tokens",
        "ran_us",
        "latency_s",
        "ttft_s",
        "queue_s",
        "held_s",
        "backoff_s",
        "wire_s",
    }
    for name in set(End.__struct_fields__) - spent:
        assert getattr(taken, name) == getattr(end, name)


@pytest.mark.long
def test_other_commands_work_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        project.run_here()
    judged_anew(project, ask(), CORRECT)
    assert rescore(project).returncode == 0
    old, new = project.runs
    again = project.run_here("--resume")
    assert again.returncode == 0
    assert "is finished: nothing is sent" in again.stderr
    values = values_of(new)
    (new / "results.parquet").unlink()
    assert here("export", str(new), environment={}).returncode == 0
    assert evaluation_of(new)["rescored_from"] == str(old)
    assert values_of(new) == values
    (new / "results.parquet").unlink()
    assert project.run_here("--resume", str(new)).returncode == 0
    assert values_of(new) == values
    assert list(runner.load(new).wide["correct"]) == [1.0] * 10
    assert here("compare", str(old), str(new), environment={}).returncode == 0
    project.dataset.unlink()  # the rows are the run's own
    monkeypatch.chdir(tmp_path)
    judged_anew(project, ask(), HAS_A_2)
    assert here("rescore", "trial~0", str(project.config), environment={}).returncode == 0
    _, _, third = project.runs
    assert evaluation_of(third)["rescored_from"] == str(new)
    assert sum(row["cached"] for row in rows_of(third)) == 10


def test_without_asking_no_key_and_no_recordings_are_needed(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        project.run_here()
    for endpoint in ({"base_url": "http://127.0.0.1:9/v1", "api_key_env": "NO_SUCH_KEY"}, {"replay": str(tmp_path / "gone")}):
        project.more = {"endpoint": endpoint}
        judged_anew(project, ask(), CORRECT)
        assert rescore(project).returncode == 0
        assert rescore(project, "--ask").returncode == 2


def test_from_python(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        project.run_here()
        judged_anew(project, ask(), CORRECT)
        config = json.loads(project.config.read_text())
        first = runner.rescore(project.runs[0], config, progress=False)
        second = runner.rescore(first, config, overrides=["name=other"], progress=False)
        with pytest.raises(runner.UsageError, match=r"the run has no task"):
            runner.rescore(second, config | {"tasks": [ask(), JUDGE]}, progress=False)
        asked_for = runner.rescore(second, config | {"tasks": [ask(), JUDGE]}, ask=True, progress=False)
    assert [run.status for run in (first, second, asked_for)] == ["completed"] * 3
    assert list(second.wide["correct"]) == [1.0] * 10
    assert len(served.seen) == 20


# --- what is refused ---


@pytest.mark.parametrize(
    ("tasks", "options", "said"),
    [
        ([ask(configuration={"model": "other"}), CORRECT], [], "tasks.0.configuration.model: was 'm', is 'other'"),
        ([CORRECT, ask(content="{{item.n}}")], [], "tasks.1.configuration.messages.0.content: was"),
        ([ask(samples=2), CORRECT], [], "tasks.0.samples: was 1, is 2"),
        ([ask(stream=True)], [], "tasks.0.stream: was not there, is True"),
        ([ask(), JUDGE], [], "tasks.1: the run has no task `verdict`; it has: answer, correct"),
        ([ask("other"), OF_THE_ROW | {"alias": "answer"}], [], "tasks.0: the run has no task `other`"),
        ([ask(content="{{item.n}}"), CORRECT], ["--ask"], "can be taken:"),
        ([OF_THE_ROW], [], "can be taken:"),
        ([ask(), CORRECT, HAS_A_2 | {"configuration": {"type": "nothing"}}], [], "tasks.2.configuration"),
        ([ask()], ["--fresh-rows"], "has none of the rows of the dataset"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    tmp_path: Path, tasks: Sequence[Mapping[str, Any]], options: Sequence[str], said: str
) -> None:
    run = _a_run(tmp_path, 3, tasks=[ask(), CORRECT])
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=tasks)
    if "--fresh-rows" in options:
        project.rows = [{"id": f"other-{n}", "question": "?"} for n in range(3)]
        project.write()
    found = rescore(project, *options, run=run)
    assert found.returncode == 2, found.stdout
    assert said in found.stderr
    assert not (tmp_path / "results").exists()


def test_a_judge_of_another_metric_is_another_judge(tmp_path: Path) -> None:
    judge = ask("verdict", "Is {{item.correct}} fair?")
    run = _a_run(tmp_path, 3, tasks=[ask(), CORRECT, judge])
    other = CORRECT | {"configuration": CORRECT["configuration"] | {"ignore_case": True}}
    found = rescore(Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(), other, judge]), run=run)
    assert found.returncode == 2
    assert "tasks.2: `verdict` reads `correct`, which has changed" in found.stderr


def test_of_a_run_without_results_nothing_is_taken(tmp_path: Path) -> None:
    run = _a_run(tmp_path, 0)
    found = rescore(Project(tmp_path, "http://127.0.0.1:9/v1"), run=run)
    assert found.returncode == 2
    assert "has no result yet" in found.stderr


def _a_run(
    directory: Path, rows: int, *, tasks: Sequence[Mapping[str, Any]] = (ask(),), finished: bool = True, **more: Any
) -> Path:
    """Write the journal of a run of so many rows, as its own config would have it."""
    there = directory / "there"
    config = {"name": "there", "endpoint": {"base_url": "http://127.0.0.1:9/v1"}, "data": questions(1), "tasks": list(tasks)}
    there.mkdir(parents=True)
    (there / "config.yaml").write_text(json.dumps(config))
    evaluation = prepare(config)
    plan = [(task.name, 1) for task in evaluation.config.tasks]
    ends = [
        result(index, task, item=json.dumps(row), output=row["question"], task_type="metric" if task == "correct" else "chat")
        for index, row in enumerate(questions(rows))
        for task, _ in plan
    ]
    lines = [opening(plan, identity=identity_of(evaluation.config), name="there", **more), *ends]
    write_segment(there / "journal", [*lines, *([Close(at=1, reason=None)] if finished else [])])
    return there


# --- asking ---


def test_a_new_judge_is_asked_and_nobody_else(tmp_path: Path) -> None:
    with Served(odd) as served:
        project = Project(tmp_path, served.url)
        project.run_here()
        served.seen.clear()
        # What the answers have used counts for nothing: with it the first verdict would be the last.
        project.limits = {"concurrency": 1, "max_tokens": 47}
        judged_anew(project, ask(), JUDGE, CORRECT)
        found = rescore(project, "--ask")
    assert found.returncode == 1, found.stderr
    answers = [f"question {n}" for n in range(10) if n not in {3, 4}]
    assert asked(served.seen) == {f"Is {answer} right?": 1 for answer in [*answers, "question"]}
    totals = evaluation_of(project.runs[1])["totals"]
    assert (totals["requests"], totals["cached"], totals["errors"]) == (9, 9, {"dependency": 2, "request": 1})
    assert totals["tokens"]["prompt_tokens"] == 27
    assert "9 answered in 9 attempts · 9 answers reused" in found.stdout


@pytest.mark.long
def test_a_judge_that_is_another_is_asked_anew(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url, tasks=[ask(), JUDGE], rows=questions(3))
        project.run_here()
        served.seen.clear()
        judged_anew(project, ask(), ask("verdict", "Is {{item.answer}} wrong?"))
        assert rescore(project).returncode == 2
        assert rescore(project, "--ask").returncode == 0
    assert asked(served.seen) == {f"Is question {n} wrong?": 1 for n in range(3)}


def verdict_on(number: int, **more: Any) -> dict[str, Any]:
    """Return a judge that says Yes to numbers from this one on, as `decided` does."""
    configuration = {
        "model": "m",
        "prompt": f"{number} {{{{item.n}}}}",
        "choices": ["Yes", "No"],
        "scores": {"Yes": 1, "No": 0},
    }
    return {"task_type": "auto_evaluation.guided_decoding", "alias": "verdict", "configuration": configuration} | more


async def decided(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Say whether the second number is as large as the first; of 4 nobody knows, and of two answers the first is better."""
    words = str(body["messages"][-1]["content"]).split()
    text = (
        "first" if words[0] == "better" else "perhaps" if words[1] == "4" else "Yes" if int(words[1]) >= int(words[0]) else "No"
    )
    return web.json_response(chat_answer(text))


def test_verdicts_skipped_tasks_and_pairs_are_taken_as_they_are(tmp_path: Path) -> None:
    condition = {"op": "ne", "left": {"op": "var", "path": "item.n"}, "right": {"op": "const", "value": 2}}
    pair = {
        "task_type": "auto_evaluation.pairwise",
        "alias": "better",
        "configuration": {"model": "m", "a": "item.n", "b": "item.id", "prompt": "better {{first}} {{second}}"},
    }
    counted = {"task_type": "metric", "alias": "counted", "configuration": {"type": "mean", "candidates": ["item.verdict"]}}
    with Served(decided) as served:
        project = Project(
            tmp_path, served.url, rows=questions(6), tasks=[verdict_on(3, run_condition=condition), pair, counted]
        )
        project.run_here()
        served.seen.clear()
        judged_anew(project, verdict_on(3, run_condition=condition), pair, counted | {"alias": "again"})
        done = rescore(project)
        assert done.returncode == 1, done.stderr  # the verdict that could not be read is an error still
        judged_anew(project, verdict_on(2, run_condition=condition), pair, counted)
        refused = rescore(project)
    assert served.seen == []
    assert "tasks.0.configuration.prompt" in refused.stderr
    first, again = project.runs
    old = {(row["task"].replace("counted", "again"), row["item_id"]): row["value"] for row in rows_of(first)}
    new = {(row["task"], row["item_id"]): row["value"] for row in rows_of(again)}
    assert new == old
    skipped = {(row["task"], row["item_id"]) for row in rows_of(again) if row["skipped"]}
    assert skipped == {("verdict", "row-2"), ("again", "row-2")}
    assert [row["error_type"] for row in rows_of(again, "errors")] == ["no_verdict", "dependency"]
    totals = [evaluation_of(run)["totals"]["judges"] for run in (first, again)]
    assert totals[0]["by_task"]["verdict"]["verdicts"] == totals[1]["by_task"]["verdict"]["verdicts"]
    assert totals[0]["pairwise"] == totals[1]["pairwise"]


def test_with_ask_rows_need_their_bytes(tmp_path: Path) -> None:
    run = _a_run(tmp_path, 2, tasks=[ask()])
    line = result(2, item=json.dumps({"id": "x", "picture": f"<12 bytes, sha256 {'a' * 16}>"}))
    write_segment(run / "journal", [opening(identity=_identity(run), name="there"), line, Close(at=1, reason=None)])
    found = rescore(Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(), JUDGE]), "--ask", run=run)
    assert found.returncode == 2
    assert "`picture` holds bytes" in found.stderr


def _identity(run: Path) -> dict[str, str]:
    return identity_of(prepare(run / "config.yaml").config)


# --- fresh rows ---


def test_references_are_corrected_and_rows_that_differ_are_named(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url, rows=[row | {"right": "?"} for row in questions(6)])
        project.run_here()
        served.seen.clear()
        rows = [row | {"right": row["question"]} for row in questions(8)]
        rows[2]["question"] = "another question"
        del rows[4]
        project.rows = rows[::-1]
        project.write()
        by_right = CORRECT | {"configuration": {"type": "exact_match", "candidate": "item.answer", "reference": "item.right"}}
        judged_anew(project, ask(), by_right)
        found = rescore(project, "--fresh-rows")
        assert found.returncode == 3, found.stderr
        assert not served.seen
        old, new = project.runs
        assert f"{old} does not have 2 rows (row-7, row-6) of the dataset" in found.stderr
        assert f"{old} has asked 1 rows (row-2) with other values (`question`); those answers are not taken" in found.stderr
        assert f"the dataset does not have 1 rows (row-4) of {old}; they are left out" in found.stderr
        assert "3 results are missing, and nothing is asked; `rescore` with --ask asks for them" in found.stdout
        scores = {row["item_id"]: (row["item_index"], row["value"]) for row in rows_of(new) if row["task"] == "correct"}
        assert scores == {"row-5": (2, 1.0), "row-3": (3, 1.0), "row-1": (5, 1.0), "row-0": (6, 1.0)}
        assert json.loads(rows_of(new)[0]["item"])["right"] == "question 5"
        found = rescore(project, "--fresh-rows", "--ask")
    assert found.returncode == 0, found.stderr
    assert asked(served.seen) == {"question 7": 1, "question 6": 1, "another question": 1}


def test_a_verdict_on_a_reference_that_changed_is_not_taken(tmp_path: Path) -> None:
    judge = ask("verdict", "Is {{item.answer}} the same as {{item.right}}?")
    second = ask("second", "Is it {{item.verdict}}?")
    with Served() as served:
        project = Project(
            tmp_path, served.url, rows=[row | {"right": "?"} for row in questions(3)], tasks=[ask(), judge, second]
        )
        project.run_here()
        served.seen.clear()
        project.rows = [*project.rows[:2], dict(project.rows[2]) | {"right": "!"}]
        project.write()
        found = rescore(project, "--fresh-rows", "--ask")
    assert found.returncode == 0, found.stderr
    verdict = "Is question 2 the same as !?"
    assert asked(served.seen) == {verdict: 1, f"Is it {verdict}?": 1}


def test_where_the_rows_were_corrected_again_another_run_begins(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url, rows=questions(3))
        project.run_here()
    project.rows = [{"id": "row-0", "question": "another question"}, *questions(3)[1:]]
    project.write()
    assert rescore(project, "--fresh-rows").returncode == 3
    project.rows = questions(3)
    project.write()
    found = rescore(project, "--fresh-rows")
    assert found.returncode == 0, found.stderr
    assert [evaluation_of(run)["status"] for run in project.runs] == ["completed", "failed", "completed"]


def test_a_limit_says_nothing_of_the_rows_of_a_run(tmp_path: Path) -> None:
    run = _a_run(tmp_path, 4)
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(), CORRECT])
    assert rescore(project, "--set", "dataset.limit=3", run=run).returncode == 0
    assert len(values_of(project.run_dir)) == 4
    assert project.run_here("--resume", "--limit", "2").returncode == 0


ROW_CHANGE = st.sampled_from(["same", "right", "question", "gone"])


@pytest.mark.long
@given(st.lists(ROW_CHANGE, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_answers_are_taken_where_what_was_asked_is_the_same(changes: list[str], draw: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = _a_run(Path(directory), len(changes))
        rows = [
            row | ({change: "another"} if change in {"question", "right"} else {})
            for row, change in zip(questions(len(changes)), changes, strict=True)
            if change != "gone"
        ]
        draw.shuffle(rows)
        config = json.loads((run / "config.yaml").read_text()) | {"data": [*rows, {"id": "new", "question": "?"}]}
        config["dataset"] = {"data": config.pop("data"), "id": "id"}
        with opened_rescoring(RunDir(run), asks=False, fresh_rows=True) as rescoring:
            evaluation = prepare(config, rescoring=rescoring)
            now = Asked(
                config=evaluation.config, file=evaluation.file, dataset=evaluation.dataset, redactor=evaluation.redactor
            )
            found = list(rescoring.results(now, frozenset(["answer"])))
    indexes = {row["id"]: index for index, row in enumerate(rows)}
    expected = {f"row-{n}": indexes[f"row-{n}"] for n, change in enumerate(changes) if change in {"same", "right"}}
    assert {end.item_id: end.item_index for end in found} == expected
    assert all(json.loads(end.item) == rows[end.item_index] for end in found)


# --- runs that go on, were killed, or are damaged ---


@pytest.mark.long
def test_of_a_run_that_goes_on_what_it_has_is_taken_and_later_the_rest(tmp_path: Path) -> None:
    holding = Holding(at_once=4)
    with holding.served() as served:
        project = Project(tmp_path, served.url, limits={"concurrency": 1})
        answered = CORRECT | {"configuration": {"type": "contains", "candidate": "item.answer", "reference": "item.question"}}
        with project.started() as process:
            holding.wait_for(1)
            judged_anew(project, ask(), answered)
            found = rescore(project)
            holding.release()
            process.communicate(timeout=PATIENCE_S)
        assert found.returncode == 3, found.stderr
        assert "has not finished: rows that it has not asked yet are missing here" in found.stdout
        source, new = project.runs
        assert len(values_of(new)) == 4
        assert evaluation_of(new)["status"] == "failed"
        seen = len(served.seen)
        again = rescore(project)
        assert again.returncode == 0, again.stdout + again.stderr
        assert "complete   every unit exactly once: 20 + 0 = 20" in again.stdout
        assert project.runs == [source, new]
        assert len(served.seen) == seen == 10
        assert len(values_of(new)) == 10
        assert rescore(project).returncode == 0
    assert len(project.runs) == 3  # it was finished, so that another begins


def test_a_run_that_has_lost_results_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        project.run_here()
    (segment,) = segments_of(project.runs[0] / "journal")
    segment.write_bytes(segment.read_bytes().replace(b'"output":"question 4"', b'"output":"question 5"'))
    judged_anew(project, ask(), CORRECT)
    found = rescore(project)
    assert found.returncode == 3
    assert "has lost 1 of its results, because its journal is damaged" in found.stdout
    assert len(values_of(project.runs[1])) == 9


@pytest.mark.long
def test_what_the_run_has_not_asked_stays_pending(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url, tasks=[ask(), JUDGE], rows=questions(3))
        project.run_here()
        served.seen.clear()
        (segment,) = segments_of(project.runs[0] / "journal")
        lines = segment.read_bytes().splitlines(keepends=True)
        (verdict,) = [line for line in lines if b'"kind":"end"' in line and b"Is question 1 right?" in line]
        segment.write_bytes(b"".join(line for line in lines if line != verdict and b'"kind":"close"' not in line))
        judged_anew(project, ask(), JUDGE, CORRECT)
        found = rescore(project)
        assert found.returncode == 3, found.stderr
        assert "1 results are missing, and nothing is asked" in found.stdout
        assert len(values_of(project.runs[1])) == 3
        assert not served.seen
        found = rescore(project, "--ask")
        assert asked(served.seen) == {"Is question 1 right?": 1}
    assert found.returncode == 3  # nobody knows whether it had more rows
    assert "complete" not in found.stdout


def test_errors_stay_errors(tmp_path: Path) -> None:
    run = _a_run(tmp_path, 3, tasks=[ask(samples=1)])
    write_segment(
        run / "journal",
        [opening(identity=_identity(run), name="there"), failure(7, item="{}"), Close(at=1, reason=None)],
    )
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(samples=1), CORRECT])
    found = rescore(project, run=run)
    assert found.returncode == 1, found.stdout + found.stderr
    errors = rows_of(project.run_dir, "errors")
    assert [(row["item_id"], row["task"], row["error_type"]) for row in errors] == [
        ("row-7", "answer", "server"),
        ("row-7", "correct", "dependency"),
    ]


@pytest.mark.long
@pytest.mark.parametrize("segment", [1, 2])
@pytest.mark.parametrize("command", ["the same", "--resume"])
def test_one_that_was_killed_goes_on(tmp_path: Path, segment: int, command: str) -> None:
    rows = 3000
    run = _a_run(tmp_path, rows)
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(), CORRECT])
    words = [*project.arguments()[:3], "rescore", str(run), str(project.config)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(project, segment)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    (killed,) = project.runs
    kept = {(end.task, end.item_id) for end in ends_in(killed / "journal")}
    assert 0 < len(kept) < 2 * rows
    if segment == 2:  # all is taken, so that the run is not needed any more
        closed = killed / "journal" / "000001.jsonl"
        assert b'"kind":"close"' in closed.read_bytes()[-200:]
        if command == "--resume":
            run.rename(tmp_path / "elsewhere")
    found = rescore(project, run=run) if command == "the same" else project.run_here("--resume")
    assert found.returncode == 0, found.stderr
    assert project.runs == [killed]
    assert len(ends_in(killed / "journal")) == 2 * rows
    assert [row["item_id"] for row in rows_of(killed) if row["task"] == "correct"] == [f"row-{n}" for n in range(rows)]


def _wait_for(project: Project, segment: int) -> None:
    """Wait until a segment of the only run holds some lines."""
    pattern = f"results/trial/*/journal/{segment:06}.jsonl"
    until = time.monotonic() + PATIENCE_S
    while not any(path.stat().st_size > 5000 for path in project.directory.glob(pattern)):
        assert time.monotonic() < until
        time.sleep(0.001)


def test_one_that_was_killed_needs_the_run_until_all_is_taken(tmp_path: Path) -> None:
    run = _a_run(tmp_path, 3, finished=False)
    project = Project(tmp_path, "http://127.0.0.1:9/v1", tasks=[ask(), CORRECT])
    assert rescore(project, run=run).returncode == 3
    run.rename(tmp_path / "elsewhere")
    found = project.run_here("--resume")
    assert found.returncode == 2
    assert f"{run}: is gone, and not all of its answers were taken yet; put it back" in found.stderr
