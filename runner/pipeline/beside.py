"""What goes on beside the requests of a run: tasks that end with it, and the survey of its dataset."""

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
    """Run all of it until the block ends; yield the survey. What has failed is logged: it is no reason to end a run."""
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
                _log.error("what goes on beside the requests has failed", exc_info=error)
