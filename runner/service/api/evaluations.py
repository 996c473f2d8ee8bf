"""The handlers of evaluations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from runner import jsontext
from runner.service.acting import act, add_task, archived, change
from runner.service.api.bodies import AddTask, Filter, Filters, UpdateEvaluation
from runner.service.api.creation import Creations
from runner.service.api.paging import Query, page, sorted_page_of, texts, with_archived
from runner.service.api.reading import asked_in
from runner.service.asking import SERVICE, Service, answer, body_of, caller, is_retry, record_of
from runner.service.refusals import not_found
from runner.service.schema import fields_of
from runner.service.store import Record

__all__ = ["CREATIONS", "ROUTES", "shown"]

ROUTES = web.RouteTableDef()
CREATIONS: web.AppKey[Creations] = web.AppKey("creations", Creations)


async def shown(service: Service, record: Record, *, tasks: bool = False) -> dict[str, Any]:
    """Return an evaluation as the API shows it."""
    progress, errors = record.progress, record.error_count
    if progress is None:
        progress, errors = await asyncio.to_thread(service.standings.progress, record)
    datasets = [service.datasets.records[one].shown() for one, _ in record.datasets if one in service.datasets.records]
    return {
        **record.said,
        "created_by_user_id": record.created_by,
        "datasets": datasets,
        "error_count": errors,
        "progress": progress,
        "tasks": record.tasks if tasks else None,
    }


def _with_tasks(request: web.Request) -> bool:
    return "tasks" in texts(request.query, "views")


@ROUTES.post("/v5/evaluations")
async def create(request: web.Request) -> web.Response:
    """Create an evaluation and start it. The answer does not wait for its results."""
    body, sha256 = await body_of(request)
    key = jsontext.clean(request.headers.get("Idempotency-Key"))
    record = await request.app[CREATIONS].create(caller(request), body, sha256, key, is_retry=is_retry(request))
    return answer(await shown(request.app[SERVICE], record))


@ROUTES.get("/v5/evaluations")
async def find(request: web.Request) -> web.Response:
    """List evaluations."""
    part, tags = request.query.get("name", "").lower(), set(texts(request.query, "tags"))
    return await _page(request, lambda one: part in one.name.lower() and tags <= set(one.tags or ()))


async def _page(request: web.Request, is_wanted: Callable[[Record], bool]) -> web.Response:
    mine = request.app[SERVICE].store.of(caller(request).account, archived=with_archived(request.query))
    query, found = Query.of(request.query), list(filter(is_wanted, mine))
    records, more = sorted_page_of(found, query)
    service, tasks = request.app[SERVICE], _with_tasks(request)
    items = [await shown(service, one, tasks=tasks) for one in records]
    return await asyncio.to_thread(answer, page(items, len(found), query.limit, has_more=more))


@ROUTES.post("/v5/evaluations/filter")
async def find_by_filters(request: web.Request) -> web.Response:
    """List the evaluations that match filters."""
    filters = (await asked_in(request, Filters)).filters
    return await _page(request, lambda one: all(fits(one, each) for each in filters))


def fits(record: Record, wanted: Filter) -> bool:
    """Return whether an evaluation matches a filter. A missing value matches only `!=` and `NOT_IN`."""
    if wanted.key == "tag":
        values: list[Any] = list(record.tags or [])
    elif wanted.key == "status":
        values = [record.status]
    else:
        values = [record.metadata[wanted.key]] if wanted.key in (record.metadata or {}) else []  # type: ignore[index]  # it is there
    if wanted.operator in {"IN", "NOT_IN", "==", "!="}:
        among = _several(wanted.value) if wanted.operator.endswith("IN") else [wanted.value]
        is_there = any(_equal(value, one) for value in values for one in among)
        return is_there == (wanted.operator in {"IN", "=="})
    return any(_compares(value, wanted.value, wanted.operator) for value in values)


def _several(text: str) -> list[str]:
    if text.lstrip().startswith("["):
        try:
            return [one if isinstance(one, str) else json.dumps(one) for one in json.loads(text)]
        except (ValueError, RecursionError):
            pass
    return [one.strip() for one in text.split(",")]


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _equal(value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, str):
        return value == text
    return _number(value) is not None and _number(value) == _number(text)


def _compares(value: Any, text: str, operator: str) -> bool:
    left, right = _number(value), _number(text)
    if left is None or right is None:
        if not isinstance(value, str):
            return False
        return value >= text if operator == ">=" else value <= text
    return left >= right if operator == ">=" else left <= right


@ROUTES.get("/v5/evaluations/{id}")
async def get(request: web.Request) -> web.Response:
    """Return an evaluation."""
    record = record_of(request, archived=with_archived(request.query))
    return answer(await shown(request.app[SERVICE], record, tasks=_with_tasks(request)))


@ROUTES.patch("/v5/evaluations/{id}")
async def update(request: web.Request) -> web.Response:
    """Change an evaluation, or restore it."""
    service, record = request.app[SERVICE], record_of(request, archived=True)
    asked = await asked_in(request, UpdateEvaluation)
    if asked.restore:
        await asyncio.to_thread(change, service, record, {"archived_at": None})
        return answer(await shown(service, record))
    record.check_open()
    changes = asked.changes
    if "metadata" in changes:
        changes["metadata"] = merged(record.metadata or {}, asked.metadata)
    if changes:
        await asyncio.to_thread(change, service, record, changes)
    return answer(await shown(service, record))


def merged(target: Any, patch: Any) -> Any:
    """Return a value with a merge patch applied (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


@ROUTES.delete("/v5/evaluations/{id}")
async def archive(request: web.Request) -> web.Response:
    """Archive an evaluation; a running one is drained."""
    service, record = request.app[SERVICE], record_of(request, archived=is_retry(request))
    await archived(service, record)
    return answer(await shown(service, record))


@ROUTES.post("/v5/evaluations/{id}/tasks")
async def add(request: web.Request) -> web.Response:
    """Add a task to an evaluation, and resume it."""
    service, record = request.app[SERVICE], record_of(request, archived=True)
    await add_task(service, record, (await asked_in(request, AddTask)).task.model_dump(exclude_unset=True))
    return answer(await shown(service, record, tasks=_with_tasks(request)))


@ROUTES.get("/v5/evaluations/{id}/schema")
async def schema(request: web.Request) -> web.Response:
    """Return the fields that the items have."""
    service, record = request.app[SERVICE], record_of(request, archived=with_archived(request.query))
    return answer(await asyncio.to_thread(fields_of, service.standings, record))


@ROUTES.get("/v5/evaluations/{id}/taxonomy")
async def taxonomy(request: web.Request) -> web.Response:
    """Return the taxonomy as it was posted."""
    record = record_of(request)
    if record.taxonomy is None:
        raise not_found("the evaluation has no taxonomy")
    return answer(record.taxonomy)


@ROUTES.post("/runner/evaluations/{id}/{verb:cancel|resume|retry-errors}")
async def act_on(request: web.Request) -> web.Response:
    """Cancel an evaluation, or resume it."""
    service, record = request.app[SERVICE], record_of(request)
    await act(service, record, request.match_info["verb"], caller(request).name)
    return answer(await shown(service, record))


@ROUTES.get("/runner/evaluations/{id}/{name:results|errors}.parquet")
async def parquet(request: web.Request) -> web.StreamResponse:
    """Return a Parquet file."""
    record = record_of(request, archived=True)
    path = record.path / f"{request.match_info['name']}.parquet"
    if not path.exists():
        raise not_found("the file does not exist yet; it is made when the evaluation ends")
    return web.FileResponse(path, headers={"Content-Disposition": f'attachment; filename="{path.name}"'})
