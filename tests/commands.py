"""The command line for tests: a directory with a config and a dataset, and runs of it, in processes of their own or here."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
from aiohttp import web

from runner import running
from runner.cli.main import main
from runner.endpoint.pacing import circuit
from runner.endpoint.pacing.retry import RetryPolicy
from tests.serving import Seen, Served, chat_answer

__all__ = [
    "CORRECT",
    "PATIENCE_S",
    "ROOT",
    "Holding",
    "Project",
    "ask",
    "asked",
    "heard_by",
    "here",
    "impatient",
    "metric",
    "questions",
]

ROOT = Path(__file__).resolve().parents[1]
#: Longer than anything takes on a machine that has other work to do.
PATIENCE_S = 50


def questions(count: int) -> list[dict[str, Any]]:
    """Return rows whose questions name them."""
    return [{"id": f"row-{index}", "question": f"question {index}", "n": index} for index in range(count)]


def ask(alias: str = "answer", content: str = "{{item.question}}", **more: Any) -> dict[str, Any]:
    """Return a chat task."""
    configuration = {"model": "m", "messages": [{"role": "user", "content": content}]}
    return {
        "task_type": "chat_completion",
        "alias": alias,
        "configuration": configuration | more.pop("configuration", {}),
    } | more


def metric(alias: str = "correct", **configuration: Any) -> dict[str, Any]:
    """Return a metric, which compares the answer with the question if nothing else is said."""
    settings = {"type": "exact_match", "candidate": "item.answer", "reference": "item.question"}
    return {"task_type": "metric", "alias": alias, "configuration": settings | configuration}


#: A metric: whether the answer is the question.
CORRECT = metric()


def asked(seen: Iterable[Seen]) -> Counter[str]:
    """Return how often each question was asked."""
    return Counter(str(request.body["messages"][-1]["content"]) for request in seen)


def here(*words: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the program in this process, as a command: for what is not about processes, each of which takes a second to start."""
    out, err = io.StringIO(), io.StringIO()
    alone = patch.dict(os.environ, environment, clear=True)
    with alone, redirect_stdout(out), redirect_stderr(err), heard_by(logging.StreamHandler(err)), impatient():
        try:
            code = main(words)
        except SystemExit as end:
            code = int(str(end.code))
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@contextmanager
def impatient() -> Iterator[None]:
    """Let runs in this process back off a tenth as long as usual, and ask five times as often whether the endpoint works."""
    short = partial(RetryPolicy, base_s=0.05, cap_s=6.0)
    with patch.object(running, "RetryPolicy", short), patch.object(circuit, "_CONTROL_EVERY_S", 0.2):
        yield


@contextmanager
def heard_by(handler: logging.Handler, name: str = "runner") -> Iterator[None]:
    """Let a handler have what is logged."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@dataclass
class Project:
    """A directory with a config and a dataset."""

    directory: Path
    url: str
    name: str = "trial"
    rows: Sequence[Mapping[str, Any]] = field(default_factory=lambda: questions(10))
    tasks: Sequence[Mapping[str, Any]] = field(default_factory=lambda: [ask()])
    limits: Mapping[str, Any] = field(default_factory=lambda: {"concurrency": 4})
    more: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write()

    @property
    def config(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def dataset(self) -> Path:
        return self.directory / "rows.jsonl"

    def write(self) -> None:
        """Write the config, which as JSON is YAML too, and the dataset."""
        self.directory.mkdir(exist_ok=True)
        self.dataset.write_text("".join(f"{json.dumps(row)}\n" for row in self.rows))
        config = {
            "name": self.name,
            "dataset": {"path": str(self.dataset), "id": "id"},
            "endpoint": {"base_url": self.url},
            "tasks": self.tasks,
            "limits": self.limits,
            "output": str(self.directory / "results"),
        } | dict(self.more)
        self.config.write_text(json.dumps(config, indent=2))

    def arguments(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "runner", str(self.config), *options]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY" and "proxy" not in name.lower()}
        return kept | dict(self.environment)

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the config to its end."""
        return self.command(*self.arguments(*options)[1:])

    def run_here(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the config to its end in this process."""
        return here(str(self.config), *options, environment=self._environment())

    def run_here_while(self, act: Callable[[], None], *options: str) -> subprocess.CompletedProcess[str]:
        """Run the config in this process to its end, while another thread does something."""
        with ThreadPoolExecutor(1) as beside:
            acting = beside.submit(act)
            found = self.run_here(*options)
            acting.result()
        return found

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python with other words."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @contextmanager
    def started(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Start the config and go on; with the block the process ends too."""
        process = subprocess.Popen(
            self.arguments(*options),
            cwd=ROOT,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @property
    def runs(self) -> list[Path]:
        """All run directories, the newest last."""
        return sorted(path for path in (self.directory / "results" / self.name).iterdir() if not path.is_symlink())

    @property
    def run_dir(self) -> Path:
        """The only run directory."""
        (only,) = self.runs
        return only

    @property
    def evaluation(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_dir / "evaluation.json").read_bytes())
        return found

    def results(self) -> list[dict[str, Any]]:
        return self._rows("results")

    def errors(self) -> list[dict[str, Any]]:
        return self._rows("errors")

    def _rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.run_dir / f"{name}.parquet").to_pylist()
        return rows

    def delete_views(self) -> None:
        for name in ("results", "errors"):
            (self.run_dir / f"{name}.parquet").unlink()


class Holding:
    """Answers of a `Served` that wait until a test lets them go; the first `at_once` do not wait."""

    def __init__(self, at_once: int = 0) -> None:
        self._left_at_once = at_once
        self._arrived = threading.Semaphore(0)
        self._open = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self._loop = asyncio.get_running_loop()
        self._left_at_once -= 1
        if self._left_at_once < 0:
            self._arrived.release()
            await self._open.wait()
        return web.json_response(chat_answer(f"re: {body['messages'][-1]['content']}"))

    def wait_for(self, count: int) -> None:
        """Wait until so many more requests are held."""
        for _ in range(count):
            assert self._arrived.acquire(timeout=PATIENCE_S)

    def release(self) -> None:
        """Answer those that are held, and from now on everybody at once."""
        assert self._loop is not None, "nothing was asked yet"
        self._loop.call_soon_threadsafe(self._open.set)

    def served(self) -> Served:
        return Served(self.answer)
