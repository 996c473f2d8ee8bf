"""The slowest answers, and what a run would have taken without them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from runner.results import closing
from runner.results.stragglers import Stragglers
from runner.storage.records import End
from tests.commands import Project, questions
from tests.serving import Served, chat_answer


def end(item: int, at_s: float, wire_s: float, task: str = "a") -> End:
    return End(
        item_index=item, task=task, item_id=f"r{item}", task_type="t", completed_at=int(at_s * 1e6), wire_s=wire_s, item="{}"
    )


def test_the_run_without_them_ends_with_the_last_of_the_others() -> None:
    found = Stragglers()
    for item in range(100):
        slow = item % 20 == 3
        found.add_sample(
            [
                end(item, 50.0 + item if slow else item / 10, 40.0 + item if slow else 1.0 - item / 1000),
                end(item, 200.0 if slow else item / 10, 0.0, "metric"),
            ]
        )
    report = found.report(200.0)
    assert report is not None
    assert [row["item_id"] for row in report["rows"]][:5] == ["r83", "r63", "r43", "r23", "r3"]
    assert (report["rows"][0]["task"], report["rows"][0]["wire_s"]) == ("a", 123.0)
    assert report["wall_s_without"] == 9.9, "the five that are slow, and the first five of the others"


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0.001, 1000)), min_size=1, max_size=60))
def test_it_is_what_all_of_them_say(items: list[tuple[float, float]]) -> None:
    found = Stragglers()
    for number, (at_s, wire_s) in enumerate(items):
        found.add_sample([end(number, at_s, wire_s)])
    report = found.report(2000.0)
    assert report is not None
    ordered = sorted(((wire_s, (number, 0)) for number, (_, wire_s) in enumerate(items)), reverse=True)
    slowest = {place for _, place in ordered[:10]}
    others = [int(at_s * 1e6) for number, (at_s, _) in enumerate(items) if (number, 0) not in slowest]
    saved = max(int(at_s * 1e6) for at_s, _ in items) - max(others) if others else 0
    assert report["wall_s_without"] == round(2000.0 - saved / 1e6, 3)


def test_nothing_that_was_sent_says_nothing() -> None:
    found = Stragglers()
    found.add_sample([end(0, 1.0, 0.0)])
    assert found.report(1.0) is None


@pytest.mark.long
def test_the_closing_summary_names_what_the_run_waited_for(tmp_path: Path) -> None:
    others = 0

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal others
        question = body["messages"][-1]["content"]
        if question == "question 7":
            while others < 39:  # noqa: ASYNC110  it is the last by more than a second
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.3)
        else:
            others += 1
        return web.json_response(chat_answer(question))

    with Served(answer) as server:
        project = Project(tmp_path / "p", server.url, rows=questions(40))
        done = project.run_here()
    assert re.search(
        r"  slowest    row-7 of `answer` with \d+\.\d s; without the 10 slowest the run would have ended after \d+\.\d s",
        done.stdout,
    )
    slowest = project.evaluation["totals"]["slowest"]
    assert len(slowest["rows"]) == 10
    assert not list(closing._slowest_lines({"slowest": slowest, "wall_s": slowest["wall_s_without"] + 0.5}))
