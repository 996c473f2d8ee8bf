"""The handlers without an evaluation: models, chat completions, dry runs of functions, and the status of the service."""

from __future__ import annotations

import asyncio

from aiohttp import web

from runner.processes.pool import ProcessPool
from runner.service.api.bodies import DryRun
from runner.service.api.paging import page
from runner.service.api.reading import LONGEST_CHAT, asked_in, read_object
from runner.service.api.streams import PassedOn, while_there
from runner.service.asking import SERVICE, answer, body_of, caller
from runner.service.going import endpoint_view
from runner.service.passing import pass_on
from runner.service.refusals import Refusal
from runner.service.tasks import function_task
from runner.service.trying import try_out

__all__ = ["CALLS", "ROUTES", "close_calls"]

ROUTES = web.RouteTableDef()
#: The processes that all dry runs share, so that dry runs wait for each other.
CALLS: web.AppKey[ProcessPool] = web.AppKey("calls", ProcessPool)


@ROUTES.get("/v5/models")
async def models(request: web.Request) -> web.Response:
    """List the models that clients may name."""
    settings = request.app[SERVICE].settings
    items = [{"id": name, "object": "model", "name": name} for name in settings.models]
    return answer(page(items, len(items), len(items), has_more=False))


@ROUTES.post("/v5/chat/completions")
async def chat(request: web.Request) -> web.StreamResponse:
    """Pass a chat completion on, and its answer as it arrives."""
    body, _ = await body_of(request)
    said, _ = await asyncio.to_thread(read_object, body, LONGEST_CHAT)
    service = request.app[SERVICE]
    passed_on = PassedOn(request, service.redactor)
    try:
        found = await while_there(request, pass_on(service, said, passed_on.take))
    except Refusal as refusal:
        if passed_on.response is None:
            raise
        return await passed_on.end(str(refusal.detail))
    if passed_on.response is not None:
        return await passed_on.end()
    text = await asyncio.to_thread(service.redactor.text, found.body)
    return web.Response(text=text, content_type="application/json")


async def close_calls(app: web.Application) -> None:
    """End the processes of dry runs."""
    await app[CALLS].close()


@ROUTES.post("/v5/evaluations/tasks/dry-run")
async def dry_run(request: web.Request) -> web.Response:
    """Try a function on some rows."""
    asked = await asked_in(request, DryRun)
    task = await asyncio.to_thread(function_task, asked.configuration, request.app[SERVICE].settings)
    return answer({"results": await try_out(task, asked.sample_data, request.app[CALLS])})


@ROUTES.get("/runner/health")
async def health(request: web.Request) -> web.Response:  # noqa: ARG001  the signature of handlers
    """Confirm that the service is up."""
    return answer({"status": "ok"})


@ROUTES.get("/runner/status")
async def status(request: web.Request) -> web.Response:
    """Return the state of the endpoints, and the number of evaluations that run and that wait."""
    service, account = request.app[SERVICE], caller(request).account
    going, busy = service.supervisor.going(), service.supervisor.count
    views = [endpoint_view(service, name, account) for name in service.settings.endpoints]
    endpoints = [{**view, "own": [record.id for record in view["own"]]} for view in views]
    return answer({"status": "ok", "running": len(going), "waiting": busy - len(going), "endpoints": endpoints})
