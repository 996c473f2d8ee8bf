"""Whatever the number of workers, the order of kills and resumes, and the dataset: the files are those of a single run."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.commands import Project, ask
from tests.crowds import OF_TIMES, columns_of, has_come, soon
from tests.serving import Served, chat_answer
from tests.variations import EXAMPLES

#: Each example starts up to a dozen processes.
_EXAMPLES = max(4, EXAMPLES // 4)
_ENGINES = {1: (), 2: ("--processes", "2"), 3: ("--processes", "3"), 7: ("--processes", "7")}


async def by_its_words(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer the same to the same words, whenever and by whomever they are sent; to some of them never."""
    words = str(body["messages"][-1]["content"])
    number = hashlib.sha256(words.encode()).digest()[0]
    await asyncio.sleep(0.002 + number / 25_000)
    if number % 11 == 0:
        return web.json_response({"error": {"message": f"no such thing as {words}"}}, status=400)
    if body["model"] == "judge":
        return web.json_response(chat_answer("Yes" if number % 2 else "No"))
    return web.json_response(chat_answer(f"re: {words}"))


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated."""

    rows: list[dict[str, Any]]
    ending: str
    #: Lines of a text file that are no rows, by their places.
    broken: frozenset[int]
    dataset: dict[str, Any]
    samples: int
    tasks: list[dict[str, Any]]

    def written(self, directory: Path) -> Path:
        """Write the dataset."""
        path = directory / f"data.{self.ending}"
        if self.ending == "parquet":
            pq.write_table(pa.Table.from_pylist(self.rows), path, row_group_size=7)
            return path
        if self.ending == "csv":
            lines = ["id,question", *(f"{row['id']},{row['question']}" for row in self.rows)]
        else:
            lines = [json.dumps(row) for row in self.rows]
            lines = [
                line for index, row in enumerate(lines) for line in ([row] if index not in self.broken else ["{broken", row])
            ]
        data = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(data) if self.ending.endswith("gz") else data)
        return path


JUDGE = {
    "task_type": "auto_evaluation.guided_decoding",
    "alias": "judged",
    "configuration": {"model": "judge", "prompt": "Is it right? {{item.answer}}", "choices": ["Yes", "No"]},
}
METRIC = {
    "task_type": "metric",
    "configuration": {"type": "exact_match", "candidate": "item.answer", "reference": "re: {{item.question}}"},
}


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    numbers = draw(st.lists(st.integers(0, 60), min_size=20, max_size=70))  # some are there twice
    rows = [{"id": f"r{number}", "question": f"question {place % 50}"} for place, number in enumerate(numbers)]
    dataset = {name: draw(values) for name, values in _OF_DATASETS.items() if draw(st.booleans())}
    return Evaluation(
        rows=rows,
        ending=draw(st.sampled_from(["jsonl", "jsonl.gz", "csv", "parquet"])),
        broken=draw(st.frozensets(st.integers(0, 60), max_size=4)),
        dataset=dataset,
        samples=draw(st.sampled_from([1, 1, 3])),
        tasks=draw(st.sampled_from([[], [METRIC], [METRIC, JUDGE]])),
    )


_OF_DATASETS = {"id": st.just("id"), "shuffle": st.integers(0, 9), "limit": st.integers(5, 60)}


def project_of(evaluation: Evaluation, directory: Path, path: Path, url: str) -> Project:
    limits = {"concurrency": 7, "max_error_rate": 1.0, "fail_on_error": 1.0}
    return Project(
        directory,
        url,
        rows=[],
        tasks=[ask(samples=evaluation.samples), *evaluation.tasks],
        limits=limits,
        more={"dataset": {"path": str(path), **evaluation.dataset}},
    )


def _has_ended_or_asked(run: subprocess.Popen[str], served: Served, until: int) -> bool:
    return run.poll() is not None or has_come(served, until)


def goes_through(project: Project, served: Served, doors: list[tuple[int, int]]) -> None:
    """Start and kill, door after door, each after so many more requests; the last one goes to the end."""
    *killed, (last, _) = doors
    for workers, requests in killed:
        until = len(served.seen) + requests
        with project.started("--resume", *_ENGINES[workers]) as run:
            soon(partial(_has_ended_or_asked, run, served, until))
            run.kill()
            run.wait()
    done = project.run("--resume", *_ENGINES[last])
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.timeout(_EXAMPLES * 30)
@settings(max_examples=_EXAMPLES, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
@given(evaluations(), st.lists(st.tuples(st.sampled_from(list(_ENGINES)), st.integers(0, 40)), min_size=1, max_size=3))
def test_files_are_those_of_a_single_run(evaluation: Evaluation, doors: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory, Served(by_its_words) as served:
        path = evaluation.written(Path(directory))
        alone = project_of(evaluation, Path(directory) / "alone", path, served.url)
        assert alone.run_here().returncode == 0
        many = project_of(evaluation, Path(directory) / "many", path, served.url)
        goes_through(many, served, doors)
        for name in ("results", "errors"):
            assert columns_of(many, name, many.run_dir) == columns_of(alone, name, alone.run_dir)
        then, now = alone.evaluation, many.evaluation
        assert {**now["totals"], **dict.fromkeys(OF_TIMES)} == {**then["totals"], **dict.fromkeys(OF_TIMES)}
        assert now["progress"] == then["progress"]
