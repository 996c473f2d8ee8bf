"""The handlers of questions."""

from __future__ import annotations

import asyncio

from aiohttp import web

from runner.service.api.bodies import CreateQuestion, UpdateQuestion
from runner.service.api.paging import Query, page, sorted_page_of, texts, with_archived
from runner.service.api.reading import asked_in
from runner.service.asking import SERVICE, answer, caller
from runner.service.kept import now
from runner.service.questions import Question, Questions

__all__ = ["ROUTES"]

ROUTES = web.RouteTableDef()


@ROUTES.post("/v5/questions")
async def create(request: web.Request) -> web.Response:
    """Create a question."""
    service, who = request.app[SERVICE], caller(request)
    asked = (await asked_in(request, CreateQuestion)).root
    made = await asyncio.to_thread(service.questions.make, who.account, who.name, asked.model_dump())
    return answer(made.shown())


@ROUTES.get("/v5/questions")
async def find(request: web.Request) -> web.Response:
    """List questions."""
    query, ids = Query.of(request.query), set(texts(request.query, "ids"))
    mine = request.app[SERVICE].questions.of(caller(request).account, archived=with_archived(request.query))
    found = [one for one in mine if not ids or one.id in ids]
    shown, more = sorted_page_of(found, query)
    return answer(page([one.shown() for one in shown], len(found), query.limit, has_more=more))


@ROUTES.get("/v5/questions/{id}")
async def get(request: web.Request) -> web.Response:
    """Return a question, archived or not."""
    return answer(_named(request)[1].shown())


def _named(request: web.Request) -> tuple[Questions, Question]:
    kept = request.app[SERVICE].questions
    return kept, kept.get(caller(request).account, request.match_info["id"], archived=True)


@ROUTES.patch("/v5/questions/{id}")
async def update(request: web.Request) -> web.Response:
    """Rename a question."""
    kept, found = _named(request)
    asked = await asked_in(request, UpdateQuestion)
    found.check_open()
    return answer((await asyncio.to_thread(lambda: kept.change(found, name=asked.name))).shown())


@ROUTES.delete("/v5/questions/{id}")
async def archive(request: web.Request) -> web.Response:
    """Archive a question."""
    kept, found = _named(request)
    if found.archived_at is None:
        await asyncio.to_thread(lambda: kept.change(found, archived_at=now()))
    return answer(found.shown())


@ROUTES.post("/v5/questions/{id}/restore")
async def restore(request: web.Request) -> web.Response:
    """Restore a question."""
    kept, found = _named(request)
    return answer((await asyncio.to_thread(lambda: kept.change(found, archived_at=None))).shown())
