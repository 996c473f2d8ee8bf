"""Evaluations from Python: in a script, a thread, a notebook or a coroutine, one or many at the same time.

Each evaluation runs in its own thread, and the caller waits for it. All requests run in one background loop, where evaluations
of the same endpoint share its connections and limits. The process stays as it is: its signal handlers, its logging and the
settings of its garbage collector.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from runner.analysis.naming import named_run
from runner.background import BACKGROUND
from runner.config.file import Source
from runner.datasets.given import GivenRows, rows_given
from runner.errors import RunnerError
from runner.evaluation import Evaluation, prepare
from runner.pipeline.rescoring import Rescoring, opened_rescoring
from runner.results.progress import Bar
from runner.results.run import Run
from runner.session import Session

__all__ = ["evaluate", "evaluate_async", "rescore"]

_T = TypeVar("_T")
_LOOK_EVERY_S = 0.2
_INTERRUPTED = "stopped by SIGINT"


def evaluate(
    config: Source,
    *,
    overrides: Sequence[str] = (),
    data: GivenRows | None = None,
    resume: bool = False,
    processes: int | None = None,
    progress: bool = True,
) -> Run:
    """Run an evaluation and return the run, also if it was stopped before its end (`run.stopped`).

    `config` is the path of a config file, or its content as a mapping. `overrides` are `KEY.PATH=VALUE`, as for `--set`. `data`
    replaces the rows of the config: mappings, or a DataFrame. `resume` goes on with the config's latest run. `processes` is the
    number of worker processes. `progress` shows a bar.

    It works in any thread, also in one with a running loop, and blocks that thread. Ctrl-C sends nothing more and waits for
    what is in flight; a second one drops that and raises KeyboardInterrupt. Raises UsageError before anything is sent, with the
    text of the command line, and StorageError if results can no longer be kept.
    """
    return _waited_for(_Job(config, [*overrides, *_on(processes)], data, resume=resume), progress=progress)


def rescore(
    run: str | Path | Run,
    config: Source,
    *,
    ask: bool = False,
    fresh_rows: bool = False,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> Run:
    """Judge the answers of a run again, in a new run, and return the new run. Nothing is sent.

    `run` is a directory, a run, or a name such as `NAME`, `NAME~1` or `NAME@baseline`. `config` must have the same tasks that
    ask; its metrics may differ. `ask` sends requests for what the run has no answer to, such as the verdicts of a new judge.
    `fresh_rows` takes the rows from the config's dataset, matched by name, instead of those of the run.

    Everything else is as in `evaluate`. Raises UsageError if the run does not have the answers that the config needs.
    """
    with opened_rescoring(named_run(run), asks=ask, fresh_rows=fresh_rows) as rescoring:
        return _waited_for(_Job(config, overrides, None, resume=False, rescoring=rescoring), progress=progress)


def _on(processes: int | None) -> list[str]:
    """Return the overrides for a run in worker processes."""
    return [] if processes is None else ["engine.kind=processes", f"engine.workers={processes}"]


def _waited_for(job: _Job, *, progress: bool) -> Run:
    """Run a job in its own thread, and wait for it."""
    with ThreadPoolExecutor(1, thread_name_prefix="runner") as own_thread:
        running = own_thread.submit(job.run)
        bar: Bar | None = None
        while not running.done():
            try:
                wait([running], timeout=_LOOK_EVERY_S)
                bar = job.draw(bar) if progress else None
            except KeyboardInterrupt:
                job.stop(_INTERRUPTED)
        if bar is not None:
            bar.close()
    if job.stops > 1:
        raise KeyboardInterrupt
    return running.result()


async def evaluate_async(
    config: Source,
    *,
    overrides: Sequence[str] = (),
    data: GivenRows | None = None,
    resume: bool = False,
    processes: int | None = None,
    progress: bool = True,
) -> Run:
    """Run an evaluation as `evaluate` does, without blocking the loop.

    A cancellation sends nothing more and waits for the requests in flight; a second one drops them.
    """
    job = _Job(config, [*overrides, *_on(processes)], data, resume=resume)
    cancelled: asyncio.CancelledError | None = None
    bar: Bar | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="runner") as own_thread:
        running = asyncio.wrap_future(own_thread.submit(job.run))
        while not running.done():
            try:
                await asyncio.wait([running], timeout=_LOOK_EVERY_S)
                bar = job.draw(bar) if progress else None
            except asyncio.CancelledError as error:
                cancelled = error
                job.stop("cancelled")
    if bar is not None:
        bar.close()
    if cancelled is not None:
        running.exception()  # marks it as seen; the cancellation is raised instead
        raise cancelled
    return running.result()


class _Job:
    """One evaluation, from its arguments to its run."""

    def __init__(
        self,
        config: Source,
        overrides: Sequence[str],
        data: GivenRows | None,
        *,
        resume: bool,
        rescoring: Rescoring | None = None,
    ) -> None:
        self._config, self._overrides, self._data, self._resume = config, overrides, data, resume
        self._rescoring = rescoring
        self._evaluation: Evaluation | None = None
        #: The reason of each request to stop, in order.
        self._reasons: list[str] = []

    @property
    def stops(self) -> int:
        """How often it was asked to stop."""
        return len(self._reasons)

    def run(self) -> Run:
        """Run it; the calling thread waits. Raises UsageError, StorageError."""
        rows = None if self._data is None else rows_given(self._data)
        self._evaluation = evaluation = prepare(self._config, self._overrides, rows=rows, rescoring=self._rescoring, bar=None)
        if self._reasons:
            evaluation.drain(self._reasons[0])
        unclean: str | None = None
        try:
            return Run(evaluation.run(resume=self._resume, session=_BackgroundSession()).run)
        except Exception as error:
            cleaned = evaluation.redactor.text(str(error))
            if isinstance(error, RunnerError) or cleaned == str(error):
                raise
            unclean = cleaned
        raise RunnerError(unclean)  # the error itself holds a secret, and would be shown as the cause of this one

    def stop(self, reason: str) -> None:
        """Send nothing more; the second time, drop what is in flight. May be called from any thread."""
        self._reasons.append(reason)
        evaluation, is_first = self._evaluation, self.stops == 1
        if evaluation is not None:
            BACKGROUND.call((lambda: evaluation.drain(reason)) if is_first else evaluation.drop)

    def draw(self, bar: Bar | None) -> Bar | None:
        """Show progress once the run has begun; return the bar."""
        running = None if self._evaluation is None else self._evaluation.running
        if running is None:
            return bar
        bar = bar or Bar(running.progress)
        bar.draw(running.activity())
        return bar


class _BackgroundSession(Session):
    """Sends requests from the background loop, and waits for them."""

    def __init__(self) -> None:
        super().__init__(BACKGROUND.endpoints)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end in the background loop."""
        return BACKGROUND.start(work).result()
