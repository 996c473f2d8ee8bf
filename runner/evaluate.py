"""An evaluation from config to results: the one module that knows all the others.

1  config, dataset        checked before anything is sent
2  run directory          made, or found again and compared (`beginning`)
3  endpoint               transport ◄ client ◄ journal's start, try and control lines ◄ in flight ◄ counted by task
                          ◄ limits ◄ budget ◄ circuit ◄ retries
4  pipeline               samples ──► tasks ──► journal, progress
5  views                  journal ──► results.parquet, errors.parquet, evaluation.json
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from runner import jsontext
from runner.config.file import ConfigFile, literals
from runner.config.lookalikes import asking_the_same, mistakes_in_reading
from runner.config.model import Config, load_config
from runner.datasets import Dataset, ReadingOptions, open_dataset
from runner.endpoint.connect import client_of, gate_of, headers_of, missing_places, transport_of, with_room
from runner.endpoint.pacing.circuit import Circuit, Circuits
from runner.endpoint.pacing.health import Health
from runner.endpoint.pacing.limits import limited
from runner.endpoint.pacing.loop_lag import Pulse
from runner.endpoint.pacing.retry import RetryPolicy, retrying
from runner.errors import ConfigError, DatasetError, DatasetReadError, RunnerError, RunStopped, StorageError
from runner.keypaths import dotted
from runner.pipeline.attempts import known_good, noting_attempts
from runner.pipeline.beginning import Beginning, Begun, Resume
from runner.pipeline.budget import Budget
from runner.pipeline.pending import Remaining
from runner.pipeline.pipeline import InFlight, Pipeline, Step
from runner.pipeline.rehearsal import NoCalls, rehearse, send_nothing
from runner.pipeline.resume import Asked, identity_of
from runner.processes.pool import Calls, ProcessPool
from runner.results.closing import Report
from runner.results.progress import Progress, show_progress
from runner.results.views import bare_report, evaluation_object, load_late, make_views, report_of
from runner.secrets.redaction import Redactor, secrets_in
from runner.storage.files import FILES, FileSystem
from runner.storage.journal import Journal
from runner.storage.plan import Plan
from runner.storage.records import FORMAT, Close, Files, Open, end_of
from runner.storage.rundir import RunDir
from runner.structs import Struct, field
from runner.tasks.base import TaskConfig, wall_clock_us
from runner.tasks.order import effective_samples, inputs_of, order
from runner.templates.locators import written
from runner.types import Execute, Result, Sample

__all__ = ["Evaluation", "Resume", "prepare", "steps_of"]

_log = logging.getLogger(__name__)
_SAVE_EVERY_S = 10.0
_WATCH_EVERY_S = 0.2


class Evaluation(Struct, kw_only=True):
    """A checked evaluation, ready to run."""

    config: Config
    file: ConfigFile
    dataset: Dataset
    environment: Mapping[str, str]
    #: Takes every secret of this evaluation out of what is kept or shown.
    redactor: Redactor
    bar: bool = True
    #: Where the run is kept.
    files: FileSystem = FILES
    _pipeline: Pipeline | None = None
    #: Why the run is to stop, where that was said before it began.
    _drained: str | None = None
    _progress: Progress = field(default_factory=Progress)
    _budget: Budget | None = None
    #: As it stands in results; made once, for it is needed for every one.
    _endpoint: str | None = None
    #: How late the event loop was at worst, in seconds.
    _loop_lag_s: float | None = None
    _stop_survey: Event = field(default_factory=Event)
    #: What of the dataset could not be read.
    _unread: DatasetReadError | None = None
    _begun: Begun | None = None
    #: Whether `latest` leads to this run, or could not be made to.
    _is_linked: bool = False

    def run(self, *, resume: Resume | bool = False, loop: Callable[[Any], Any] = asyncio.run) -> Report:
        """Run, or resume, and write everything. Raises UsageError before anything is sent, StorageError later.

        `resume` may be True for the latest run.
        """
        asyncio.run(rehearse(self.dataset.first_rows, steps_of(self.config, send_nothing, NoCalls())))
        ordered = _ordered(self.config)
        beginning = Beginning(
            asked=Asked(config=self.config, file=self.file, dataset=self.dataset, redactor=self.redactor),
            files=self.files,
            tasks=[(task.name, samples) for task, samples, _ in ordered],
            inputs={task.name: read for task, _, read in ordered},
        )
        with self.redactor.in_logs():
            begun = beginning.begin(Resume() if resume is True else resume or None)
            remaining = Remaining(dataset=self.dataset, tasks=beginning.tasks, ledger=begun.ledger, retried=begun.retried)
            try:
                if begun.is_finished:
                    return report_of(begun.run, stopped=None, known=begun.ledger)
                self._begun = begun
                return self._run_in(begun, remaining, loop)
            finally:
                begun.end()

    def _run_in(self, begun: Begun, remaining: Remaining, loop: Callable[[Any], Any]) -> Report:
        run, ledger = begun.run, begun.ledger
        secrets = self.config.secrets(self.environment)
        if ledger is None:
            run.write_config(self.file.rerunnable_text(self.redactor.text))
        else:
            self._progress.initial_errors = ledger.failed - sum(map(ledger.errors_of, begun.retried))
            self._progress.initial = ledger.succeeded + self._progress.initial_errors
            if ledger.succeeded:
                self._link(run)
        limits = self.config.limits
        used = 0 if ledger is None else ledger.tokens
        self._endpoint = self.config.endpoint.name or None
        self._budget = Budget(
            max_tokens=limits.max_tokens,
            max_error_rate=limits.max_error_rate,
            tokens=used,
            tokens_per_minute=limits.tokens_per_minute,
        )
        try:
            stopped = self._fill_journal(begun, remaining, secrets, loop)
            if stopped is None:
                self._link(run)
            return self._make_views(run, remaining, stopped=stopped)
        except Exception as error:
            reason = self.redactor.text(str(error)) or type(error).__name__
            with suppress(Exception):  # what is kept can be looked at, where the disk still has room for it
                run.write_evaluation(self._status(run) | {"status": "failed", "status_reason": reason})
                self._make_views(run, remaining, stopped=reason)
            raise

    @property
    def run_dir(self) -> RunDir | None:
        """The run that was begun; None before that."""
        return None if self._begun is None else self._begun.run

    def report(self, reason: str) -> Report:
        """Return what a run has come to that ended for this reason before it could say so. Raises nothing on purpose."""
        assert self.run_dir is not None
        try:
            return report_of(self.run_dir, stopped=reason)
        except RunnerError:  # there is no room for the table of its lines, or there are none
            self._progress.advance()
            errors = self._progress.initial_errors + self._progress.errors
            return bare_report(self.run_dir, stopped=reason, results=self._progress.done - errors, errors=errors)

    def _link(self, run: RunDir) -> None:
        """Make `latest` lead to this run: something was answered, or it has finished. Without the link a run goes on."""
        if not self._is_linked:
            self._is_linked = True
            try:
                run.point_latest_here()
            except StorageError as error:
                _log.warning("%s; this run is %s", error, run.path)

    def _fill_journal(
        self, begun: Begun, remaining: Remaining, secrets: Sequence[str], loop: Callable[[Any], Any]
    ) -> str | None:
        """Do the work; return why it was stopped early, or None. Raises StorageError."""
        run = begun.run
        journal = Journal(run.journal, secrets=secrets, on_synced=self._synced, files=self.files)
        stopped: str | None = None
        try:
            opening = self._open_line(begun, remaining)
            for _ in range(2):  # twice, for a flipped bit in the only one would cost the run
                journal.append(opening)
            journal.sync()  # what follows is of no use without it
            run.write_evaluation(self._status(run))
            stopped = loop(self._pipe(run, journal, remaining))
            stopped = None if stopped is None else self.redactor.text(stopped)  # it may hold a server's words
            damaged = [self._unread.file] if self._unread is not None and self._unread.damaged else []
            journal.append(Close(at=wall_clock_us(), reason=stopped, damaged=damaged))
        finally:
            journal.close()
        return stopped

    def _make_views(self, run: RunDir, remaining: Remaining, *, stopped: str | None) -> Report:
        expected = remaining.items * Plan(remaining.tasks).width if remaining.exhausted else None
        with run.making_views():
            return make_views(
                run,
                stopped=stopped,
                expected=expected,
                tasks=self._tasks(),
                about=self._about(),
                loop_lag_s=self._loop_lag_s,
                known=remaining.ledger,
            )

    def drain(self, reason: str) -> int:
        """Send nothing more; return how many requests are in flight, which may finish within `limits.drain` seconds."""
        self._drained = reason
        self._stop_survey.set()
        if self._pipeline is None:
            return 0
        self._pipeline.drain(reason, within=self.config.limits.drain)
        return len(self._pipeline.in_flight.workers)

    def drop(self) -> None:
        """End at once, without what is in flight."""
        if self._pipeline is not None:
            self._pipeline.drop()

    def errors_allowed(self, rows: int) -> float:
        """Return how many of so many rows may be errors before the exit code says so."""
        allowed = self.config.limits.fail_on_error
        return allowed * rows if isinstance(allowed, float) else allowed

    async def _pipe(self, run: RunDir, journal: Journal, remaining: Remaining) -> str | None:
        """Run the pipeline; return why it was stopped early, or None."""
        assert self._budget is not None
        limits = self.config.limits
        in_flight, pulse, apart = InFlight(), Pulse(), ProcessPool()
        transport = transport_of(self.config, self.environment)
        client = client_of(self.config, transport, headers_of(self.config, self.environment))
        gate = gate_of(self.config, left=lambda: self._progress.left)

        def circuit_of(task: str) -> Circuit:
            found = known_good(remaining.ledger, next(step.task for step in steps if step.task.alias == task))
            health = Health(found, has_fresh=pipeline.has_fresh, give_up_after=limits.give_up_after, lag_s=pulse.late_s)
            return Circuit(health, send, give_up_after=limits.give_up_after, on_back=gate.slots.restart)

        circuits = Circuits(circuit_of)
        send = circuits.counting(in_flight.watch(noting_attempts(client.send, journal, self._progress)))
        send = self._budget.watching(limited(send, gate))
        policy = RetryPolicy(max_attempts=limits.max_attempts, longest_s=limits.max_row_time)
        execute = retrying(policy, circuits, aside=lambda: pipeline.aside())  # noqa: PLW0108  it is made below
        steps = steps_of(self.config, execute, apart)
        self._pipeline = pipeline = Pipeline(
            steps=steps,
            samples=self._samples(remaining),
            concurrency=limits.concurrency,
            sink=lambda result: self._keep(result, run, journal),
            known=remaining.known,
            in_flight=in_flight,
            drain_s=limits.drain,
            on_exhausted=circuits.tell,
        )
        survey = asyncio.create_task(self._survey(journal, remaining))
        beside = [survey, *(asyncio.create_task(one) for one in self._beside(run, journal, pipeline, pulse))]
        gc.freeze()
        if self._drained is not None:
            pipeline.drain(self._drained)
        try:
            await pipeline.run()
            if pipeline.stopped is None:
                await asyncio.wait([survey])  # a short run is over before it, and a resume compares with what it finds
        finally:
            self._stop_survey.set()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            self._loop_lag_s = round(max(pulse.worst_s, pulse.late_s()), 3)
            await apart.close()
            await transport.close()
        return pipeline.stopped or (str(self._unread) if self._unread is not None else None)

    def _samples(self, remaining: Remaining) -> Iterator[Sample | None]:
        """Yield the samples; where the dataset cannot be read on, those before are the last ones."""
        try:
            yield from remaining
        except DatasetReadError as error:
            self._unread = error
            _log.warning("%s", error)
        else:
            self._progress.total = remaining.items * Plan(remaining.tasks).width

    def _beside(self, run: RunDir, journal: Journal, pipeline: Pipeline, pulse: Pulse) -> Iterator[Any]:
        """Yield what goes on beside the pipeline."""

        def activity() -> tuple[int, int]:
            flying = len(pipeline.in_flight.workers)
            return flying, max(0, pipeline.active - flying)

        yield show_progress(self._progress, activity=activity, bar=self.bar)
        yield self._save_status(run)
        yield self._watch(journal, pipeline)
        yield pulse.beat()
        yield _load_views(pipeline.exhausted, self._progress)
        if self.config.limits.max_wall_time is not None:
            yield _end_after(self.config.limits.max_wall_time, pipeline)

    async def _survey(self, journal: Journal, remaining: Remaining) -> None:
        """Learn the dataset's total and identity in a thread, and write the identity down for a resume."""
        width = Plan(remaining.tasks).width
        if self.dataset.total is not None:
            self._progress.total = self.dataset.total * width
        survey = await asyncio.to_thread(self.dataset.survey, self._stop_survey)
        if survey is None:
            return
        journal.append(Files(files=[(file.name, file.size, file.sha256) for file in survey.identities]))
        if survey.total is not None:
            self._progress.total = survey.total * width

    async def _save_status(self, run: RunDir) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            with suppress(StorageError):  # the journal is what must be written; it says so itself when it cannot be
                await asyncio.to_thread(run.write_evaluation, self._status(run))

    async def _watch(self, journal: Journal, pipeline: Pipeline) -> None:
        """End the run when its journal can no longer be kept, also while no answer comes that would find it out."""
        while journal.failure is None:  # noqa: ASYNC110  it is set by another thread
            await asyncio.sleep(_WATCH_EVERY_S)
        pipeline.fail(journal.failure)

    def _keep(self, result: Result, run: RunDir, journal: Journal) -> None:
        assert self._budget is not None
        if not self._is_linked and not result.failed:
            self._link(run)
        line = journal.append(end_of(result, self._endpoint, ran_us=journal.ran_us))
        self._progress.note(result, line)
        if (reason := self._budget.note(result)) is not None:
            raise RunStopped(reason, hurry=False)

    def _synced(self, lines: int) -> None:
        self._progress.synced_lines = lines

    def _open_line(self, begun: Begun, remaining: Remaining) -> Open:
        return Open(
            format=FORMAT,
            run_id=begun.run.run_id,
            name=self.config.name,
            at=wall_clock_us(),
            host=socket.gethostname(),
            pid=os.getpid(),
            tasks=list(remaining.tasks),
            identity=identity_of(self.config),
            files=self.dataset.sizes(),
            concurrency=self.config.limits.concurrency,
            limit=self.config.dataset.limit,
            changed=list(begun.changed),
        )

    def _about(self) -> dict[str, Any]:
        config = self.config
        about: dict[str, Any] = self._cleaned(
            {
                "name": config.name,
                "description": config.description,
                "tags": config.tags,
                "metadata": config.metadata,
            }
        )
        return about

    def _tasks(self) -> list[Any]:
        return list(self._cleaned(self.file.document.get("tasks", [])))

    def _cleaned(self, value: Any) -> Any:
        return jsontext.decode(self.redactor.json(jsontext.encode(value)))

    def _status(self, run: RunDir) -> dict[str, Any]:
        progress = self._progress
        errors = progress.initial_errors + progress.errors
        return evaluation_object(run, self._about(), self._tasks(), status="running") | {
            "error_count": errors,
            "totals": {"results": progress.done - errors, "expected": progress.total},
        }


