"""Evaluations from Python: in a script, a thread, a notebook or a coroutine, one or many at the same time.

Each runs in a thread that waits for it, the caller's or one of its own; what it sends goes through one loop in the background,
where evaluations of the same endpoint share its connections and limits. Nothing of the process is changed: no handler of a
signal, no logging, no setting of the garbage collector.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from runner.background import BACKGROUND
from runner.config.file import Source
from runner.datasets.given import Rows, rows_given
from runner.errors import RunnerError
from runner.evaluation import Evaluation, prepare
from runner.results.progress import Bar
from runner.results.run import Run
from runner.session import Session

__all__ = ["evaluate", "evaluate_async"]

_T = TypeVar("_T")
_LOOK_EVERY_S = 0.2
_INTERRUPTED = "stopped by SIGINT"


def evaluate(
    config: Source, *, overrides: Sequence[str] = (), data: Rows | None = None, resume: bool = False, progress: bool = True
) -> Run:
    """Run an evaluation, and return what came of it, also where it was stopped before its end (`run.stopped`).

    `config` is the path of a config file, or its content as a mapping. `overrides` are `KEY.PATH=VALUE`, as for `--set`. `data`
    takes the place of the config's rows: mappings, or a DataFrame. `resume` goes on with the config's latest run. `progress`
    shows a bar.

    Works in any thread, also where a loop is running; meanwhile the thread waits. Ctrl-C sends nothing more and lets what is in
    flight finish; once more drops that, and raises KeyboardInterrupt. Raises UsageError before anything is sent, with the text
    of the command line, and StorageError where results can no longer be kept.
    """
    return _Job(config, overrides, data, resume=resume, progress=progress).run()


async def evaluate_async(
    config: Source, *, overrides: Sequence[str] = (), data: Rows | None = None, resume: bool = False, progress: bool = True
) -> Run:
    """Run an evaluation as `evaluate` does, while the loop goes on.

    A cancellation sends nothing more and waits for what is in flight; once more drops that.
    """
    job = _Job(config, overrides, data, resume=resume, progress=progress)
    cancelled: asyncio.CancelledError | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="runner") as own_thread:
        running = asyncio.wrap_future(own_thread.submit(job.run))
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
                job.stop("cancelled")
    if cancelled is not None:
        running.exception()  # taken note of: the cancellation is what is raised
        raise cancelled
    return running.result()


class _Job:
    """One evaluation, from what was passed to what came of it."""

    def __init__(self, config: Source, overrides: Sequence[str], data: Rows | None, *, resume: bool, progress: bool) -> None:
        self._config, self._overrides, self._data = config, overrides, data
        self._resume, self._progress = resume, progress
        self._evaluation: Evaluation | None = None
        #: Why it is to stop, each time that this was said.
        self._stops: list[str] = []

    def run(self) -> Run:
        """Run it, in the thread that waits for it. Raises UsageError, StorageError, KeyboardInterrupt."""
        rows = None if self._data is None else rows_given(self._data)
        self._evaluation = evaluation = prepare(self._config, self._overrides, rows=rows, bar=None)
        if self._stops:
            evaluation.drain(self._stops[0])
        try:
            report = evaluation.run(resume=self._resume, session=_Waiting(evaluation, self, is_shown=self._progress))
        except Exception as error:
            cleaned = evaluation.redactor.text(str(error))
            if isinstance(error, RunnerError) or cleaned == str(error):
                raise
            raise RunnerError(cleaned) from None  # it holds a secret
        if self._stops[1:] == [_INTERRUPTED]:
            raise KeyboardInterrupt
        return Run(report.run)

    def stop(self, reason: str) -> None:
        """Send nothing more; when it is said again, drop what is in flight. May be called from any thread."""
        self._stops.append(reason)
        evaluation = self._evaluation
        if evaluation is not None:
            is_first = len(self._stops) == 1
            BACKGROUND.call((lambda: evaluation.drain(reason)) if is_first else evaluation.drop)


class _Waiting(Session):
    """Lets the requests of an evaluation be sent in the background, and waits for them."""

    def __init__(self, evaluation: Evaluation, job: _Job, *, is_shown: bool) -> None:
        super().__init__()
        self.endpoints = BACKGROUND.endpoints
        self._evaluation, self._job, self._is_shown = evaluation, job, is_shown

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Let a coroutine run in the background, wait for its end, and show progress; Ctrl-C may come at any place."""
        future, running = BACKGROUND.start(work), self._evaluation.running
        bar: Bar | None = None
        while True:
            try:
                done, _ = wait([future], timeout=_LOOK_EVERY_S)
                if running is not None and self._is_shown:
                    bar = bar or Bar(running.progress)
                    bar.draw(running.activity(), is_last=bool(done))
                if done:
                    return future.result()
            except KeyboardInterrupt:
                self._job.stop(_INTERRUPTED)
