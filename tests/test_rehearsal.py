"""Before anything is sent the first rows are rehearsed: answers that no metric could judge are not paid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.errors import UsageError
from runner.evaluation import prepare
from tests.commands import Project, ask, here
from tests.serving import Served
from tests.trials import config_of


def metric(**configuration: Any) -> dict[str, Any]:
    usual = {"type": "numeric", "candidate": "item.answer", "reference": "item.target"}
    return {"task_type": "metric", "alias": "right", "configuration": usual | configuration}


def rows(*targets: object) -> list[dict[str, Any]]:
    return [{"id": str(n), "question": f"q{n}", "target": target} for n, target in enumerate(targets)]


def made(tmp_path: Path, served: Served, targets: list[object], *tasks: dict[str, Any]) -> Project:
    return config_of(tmp_path / "p", served.url, rows=rows(*targets), tasks=[ask(), *tasks])


def test_where_a_metric_could_judge_none_of_the_first_rows_nothing_is_sent(tmp_path: Path) -> None:
    with Served() as served:
        project = made(tmp_path, served, ["many"] * 30, metric())
        evaluation = prepare(project.config, environment={})
        with pytest.raises(
            UsageError, match=r"config.yaml:\d+: `right` could judge none of the first 10 rows.*'many' is not a number"
        ):
            evaluation.run()
        dry = here(str(project.config), "--dry-run", environment={})
    assert (dry.returncode, dry.stderr) == (1, "")
    counts, refused = dry.stdout.splitlines()[-2:]
    assert counts == "30 rows, 30 of them bad; 0 requests would be sent"
    assert "`right` could judge none of the first 10 rows, so nothing is sent" in refused
    assert served.seen == []
    assert not (project.directory / "results").exists()


@pytest.mark.parametrize(
    ("targets", "tasks"),
    [
        (["many"] * 9 + [3], [metric()]),  # one that can be judged is among them
        (["many"], [metric()]),  # a single row may be no more than a bad row
        (["many"] * 5, [ask("other", "{{item.question.text}}"), metric()]),  # it is not only the metric
        (["("] * 5, [metric(type="regex")]),  # only a process can tell
        (["many"] * 5, [metric(reference="item.answer")]),  # an answer is compared with, which nobody knows yet
    ],
)
def test_what_may_be_a_matter_of_some_rows_is_begun(tmp_path: Path, targets: list[object], tasks: list[dict[str, Any]]) -> None:
    with Served() as served:
        report = prepare(made(tmp_path, served, targets, *tasks).config, environment={}).run()
    assert len(served.seen) == len(targets)
    assert report.results >= len(targets)
