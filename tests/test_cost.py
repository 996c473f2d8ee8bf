"""What a run costs: in its files, its lines and its limit, by real sockets."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.errors import RunStopped
from runner.evaluation import prepare
from runner.pipeline.attempts import journal_attempts
from runner.pipeline.budget import Budget
from runner.prices import dollars
from runner.results.costs import Costs, said_of_cost
from runner.results.progress import Progress
from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.records import Close, Control, End
from runner.types import Attempt, Request, Response, Unit
from tests.commands import Project, ask, here, questions
from tests.records import failure, opening, result, short_stretches, write_segment
from tests.serving import Served, chat_answer, in_chunks

#: A question and its answer cost 3 * 100 + 2 * 200 millionths.
PRICES: dict[str, Any] = {"m": {"input": 100, "output": 200}}
EACH = 0.0007


def project(tmp_path: Path, served: Served, *, prices: Any = PRICES, rows: int = 10, **more: Any) -> Project:
    return Project(tmp_path / "p", served.url, rows=questions(rows), more={"prices": prices}, **more)


def cost_line(text: str) -> str:
    (line,) = (line for line in text.splitlines() if line.startswith("  cost "))
    return " ".join(line.split()[1:])


# --- the files ---


async def as_asked(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer with a stream, vectors or a text, and sometimes without usage, or by another name."""
    if request.path.endswith("embeddings"):
        vectors = [{"index": 0, "embedding": [0.5]}]
        return web.json_response({"data": vectors, "model": "e", "usage": {"prompt_tokens": 4, "total_tokens": 4}})
    if request.path.endswith("/completions") and "prompt" in body:
        usage = {"prompt_tokens": 6, "completion_tokens": 1, "total_tokens": 7}
        return web.json_response({"model": "m", "choices": [{"text": "t", "finish_reason": "stop"}], "usage": usage})
    number = int(str(body["messages"][-1]["content"]).split()[-1])
    if number == 5:
        return web.json_response({"error": {"message": "no"}}, status=400)
    cached = {"prompt_tokens_details": {"cached_tokens": 30}} if number == 1 else {}
    counted: dict[str, Any] = {"prompt_tokens": 100 + number, "completion_tokens": 10, "total_tokens": 110 + number} | cached
    answer = chat_answer("ok", model="m-2024" if number == 2 else body["model"], usage=None if number == 3 else counted)
    if not body.get("stream"):
        return web.json_response(answer)
    piece = {"model": answer["model"], "choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}
    return await in_chunks(request, piece, {"model": answer["model"], "choices": [], "usage": answer["usage"]})


MANY = {
    "m": {"input": 100, "cached_input": 50, "output": 200},
    "m-2*": {"input": 10, "output": 20},
    "e*": {"input": 1000},
}


def test_the_sum_of_the_column_is_the_total(tmp_path: Path) -> None:
    tasks = [
        ask(),
        ask("streamed", stream=True),
        ask("unlisted", configuration={"model": "u"}),
        {"task_type": "completion", "alias": "old", "configuration": {"model": "m", "prompt": "{{item.question}}"}},
        {"task_type": "embedding", "alias": "vector", "configuration": {"model": "e", "input": "{{item.question}}"}},
        {"task_type": "metric", "configuration": {"type": "exact_match", "candidate": "item.answer", "reference": "ok"}},
    ]
    with Served(as_asked) as served:
        made = project(tmp_path, served, prices=MANY, tasks=tasks)
        ran = made.run_here()
    assert ran.returncode == 1
    costs = {(row["task"], row["item_index"]): row["cost"] for row in made.results()}
    for alias in ("answer", "streamed"):
        expected = [(100 + number) * 1e-4 + 10 * 2e-4 for number in range(10)]
        expected[1] -= 30 * 0.5e-4
        expected[2] = 102 * 1e-5 + 10 * 2e-5
        found = [costs.get((alias, number)) for number in range(10)]
        assert found == pytest.approx([None if number in {3, 5} else one for number, one in enumerate(expected)])
    unlisted = {number: costs.get(("unlisted", number)) for number in range(10)}
    assert unlisted == dict.fromkeys(range(10)) | {2: pytest.approx(102 * 1e-5 + 10 * 2e-5)}
    assert [costs["old", number] for number in range(10)] == pytest.approx([0.0008] * 10)
    assert [costs["vector", number] for number in range(10)] == pytest.approx([0.004] * 10)
    assert {cost for (task, _), cost in costs.items() if task == "exact_match"} == {None}
    totals = made.evaluation["totals"]["cost"]
    assert totals["total"] == pytest.approx(sum(cost or 0 for cost in costs.values()), rel=1e-12)
    assert totals["total"] == pytest.approx(sum(totals["by_task"].values()), rel=1e-12)
    assert list(totals["by_task"]) == ["answer", "streamed", "unlisted", "old", "vector"]
    assert (totals["answers"], totals["unpriced"]) == (47, 2 + 8)
    assert totals["unanswered_attempts"] >= 3
    assert made.evaluation["prices_used"] == {
        "models": {
            "m": {"input": 100, "cached_input": 50, "output": 200},
            "m-2*": {"input": 10, "output": 20},
            "e*": {"input": 1000},
        }
    }
    assert cost_line(ran.stdout).startswith(f"${totals['total']:.4f} of 47 answers, 10 of them unpriced")


def test_without_prices_there_is_no_cost(tmp_path: Path) -> None:
    with Served() as served:
        made = Project(tmp_path / "p", served.url)
        ran = made.run_here()
    assert {row["cost"] for row in made.results()} == {None}
    assert made.evaluation["totals"]["cost"] is None
    assert "prices_used" not in made.evaluation
    assert "  cost " not in ran.stdout


def test_an_unknown_model_costs_null_and_it_is_said(tmp_path: Path) -> None:
    with Served() as served:
        made = project(tmp_path, served, prices={"other": {"input": 1, "output": 1}})
        ran = made.run_here()
    assert {row["cost"] for row in made.results()} == {None}
    totals = made.evaluation["totals"]["cost"]
    assert (totals["total"], totals["by_task"], totals["unpriced"]) == (None, {"answer": None}, 10)
    assert cost_line(ran.stdout) == "not known: none of 10 answers has a price"
    assert "`prices` has no price for m: the cost of `answer` is not known" in ran.stderr


def test_an_export_keeps_what_was_said_of_the_cost(tmp_path: Path) -> None:
    with Served() as served:
        made = project(tmp_path, served)
        made.run_here("--limit", "4")
        before = made.evaluation
        made.delete_views()
        assert here("export", str(made.run_dir), environment={}).returncode == 0
        again = made.run_here("--limit", "4", "--resume")
    assert made.evaluation["totals"]["cost"] == before["totals"]["cost"]
    assert made.evaluation["prices_used"] == before["prices_used"] == {"models": PRICES}
    assert "about $0.0070 for all 10 items" in again.stdout


def test_prices_may_change_on_a_resume_and_what_was_paid_stays(tmp_path: Path) -> None:
    with Served() as served:
        made = project(tmp_path, served)
        made.run_here("--limit", "4")
        made.more = {"prices": {"*": {"input": 0, "output": 1000}}}
        made.write()
        assert made.run_here("--resume").returncode == 0
    assert [row["cost"] for row in made.results()] == pytest.approx([EACH] * 4 + [0.002] * 6)
    assert made.evaluation["prices_used"] == {"models": {**PRICES, "*": {"input": 0, "output": 1000}}}


# --- auto ---


async def by_its_date(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(chat_answer(model=f"{body['model']}-2024-07-18"))


def test_auto_takes_the_librarys_prices(tmp_path: Path) -> None:
    from genai_prices import Usage, __version__, calc_price

    with Served(by_its_date) as served:
        made = project(tmp_path, served, prices="auto", tasks=[ask(configuration={"model": "gpt-4o-mini"})])
        assert made.run_here().returncode == 0
    each = float(calc_price(Usage(input_tokens=3, output_tokens=2), "gpt-4o-mini").total_price)
    assert [row["cost"] for row in made.results()] == pytest.approx([each] * 10)
    used = made.evaluation["prices_used"]
    assert used["genai_prices"] == __version__
    assert list(used["models"]) == ["openai/gpt-4o-mini"]
    assert used["models"]["openai/gpt-4o-mini"].keys() == {"input", "cached_input", "output"}


def test_auto_without_the_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with Served() as served:
        ran = project(tmp_path, served, prices={"m": {"input": 1, "output": 1}, "*": "auto"}).run_here()
        assert served.seen == []
    assert ran.returncode == 2
    assert "prices: `auto` needs the library genai-prices: pip install 'batch-eval-runner[prices]'" in ran.stderr


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ("automatic", "prices: should be `auto`, or a mapping of models to prices, got 'automatic'"),
        ({"m": "free"}, "prices.m: should be 'auto', got 'free'"),
        ({"m": 3}, "prices.m: should be a mapping of keys, got 3"),
        ({"m": {"output": 3}}, "prices.m.input: is missing"),
        ({"m": {"input": -1}}, "prices.m.input: should be greater than or equal to 0, got -1"),
        ({"m": {"input": 1, "ouput": 2}}, "prices.m.ouput: unknown key; did you mean `output`?"),
        ({"m": {"input": 1, "batch": 50}}, "prices.m.batch: should be less than or equal to 1, got 50"),
    ],
)
def test_prices_that_are_none_are_refused(tmp_path: Path, prices: Any, said: str) -> None:
    with Served() as served:
        ran = project(tmp_path, served, prices=prices).run_here()
        assert served.seen == []
    assert ran.returncode == 2
    assert said in ran.stderr


