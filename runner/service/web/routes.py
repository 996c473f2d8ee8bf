"""The handlers of the pages."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiohttp import web

from runner.service.acting import act, archived
from runner.service.asking import SERVICE, caller, record_of
from runner.service.exports import signed
from runner.service.going import endpoint_view, live_view
from runner.service.refusals import Refusal, not_found
from runner.service.store import RUNNING, Record
from runner.service.web.access import acting, check_origin, led_to, page, remembered, rendered
from runner.service.web.errors import groups_of
from runner.service.web.filters import Found, Wanted, look_up, table_view
from runner.service.web.item import parts_of, view_of
from runner.service.web.overview import line_of, metrics_of, models_of, totals_of, verdicts_of

__all__ = ["add_pages"]

ROUTES = web.RouteTableDef()
_ON_A_PAGE = 50
_MOST_TO_CHOOSE = 500
_FILES = {"results.parquet": None, "errors.parquet": None, "config.yaml": "text/plain"}
_STATIC = {"htmx.min.js": "text/javascript", "pages.js": "text/javascript"}


def add_pages(app: web.Application) -> None:
    """Add the pages, and the task that samples the progress of evaluations."""
    app.add_routes(ROUTES)
    app.cleanup_ctx.append(_watching)


async def _watching(app: web.Application) -> Any:
    watching = asyncio.create_task(app[SERVICE].watch.watch())
    yield
    watching.cancel()


@ROUTES.get("/static/{name}")
async def static(request: web.Request) -> web.Response:
    """Return a script."""
    if (name := request.match_info["name"]) not in _STATIC:
        raise not_found()
    text = files("runner.service.web").joinpath("static", name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=_STATIC[name], headers={"Cache-Control": "max-age=3600"})


@ROUTES.get("/sign-in")
async def sign_in(request: web.Request) -> web.Response:
    """Ask for the key and the account."""
    has_keys = bool(request.app[SERVICE].keys)
    return rendered("sign_in.html.j2", {"title": "Sign in", "has_keys": has_keys, "next": _own_path(request.query.get("next"))})


@ROUTES.post("/sign-in")
async def take_key(request: web.Request) -> web.StreamResponse:
    """Keep the key in a cookie."""
    check_origin(request)
    form = await request.post()
    found = led_to(_own_path(str(form.get("next", ""))))
    remembered(found, request, *(str(form.get(field, "")).strip() for field in ("key", "account")))
    return found


def _own_path(path: str | None) -> str:
    """Return the path if it is one of this service, else `/`: a redirect must not leave the service."""
    return path if path and path.startswith("/") and not path.startswith(("//", "/\\")) else "/"


@ROUTES.get("/")
@page
async def overview(request: web.Request) -> web.Response:
    """List the evaluations, the newest first."""
    service, query = request.app[SERVICE], request.query
    wanted = {name: query.get(name, "") for name in ("name", "tag", "status", "archived", "after")}
    records = [
        one for one in service.store.of(caller(request).account, archived=bool(wanted["archived"])) if _fits(one, wanted)
    ]
    newest = sorted(records, key=lambda one: one.id, reverse=True)
    rest = [one for one in newest if not wanted["after"] or one.id < wanted["after"]]
    shown = await asyncio.to_thread(lambda: [line_of(service, one) for one in rest[:_ON_A_PAGE]])
    more = rest[_ON_A_PAGE - 1].id if len(rest) > _ON_A_PAGE else None
    values = {"title": "Evaluations", "lines": shown, "wanted": wanted, "count": len(newest), "more": more}
    return rendered("overview.html.j2", values | {"caller": caller(request)})


def _fits(record: Record, wanted: dict[str, str]) -> bool:
    return (
        wanted["name"].lower() in record.name.lower()
        and wanted["tag"] in {"", *(record.tags or [])}
        and wanted["status"] in {"", record.status}
    )


@ROUTES.get("/e/{id}")
@page
async def evaluation(request: web.Request) -> web.Response:
    """Show an evaluation."""
    service, record = request.app[SERVICE], record_of(request, archived=True)
    wanted = Wanted.of(request.query)
    after, before = (_row(request.query.get(name)) for name in ("after", "before"))
    start, forward = (after if after is not None else -1, True) if before is None else (before, False)

    def gathered() -> tuple[Any, ...]:
        return (
            line_of(service, record),
            look_up(service.standings, record, wanted, start, forward=forward),
            groups_of(service.standings, record),
        )

    line, found, (groups, looked) = await asyncio.to_thread(gathered)
    totals = totals_of(record)
    values = {
        "title": record.name,
        "record": record,
        "line": line,
        "live": live_view(service, record),
        "groups": groups,
        "looked": looked,
        "metrics": list(metrics_of(totals)),
        "verdicts": list(verdicts_of(totals)),
        "models": models_of(record),
        "files": [name for name in _FILES if (record.path / name).exists()],
        "wanted": wanted,
        **table_view(record, found, forward=forward, is_first=start < 0),
    }
    return rendered("evaluation.html.j2", values)


def _row(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 10 else None  # noqa: PLR2004  nine digits are enough


@ROUTES.get("/e/{id}/live")
@page
async def live(request: web.Request) -> web.Response:
    """Return the part of the page that changes while an evaluation runs."""
    service, record = request.app[SERVICE], record_of(request, archived=True)
    if record.status != RUNNING:
        return web.Response(status=200, headers={"HX-Refresh": "true"})
    line = await asyncio.to_thread(line_of, service, record)
    return rendered("live.html.j2", {"record": record, "line": line, "live": live_view(service, record)})


@ROUTES.get("/e/{id}/i/{number:[0-9]{1,9}}")
@page
async def item(request: web.Request) -> web.Response:
    """Show an item."""
    service, record = request.app[SERVICE], record_of(request, archived=True)
    number, wanted = int(request.match_info["number"]), Wanted.of(request.query)
    if number >= record.rows:
        raise not_found(f"the evaluation has {record.rows} items")

    def gathered() -> tuple[Any, ...]:
        near = [look_up(service.standings, record, wanted, number, forward=forward, most=1) for forward in (False, True)]
        return *view_of(service, record, number), *near

    shown, cells, ends, before, after = await asyncio.to_thread(gathered)
    values = {
        "title": f"Item {number} of {record.name}",
        "record": record,
        "number": number,
        "item": shown,
        "cells": cells,
        "parts": await parts_of(service, record, shown, ends),
        "earlier": _number_of(before),
        "later": _number_of(after),
        "wanted": wanted,
    }
    return rendered("item.html.j2", values)


def _number_of(found: Found) -> int | None:
    return int(found.items[0]["id"].rpartition(".")[2]) if found.items else None


@ROUTES.post("/e/{id}/{verb:cancel|resume|retry-errors|archive}")
@acting
async def act_on(request: web.Request) -> web.StreamResponse:
    """Cancel, resume or archive an evaluation."""
    service, record, verb = request.app[SERVICE], record_of(request), request.match_info["verb"]
    if verb == "archive":
        await archived(service, record)
        return led_to("/")
    await act(service, record, verb, caller(request).name)
    return led_to(f"/e/{record.id}")


@ROUTES.get("/e/{id}/export.{kind:json|jsonl|csv}")
@page
async def export(request: web.Request) -> web.StreamResponse:
    """Redirect to an export."""
    service, record = request.app[SERVICE], record_of(request, archived=True)
    name = f"{record.id}.{request.match_info['kind']}"
    return led_to(f"/v5/exports/{name}?{signed(service.secret, name)}")


@ROUTES.get("/e/{id}/file/{name}")
@page
async def file(request: web.Request) -> web.StreamResponse:
    """Return a file of the run."""
    record, name = record_of(request, archived=True), request.match_info["name"]
    path = record.path / name
    if name not in _FILES or not path.exists():
        raise not_found("there is no such file")
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.FileResponse(path, headers=headers | ({"Content-Type": kind} if (kind := _FILES[name]) else {}))


@ROUTES.get("/e/{id}/report")
@page
async def report(request: web.Request) -> web.Response:
    """Show the report of an evaluation."""
    return await _made("report", [record_of(request, archived=True)])


@ROUTES.get("/compare")
@page
async def compare(request: web.Request) -> web.Response:
    """Show how two evaluations differ."""
    named = [request.query.get(side, "") for side in ("a", "b")]
    if not all(named):
        mine = request.app[SERVICE].store.of(caller(request).account, archived=False)
        ended = [one for one in mine if one.status != RUNNING][::-1][:_MOST_TO_CHOOSE]
        return rendered("choose.html.j2", {"title": "Compare", "ended": ended, "a": named[0], "b": named[1]})
    return await _made("compare", [record_of(request, one, archived=True) for one in named])


async def _made(command: str, records: Sequence[Record]) -> web.Response:
    """Return the page that a command makes. It runs in a process of its own, because it takes seconds for many rows."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "page.html"
        words = [sys.executable, "-m", "runner", command, *(str(one.path) for one in records), "-o", str(path)]
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        if not path.exists():
            raise Refusal(409, said.decode(errors="replace").strip()[-1000:] or f"`{command}` made no page, and gave no reason")
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    # The page brings its own Content-Security-Policy.
    return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})


@ROUTES.get("/endpoints")
@page
async def endpoints(request: web.Request) -> web.Response:
    """Show the endpoints."""
    service, account = request.app[SERVICE], caller(request).account
    shown = [endpoint_view(service, name, account) for name in service.settings.endpoints]
    return rendered("endpoints.html.j2", {"title": "Endpoints", "endpoints": shown})