def prepare(
    path: Path, overrides: Sequence[str] = (), *, environment: Mapping[str, str] | None = None, bar: bool = False
) -> Evaluation:
    """Read and check a config and open its dataset. Raises UsageError with everything that is wrong."""
    environment = os.environ if environment is None else environment
    config, file = load_config(path, overrides, environment)
    redactor = Redactor(config.secrets(environment))
    dataset = open_dataset(
        path=config.dataset.path,
        data=config.dataset.data,
        id_column=config.dataset.id,
        limit=config.dataset.limit,
        shuffle=config.dataset.shuffle,
        options=ReadingOptions.of(config.dataset),
    )
    mistakes = file.described(list(mistakes_in_reading(config.tasks, dataset)))
    mistakes += [
        f"{file.place(('endpoint', key))}: endpoint.{key}: {what}" for key, what in missing_places(config, environment)
    ]
    if mistakes:
        raise ConfigError(list(map(redactor.text, mistakes)))
    _warn_of_secrets(file)
    if not dataset.first_rows:
        raise DatasetError(f"{', '.join(config.dataset.path or ['data'])}: the dataset has no rows, so there is nothing to ask")
    _warn_of_the_same(config, file, dataset)
    return Evaluation(
        config=with_room(config),
        file=file,
        dataset=dataset,
        environment=environment,
        redactor=redactor,
        bar=bar,
    )


