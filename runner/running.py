"""The requests of a run: the pipeline, the layers between it and the endpoint, and what goes on beside it.

Each row goes through these, from the outside in:

    Pipeline.run ─► Task.run                   a worker takes a sample, and runs its tasks one after the other
      ResponseCache.before                     an answer of an earlier run, where there is a cache and it has one
      retrying                                 again after a failure, until it is answered or charged with its failures
        Circuit.send                           held back while the endpoint is down
          Budget.watching                      nothing is sent once tokens or dollars are used up
            limited ─► RateLimiter.wait               its turn: requests a second, tokens a minute, slots
              Circuits.counting                how many are on the wire
                InFlight.watch                 which workers a drain lets finish
                  journal_attempts              a line in the journal before it is sent
                    ChatClient.send            the bytes of the request, and what the server said
                      Transport.send           the network, or recordings
    RunKeeper.keep ─► Journal, Progress          a result, in the loop's turn in which it was complete; then the cache
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from runner.config.model import Config
from runner.endpoint.connect import client_of, headers_of
from runner.endpoint.http.transport import Transport
from runner.endpoint.pacing.circuit import Circuit, Circuits
from runner.endpoint.pacing.loop_lag import LoopLag
from runner.endpoint.pacing.rate_limiter import RateLimiter, limited
from runner.endpoint.pacing.retry import RetryPolicy, retrying
from runner.endpoint.shared import Endpoints, Guest, SharedEndpoint
from runner.errors import RunStopped
from runner.logs import logger
from runner.pipeline.attempts import journal_attempts, known_good
from runner.pipeline.beside import going_on_beside
from runner.pipeline.budget import Budget
from runner.pipeline.keeping import Keeping
from runner.pipeline.pipeline import InFlight, Pipeline
from runner.pipeline.rehearsal import send_nothing
from runner.pipeline.steps import build_steps
from runner.processes.pool import ProcessPool
from runner.results.progress import Progress, show_progress
from runner.results.views import preload_parquet
from runner.secrets.redaction import Redactor
from runner.structs import Struct
from runner.types import Execute, Result, Send

if TYPE_CHECKING:
    from runner.endpoint.cache import ResponseCache

__all__ = ["Running"]

_log = logger(__name__)
_WATCH_EVERY_S = 0.2
#: Stands for `limits.drain`.
_DRAIN = -1.0


class Running(Struct, kw_only=True):
    """A run that goes on."""

    config: Config
    environment: Mapping[str, str]
    keeper: Keeping
    budget: Budget
    #: Whether progress is a bar; if not, a log line now and then. None: nothing is shown.
    bar: bool | None
    #: The reason to stop that was given before the start.
    drained: str | None = None
    _pipeline: Pipeline | None = None
    _cache: ResponseCache | None = None
    _limiter: RateLimiter | None = None

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self.keeper.progress

    def activity(self) -> tuple[int, int]:
        """Return how many requests are in flight, and how many samples wait."""
        if self._pipeline is None:
            return 0, 0
        flying = len(self._pipeline.in_flight.workers)
        return flying, max(0, self._pipeline.active - flying)

    @property
    def stopped_in_hurry(self) -> bool:
        """Whether it stopped by itself for the endpoint or the clock."""
        return self._pipeline is not None and self._pipeline.stopped_in_hurry

    @property
    def active(self) -> int:
        """How many samples are being worked on."""
        return 0 if self._pipeline is None else self._pipeline.active

    @property
    def wished_pause_s(self) -> float:
        """For how many seconds the server wishes that nothing is sent."""
        return 0.0 if self._limiter is None else self._limiter.wished_pause_s

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        if self._limiter is not None:
            self._limiter.pause(seconds)

    def drain(self, reason: str, *, within: float | None = _DRAIN) -> int:
        """Send nothing more; return how many requests are in flight.

        They may finish within so many seconds, by default `limits.drain`; None is as long as they take.
        """
        self.drained = reason
        self.keeper.stop_survey.set()
        if self._pipeline is None:
            return 0
        self._pipeline.drain(reason, within=self.config.limits.drain if within == _DRAIN else within)
        return len(self._pipeline.in_flight.workers)

    def drop(self) -> None:
        """End at once, without what is in flight."""
        if self._pipeline is not None:
            self._pipeline.drop()

    async def work(self, endpoints: Endpoints) -> str | None:
        """Ask for all that is pending; return why it was stopped early, or None. Raises StorageError."""
        guest = Guest(self.config, self.environment, left=lambda: self.progress.left, has_fresh=self._has_fresh)
        async with AsyncExitStack() as stack:
            apart = ProcessPool()
            stack.callback(self.keeper.close_samples)
            if self.keeper.asks:
                shared = await stack.enter_async_context(endpoints.asked_by(guest))
                stack.push_async_callback(apart.close)
                self._limiter = shared.limiter
                transport = shared.transport(guest, stack)
                self._cache = await self._opened_cache(stack)
                self._pipeline = pipeline = self._pipeline_to(shared, guest, transport, apart)
            else:
                stack.push_async_callback(apart.close)
                self._pipeline = pipeline = self._pipeline_of(send_nothing, InFlight(), apart, asks=False)
            survey = await stack.enter_async_context(self._beside(pipeline))
            if self.drained is not None:
                pipeline.drain(self.drained)
            await pipeline.run()
            await asyncio.to_thread(self.keeper.journal.sync)  # so that progress ends with what there is
            if pipeline.stopped is None:
                await asyncio.wait([survey])  # a resume compares with what it finds
        return pipeline.stopped or self.keeper.unread or self.keeper.missing(pipeline.unasked)

    def _has_fresh(self) -> bool:
        return self._pipeline is not None and self._pipeline.stopped is None and self._pipeline.has_fresh()

    async def _opened_cache(self, stack: AsyncExitStack) -> ResponseCache | None:
        """Open the cache, where there is one; recordings have answers of their own, and are to be whole."""
        settings, endpoint = self.config.cache, self.config.endpoint
        if settings is None or settings.mode == "off" or endpoint.replay is not None or endpoint.record is not None:
            return None
        from runner.endpoint.cache import opened_cache  # only who has one pays for it

        redactor = Redactor(self.config.secrets(self.environment))
        opened = opened_cache(settings, endpoint.asked or "", run_id=self.keeper.run.run_id, redactor=redactor)
        return await stack.enter_async_context(opened)

    def _pipeline_to(self, shared: SharedEndpoint, guest: Guest, transport: Transport, apart: ProcessPool) -> Pipeline:
        """Return the pipeline, with all layers between it and the endpoint."""
        limits, in_flight = self.config.limits, InFlight()
        circuits = Circuits(lambda task: self._circuit(shared, guest, task, send))
        client = client_of(self.config, transport, headers_of(self.config, self.environment))
        send = circuits.counting(
            in_flight.watch(journal_attempts(client.send, self.keeper.journal, self.progress, self.keeper.cost_of))
        )
        send = self.budget.watching(limited(send, shared.limiter, guest, tokens_per_minute=limits.tokens_per_minute))
        policy = RetryPolicy(max_attempts=limits.max_attempts, longest_s=limits.max_row_time)
        execute = retrying(policy, circuits, aside=lambda: pipeline.aside())  # noqa: PLW0108  it is made below
        if self._cache is not None:
            execute = self._cache.before(execute)
        pipeline = self._pipeline_of(execute, in_flight, apart)
        pipeline.on_exhausted = circuits.notify
        self.keeper.when_dry(circuits.notify)
        return pipeline

    def _pipeline_of(self, execute: Execute, in_flight: InFlight, apart: ProcessPool, *, asks: bool = True) -> Pipeline:
        limits = self.config.limits
        return Pipeline(
            steps=build_steps(self.config, execute, apart),
            samples=self.keeper.samples(),
            idle=self.keeper.idle,
            has_more=self.keeper.has_more,
            concurrency=limits.concurrency,
            sink=self._keep,
            known=self.keeper.pending.known,
            in_flight=in_flight,
            asks=asks,
            drain_s=limits.drain,
        )

    def _circuit(self, shared: SharedEndpoint, guest: Guest, alias: str, send: Send) -> Circuit:
        assert self._pipeline is not None
        task = next(step.task for step in self._pipeline.steps if step.task.alias == alias)
        # Where rows choose the model, the circuit is not shared.
        alike = (alias, task.task_type, guest if task.model is None else task.model)
        found = known_good(self.keeper.pending.ledger, task)
        return shared.circuit(alike, send, give_up_after=self.config.limits.give_up_after, known_good=found)

    def _keep(self, result: Result) -> None:
        self.keeper.keep(result, self.config.endpoint.name or None)
        if self._cache is not None:
            self._cache.keep(result)
        if (reason := self.budget.note(result)) is not None:
            raise RunStopped(reason, hurry=False)

    @asynccontextmanager
    async def _beside(self, pipeline: Pipeline) -> AsyncIterator[asyncio.Task[None]]:
        """Run what goes on beside the pipeline; yield the survey of the dataset."""
        loop_lag = LoopLag()
        beside = self._all_beside(pipeline, loop_lag)
        try:
            async with going_on_beside(self.keeper.survey(), beside, self.keeper.stop_survey) as survey:
                yield survey
        finally:
            self.keeper.loop_lag_s = round(max(loop_lag.worst_s, loop_lag.late_s()), 3)

    def _all_beside(self, pipeline: Pipeline, loop_lag: LoopLag) -> Iterator[Coroutine[Any, Any, None]]:
        yield show_progress(self.progress, activity=self.activity, bar=self.bar)
        yield self.keeper.save_status()
        yield self._watch_journal(pipeline)
        yield loop_lag.watch()
        if self.keeper.makes_views:
            yield _load_views(pipeline.exhausted, self.progress)
        if self.config.limits.max_wall_time is not None:
            yield _end_after(self.config.limits.max_wall_time, pipeline)

    async def _watch_journal(self, pipeline: Pipeline) -> None:
        """Fail the run when its journal fails, even if no answer arrives that would find it out."""
        journal = self.keeper.journal
        while journal.failure is None:  # noqa: ASYNC110  it is set by another thread
            await asyncio.sleep(_WATCH_EVERY_S)
        pipeline.fail(journal.failure)


async def _load_views(all_taken: asyncio.Event, progress: Progress) -> None:
    """Load what the Parquet files need while answers are on their way: at the end nobody wants to wait for it.

    It blocks the loop for some tenths of a second, so it waits until half of the run is over: many a run is stopped soon after
    its start.
    """
    while not all_taken.is_set() and not progress.is_half_done:
        with suppress(TimeoutError):
            await asyncio.wait_for(all_taken.wait(), _WATCH_EVERY_S)
    await asyncio.to_thread(preload_parquet)


async def _end_after(seconds: float, pipeline: Pipeline) -> None:
    await asyncio.sleep(seconds)
    remedy = "resume for as long again, or raise limits.max_wall_time"
    pipeline.stop(f"{seconds:g} s of this start have passed; {remedy}", hurry=True)