# --- limits.max_cost ---


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "limits.max_cost: needs the prices of the models: set `prices`"),
        ({"prices": {}}, "limits.max_cost: needs the prices of the models: set `prices`"),
        (
            {"prices": {"n": {"input": 1}}},
            "limits.max_cost: cannot be enforced, because `prices` has no price for any model that is asked: m",
        ),
        (
            {"prices": "auto"},
            "limits.max_cost: cannot be enforced, because `prices` has no price for any model that is asked: m",
        ),
    ],
)
def test_a_limit_that_cannot_be_held_is_refused(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with Served() as served:
        ran = Project(tmp_path / "p", served.url, limits={"max_cost": 1}, more=more).run_here()
        assert served.seen == []
    assert ran.returncode == 2
    assert said in ran.stderr


def test_max_cost_stops_a_run_and_a_resume_counts_what_was_spent(tmp_path: Path) -> None:
    with Served() as served:
        limits = {"concurrency": 4, "max_cost": 0.01}
        made = project(tmp_path, served, rows=100, limits=limits)
        first = made.run_here()
        asked = len(served.seen)
        assert first.returncode == 3
        assert "are spent of $0.01; raise limits.max_cost to go on" in first.stdout
        # Fifteen answers spend it, and no more than three are in flight when the last of these comes.
        assert 15 <= asked <= 18
        assert made.evaluation["totals"]["cost"]["total"] == pytest.approx(asked * EACH)
        again = made.run_here("--resume")
        assert (again.returncode, len(served.seen)) == (3, asked)
        made.limits = {"concurrency": 4, "max_cost": 0.03}
        made.write()
        assert made.run_here("--resume").returncode == 3
        assert 43 <= len(served.seen) <= 46
        made.limits = {"concurrency": 4, "max_cost": 0.08}
        made.write()
        assert made.run_here("--resume").returncode == 0
    assert len(served.seen) == 100
    assert made.evaluation["totals"]["cost"]["total"] == pytest.approx(100 * EACH)


async def without_usage(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(chat_answer(usage=None))


def test_that_an_answer_does_not_count_is_said_once(tmp_path: Path) -> None:
    with Served(without_usage) as served:
        ran = project(tmp_path, served, limits={"max_cost": 1}).run_here()
    assert ran.returncode == 0
    assert ran.stderr.count("limits.max_cost does not count it") == 1


def test_what_earlier_starts_spent_is_known_by_index_and_by_lines(tmp_path: Path) -> None:
    ends: list[Any] = [result(index, cost=0.25) for index in range(20)]
    controls = [Control(item_index=0, task="answer", cost=0.5), Control(item_index=0, task="answer")]
    with short_stretches():
        write_segment(tmp_path / "journal", [opening(), *ends, *controls, failure(20), Close(at=1, reason=None)])
    write_segment(tmp_path / "journal", [opening(), result(20, cost=0.125)])
    with closing(Ledger.read(tmp_path / "journal")) as ledger:
        assert (ledger.cost, ledger.control_cost) == (5.625, 0.5)


REQUEST = Request(unit=Unit("a", 0, 0, "answer"), path="/x", model="m", content=b"{}", shown="{}", stream=False)


async def answer_at_once(_attempt: Attempt) -> Response:
    return Response(output="a")


async def test_a_control_requests_cost_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    journal = Journal(tmp_path / "journal")
    journal.append(opening())
    send = journal_attempts(answer_at_once, journal, Progress(), lambda _request, _response: 0.25)
    for is_control in (True, False, True):
        await send(Attempt(REQUEST, 1, is_control=is_control))
    journal.close()
    with closing(Ledger.read(tmp_path / "journal")) as ledger:
        assert (ledger.controls, ledger.control_cost, ledger.cost) == (2, 0.5, 0.5)


async def bad_at_the_end(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    is_bad = int(str(body["messages"][-1]["content"]).split()[-1]) >= 20
    return web.json_response({"error": "no"}, status=503) if is_bad else web.json_response(chat_answer())


def test_control_requests_stand_beside_the_answers(tmp_path: Path) -> None:
    with Served(bad_at_the_end) as served:
        made = project(tmp_path, served, rows=25, limits={"concurrency": 4, "max_attempts": 2, "fail_on_error": 5})
        ran = made.run_here()
    assert ran.returncode == 0, ran.stdout
    totals = made.evaluation["totals"]
    assert totals["control"] > 0
    assert totals["cost"]["control"] == pytest.approx(totals["control"] * EACH)
    assert totals["cost"]["total"] == pytest.approx(20 * EACH)
    assert totals["cost"]["unanswered_attempts"] == 10
    control = dollars(totals["cost"]["control"])
    unanswered = "unknown for 10 attempts without an answer"
    assert cost_line(ran.stdout) == f"$0.0140 of 20 answers · {control} for control requests · {unanswered}"


async def test_a_control_requests_cost_counts_for_the_limit() -> None:
    budget = Budget(max_tokens=None, max_error_rate=0.5, max_cost=1.0, cost=0.4, cost_of=lambda _request, _response: 0.6)
    within = budget.watching(answer_at_once)
    await within(Attempt(REQUEST, 1, is_control=True))
    with pytest.raises(RunStopped, match=r"^\$1 are spent of \$1; raise limits\.max_cost to go on$") as stop:
        await within(Attempt(REQUEST, 1))
    assert not stop.value.hurry


# --- the lines ---


@pytest.mark.long
def test_a_part_of_the_dataset_tells_what_all_would_cost(tmp_path: Path) -> None:
    with Served() as served:
        made = project(tmp_path, served, rows=1000)
        part = made.run_here("--limit", "20")
        assert "about $0.7000 for all 1,000 items" in part.stdout
        assert made.evaluation["totals"]["cost"]["projected"] == {"items": 1000, "total": pytest.approx(0.7)}
        assert "about" not in made.run_here("--resume").stdout


@pytest.mark.parametrize(
    ("ends", "line"),
    [
        ([result(0, cost=1.5), result(1, cost=0.25)], "$1.7500 of 2 answers"),
        ([result(0, cost=1.5), result(1)], "$1.5000 of 2 answers, 1 of them unpriced"),
        (
            [result(0, cost=1.5, attempts=3), failure(1, attempts=5)],
            "$1.5000 of 1 answers · unknown for 7 attempts without an answer",
        ),
        ([result(0, cost=0.0, cached=True, attempts=0), result(1, cost=2.0)], "$2.0000 of 2 answers"),
        ([result(0)], "not known: none of 1 answers has a price"),
        ([], "$0.0000 of 0 answers"),
    ],
)
def test_the_line_of_the_summary(ends: list[End], line: str) -> None:
    costs = Costs(is_wanted=True)
    for end in ends:
        costs.add(end)
    (said,) = said_of_cost(costs.report(control=0.0, items=len(ends), whole=None))
    assert said == line


def test_what_was_only_kept_from_before_is_no_reason_to_speak_of_cost() -> None:
    costs = Costs()
    costs.add(result(0, cost=0.0, cached=True, attempts=0))
    assert costs.report(control=0.0, items=1, whole=None) is None
    costs.add(result(1, cost=0.5))
    costs.add(result(2, cost=0.125, error_type="no_verdict"))
    assert costs.report(control=0.25, items=2, whole=8) == {
        "total": 0.5,
        "by_task": {"answer": 0.5},
        "answers": 2,
        "unpriced": 0,
        "unanswered_attempts": 0,
        "control": 0.25,
        "no_verdict": 0.125,
        "projected": {"items": 8, "total": 2.5},
    }


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (Progress(total=10), None),
        (Progress(total=10, cost=0.0), "$0.00"),
        (Progress(cost=1.234, cost_of_start=1.234, ok=3), "$1.23"),
        (Progress(total=10, cost=1.5, cost_of_start=1.5, ok=2, errors=1), "$1.50 of ~$5.00"),
        # What earlier starts cost says nothing of what is left: their answers may be others.
        (Progress(total=10, initial=5, cost=101.0, cost_of_start=1.0, ok=1), "$101.00 of ~$105.00"),
        (Progress(total=4, cost=2.0, cost_of_start=2.0, ok=4), "$2.00"),
    ],
)
def test_the_progress_shows_what_is_spent(progress: Progress, shown: str | None) -> None:
    line = progress.line(0, 0)
    assert line.endswith("tokens/s") if shown is None else line.endswith(f" · {shown}")


def test_the_progress_begins_with_what_earlier_starts_cost(tmp_path: Path) -> None:
    with Served() as served:
        trial = project(tmp_path, served, rows=5)
        trial.run_here("--limit", "2")
        evaluation = prepare(trial.config, environment={})
        evaluation.run(resume=True)
    assert (evaluation.progress.cost, evaluation.progress.cost_of_start) == pytest.approx((5 * EACH, 3 * EACH))
