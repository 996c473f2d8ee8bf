"""What an evaluation does beside its requests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner import running
from runner.evaluation import prepare
from runner.results.progress import Progress
from tests.commands import ask, metric
from tests.serving import Served, chat_answer


def not_yet(_progress: Progress, _all_taken: asyncio.Event) -> None:
    """Change nothing."""


def half_done(progress: Progress, _all_taken: asyncio.Event) -> None:
    progress.ok = 5


def taken(_progress: Progress, all_taken: asyncio.Event) -> None:
    all_taken.set()


@pytest.mark.parametrize(("happens", "is_loaded"), [(not_yet, False), (half_done, True), (taken, True)])
async def test_heavy_modules_are_loaded_when_half_is_done_and_not_before(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[Progress, asyncio.Event], None], *, is_loaded: bool
) -> None:
    monkeypatch.setattr(running, "_WATCH_EVERY_S", 0.001)
    loop, loaded = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(running, "preload_parquet", lambda: loop.call_soon_threadsafe(loaded.set))
    progress, all_taken = Progress(total=10, ok=4), asyncio.Event()
    loading = asyncio.create_task(running._load_views(all_taken, progress))
    await asyncio.sleep(0.05)
    assert not loaded.is_set()
    happens(progress, all_taken)
    if is_loaded:
        await asyncio.wait_for(loaded.wait(), 10)
    else:
        await asyncio.sleep(0.05)
        assert not loaded.is_set()
    loading.cancel()


async def test_of_any_file_is_known_how_many_results_there_will_be(tmp_path: Path) -> None:
    """The first request is not answered before that is so."""
    path = tmp_path / "rows.csv"
    path.write_text("question\n" + "What?\n" * 100)
    shown: list[int | None] = []

    async def answer(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        for _ in range(0 if shown else 1000):  # only the first one waits
            if evaluation.progress.total is not None:
                break
            await asyncio.sleep(0.01)
        shown.append(evaluation.progress.total)
        return web.json_response(chat_answer("4"))

    with Served(answer) as served:
        judged = metric("right", type="contains", reference="4")
        source = {"name": "t", "dataset": str(path), "endpoint": {"base_url": served.url}, "output": str(tmp_path)}
        evaluation = prepare(source | {"tasks": [ask(), judged], "limits": {"concurrency": 1}}, environment={})
        await asyncio.to_thread(evaluation.run)
    assert shown == [200] * 100
    assert " · right 1.000 · n 100 · " in evaluation.progress.line(0, 0)


@pytest.mark.long
def test_a_plain_run_begins_without_what_it_does_not_need() -> None:
    """Statistics are needed at its end, and by other commands; judges, conditions and prices where the config has some."""
    program = """
import sys
from runner.evaluation import prepare
prepare("configs/eval.yaml")
late = ("analysis", "prices", "catalogue", "config.pricing", "reading.verdicts", "tasks.embedding")
late += ("tasks.guided_decoding", "tasks.judge", "tasks.pairwise", "tasks.condition_models")
late += ("endpoint.cache", "storage.responses", "sqlite3", "plugins", "config.plugging", "tasks.plugged", "processes.once")
print([name for name in sys.modules if name.removeprefix("runner.").startswith(late)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout == "[]\n"
