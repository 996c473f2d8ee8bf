"""The handlers of evaluation items and of their exports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from aiohttp import web

from runner.service.api.bodies import Export
from runner.service.api.paging import MOST_ITEMS, Query, page, with_archived
from runner.service.api.reading import asked_in
from runner.service.asking import SERVICE, Service, answer, caller, record_of
from runner.service.exports import LARGEST_DIRECT, is_signed, pieces_of, signed
from runner.service.refusals import Refusal, invalid, mistake, not_found
from runner.service.rows import numbers_in, place_of
from runner.service.standing import items_of
from runner.service.store import Record

__all__ = ["ROUTES"]

ROUTES = web.RouteTableDef()
_STATUSES = ("all", "passed", "failed")
_TYPES = {"json": "application/json", "jsonl": "application/x-ndjson", "csv": "text/csv"}


@ROUTES.get("/v5/evaluation-items")
async def find(request: web.Request) -> web.Response:
    """List items, of one evaluation or of all evaluations of the account."""
    service, archived = request.app[SERVICE], with_archived(request.query)
    query = Query.of(request.query, most=MOST_ITEMS, keys=("created_at", "id"))
    status = request.query.get("completion_status", "all")
    if status not in _STATUSES:
        raise invalid(
            mistake(("query", "completion_status"), f"Input should be one of {', '.join(_STATUSES)}", "literal_error")
        )
    named = request.query.get("evaluation_id")
    if named is not None:
        records = [record_of(request, named, archived=archived)]
    else:
        records = service.store.of(caller(request).account, archived=archived)
    return await asyncio.to_thread(lambda: answer(_page(service, records, query, status)))


def _page(service: Service, records: Sequence[Record], query: Query, status: str) -> dict[str, Any]:
    """Return a page of items, in the order of evaluations and, within each, of rows."""
    cursor = query.after or query.before
    place = None if cursor is None else place_of(cursor)
    known = {record.id: number for number, record in enumerate(records)}
    if cursor is not None and (place is None or place[0] not in known or place[1] >= records[known[place[0]]].rows):
        raise query.missing
    masks = None if status == "all" else [_mask(service, record, status) for record in records]
    total = sum(record.rows for record in records) if masks is None else sum(mask.count(1) for mask in masks)
    forward = (query.before is None) != query.descending
    start = None if place is None else (known[place[0]], place[1])
    found = list(islice(_walk(records, masks, start, forward=forward), query.limit + 1))
    has_more, found = len(found) > query.limit, found[: query.limit]
    if query.before is not None:
        found.reverse()
    items: list[dict[str, Any]] = []
    for number in dict.fromkeys(number for number, _ in found):
        with service.standings.of(records[number]) as standing:
            items += items_of(standing, [index for one, index in found if one == number])
    return page(items, total, query.limit, has_more=has_more)


def _mask(service: Service, record: Record, status: str) -> bytes:
    with service.standings.of(record) as standing:
        failed = standing.states().failed
    return failed if status == "failed" else failed.translate(bytes([1, 0]) + bytes(254))


def _walk(
    records: Sequence[Record], masks: Sequence[bytes] | None, start: tuple[int, int] | None, *, forward: bool
) -> Iterator[tuple[int, int]]:
    """Yield the items after a position, or before it, each as the number of the evaluation and of the row."""
    first, at = start if start is not None else (0 if forward else len(records) - 1, None)
    for number in range(first, len(records)) if forward else range(first, -1, -1):
        mask = None if masks is None else masks[number]
        yield from ((number, index) for index in numbers_in(mask, records[number].rows, at, forward=forward))
        at = None


@ROUTES.get("/v5/evaluation-items/{id}")
async def get(request: web.Request) -> web.Response:
    """Return an item."""
    service, place = request.app[SERVICE], place_of(request.match_info["id"])
    if place is None:
        raise not_found(f"there is no evaluation item {request.match_info['id']!r:.80}")
    record = record_of(request, place[0], archived=with_archived(request.query))
    if place[1] >= record.rows:
        raise not_found(f"the evaluation has {record.rows} items")

    def item() -> dict[str, Any]:
        with service.standings.of(record) as standing:
            return items_of(standing, [place[1]])[0]

    return answer(await asyncio.to_thread(item))


@ROUTES.post("/v5/evaluation-items/export")
async def export(request: web.Request) -> web.Response:
    """Export all items of an evaluation, in the answer or as a URL."""
    service = request.app[SERVICE]
    asked = await asked_in(request, Export)
    record = record_of(request, asked.evaluation_id, archived=bool(asked.include_archived))
    name = f"{record.id}.{asked.export_format}"
    if asked.export_method == "signed_url":
        url = f"{request.scheme}://{request.host}/v5/exports/{name}?{signed(service.secret, name)}"
        return answer({"filename": name, "content": None, "signed_url": url})

    def content() -> str:
        pieces, size = [], 0
        for piece in pieces_of(service.standings, record, asked.export_format):
            size += len(piece)
            if size > LARGEST_DIRECT:
                raise Refusal(413, f"the export has more than {LARGEST_DIRECT >> 20} MiB; set export_method to signed_url")
            pieces.append(piece)
        return b"".join(pieces).decode()

    return await asyncio.to_thread(lambda: answer({"filename": name, "content": content(), "signed_url": None}))


@ROUTES.get("/v5/exports/{name}")
async def download(request: web.Request) -> web.StreamResponse:
    """Stream an export. The signed URL needs no key."""
    service, name = request.app[SERVICE], request.match_info["name"]
    if not is_signed(service.secret, name, request.query):
        raise Refusal(403, "the signature of the URL is wrong or has expired")
    evaluation_id, _, kind = name.rpartition(".")
    record = service.store.records.get(evaluation_id)
    if record is None or kind not in _TYPES:
        raise not_found()
    response = web.StreamResponse(
        headers={"Content-Type": _TYPES[kind], "Content-Disposition": f'attachment; filename="{name}"'}
    )
    await response.prepare(request)
    pieces = pieces_of(service.standings, record, kind)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        await response.write(piece)
    await response.write_eof()
    return response
