"""Builds a run with workers: the job of each worker, and the coordinator with the budget of all."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.config.file import Source
from runner.config.model import Config
from runner.datasets import Dataset
from runner.jsontext import decode, encode
from runner.logs import logger
from runner.pipeline.budget import Budget
from runner.pipeline.keeper import RunKeeper
from runner.pipeline.resume import identity_of
from runner.scale.beat import Job
from runner.scale.coordinator import Coordinator
from runner.scale.driving import Driving
from runner.scale.launching import Launcher
from runner.scale.shares import shares_of, stamps_of, workers_of
from runner.structs import replace
from runner.tasks.mediatype import with_data_urls

__all__ = ["driving_of"]

_log = logger(__name__)


def driving_of(
    launcher: Launcher,
    config: Config,
    keeper: RunKeeper,
    budget: Budget,
    *,
    environment: Mapping[str, str],
    source: Source,
    overrides: Sequence[str],
    bar: bool | None,
) -> Driving:
    """Return a run that goes on in workers."""
    limits, dataset = config.limits, keeper.asked.dataset
    assert isinstance(dataset, Dataset), "rows of another run have no workers"
    wanted = config.engine.workers or launcher.room
    workers = workers_of(config, wanted)
    if workers < wanted:
        _log.info("%d workers, not %d: the limits leave nothing to do for more", workers, wanted)
    coordinator = Coordinator(
        clock=time.monotonic,
        budget=budget,
        tokens_left=None if limits.max_tokens is None else limits.max_tokens - budget.tokens,
        cost_left=None if limits.max_cost is None else limits.max_cost - budget.cost,
        drain_s=limits.drain,
    )
    shared = _job(launcher, config, keeper, environment=environment, source=source, overrides=overrides)
    jobs = [replace(shared, slot=slot, shares=shares_of(config, slot, workers)) for slot in range(workers)]
    return Driving(
        config=config,
        keeper=keeper,
        dataset=dataset,
        coordinator=coordinator,
        launcher=launcher,
        jobs=jobs,
        bar=bar,
    )


def _job(
    launcher: Launcher,
    config: Config,
    keeper: RunKeeper,
    *,
    environment: Mapping[str, str],
    source: Source,
    overrides: Sequence[str],
) -> Job:
    """Return the job without the fields of one worker. Other machines read the run's copies of the config and of given rows."""
    dataset = keeper.asked.dataset
    assert isinstance(dataset, Dataset), "rows of another run have no workers"
    given = dataset.is_given and not launcher.elsewhere
    return Job(
        config=str(keeper.run.config.resolve()) if launcher.elsewhere else _as_told(source),
        overrides=[] if launcher.elsewhere else list(overrides),
        rows=[decode(encode(with_data_urls(row))) for row in dataset.inline] if given else None,
        run=str(keeper.run.path.resolve()),
        run_id=keeper.run.run_id,
        identity=identity_of(config),
        stamps=stamps_of(dataset),
        engine=config.engine.kind,
        slot=0,
        shares={},
        cwd=str(Path.cwd()),
        key_variable=config.endpoint.key_variable if config.api_key(environment) else None,
    )


def _as_told(source: Source) -> str | dict[str, Any]:
    """Return a config as it was passed: its path, or its content."""
    return dict(source) if isinstance(source, Mapping) else str(Path(source))
