"""Evaluations in a real Jupyter kernel, whose loop is running while a cell is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from tests.commands import Holding, ask
from tests.serving import Served


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookClient]:
    directory = tmp_path_factory.mktemp("notebook")
    notebook: Any = new_notebook()  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(directory)}})
    client.create_kernel_manager()
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    client.start_new_kernel(env=environment | {"IPYTHONDIR": str(directory), "JUPYTER_PLATFORM_DIRS": "1"})
    client.start_new_kernel_client()
    try:
        yield client
    finally:
        client._cleanup_kernel()


def shown(client: NotebookClient, source: str) -> dict[str, Any]:
    """Run a cell; return its last value in each form in which a notebook has it."""
    cell: Any = new_code_cell(source)  # type: ignore[no-untyped-call]
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)
    return {kind: text for output in cell.outputs for kind, text in output.get("data", {}).items()}


def config_of(url: str) -> dict[str, Any]:
    data = [{"question": f"question {index}"} for index in range(6)]
    limits = {"concurrency": 2}
    return {"name": "cells", "endpoint": {"base_url": url}, "data": data, "tasks": [ask()], "limits": limits}


@pytest.mark.long
def test_a_cell_runs_an_evaluation_and_shows_it(kernel: NotebookClient) -> None:
    with Served() as server:
        shown(kernel, f"import runner; config = {config_of(server.url)!r}")
        assert "completed, 6 results, 0 errors" in shown(kernel, "run = runner.evaluate(config); run")["text/html"]
        assert "6/6 100%" in str(kernel.nb.cells[-1].outputs)  # the bar
        assert shown(kernel, "(await runner.evaluate_async(config, progress=False)).status")["text/plain"] == "'completed'"
        assert shown(kernel, "runner.load('cells').wide.shape")["text/plain"] == "(6, 5)"
        shown(kernel, "try:\n    runner.evaluate({'name': 'x'})\nexcept runner.UsageError as error:\n    print(error)")
        assert "config: tasks: is missing" in str(kernel.nb.cells[-1].outputs)


@pytest.mark.long
def test_an_interrupted_cell_keeps_what_is_answered_and_the_kernel_lives(kernel: NotebookClient) -> None:
    holding, told = Holding(), Path(kernel.resources["metadata"]["path"]) / "told to stop"

    def interrupt() -> None:
        holding.wait_for(2)
        manager: Any = kernel.km
        asyncio.run(manager.interrupt_kernel())
        until = time.monotonic() + 20
        while not told.exists() and time.monotonic() < until:
            time.sleep(0.01)
        holding.release()

    with holding.served() as server, ThreadPoolExecutor(1) as beside:
        interrupting = beside.submit(interrupt)
        shown(kernel, f"import runner, runner.api as api; stop = api._Job.stop; config = {config_of(server.url)!r}")
        shown(kernel, f"api._Job.stop = lambda job, why: (stop(job, why), open({str(told)!r}, 'w').close())")
        found = shown(kernel, "run = runner.evaluate(config); run.stopped, len(run.results)")
        interrupting.result()
    assert found["text/plain"] == "('stopped by SIGINT', 2)"
    assert shown(kernel, "1 + 1")["text/plain"] == "2"
