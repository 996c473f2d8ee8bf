"""The handlers of datasets and their items."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from runner.service.api.bodies import CreateDataset, CreateItems, UpdateDataset, UpdateItem, validated
from runner.service.api.paging import MOST_ITEMS, Query, page, page_of, sorted_page_of, texts, with_archived
from runner.service.api.reading import Data, Slices, asked_in, read_object, read_rows
from runner.service.asking import SERVICE, answer, body_of, caller, is_retry
from runner.service.datasets import DatasetRecord, reserved_in
from runner.service.kept import now
from runner.service.refusals import Mistakes, invalid, mistake, not_found
from runner.service.rows import checked_row, checked_rows, mistakes_in_files
from runner.service.settings import ServiceLimits

__all__ = ["ROUTES"]

ROUTES = web.RouteTableDef()


def rows_in(data: Data, files: Sequence[Any] | None, limits: ServiceLimits) -> list[bytes]:
    """Return the rows of a body as JSON; they and the number of files are checked. Raises Refusal."""
    wrong, raws, lines = Mistakes(), read_rows(data, limits.items), list[bytes]()
    for number, row, line in checked_rows(raws, limits.item, wrong):
        wrong.note(*reserved_in(row, number))
        lines.append(line)
    wrong.note(*mistakes_in_files(files, len(raws)))
    wrong.refuse()
    return lines


@ROUTES.post("/v5/datasets")
async def create(request: web.Request) -> web.Response:
    """Create a dataset."""
    service, who = request.app[SERVICE], caller(request)
    limits = service.settings.limits
    body, _ = await body_of(request)

    def make() -> DatasetRecord:
        said, data = read_object(body)
        asked = validated(CreateDataset, said)
        rows = rows_in(data, asked.files, limits)
        known = {"name": asked.name, "description": asked.description, "tags": asked.tags}
        return service.datasets.make(who.account, who.name, known, rows, asked.files)

    return answer((await asyncio.to_thread(make)).shown())


@ROUTES.get("/v5/datasets")
async def find(request: web.Request) -> web.Response:
    """List datasets."""
    query, tags = Query.of(request.query), set(texts(request.query, "tags"))
    archived, part = with_archived(request.query), request.query.get("name", "").lower()
    mine = request.app[SERVICE].datasets.of(caller(request).account, archived=archived)
    found = [one for one in mine if part in one.name.lower() and tags <= set(one.tags or ())]
    shown, more = sorted_page_of(found, query)
    return answer(page([one.shown() for one in shown], len(found), query.limit, has_more=more))


@ROUTES.get("/v5/datasets/{id}")
async def get(request: web.Request) -> web.Response:
    """Return a dataset."""
    kept, archived = request.app[SERVICE].datasets, with_archived(request.query)
    return answer(kept.get(caller(request).account, request.match_info["id"], archived=archived).shown())


@ROUTES.patch("/v5/datasets/{id}")
async def update(request: web.Request) -> web.Response:
    """Change a dataset, or restore it."""
    found = request.app[SERVICE].datasets.get(caller(request).account, request.match_info["id"], archived=True)
    asked = await asked_in(request, UpdateDataset)
    if asked.restore:
        await asyncio.to_thread(lambda: found.change(archived_at=None))
        return answer(found.shown())
    found.check_open()
    if changes := asked.changes:
        await asyncio.to_thread(lambda: found.change(**changes))
    return answer(found.shown())


@ROUTES.delete("/v5/datasets/{id}")
async def archive(request: web.Request) -> web.Response:
    """Archive a dataset. If it is archived already, only a retry is accepted: its first answer may be lost."""
    found = request.app[SERVICE].datasets.get(caller(request).account, request.match_info["id"], archived=True)
    if found.archived_at is None:
        await asyncio.to_thread(lambda: found.change(archived_at=now()))
    elif not is_retry(request):
        found.check_open()
    return answer({"id": found.id, "deleted": True, "object": "dataset"})


@ROUTES.post("/v5/dataset-items/batch")
async def create_items(request: web.Request) -> web.Response:
    """Add items to a dataset, as one new version."""
    service = request.app[SERVICE]
    body, _ = await body_of(request)
    account, limits = caller(request).account, service.settings.limits

    def add() -> list[dict[str, Any]]:
        said, data = read_object(body)
        asked = validated(CreateItems, said)
        found = service.datasets.get(account, asked.dataset_id, archived=True)
        found.check_open()
        rows = rows_in(data, asked.files, limits)
        with service.datasets.changing:
            first = len(found.items)
            found.append([(first + at, row, asked.files[at] if asked.files else None) for at, row in enumerate(rows)])
        return _shown(found, range(first, first + len(rows)), None)

    return await asyncio.to_thread(lambda: answer({"items": add(), "object": "list"}))


def _shown(found: DatasetRecord, numbers: Sequence[int], version: int | None) -> list[dict[str, Any]]:
    contents = [(number, found.at(number, version)) for number in numbers]
    return [found.item(number, content) for number, content in contents if content is not None]


def _version(request: web.Request, found: DatasetRecord | None) -> int | None:
    text = request.query.get("version")
    if text is None:
        return None
    if found is None or not (text.isascii() and text.isdecimal()):
        raise invalid(mistake(("query", "version"), "should be a number; in a list of items it needs dataset_id"))
    number = int(text[:18])
    if not 1 <= number <= found.version:
        raise not_found(f"the dataset has no version {number}; the latest is {found.version}")
    return number


@ROUTES.get("/v5/dataset-items")
async def find_items(request: web.Request) -> web.Response:
    """List items, of one dataset or of all datasets of the account."""
    service, who, archived = request.app[SERVICE], caller(request), with_archived(request.query)
    query = Query.of(request.query, most=MOST_ITEMS, keys=("created_at", "id"))
    named = request.query.get("dataset_id")
    one = None if named is None else service.datasets.get(who.account, named, archived=archived)
    version = _version(request, one)
    several = [one] if one is not None else service.datasets.of(who.account, archived=archived)

    def items() -> web.Response:
        found = [(each, number) for each in several for number in each.numbers(version)]
        if query.descending:
            found.reverse()
        shown, more = page_of(found, query, lambda pair: f"{pair[0].id}.{pair[1]}")
        items = [item for each, number in shown for item in _shown(each, [number], version)]
        return answer(page(items, len(found), query.limit, has_more=more))

    return await asyncio.to_thread(items)


@ROUTES.get("/v5/dataset-items/{id}")
async def get_item(request: web.Request) -> web.Response:
    """Return an item, in the latest version or an earlier one."""
    archived = with_archived(request.query)
    found, number = request.app[SERVICE].datasets.item(caller(request).account, request.match_info["id"], archived=archived)
    content = found.at(number, _version(request, found))
    if content is None:
        raise not_found("the dataset item does not exist in this version")
    return answer(found.item(number, content))


@ROUTES.patch("/v5/dataset-items/{id}")
async def update_item(request: web.Request) -> web.Response:
    """Replace the content of an item, as a new version."""
    service = request.app[SERVICE]
    found, number = service.datasets.item(caller(request).account, request.match_info["id"], archived=True)
    body, _ = await body_of(request)

    def change() -> dict[str, Any]:
        asked, row = _item_in(body, service.settings.limits.item)
        found.check_open()
        with service.datasets.changing:
            if (before := found.at(number, None)) is None:
                raise not_found("the dataset item was deleted")
            found.append([(number, row, asked.files if "files" in asked.model_fields_set else before.files)])
        return _shown(found, [number], None)[0]

    return answer(await asyncio.to_thread(change))


def _item_in(body: bytearray, longest: int) -> tuple[UpdateItem, bytes]:
    """Return the new content of an item, and its row as JSON. Raises Refusal."""
    said, data = read_object(body)
    if data is None:
        raise invalid(mistake(("body", "data"), "Field required", "missing"))
    checked = checked_row(b"[]" if isinstance(data, Slices) else bytes(data), 0, longest)
    wrong = [checked] if isinstance(checked, dict) else reserved_in(checked[0], 0)
    if isinstance(checked, dict) or wrong:
        raise invalid(*({**one, "loc": ["body", "data", *one["loc"][3:]]} for one in wrong))
    return validated(UpdateItem, {**said, "data": checked[0]}), checked[1]


@ROUTES.delete("/v5/dataset-items/{id}")
async def delete_item(request: web.Request) -> web.Response:
    """Delete an item, as a new version."""
    kept = request.app[SERVICE].datasets
    found, number = kept.item(caller(request).account, request.match_info["id"], archived=True)
    found.check_open()

    def delete() -> None:
        with kept.changing:
            if found.at(number, None) is not None:
                found.append([(number, None, None)])
            elif not is_retry(request):
                raise not_found("the dataset item was deleted")

    await asyncio.to_thread(delete)
    return answer({"id": request.match_info["id"], "deleted": True, "object": "dataset.item"})
