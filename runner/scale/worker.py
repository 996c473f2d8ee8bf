"""A worker: it asks the rows that the coordinator gives out, and writes a segment of its own.

Job ──► Running with Leased rows, an Allowance and a SegmentKeeper
Orders ──► rows, bounds, a stop        Report ◄── once a second, and when rows run out
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from runner.datasets import Dataset
from runner.endpoint.shared import Endpoints
from runner.errors import RunDirError, RunnerError, RunStopped, StorageError
from runner.pipeline.resume import Asked, identity_of
from runner.pipeline.steps import ordered
from runner.running import Running
from runner.scale.allowance import Allowance
from runner.scale.beat import BEAT_EVERY_S, Ended, Job, Orders, Report, line_of, read_orders
from runner.scale.leased import Leased
from runner.scale.segment import SegmentKeeper
from runner.scale.shares import stamps_of, with_shares
from runner.storage.rundir import RunDir
from runner.structs import replace
from runner.types import CostOf

__all__ = ["Worker", "check_same", "worker_of"]

_LONGEST_LINE = 1 << 28
_LEAVING = "stopped by SIGTERM"
#: How long the worker waits until its last report is read.
_LAST_WORDS_WITHIN_S = 10.0
#: The least time between two reports, however much there is to tell.
_LEAST_S = 0.01


def check_same(asked: Asked, job: Job, environment: Mapping[str, str]) -> None:
    """Raise RunDirError if this worker would ask something else than its run, because an environment variable differs here.

    Raises RunStopped if a file of the dataset has changed: then it has changed for all workers.
    """
    if job.key_variable is not None and not asked.config.api_key(environment):
        raise RunDirError(f"the environment variable {job.key_variable} is not set or empty there")
    own = identity_of(asked.config)
    if other := sorted(path for path in {*own, *job.identity} if own.get(path) != job.identity.get(path)):
        raise RunDirError(f"{', '.join(other)}: has changed since the run began, or is set otherwise there; restore it")
    stamps = stamps_of(asked.dataset) if isinstance(asked.dataset, Dataset) else {}
    if changed := [file for file, stamp in job.stamps.items() if stamps.get(file) != stamp]:
        raise RunStopped(f"{changed[0]} was changed while the run went on; restore it and resume, or start a new run")


def worker_of(
    job: Job,
    asked: Asked,
    *,
    environment: Mapping[str, str],
    cost_of: CostOf | None,
    prices_used: Callable[[], Mapping[str, Any]] | None,
) -> Worker:
    """Build a worker. Must be called in its event loop."""
    dataset = asked.dataset
    # The coordinator watches the limits of the whole run.
    config = with_shares(asked.config, job.shares, max_tokens=None, max_cost=None, max_wall_time=None)
    assert isinstance(dataset, Dataset), "rows of another run have no workers"
    asked = replace(asked, config=config)
    wake = asyncio.Event()
    tasks = [(task.name, samples) for task, samples, _ in ordered(config)]
    run = RunDir(Path(job.run))
    run.run_id = job.run_id
    repeats = max(samples for _, samples in tasks)
    leased = Leased(dataset, config, repeats, wake.set, journal=run.journal)
    keeper = SegmentKeeper(
        run=run,
        asked=asked,
        tasks=tasks,
        engine=job.engine,
        slot=job.slot,
        pending=leased,
        secrets=config.secrets(environment),
        cost_of=cost_of,
    )
    keeper.progress.cost = None if cost_of is None else 0.0
    keeper.progress.metric = config.first_metric
    allowance = Allowance(counts_cost=cost_of is not None, cost_of=cost_of)
    running = Running(config=config, environment=environment, keeper=keeper, budget=allowance, bar=None)
    return Worker(running, keeper, allowance, wake, clean=asked.redactor.text, prices_used=prices_used)


class Worker:
    """Works until there are no more rows, until it is told to stop, or until the coordinator is gone."""

    def __init__(
        self,
        running: Running,
        keeper: SegmentKeeper,
        allowance: Allowance,
        wake: asyncio.Event,
        *,
        clean: Callable[[str], str] = str,
        prices_used: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """`wake` makes the worker report at once; `clean` removes secrets from the messages of servers that it reports.

        `prices_used` returns the prices that were used.
        """
        self._clean, self._prices_used = clean, prices_used
        self._running, self._keeper, self._allowance, self._wake = running, keeper, allowance, wake
        self._leased: Leased = keeper.pending
        self._is_ordered = self._is_leaving = False
        allowance.on_waiting = wake.set

    async def work(self, connection: socket.socket) -> None:
        """Work and report until the end. Returns when all is written; ends the process if the coordinator is gone."""
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_LONGEST_LINE)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._leave)
        try:
            with self._keeper.opened():
                beside = [asyncio.create_task(self._report(writer)), asyncio.create_task(self._listen(reader))]
                try:
                    reason = await self._running.work(Endpoints())
                finally:
                    for task in beside:
                        task.cancel()
            reason = reason and self._clean(reason)
            ended = Ended() if self._is_ordered else Ended(reason, self._running.stopped_in_hurry, leaving=self._is_leaving)
        except StorageError as error:
            ended = Ended(str(error), own=True)
        except RunnerError as error:
            ended = Ended(str(error))
        with suppress(ConnectionError, TimeoutError):
            writer.write(line_of(self._told(ended)))
            await writer.drain()
            # If this side closes while the coordinator writes, the coordinator loses the reports that it has not read yet.
            await asyncio.wait_for(reader.read(), _LAST_WORDS_WITHIN_S)
        writer.close()

    def _leave(self) -> None:
        """Drain, because this process is to end. Other workers get its rows."""
        self._is_leaving = True
        self._running.drain(_LEAVING)

    def _told(self, ended: Ended | None = None) -> Report:
        running, leased, progress = self._running, self._leased, self._running.progress
        in_flight, waiting = running.activity()
        lanes = running.lanes
        return Report(
            segments=self._keeper.segments,
            leases=leased.leases,
            begun=leased.begun,
            ahead=leased.ahead,
            active=running.active,
            in_flight=in_flight,
            waiting=waiting,
            ok=progress.ok,
            errors=progress.errors,
            retries=progress.retries,
            tokens=progress.tokens,
            cost=progress.cost_of_start,
            values=progress.values,
            value_sum=progress.value_sum,
            used=self._allowance.tokens,
            spent=self._allowance.cost,
            pauses=lanes.wished_pauses() if lanes else {},
            concurrency=lanes.concurrency() if lanes else {},
            paces=lanes.paces() if lanes else {},
            down=lanes.down() if lanes else {},
            loop_lag_s=self._keeper.loop_lag_s or 0.0,
            outcomes=self._allowance.outcomes(self._clean),
            ended=ended,
            prices=None if ended is None or self._prices_used is None else dict(self._prices_used()),
        )

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._wake.clear()
            self._running.progress.advance()
            writer.write(line_of(self._told()))
            with suppress(ConnectionError):  # `_listen` finds it too
                await writer.drain()
            await asyncio.sleep(_LEAST_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), BEAT_EVERY_S)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self._take(read_orders(line))
        self._abandon()

    def _take(self, orders: Orders) -> None:
        self._allowance.heard(orders.tokens, orders.cost, orders.may_probe)
        if (lanes := self._running.lanes) is not None:
            lanes.back(orders.back)
            lanes.keep_to(orders.concurrency)
            lanes.rise(orders.faster)
            for endpoint, seconds in orders.pauses.items():
                lanes.pause(endpoint, seconds)
        for lease in orders.leases:
            self._leased.add(lease)
        if orders.closed:
            self._leased.close()
        if orders.stop is not None:
            self._is_ordered = True
            self._running.drain(orders.stop.reason, within=orders.stop.within)

    def _abandon(self) -> NoReturn:
        """End at once: the coordinator is gone, and the segment is safe from a kill."""
        os._exit(3)
