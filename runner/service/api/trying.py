"""The handler of dry runs: what a task would make of some rows, before an evaluation is made of it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from runner.processes.pool import ProcessPool
from runner.service.api.bodies import DryRun
from runner.service.api.reading import asked_in
from runner.service.asking import SERVICE, answer
from runner.service.tasks import function_task
from runner.service.trying import try_out

__all__ = ["CALLS", "ROUTES", "close_calls"]

ROUTES = web.RouteTableDef()
#: The processes of all dry runs, which so wait for each other.
CALLS: web.AppKey[ProcessPool] = web.AppKey("calls", ProcessPool)


async def close_calls(app: web.Application) -> None:
    """End the processes."""
    await app[CALLS].close()


@ROUTES.post("/v5/evaluations/tasks/dry-run")
async def dry_run(request: web.Request) -> web.Response:
    """Try a function out on some rows."""
    service = request.app[SERVICE]
    asked = await asked_in(request, DryRun)
    task = await asyncio.to_thread(function_task, asked.configuration, service.settings)
    return answer({"results": await try_out(task, asked.sample_data, request.app[CALLS])})
