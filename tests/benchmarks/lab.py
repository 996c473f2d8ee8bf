"""What every measurement shares: the cores, the endpoint, the data, the processes that are compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from runner.storage.journal import read_segment, segments_of
from tests.benchmarks.endpoint import Endpoint, build_fast_endpoint, fast_endpoint
from tests.benchmarks.jobs import MODEL, Job, runner_command, write_config
from tests.benchmarks.processes import Process, ProcessError, on_core, watch
from tests.benchmarks.table import MissingError

__all__ = ["ROOT", "Lab", "Run", "watched_command"]

ROOT = Path(__file__).resolve().parents[2]
_BENCH = ROOT.parent / "shared" / "bench"
_REFERENCE_PACKAGES = "aiohttp, msgspec, orjson, pyarrow, uvloop"
_TIMEOUT_S = 900

_A = TypeVar("_A")
_B = TypeVar("_B")


class Answered(msgspec.Struct, tag_field="kind", tag="end"):
    """As much of a journal's line about an answer as is measured."""

    #: In microseconds since the epoch.
    completed_at: int = 0
    latency_s: float = 0.0


_ANSWERED = msgspec.json.Decoder(Answered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A process that has done a job, and what the endpoint saw of it."""

    job: Job
    process: Process
    #: When the endpoint saw the first request, a moment of `time.monotonic`.
    first: float
    #: Seconds from the first request to the endpoint's last answer.
    span_s: float
    #: The counters of the endpoint.
    stats: Mapping[str, Any]
    #: The runner's journal; None for others.
    journal: Path | None = None

    @property
    def startup_s(self) -> float:
        """Seconds from the start of the process to the first request."""
        return self.first - self.process.started

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per request, from the first request to the end of the process."""
        cpu_s = self.process.cpu_s - self.process.cpu_until(self.first)
        return cpu_s / float(self.stats["chat"]) * 1e6

    @property
    def slots_full(self) -> float:
        """The share of the time that the slots were full."""
        return self.job.slots_full(self.span_s)

    def answers(self) -> list[tuple[float, float]]:
        """Return when each answer was complete, as a moment of `time.monotonic`, and its latency; in order of time."""
        assert self.journal is not None
        since_epoch = self.process.epoch
        found = []
        for segment in segments_of(self.journal):
            for line in read_segment(segment):
                if line.payload is not None and line.payload.startswith(b'{"kind":"end"'):
                    answer = _ANSWERED.decode(line.payload)
                    found.append((answer.completed_at / 1e6 - since_epoch, answer.latency_s))
        return sorted(found)


@dataclass(kw_only=True, eq=False)
class Lab:
    """The place where everything is measured, one thing at a time."""

    #: How often each of two things that are compared is measured; they take turns.
    rounds: int
    #: Whether it is only to be seen that everything works: fewer rows, figures that mean little.
    quick: bool
    #: Python with the packages of the reference jobs.
    references: str
    #: Python with nemo-evaluator, if there is one.
    nemo: str | None
    #: Where a note of progress goes.
    say: Callable[[str], None]
    directory: Path = field(init=False)
    #: The largest share of its core that the endpoint used in any run: well below 1.0 it was not the limit.
    busiest: float = 0.0
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        self.cores = cores = sorted(os.sched_getaffinity(0))
        self.client_core = cores[0] if len(cores) > 1 else None
        self.endpoint_core = cores[-1] if len(cores) > 1 else None
        self._stack.enter_context(on_core(self.endpoint_core))  # watching must not disturb what is watched
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def endpoint(self) -> Endpoint:
        """The fast endpoint. Raises MissingError where it cannot be had."""
        try:
            program = build_fast_endpoint(_bench(), self.directory)
        except (ProcessError, OSError) as error:
            raise MissingError(f"needs make and a C compiler for the endpoint: {error}") from error
        return self._stack.enter_context(fast_endpoint(program, self.endpoint_core))

    @cached_property
    def _has_reference_packages(self) -> bool:
        command = [self.references, "-c", f"import {_REFERENCE_PACKAGES}"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def dataset(self, rows: int) -> Path:
        """Return a dataset of so many rows, the same for everybody."""
        made = self.directory / "data" / f"p{rows}.jsonl"
        if not made.exists():
            subprocess.run([sys.executable, str(_bench() / "gen_data.py"), str(made.parent), str(rows)], check=True)
            (made.parent / f"cb{rows}.jsonl").unlink()
        return made

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a directory that is deleted after the block."""
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            yield Path(directory)

    def runner(self, directory: Path, job: Job, *, endpoint: Endpoint | None = None, open_files: int | None = None) -> Run:
        """Run the runner on a job, as a user does. Raises ProcessError."""
        endpoint = endpoint or self.endpoint
        own = Path(tempfile.mkdtemp(dir=directory))
        base_url = endpoint.base_url(**job.settings)
        config = write_config(own, job, base_url=base_url, dataset=self.dataset(job.rows))
        return self.watched("runner", job, runner_command(config), own, endpoint=endpoint, open_files=open_files)

    def reference(self, directory: Path, job: Job, kind: str = "tuned") -> Run:
        """Run one of the reference jobs. Raises ProcessError."""
        self._need_references()
        own = Path(tempfile.mkdtemp(dir=directory))
        command = [self.references, str(_bench() / "peers" / "raw_job.py"), kind, str(self.dataset(job.rows))]
        command += [self.endpoint.base_url(**job.settings), str(job.concurrency), str(own / "out.parquet")]
        return self.watched(f"raw_{kind}", job, command, own)

    def stream_reference(self, directory: Path, job: Job, mode: str) -> dict[str, Any]:
        """Run one loop of one client over streams; return what it measured of itself. Raises ProcessError."""
        self._need_references()
        command = [self.references, str(_bench() / "clients.py"), mode, "--url", self.endpoint.root, "--n", str(job.rows)]
        command += ["--conc", str(job.concurrency), "--chunks", str(job.chunks), "--set", f"gap={job.gap_ms:g}"]
        run = self.watched(mode, None, command, directory)
        found: dict[str, Any] = json.loads(run.process.output.strip().splitlines()[-1])
        return found

    def nemo_evaluator(self, directory: Path, job: Job) -> Run:
        """Run NVIDIA NeMo Evaluator on a job. Raises ProcessError, and MissingError where it is not installed."""
        if self.nemo is None:
            raise MissingError(
                "NeMo Evaluator is not named: `python -m venv nemo && nemo/bin/pip install nemo-evaluator`, then give"
                " `--nemo nemo/bin/python` (see tests/benchmarks/peers.md)"
            )
        own, data = Path(tempfile.mkdtemp(dir=directory)), str(self.dataset(job.rows))
        options = {
            "benchmark-module": str(_bench() / "peers" / "nemo_byob.py"),
            "benchmark-name": "mock_rows",
            "dataset": data,
            "output-dir": str(own),
            "model-url": self.endpoint.base_url(**job.settings),
            "model-id": MODEL,
            "model-type": "chat",
            "max-tokens": "256",
            "temperature": "0",
            "parallelism": str(job.concurrency),
        }
        listed = [word for name, value in options.items() for word in (f"--{name}", value)]
        command = [self.nemo, "-m", "nemo_evaluator.contrib.byob.runner", *listed, "--save-predictions"]
        return self.watched("NeMo", job, command, own, environment={"MOCK_DATA": data, "NEMO_EVALUATOR_TELEMETRY_ENABLED": "0"})

    def watched(
        self,
        name: str,
        job: Job | None,
        command: Sequence[str],
        directory: Path,
        *,
        endpoint: Endpoint | None = None,
        environment: Mapping[str, str] | None = None,
        open_files: int | None = None,
        expected: int | None = None,
        own_core: bool = True,
    ) -> Run:
        """Run a command on the client's core, or on all. Raises ProcessError where the endpoint saw a row twice, or never.

        `expected` is the number of rows where it is not the job's.
        """
        endpoint = endpoint or self.endpoint
        endpoint.reset()
        busy_s = endpoint.stats()["server_cpu_s"]
        process = watch(
            command,
            core=self.client_core if own_core else self.cores,
            directory=ROOT,
            environment=self._environment | dict(environment or {}),
            timeout_s=_TIMEOUT_S,
            open_files=open_files,
        )
        stats = endpoint.stats()
        if not stats["chat"]:
            raise ProcessError(f"{name} sent no request", process.output)
        rows = expected if expected is not None else job.rows if job is not None else None
        if rows is not None and (stats["distinct_ids"], stats["dup_ids"]) != (rows, 0):
            raise ProcessError(
                f"{name}: the endpoint saw {stats['distinct_ids']} of {rows} rows, {stats['dup_ids']} of them twice"
            )
        self.busiest = max(self.busiest, (stats["server_cpu_s"] - busy_s) / max(stats["span_s"], 0.1))
        job = job or Job(rows=stats["chat"], concurrency=1)
        run = Run(
            job=job,
            process=process,
            first=stats["first_t"],
            span_s=stats["span_s"],
            stats=stats,
            journal=next(iter(directory.glob("results/*/*Z-*/journal")), None),
        )
        self.say(f"{name}: {process.wall_s:.2f} s, first request after {run.startup_s:.2f} s, {run.cpu_us:.0f} us a request")
        return run

    def in_turn(self, first: Callable[[], _A], second: Callable[[], _B]) -> tuple[list[_A], list[_B]]:
        """Measure two things in turn, A B A B …, so that what disturbs one disturbs the other."""
        pairs = [(first(), second()) for _ in range(self.rounds)]
        return [one for one, _ in pairs], [other for _, other in pairs]

    @cached_property
    def _environment(self) -> dict[str, str]:
        """The environment without a key and without proxies; the runner's modules are compiled, as those of a package are."""
        found = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY" and "proxy" not in name.lower()}
        found.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT / "runner")], env=found, check=True)
        return found

    def _need_references(self) -> None:
        if not self._has_reference_packages:
            raise MissingError(
                f"the references need {_REFERENCE_PACKAGES}; install them, or name another Python with `--references PYTHON`"
            )


def watched_command(*words: str) -> Process:
    """Run a command of the runner that sends nothing, to its end. Raises ProcessError."""
    command, environment = [sys.executable, "-m", "runner", *words], dict(os.environ)
    return watch(command, core=None, directory=ROOT, environment=environment, timeout_s=600)


def _bench() -> Path:
    """Return the directory of the endpoint and the references. Raises MissingError."""
    if not _BENCH.is_dir():
        raise MissingError("needs ../shared/bench beside this directory: it has the endpoint, the data and the references")
    return _BENCH
