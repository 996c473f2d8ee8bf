"""The supervisor: it runs evaluations, up to a limit at a time, resumes them after a kill, and drains them at the end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from runner.endpoint.shared import Endpoints
from runner.evaluation import Evaluation, Resume
from runner.logs import logger
from runner.results.views import export
from runner.service.beginning import evaluation_of
from runner.service.settings import ServiceConfig
from runner.service.standing import Standings
from runner.service.store import COMPLETED, FAILED, RUNNING, STOPPED, Record, Store
from runner.service.watch import Goes
from runner.session import Session
from runner.structs import Struct, field, replace

__all__ = ["Supervisor"]

_log = logger(__name__)
_T = TypeVar("_T")
#: With more results than this, a process makes the Parquet files: a thread would keep other threads waiting.
_MOST_IN_A_THREAD = 5000


class _LoopSession(Session):
    """Sends requests from the event loop of the service, while the thread of the evaluation waits."""

    def __init__(self, endpoints: Endpoints, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(endpoints)
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end in the event loop of the service."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Supervisor(Struct):
    """The evaluations that run, and those that wait to run."""

    settings: ServiceConfig
    store: Store
    standings: Standings
    endpoints: Endpoints = field(default_factory=Endpoints)
    #: The running evaluations by id, without those that wait.
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    draining: bool = False
    #: The requests that are passed on for clients.
    guests: set[asyncio.Future[Any]] = field(default_factory=set)
    _jobs: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    #: Held while the tasks of an evaluation are changed.
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _places: asyncio.Semaphore | None = None
    _threads: ThreadPoolExecutor | None = None
    #: Why evaluations were called off, by id.
    _called_off: dict[str, str] = field(default_factory=dict)
    #: The ids of evaluations that no longer wait to run.
    _begun: set[str] = field(default_factory=set)

    def start(self) -> None:
        """Resume the evaluations that were running, the oldest first. Call it within the event loop."""
        self._places = asyncio.Semaphore(self.settings.limits.running)
        self._threads = ThreadPoolExecutor(self.settings.limits.running, thread_name_prefix="evaluation")
        for record in self.store.all:
            if record.status == RUNNING and record.called_off is None:
                self.submit(record)
            elif record.status == RUNNING:
                self._keep(record, asyncio.create_task(self._end(record, record.called_off)))

    def submit(self, record: Record, resume: Resume | None = None) -> None:
        """Run an evaluation as soon as fewer than `limits.running` run."""
        self._called_off.pop(record.id, None)
        self._keep(record, asyncio.create_task(self._run(record, resume or Resume())))

    def _keep(self, record: Record, job: asyncio.Task[None]) -> None:
        self._jobs[record.id] = job

        def forget(_job: object) -> None:
            if self._jobs.get(record.id) is job:
                del self._jobs[record.id]

        job.add_done_callback(forget)

    def going(self) -> dict[str, Goes]:
        """Return the running evaluations by id."""
        return {one: evaluation.running for one, evaluation in list(self.evaluations.items()) if evaluation.running is not None}

    @property
    def count(self) -> int:
        """How many evaluations run or wait to."""
        return len(self._jobs)

    def stop(self, record: Record, reason: str) -> None:
        """Drain an evaluation: no more requests are sent."""
        self._called_off[record.id] = reason
        if record.id in self._jobs and record.id not in self._begun:
            self._jobs[record.id].cancel()
            if reason != STOPPED:
                self._keep(record, asyncio.create_task(self._end(record, reason)))
            return
        if (evaluation := self.evaluations.get(record.id)) is not None:
            evaluation.drain(reason)

    async def pause(self, record: Record) -> None:
        """Stop an evaluation that goes on later, and wait for its end."""
        if record.status == RUNNING:
            self.stop(record, STOPPED)
        if (job := self._jobs.get(record.id)) is not None:
            await asyncio.wait([job])

    async def drain(self) -> None:
        """Drain all evaluations, which go on at the next start of the service."""
        self.draining = True
        for record in [self.store.records[one] for one in self._jobs]:
            self.stop(record, STOPPED)
        guests = asyncio.create_task(self._see_off())
        await asyncio.wait([*self._jobs.values(), guests])
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def drop(self) -> None:
        """End at once, and drop the requests in flight."""
        for evaluation in list(self.evaluations.values()):
            evaluation.drop()
        for guest in self.guests:
            guest.cancel()

    async def _see_off(self) -> None:
        """Let the requests of clients finish, within the longest `limits.drain`."""
        if self.guests:
            within = max(one.limits.drain for one in self.settings.endpoints.values())
            _, late = await asyncio.wait(self.guests, timeout=within)
            for guest in late:
                guest.cancel()

    async def _run(self, record: Record, resume: Resume) -> None:
        assert self._places is not None
        try:
            async with self._places:
                loop = asyncio.get_running_loop()
                self._begun.add(record.id)
                reason = await loop.run_in_executor(self._threads, self._work, record, resume, loop)
                self.evaluations.pop(record.id, None)
            if reason != STOPPED:
                await self._end(record, reason)
        finally:
            self._begun.discard(record.id)

    async def _end(self, record: Record, reason: str | None) -> None:
        """End an evaluation. Its status changes last: a client that sees the end finds all results, and can resume."""
        try:
            await self._make_views(record)
        except Exception:  # noqa: BLE001  the results are in the journal anyway
            _log.exception("%s: its Parquet files could not be made", record.id)
        said = await asyncio.to_thread(self._written_end, record, reason)
        for name, value in said.items():
            setattr(record, name, value)

    def _work(self, record: Record, resume: Resume, loop: asyncio.AbstractEventLoop) -> str | None:
        """Run an evaluation, in a thread; return why it was stopped, or None."""
        evaluation: Evaluation | None = None
        try:
            evaluation = evaluation_of(record, self.settings)
            self.evaluations[record.id] = evaluation
            if (called_off := self._called_off.get(record.id)) is not None:
                return called_off
            resume = replace(resume, new_base_url=True)  # the operator may move an endpoint to another URL
            return evaluation.run(resume=resume, session=_LoopSession(self.endpoints, loop)).stopped
        except Exception as error:  # noqa: BLE001  it fails this evaluation, and no other
            redact = str if evaluation is None else evaluation.redactor.text
            _log.warning("%s: %s", record.id, redact(str(error)))
            return redact(str(error)) or type(error).__name__

    def _written_end(self, record: Record, reason: str | None) -> dict[str, Any]:
        """Write the final values of an evaluation to disk, and return them."""
        progress, errors = self.standings.progress(record)
        if reason is None and progress["items"]["pending"]:
            reason = "its journal does not hold all results"
        status = COMPLETED if reason is None else FAILED
        said = {"progress": progress, "error_count": errors, "status_reason": reason, "status": status}
        self.store.save(record, **said)
        return said

    async def _make_views(self, record: Record) -> None:
        if not any((record.path / "journal").glob("*.jsonl")):
            return
        if record.rows * len(record.tasks) <= _MOST_IN_A_THREAD:
            await asyncio.to_thread(export, record.path)
        else:
            words = [sys.executable, "-m", "runner", "export", str(record.path)]
            process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL)
            if await process.wait() != 0:
                _log.warning("%s: the Parquet files could not be made; run `runner export` to see why", record.id)
