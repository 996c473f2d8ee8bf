"""Scores by groups, over clusters that a column names, and reduced over the samples of an item."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.analysis.statistics.means import ClusteredMean
from runner.analysis.statistics.samples import majority_at_k, pass_at_k, pass_hat_k
from runner.analysis_api import compare
from runner.errors import ConfigError
from runner.evaluation import prepare
from runner.results.scores import Scores, Scoring
from runner.results.views import export
from tests.commands import Project, ask, metric
from tests.records import failure, result
from tests.serving import Served
from tests.statistics_adapter import mean_of

#: Values of one item's samples, what they were taken for, and its row.
Item = tuple[Sequence[float | None], Sequence[str | None], Mapping[str, Any]]


def scored(items: Iterable[Item], analysis: Mapping[str, Any] | None = None, **task: Any) -> dict[str, Any]:
    """Return what is said of a metric; a value of None is an error."""
    document = {"analysis": analysis, "tasks": [{"task_type": "metric", "alias": "right", "configuration": {}, **task}]}
    items = list(items)
    scores = Scores(Scoring.of(document), {"right": max(len(values) for values, _, _ in items)})
    for index, (values, outputs, row) in enumerate(items):
        more = {"task_type": "metric", "request": None, "item": json.dumps(row)}
        scores.add_item(
            [
                failure(index, "right", sample, **more)
                if value is None
                else result(index, "right", sample, value=value, output=output, **more)
                for sample, (value, output) in enumerate(zip(values, outputs, strict=True))
            ]
        )
    found: dict[str, Any] = scores.report()["right"]
    return found


def single(value: float | None, **row: Any) -> Item:
    return [value], ["x"], row


def test_groups_by_a_column_and_by_two() -> None:
    items = [single(float(n % 2), kind="ab"[n % 2], level=n % 3) for n in range(12)]
    found = scored(
        [*items, single(1.0, level=0), single(None, kind="a", level=[1])], {"by": ["item.kind", ["item.kind", "item.level"]]}
    )
    by_kind = found["groups"]["item.kind"]
    assert {name: (group["n"], group["mean"], group["errors"]) for name, group in by_kind.items()} == {
        "a": (6, 0.0, 1),
        "b": (6, 1.0, 0),
        "(none)": (1, 1.0, 0),
    }
    assert set(found["groups"]["item.kind, item.level"]) == {f"{kind}, {n}" for kind in "ab" for n in range(3)} | {
        "(none), 0",
        "a, [1]",
    }
    assert found["n"] == 13


def test_beyond_two_hundred_groups_are_others() -> None:
    groups = scored((single(1.0, kind=n) for n in range(250)), {"by": ["item.kind"]})["groups"]["item.kind"]
    assert len(groups) == 201
    assert groups["(others)"]["n"] == 50


def test_a_column_makes_items_one_cluster_wherever_they_stand() -> None:
    draw = random.Random(2)
    texts = [draw.randrange(12) for _ in range(200)]
    values = [float(draw.random() < 0.1 + 0.06 * text) for text in texts]
    exact = ClusteredMean()
    for text in range(12):
        exact.add([value for value, of in zip(values, texts, strict=True) if of == text])
    found = scored((single(value, text=text) for value, text in zip(values, texts, strict=True)), {"cluster": "item.text"})
    assert found["stderr"] == pytest.approx(exact.stderr)
    assert found["ci95"] == pytest.approx(exact.interval())
    alone = scored(single(value) for value in values)
    assert found["stderr"] > 1.5 * alone["stderr"]


SAMPLES: list[Item] = [
    ([1.0, 0.0, 1.0, 0.0], ["4", "5", "4", None], {}),
    ([0.0, 0.0, 0.0, 0.0], ["5", "5", "6", "7"], {}),
    ([1.0, 1.0, 1.0, 1.0], ["4"] * 4, {}),
]


def test_several_samples_are_reduced_by_default_to_one_of_all_and_to_what_most_say() -> None:
    reduced = scored(SAMPLES)["reduced"]
    assert list(reduced) == ["pass@4", "majority@4"]
    assert (reduced["pass@4"]["mean"], reduced["pass@4"]["n"]) == (pytest.approx(2 / 3), 3)
    assert reduced["majority@4"]["mean"] == pytest.approx(2 / 3)
    assert reduced["pass@4"]["interval"] == "wilson"
    assert "reduced" not in scored([single(1.0), single(0.0)])


def test_reducers_that_are_asked_for() -> None:
    reduced = scored(SAMPLES, reduce=["mean", "pass@2", "pass^2", "majority@3"])["reduced"]
    assert reduced["pass@2"]["mean"] == pytest.approx(((pass_at_k(4, 2, 2) or 0) + 0 + 1) / 3)
    assert reduced["pass^2"]["mean"] == pytest.approx(((pass_hat_k(4, 2, 2) or 0) + 0 + 1) / 3)
    assert reduced["majority@3"]["mean"] == pytest.approx(((majority_at_k(["4", "5", "4", None], {"4"}, 3) or 0) + 0 + 1) / 3)
    strict = scored(SAMPLES, reduce=["majority@4"], majority="strict")["reduced"]["majority@4"]
    assert strict["mean"] == pytest.approx(1 / 3)


def test_an_item_with_too_few_answers_is_left_out_and_never_right() -> None:
    reduced = scored([*SAMPLES, ([1.0, None, None, None], ["4"] * 4, {})], reduce=["pass@2"])["reduced"]["pass@2"]
    assert (reduced["n"], reduced["left_out"]) == (3, 1)


def test_from_which_value_on_an_answer_is_right() -> None:
    items: list[Item] = [([0.4, 0.6], ["a", "b"], {}), ([0.1, 0.2], ["a", "b"], {})]
    assert scored(items, reduce=["pass@1"], right=0.5)["reduced"]["pass@1"]["mean"] == pytest.approx(0.25)


# --- in a run ---


def project_of(directory: Path, served: Served, **more: Any) -> Project:
    rows = [{"id": f"row-{n}", "question": f"question {n}", "kind": "even" if n % 2 == 0 else "odd"} for n in range(10)]
    judging = metric(type="contains", reference="question 1") | more.pop("metric", {})
    return Project(directory, served.url, rows=rows, tasks=[ask(samples=3), judging], more=more)


def test_a_run_its_export_and_its_resume_say_the_same(tmp_path: Path) -> None:
    with Served() as served:
        project = project_of(tmp_path / "p", served, analysis={"by": ["item.kind"]})
        report = prepare(project.config, environment={}).run()
        found = report.totals["metrics"]["correct"]
        assert {name: group["mean"] for name, group in found["groups"]["item.kind"].items()} == {"even": 0.0, "odd": 0.2}
        assert list(found["reduced"]) == ["pass@3", "majority@3"]
        for line in ("by item.kind:", "odd              0.2000", "pass@3       0.1000"):
            assert line in report.text()
        assert export(report.run).totals["metrics"] == report.totals["metrics"]
        again = prepare(project.config, ["analysis.by=[]"], environment={}).run(resume=True)
        assert again.totals["metrics"]["correct"]["mean"] == found["mean"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"analysis": {"by": ["category"]}},
            r"analysis\.by\.0.*'category' is not a column .* item\.category",
        ),
        (
            {"analysis": {"by": [["item.kind", "item.kidn"]]}},
            r"analysis\.by\.0\.1.*`item\.kidn` is not a column .* id, question, kind",
        ),
        ({"analysis": {"cluster": "item['kidn'].x"}}, r"analysis\.cluster.*`item\.kidn` is not a column of the dataset"),
        ({"analysis": {"cluster": "{{item.a}}"}}, r"analysis\.cluster.*is not a column"),
        ({"metric": {"reduce": ["pass@0"]}}, r"tasks\.1\.reduce\.0"),
        ({"metric": {"majority": "most"}}, r"tasks\.1\.majority"),
    ],
)
def test_what_is_no_column_and_no_reducer_is_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with Served() as served, pytest.raises(ConfigError, match=message):
        prepare(project_of(tmp_path / "p", served, **more).config, environment={})
    assert not served.seen


def test_variables_say_how_scores_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set no more costs what it said, and not the results."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
name: trial
output: {tmp_path / "results"}
endpoint: {{base_url: "http://127.0.0.1:9/v1"}}
dataset: {{data: [{{id: a, kind: x}}, {{id: b, kind: y}}], id: id}}
tasks:
  - task_type: metric
    alias: ${{ALIAS}}
    right: ${{RIGHT:-0}}
    reduce: ["${{REDUCE:-pass@1}}"]
    configuration: {{type: exact_match, candidate: item.kind, reference: x}}
analysis: {{by: ["${{BY:-item.kind}}"]}}
"""
    )
    monkeypatch.setenv("ALIAS", "correct")
    found = prepare(config, environment={"ALIAS": "correct"}).run()
    metric = found.totals["metrics"]["correct"]
    assert metric["reduced"]["pass@1"]["mean"] == 1, "0 is right too"
    assert list(metric["groups"]) == ["item.kind"]
    monkeypatch.setenv("RIGHT", "1")
    assert export(found.run).totals["metrics"]["correct"]["reduced"]["pass@1"]["mean"] == 0.5
    monkeypatch.delenv("ALIAS")
    assert export(found.run).totals["metrics"]["correct"]["mean"] == 0.5
    run = str(found.run)
    assert compare(run, run, gates="correct >= 0").outcome == "holds"


def test_a_column_that_few_rows_have_makes_clusters_of_those_only() -> None:
    """What a row does not have it shares with nobody, and long texts that begin alike are not the same."""
    long = "Read the text. " * 40
    rows: list[dict[str, Any]] = [{"text": f"{long} {n // 2}"} for n in range(8)] + [{"text": None}, {}, {}, {"text": "4"}]
    values = [float(n % 3 > 0) for n in range(12)]
    found = scored((single(value, **row) for value, row in zip(values, rows, strict=True)), {"cluster": "item.text"})
    exact = mean_of(values, [n // 2 if n < 8 else n for n in range(12)])
    assert [found["stderr"], *found["ci95"]] == pytest.approx([exact.stderr, *(exact.interval() or ())])


def test_crossed_groups_are_told_apart() -> None:
    rows = [("a, b", "c"), ("a", "b, c"), ("a", "b")]
    found = scored([single(1.0, x=x, y=y) for x, y in rows], {"by": [["item.x", "item.y"], "item.x"]})
    assert list(found["groups"]["item.x, item.y"]) == ['"a, b", c', 'a, "b, c"', "a, b"]
    assert list(found["groups"]["item.x"]) == ["a", "a, b"]
