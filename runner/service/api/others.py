"""The handlers that are about no evaluation: models, chat completions that are passed on, and how the service goes."""

from __future__ import annotations

import asyncio

from aiohttp import web

from runner.service.api.paging import page
from runner.service.api.reading import LONGEST_CHAT, read_object
from runner.service.api.streams import PassedOn, while_there
from runner.service.asking import SERVICE, answer, body_of, caller
from runner.service.going import endpoint_view
from runner.service.passing import pass_on
from runner.service.refusals import Refusal

__all__ = ["ROUTES"]

ROUTES = web.RouteTableDef()


@ROUTES.get("/v5/models")
async def models(request: web.Request) -> web.Response:
    """List the models that clients may name."""
    settings = request.app[SERVICE].settings
    items = [{"id": name, "object": "model", "name": name} for name in settings.models]
    return answer(page(items, len(items), len(items), has_more=False))


@ROUTES.post("/v5/chat/completions")
async def chat(request: web.Request) -> web.StreamResponse:
    """Pass a chat completion on, and its answer as it comes."""
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


@ROUTES.get("/runner/health")
async def health(request: web.Request) -> web.Response:  # noqa: ARG001  as all handlers are called
    """Say that the service is there."""
    return answer({"status": "ok"})


@ROUTES.get("/runner/status")
async def status(request: web.Request) -> web.Response:
    """Say how the endpoints go, and how many evaluations run and wait."""
    service, account = request.app[SERVICE], caller(request).account
    going, busy = service.supervisor.going(), service.supervisor.count
    views = [endpoint_view(service, name, account) for name in service.settings.endpoints]
    endpoints = [{**view, "own": [record.id for record in view["own"]]} for view in views]
    return answer({"status": "ok", "running": len(going), "waiting": busy - len(going), "endpoints": endpoints})
