"""Reports and comparisons from Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import runner
from tests.commands import ask, metric
from tests.serving import Served, chat_answer


class Model:
    """Answers the first questions wrong, as many as it is told."""

    wrong = 0

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        number = int(body["messages"][-1]["content"])
        return web.json_response(chat_answer("no" if number < self.wrong else "yes"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[runner.Run, runner.Run]]:
    """Return two runs of 40 items, of which the second has 20 wrong."""
    monkeypatch.chdir(tmp_path)
    model = Model()
    with Served(model.answer) as served:
        config: dict[str, Any] = {
            "name": "suite",
            "endpoint": {"base_url": served.url},
            "dataset": {"data": [{"id": f"row-{n}", "n": n, "kind": f"k{n % 2}"} for n in range(40)], "id": "id"},
            "tasks": [ask(content="{{item.n}}"), metric(reference="yes")],
        }
        before = runner.evaluate(config, progress=False)
        model.wrong = 20
        yield before, runner.evaluate(config, progress=False)


def test_a_comparison_has_frames(runs: tuple[runner.Run, runner.Run]) -> None:
    found = runner.compare(*runs, by=["item.kind"], gates=["correct >= -0.01", "error_rate <= 0"])
    assert found.outcome == "broken"
    assert list(found.gates["outcome"]) == ["broken", "holds"]
    correct = found.table[found.table["name"] == "correct"].set_index("group")
    assert correct.loc["k1", "difference"] == -0.5
    assert list(correct["outcome"]) == ["worse"] * 3
    assert sorted(found.flips["item_id"]) == sorted(f"row-{n}" for n in range(20))
    assert found.flips["output_b"].unique().tolist() == ["no"]
    assert found.to_markdown().startswith("> [!CAUTION]")
    assert found.to_html().startswith("<!doctype html>")
    assert "20 lost of 40" in repr(found)
    several = runner.compare(runs[0], runs[0], runs[1], gates=["correct >= -0.01"])
    assert list(several.gates["run"]) == [runs[0].id, runs[1].id]
    assert set(several.flips["run"]) == {runs[1].id}
    of_both = several.table[several.table["name"] == "correct"].set_index("run")["difference"]
    assert of_both.to_dict() == {runs[0].id: 0.0, runs[1].id: -0.5}


def test_items_whose_row_has_changed_are_compared_on_request(runs: tuple[runner.Run, runner.Run]) -> None:
    rows = [{"id": f"row-{n}", "n": n, "kind": "another"} for n in range(40)]
    changed = runner.evaluate(runs[0].path / "config.yaml", data=rows, progress=False)
    assert len(runner.compare(runs[0], changed).flips) == 0
    assert len(runner.compare(runs[0], changed, keep_changed=True).flips) == 20


def test_one_column_or_gate_needs_no_list(runs: tuple[runner.Run, runner.Run]) -> None:
    found = runner.compare(*runs, by="item.kind", gates="correct[k0] >= -0.01")
    assert found.outcome == "broken"
    assert runner.report(runs[0], by="item.kind", gates="correct[k0] >= 0.5") == "holds"


@pytest.mark.long
def test_names_mean_what_they_mean_on_the_command_line(runs: tuple[runner.Run, runner.Run]) -> None:
    assert len(runner.compare("suite~1", "suite").flips) == 20
    same = runner.compare(runs[0], runs[0])
    assert (len(same.flips), len(same.gates), same.outcome) == (0, 0, None)
    with pytest.raises(runner.UsageError, match="did you mean 'correct'"):
        runner.compare(*runs, gates=["corect >= 0"])
    with pytest.raises(runner.RunDirError, match="is neither a run directory nor an evaluation"):
        runner.compare("suite", "nothing")


def test_a_report_is_written(runs: tuple[runner.Run, runner.Run]) -> None:
    assert runner.report(runs[1], "r.html", "r.json", gates=["correct >= 0.9"]) == "broken"
    assert runner.report("suite~1", "r.md") is None
    assert json.loads(Path("r.json").read_text())["totals"]["metrics"]["correct"]["mean"] == 0.5
    assert Path("r.html").read_text().startswith("<!doctype html>")
    with pytest.raises(runner.UsageError, match="items='most': must be one of auto, all, none"):
        runner.report(runs[1], "r.html", items="most")
    with pytest.raises(runner.UsageError, match="the ending decides what is written"):
        runner.report(runs[1], "r.pdf")
