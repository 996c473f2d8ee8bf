"""The requests of a run: the pipeline, the layers between it and the endpoint, and its background tasks.

Each row passes these layers, from the outside in:

    Pipeline.run ─► Task.run                   a worker takes a sample, and runs its tasks one after the other
      Batch.execute                            if there is a batch: its files replace all layers below
      ResponseCache.before                     the answer of an earlier run, if there is a cache and it has one
      Lanes.execute                            the lane to the endpoint of the task (`lanes` builds the layers below)
      retrying                                 sends again after a failure, until the row is answered or has failed
        Circuit.send                           holds the row back while the endpoint is down
          Budget.watching                      sends nothing once tokens or dollars are used up
            Balancer.send                      chooses one of several servers, and another one if it fails
            limited ─► RateLimiter.wait               waits for its turn: requests a second, tokens a minute, slots
              Circuits.counting                counts the requests on the wire
                InFlight.watch                 notes which workers a drain lets finish
                  journal_attempts              writes a line to the journal before it sends
                    ChatClient.send            builds the bytes of the request, and reads the answer
                      Transport.send           the network, or recordings
    RunKeeper.keep ─► Journal, Progress          keeps a result in the turn of the loop that completed it; then the cache
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from runner.batch import Batch
from runner.config.model import Config
from runner.endpoint.pacing.auto import AutoLimit
from runner.endpoint.pacing.loop_lag import LoopLag
from runner.endpoint.pacing.rate_limiter import RateLimiter
from runner.endpoint.pacing.retry import RetryPolicy
from runner.endpoint.shared import Endpoints
from runner.errors import RunStopped
from runner.lanes import Lane, Lanes
from runner.logs import logger
from runner.pipeline.beside import going_on_beside
from runner.pipeline.budget import Budget
from runner.pipeline.keeping import Keeping
from runner.pipeline.limit_kept import keep_limit
from runner.pipeline.pipeline import InFlight, Pipeline
from runner.pipeline.rehearsal import send_nothing
from runner.pipeline.steps import build_steps
from runner.processes.pool import ProcessPool
from runner.results.progress import Progress, show_progress
from runner.results.views import preload_parquet
from runner.secrets.redaction import Redactor
from runner.structs import Struct
from runner.types import Execute, Outcome, Request, Result

if TYPE_CHECKING:
    from runner.endpoint.cache import ResponseCache

__all__ = ["Running"]

_log = logger(__name__)
_WATCH_EVERY_S = 0.2
#: The default of `Running.drain`: use `limits.drain`.
_DRAIN = -1.0


class Running(Struct, kw_only=True):
    """A run, or a worker of one, in this process."""

    config: Config
    environment: Mapping[str, str]
    keeper: Keeping
    budget: Budget
    #: True shows progress as a bar, False as log lines now and then, None not at all.
    bar: bool | None
    #: The batch that replaces the endpoints, if any.
    batch: Batch | None = None
    #: The reason to stop that was given before the start.
    drained: str | None = None
    _pipeline: Pipeline | None = None
    _cache: ResponseCache | None = None
    _lanes: Lanes | None = None
    _endpoints: Mapping[str, str | None] = {}

    def __post_init__(self) -> None:
        self._endpoints = self.config.endpoint_names

    @property
    def progress(self) -> Progress:
        """The progress of the run."""
        return self.keeper.progress

    def activity(self) -> tuple[int, int]:
        """Return how many requests are in flight, and how many samples wait."""
        if self._pipeline is None:
            return 0, 0
        flying = len(self._pipeline.in_flight.workers)
        return flying, max(0, self._pipeline.active - flying)

    @property
    def stopped_in_hurry(self) -> bool:
        """Whether the run stopped by itself because of the endpoint or the clock."""
        return self._pipeline is not None and self._pipeline.stopped_in_hurry

    @property
    def active(self) -> int:
        """The number of samples that are being worked on."""
        return 0 if self._pipeline is None else self._pipeline.active

    @property
    def lanes(self) -> Lanes | None:
        """The lanes to the endpoints; None before the start, and if nothing is asked."""
        return self._lanes

    @property
    def _limiters(self) -> Sequence[RateLimiter]:
        return () if self._lanes is None else self._lanes.limiters

    def drain(self, reason: str, *, within: float | None = _DRAIN) -> int:
        """Send no more requests; return how many are in flight.

        These have `within` seconds to finish, by default `limits.drain`; None: as long as they take.
        """
        self.drained = reason
        self.keeper.stop_survey.set()
        if self._pipeline is None:
            return 0
        self._pipeline.drain(reason, within=self.config.limits.drain if within == _DRAIN else within)
        return len(self._pipeline.in_flight.workers)

    def drop(self) -> None:
        """End at once, and drop the requests in flight."""
        if self._pipeline is not None:
            self._pipeline.drop()

    async def work(self, endpoints: Endpoints) -> str | None:
        """Ask everything that is pending; return why the run stopped early, or None. Raises StorageError."""
        async with AsyncExitStack() as stack:
            apart = ProcessPool()
            stack.callback(self.keeper.close_samples)
            in_flight = InFlight()
            if self.keeper.asks and self.batch is None:
                self._lanes = lanes = Lanes(
                    config=self.config,
                    environment=self.environment,
                    keeper=self.keeper,
                    budget=self.budget,
                    in_flight=in_flight,
                    pipeline=lambda: pipeline,
                    has_fresh=self._has_fresh,
                )
                await lanes.open(endpoints, stack, RetryPolicy)
                stack.push_async_callback(apart.close)
                self._pipeline = pipeline = self._pipeline_of(await self._asking(lanes, stack), in_flight, apart)
                pipeline.on_exhausted = lanes.notify
                self.keeper.pending.when_dry(lanes.notify)
            else:
                stack.push_async_callback(apart.close)
                if self.batch is not None:
                    stack.callback(self.batch.end)
                execute = send_nothing if self.batch is None else self.batch.execute
                in_flight.known.set()  # there is no endpoint to wait for
                self._pipeline = pipeline = self._pipeline_of(execute, in_flight, apart, asks=self.keeper.asks)
            survey = await stack.enter_async_context(self._beside(pipeline))
            if self.drained is not None:
                pipeline.drain(self.drained)
            await pipeline.run()
            await asyncio.to_thread(self.keeper.journal.sync)  # so that progress counts all results at the end
            if pipeline.stopped is None:
                await asyncio.wait([survey])  # a resume compares the dataset with the survey
        return pipeline.stopped or self.keeper.unread or self.keeper.missing(pipeline.unasked)

    def _has_fresh(self) -> bool:
        return self._pipeline is not None and self._pipeline.stopped is None and self._pipeline.has_fresh()

    async def _asking(self, lanes: Lanes, stack: AsyncExitStack) -> Execute:
        """Return the function that asks: the lane of the task, with the cache in front if there is one."""
        settings = self.config.cache
        cached = {task: lane for task, lane in lanes.by_task().items() if _may_be_cached(lane)}
        if settings is None or settings.mode == "off" or not cached:
            return lanes.asking
        from runner.endpoint.cache import opened_cache  # only a run with a cache needs it

        redactor = Redactor(self.config.secrets(self.environment))
        opened = opened_cache(settings, run_id=self.keeper.run.run_id, redactor=redactor)
        self._cache = cache = await stack.enter_async_context(opened)
        known = {task: cache.before(lane.execute, lane.config.endpoint.asked or "") for task, lane in cached.items()}

        async def execute(request: Request) -> Outcome:
            return await known.get(request.unit.task, lanes.execute)(request)

        return execute

    def _pipeline_of(self, execute: Execute, in_flight: InFlight, apart: ProcessPool, *, asks: bool = True) -> Pipeline:
        limits, is_found = self.config.limits, bool(self._autos)
        return Pipeline(
            steps=build_steps(self.config, execute, apart),
            samples=self.keeper.samples(),
            idle=self.keeper.pending.idle,
            has_more=self.keeper.pending.has_more,
            concurrency=self._workers() if is_found else limits.first_in_flight,
            wanted=self._workers if is_found else None,
            sink=self._keep,
            known=self.keeper.pending.known,
            in_flight=in_flight,
            asks=asks,
            drain_s=limits.drain,
        )

    @property
    def _autos(self) -> Sequence[AutoLimit]:
        """The search for the best number of requests in flight, one per server; empty if the number is fixed."""
        if not self.config.limits.finds_concurrency:
            return ()
        return [limiter.slots.auto for limiter in self._limiters if limiter.slots.auto is not None]

    def _workers(self) -> int:
        """Return how many workers keep the wanted number of requests in flight while some of them judge answers."""
        limit = sum(limiter.slots.limit for limiter in self._limiters)
        return limit + max(2, limit // 4)

    def _keep(self, result: Result) -> None:
        self.keeper.keep(result, result.outcome.endpoint or self._endpoints.get(result.unit.task))
        if self._cache is not None:
            self._cache.keep(result)
        if (reason := self.budget.note(result)) is not None:
            raise RunStopped(reason, hurry=False)

    @asynccontextmanager
    async def _beside(self, pipeline: Pipeline) -> AsyncIterator[asyncio.Task[None]]:
        """Run the background tasks of the pipeline; yield the survey of the dataset."""
        loop_lag = LoopLag()
        beside = self._all_beside(pipeline, loop_lag)
        try:
            async with going_on_beside(self.keeper.survey(), beside, self.keeper.stop_survey) as survey:
                yield survey
        finally:
            self.keeper.loop_lag_s = round(max(loop_lag.worst_s, loop_lag.late_s()), 3)

    def _all_beside(self, pipeline: Pipeline, loop_lag: LoopLag) -> Iterator[Coroutine[Any, Any, None]]:
        yield show_progress(self.progress, activity=self.activity, bar=self.bar)
        yield from self.keeper.beside()
        yield self._watch_journal(pipeline)
        yield loop_lag.watch()
        if autos := self._autos:
            yield keep_limit(autos, self.keeper.journal)
        if self.keeper.makes_views:
            yield _load_views(pipeline.exhausted, self.progress)
        if self.config.limits.max_wall_time is not None:
            yield _end_after(self.config.limits.max_wall_time, pipeline)

    async def _watch_journal(self, pipeline: Pipeline) -> None:
        """Fail the run when its journal fails, even if no answer arrives that would reveal it."""
        journal = self.keeper.journal
        while journal.failure is None:  # noqa: ASYNC110  another thread sets it
            await asyncio.sleep(_WATCH_EVERY_S)
        pipeline.fail(journal.failure)


def _may_be_cached(lane: Lane) -> bool:
    """Return whether the answers of an endpoint are cached: a replay has its answers, and a recording must be complete."""
    return lane.config.endpoint.replay is None and lane.config.endpoint.record is None


async def _load_views(all_taken: asyncio.Event, progress: Progress) -> None:
    """Load the modules that write Parquet files while requests are in flight, so that the end of the run need not wait.

    Loading blocks the loop for some tenths of a second. It starts when half of the run is done, because many runs are stopped
    soon after their start.
    """
    while not all_taken.is_set() and not progress.is_half_done:
        with suppress(TimeoutError):
            await asyncio.wait_for(all_taken.wait(), _WATCH_EVERY_S)
    await asyncio.to_thread(preload_parquet)


async def _end_after(seconds: float, pipeline: Pipeline) -> None:
    await asyncio.sleep(seconds)
    remedy = "resume to run for as long again, or raise limits.max_wall_time"
    pipeline.stop(f"{seconds:g} s of this start have passed; {remedy}", hurry=True)
