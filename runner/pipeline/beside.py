"""Background tasks of a run: those that end with it, and the survey of its dataset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from threading import Event
from typing import Any

from runner.logs import logger

__all__ = ["going_on_beside"]

_log = logger(__name__)


@asynccontextmanager
async def going_on_beside(
    survey: Coroutine[Any, Any, None], others: Iterable[Coroutine[Any, Any, None]], stop_survey: Event
) -> AsyncIterator[asyncio.Task[None]]:
    """Run these tasks until the block ends; yield the survey. A failure is logged, and does not end the run."""
    surveying = asyncio.create_task(survey)
    beside = [surveying, *map(asyncio.create_task, others)]
    try:
        yield surveying
    finally:
        stop_survey.set()
        for task in beside:
            task.cancel()
        for error in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(error, Exception):
                _log.error("a background task of the run failed", exc_info=error)
