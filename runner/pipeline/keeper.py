"""Keeps a run on disk: the lines of its journal, `latest` and evaluation.json while it goes on, and the views at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any

from runner import jsontext
from runner.errors import DatasetReadError, RunnerError, StorageError
from runner.logs import logger
from runner.pipeline.beginning import Begun
from runner.pipeline.keeping import Keeper
from runner.pipeline.pending import Pending
from runner.pipeline.resume import Asked, open_line
from runner.results.closing import Report
from runner.results.evaluation_json import About, evaluation_object, final_status
from runner.results.views import bare_report, make_views, report_of, rescored_from
from runner.storage.journal import Journal
from runner.storage.records import Close, Files
from runner.storage.rundir import RunDir
from runner.structs import replace
from runner.tasks.base import wall_clock_us
from runner.tasks.mediatype import with_data_urls
from runner.types import Result, Sample

__all__ = ["RunKeeper"]

_log = logger(__name__)
_SAVE_EVERY_S = 10.0


class RunKeeper(Keeper, kw_only=True):
    """Keeps the results of a run."""

    asked: Asked
    begun: Begun
    pending: Pending
    #: Values that must not reach the journal.
    secrets: Sequence[str]
    #: Returns the prices that were used; None if no prices are set.
    prices_used: Callable[[], Mapping[str, Any]] | None = None
    #: The engine of the workers of the run, if it has any.
    engine: str | None = None
    #: A sentence about the end of the workers, once they have ended.
    workers: str | None = None
    #: Whether the Parquet files are made at the end; else they are made from the journal when they are wanted.
    views: bool = True
    #: Whether answers come in batches, so that results that are missing at the end are waited for.
    batched: bool = False
    #: Whether the run waits for them now.
    waits: bool = False
    _is_closed: bool = False
    #: Why the dataset could not be read to its end.
    _unread: DatasetReadError | None = None
    #: The size of the whole dataset, without its limit, if that is known.
    _whole: int | None = None
    #: The prices that earlier starts used.
    _prices_before: Mapping[str, Any] | None = None
    #: Whether `latest` points to this run, or setting the link failed.
    _is_linked: bool = False

    @property
    def run(self) -> RunDir:
        """The run directory."""
        return self.begun.run

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep the journal open within the block; after an exception the status and the views are written too."""
        try:
            try:
                self._begin()
                yield
            finally:
                self._close_journal()
        except Exception as error:
            reason = self.asked.redactor.text(str(error)) or type(error).__name__
            with suppress(Exception):  # the disk may be full
                self.run.write_evaluation(self._status() | {"status": "failed", "status_reason": reason})
                self._make_views(reason)
            raise

    def _begin(self) -> None:
        """Take over the counts of earlier starts, and write the first lines of this start. Raises StorageError."""
        run, ledger = self.run, self.begun.ledger
        if ledger is None:
            self._write_config()
        else:
            self.progress.initial_errors = ledger.failed - sum(map(ledger.errors_of, self.begun.retried))
            self.progress.initial = ledger.succeeded + self.progress.initial_errors
            if ledger.succeeded:
                self.link()
            self._prices_before = run.read_evaluation().get("prices_used")
            if self.progress.cost is not None:
                self.progress.cost = ledger.cost
        self._journal = Journal(run.journal, secrets=self.secrets, on_synced=self._synced, files=run.files)
        opening = open_line(
            run,
            self.asked,
            self.pending.tasks,
            self.begun.changed,
            rescored=None if ledger is None else ledger.rescored,
            engine=self.engine,
            batched=self.batched,
        )
        for _ in range(2):  # twice, because a flipped bit in the only one would cost the run
            self._journal.append(opening)
        self._journal.sync()  # the lines that follow are of no use without it
        run.write_evaluation(self._status())

    def _write_config(self) -> None:
        """Keep the config, and the rows if no file has them, so that the run can be repeated."""
        file, dataset = self.asked.file, self.asked.dataset
        if dataset.is_given:
            rows = (self.asked.redactor.json(jsontext.encode(with_data_urls(row))) for row in dataset.inline)
            file = file.reading(path=str(self.run.write_rows(rows)))
        file = file.naming(self.asked.config.plugged_files)  # the copy lies elsewhere
        self.run.write_config(file.rerunnable_text(self.asked.redactor.text))

    def _close_journal(self) -> None:
        if self._journal is not None and not self._is_closed:
            self._is_closed = True
            self._journal.close()

    @property
    def asks(self) -> bool:
        """Whether anything is asked; if not, only known answers are judged."""
        return self.begun.asks

    @property
    def makes_views(self) -> bool:
        """Whether the Parquet files are made here: they are, by `finish`."""
        return True

    def close_samples(self) -> None:
        """End the thread that reads ahead, if there is one."""
        self.pending.close()

    def samples(self) -> Iterator[Sample | None]:
        """Yield the samples, up to the row at which the dataset becomes unreadable."""
        try:
            yield from self.pending
        except DatasetReadError as error:
            self.cannot_read(error)
        else:
            self.progress.total = self.pending.expected

    def cannot_read(self, error: DatasetReadError) -> None:
        """Note that the dataset cannot be read further; the rows before that are asked."""
        self._unread = error
        _log.warning("%s", error)

    def all_seen(self, items: int) -> None:
        """Note that all items were seen, and how many there are."""
        self.pending.items, self.pending.exhausted = items, True
        self.progress.total = self.pending.expected

    @property
    def unread(self) -> str | None:
        """Why the dataset could not be read to its end, or None."""
        return None if self._unread is None else str(self._unread)

    def missing(self, unasked: int) -> str | None:
        """Return why a run that was not stopped lacks results, or None. `unasked` units needed a request and got none."""
        if unasked and self.batched:
            self.waits = True
            return f"waits for batch results: {unasked} requests have no answer yet"
        if unasked:
            return f"{unasked} results are missing, and nothing is asked; `rescore` with --ask asks for them"
        return self.begun.lacks

    def keep(self, result: Result, endpoint: str | None) -> None:
        """Write a result to the journal, and let `latest` point here at the first answer. Raises StorageError."""
        if not self._is_linked and not result.failed and not result.skipped:
            self.link()
        super().keep(result, endpoint)

    def finish(self, stopped: str | None) -> Report:
        """Close the journal of a run that ended, or was stopped for a reason, and make the views. Raises StorageError."""
        stopped = None if stopped is None else self.asked.redactor.text(stopped)  # it may quote a server
        damaged = [self._unread.file] if self._unread is not None and self._unread.damaged else []
        self.journal.append(Close(at=wall_clock_us(), reason=stopped, damaged=damaged))
        self._close_journal()
        if stopped is None:
            self.link()
        return replace(self._make_views(stopped), workers=self.workers)

    def _make_views(self, stopped: str | None) -> Report:
        if not self.views:
            self.run.write_evaluation(self._status() | {"status": final_status(stopped), "status_reason": stopped})
            return self._bare(stopped)
        with self.run.making_views():
            return make_views(
                self.run,
                stopped=stopped,
                expected=self.pending.expected,
                about=self._about(),
                document=self.asked.file.document,
                status="running" if self.waits else None,
                loop_lag_s=self.loop_lag_s,
                known=self.pending.ledger,
                prices_used=self._prices_used(),
                whole=self._whole,
            )

    def report(self, reason: str) -> Report:
        """Return the report of a run that broke off before `finish`; only counts if its journal cannot be read."""
        try:
            return report_of(self.run, stopped=reason)
        except RunnerError:  # the disk has no room for the ledger, or the journal has no line
            return self._bare(reason)

    def _bare(self, reason: str | None) -> Report:
        self.progress.advance()
        errors = self.progress.initial_errors + self.progress.errors
        return bare_report(self.run, stopped=reason, results=self.progress.done - errors, errors=errors)

    def link(self) -> None:
        """Point `latest` to this run, which has an answer or has finished. If that fails, the run goes on."""
        if not self._is_linked:
            self._is_linked = True
            try:
                self.run.point_latest_here()
            except StorageError as error:
                _log.warning("%s; this run is %s", error, self.run.path)

    async def survey(self) -> None:
        """Find the total and the identity of the dataset in a thread, and write the identity to the journal for a resume."""
        dataset, width = self.asked.dataset, self.pending.width
        if dataset.total is not None:
            self.progress.total = dataset.total * width
        survey = await asyncio.to_thread(dataset.survey, self.stop_survey)
        if survey is None:
            return
        self._whole = survey.whole
        self.journal.append(Files(files=[(file.name, file.size, file.content) for file in survey.identities]))
        if survey.total is not None:
            self.progress.total = survey.total * width

    def beside(self) -> Iterable[Coroutine[Any, Any, None]]:
        """Return the tasks that save the status and count the rows."""
        return self.save_status(), self._count_rows()

    async def _count_rows(self) -> None:
        """Count the rows in a thread, for the progress display, if the survey does not give the total."""
        stop = Event()
        try:
            total = await asyncio.to_thread(self.asked.dataset.count, stop)
        finally:
            stop.set()
        if total is not None and self.progress.total is None:
            self.progress.total = total * self.pending.width

    async def save_status(self) -> None:
        """Write evaluation.json every ten seconds, until cancelled."""
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            writing = asyncio.create_task(asyncio.to_thread(self.run.write_evaluation, self._status()))
            with suppress(StorageError):  # the journal reports its own failures, and this file may fail
                try:
                    await asyncio.shield(writing)
                except asyncio.CancelledError:
                    await asyncio.wait([writing])  # or it would overwrite the final status with "running"
                    raise

    def _status(self) -> dict[str, Any]:
        progress = self.progress
        errors = progress.initial_errors + progress.errors
        return evaluation_object(self.run.run_id, self._about(), status="running", prices_used=self._prices_used()) | {
            "error_count": errors,
            "totals": {"results": progress.done - errors, "expected": progress.total},
            **rescored_from(self.begun.ledger),
        }

    def _prices_used(self) -> Mapping[str, Any] | None:
        """Return the prices of all starts; for each model the latest ones."""
        before = self._prices_before
        if self.prices_used is None or before is None:
            return before if self.prices_used is None else self.prices_used()
        now = self.prices_used()
        return {**before, **now, "models": {**before.get("models", {}), **now["models"]}}

    def _about(self) -> About:
        config, redactor = self.asked.config, self.asked.redactor
        said = {
            "name": config.name,
            "description": config.description,
            "tags": config.tags,
            "metadata": config.metadata,
            "tasks": self.asked.file.document.get("tasks", []),
            "plug_ins": config.plug_ins,
        }
        return About(**jsontext.decode(redactor.json(jsontext.encode(said))))