def _warn_of_secrets(file: ConfigFile) -> None:
    """Name the places where the config itself holds a secret: it is read by more people than the environment is."""
    remedy = "put it into an environment variable and write ${NAME} in its place"
    for place in dict.fromkeys(place for place, _ in secrets_in(literals(file.document))):
        _log.warning("%s: %s: holds a secret as text; %s", file.place(place), dotted(place), remedy)


def _warn_of_the_same(config: Config, file: ConfigFile, dataset: Dataset) -> None:
    """Say where every row would ask the same; it may be meant, as for a load."""
    if (place := asking_the_same(config.tasks)) is not None:
        columns = ", ".join(written(name) for name in dataset.first_rows[0])
        what = "no request reads the dataset, so every row asks the same"
        _log.warning("%s: %s: %s; there is: %s", file.place(place), dotted(place), what, columns or "no column")


def steps_of(config: Config, execute: Execute, calls: Calls) -> list[Step]:
    """Return the tasks, each after those it reads; `calls` does apart what could hold up the program."""
    files = config.media_files
    return [
        Step(task=task.build(execute, files, calls), samples=count, inputs=read, judges=task.judges)
        for task, count, read in _ordered(config)
    ]


def _ordered(config: Config) -> list[tuple[TaskConfig, int, Sequence[str]]]:
    """Return each task with its samples and inputs, in order of dependency."""
    tasks = {task.name: task for task in config.tasks}
    inputs = {name: inputs_of(task.settings.verbatim, list(tasks)) for name, task in tasks.items()}
    samples = effective_samples({name: task.samples for name, task in tasks.items()}, inputs)
    return [(tasks[name], samples[name], inputs[name]) for name in order(inputs)]


async def _load_views(all_taken: asyncio.Event, progress: Progress) -> None:
    """Load what the Parquet files need while answers are on their way: at the end nobody wants to wait for it.

    It keeps the event loop from its work for some tenths of a second, so that it is not done before half of the run is over:
    many a run is stopped soon after its start.
    """
    while not all_taken.is_set() and not progress.is_half_done:
        with suppress(TimeoutError):
            await asyncio.wait_for(all_taken.wait(), _WATCH_EVERY_S)
    await asyncio.to_thread(load_late)


async def _end_after(seconds: float, pipeline: Pipeline) -> None:
    await asyncio.sleep(seconds)
    remedy = "resume for as long again, or raise limits.max_wall_time"
    pipeline.stop(f"{seconds:g} s of this start have passed; {remedy}", hurry=True)
