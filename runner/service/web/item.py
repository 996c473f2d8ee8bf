"""The page of one item: its row and, for each task, the request, the result and the `curl` line that repeats the request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from runner import jsontext
from runner.analysis.pages.answers import cut, task_fields
from runner.check.curl import Shell
from runner.config.model import Config
from runner.errors import RunnerError
from runner.pipeline.pending import prior_result
from runner.pipeline.pipeline import Outputs
from runner.pipeline.rehearsal import NoCalls, send_nothing
from runner.pipeline.steps import build_steps
from runner.service.asking import Service
from runner.service.beginning import evaluation_of
from runner.service.standing import items_of
from runner.service.store import Record
from runner.storage.records import End
from runner.structs import Struct
from runner.types import Item, Outcome, Request, Sample

__all__ = ["Cell", "Part", "cells_of", "view_of"]

#: The longest base64 of a picture that is shown. For a longer one, only its size is shown.
_LARGEST_PICTURE = 200_000 * 4 // 3
_PICTURES = tuple(f"data:image/{kind};base64," for kind in ("png", "jpeg", "gif", "webp"))


class Cell(Struct, frozen=True):
    """A column of the row, with its text or a picture."""

    name: str
    text: str
    picture: str | None = None


class Part(Struct, frozen=True):
    """The outcome of a task for the item."""

    alias: str
    status: str
    fields: Mapping[str, Any]
    #: The body of the request, and the `curl` line that repeats it; None if the task sends no request.
    request: str | None
    curl: str | None


def view_of(service: Service, record: Record, index: int) -> tuple[dict[str, Any], list[Cell], dict[str, End]]:
    """Return an item as the API shows it, the columns of its row, and its results. Raises StorageError, OSError."""
    with service.standings.of(record) as standing:
        (item,), ends = items_of(standing, [index]), standing.ends(index)
    (row,) = record.data.read([index])
    return item, list(cells_of(row)), ends


def cells_of(row: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield the columns of a row as the page shows them."""
    for name, value in row.items():
        text = jsontext.as_text(value)
        if text.startswith(_PICTURES):
            kind, _, data = text.partition(",")
            said = f"a picture, {kind.removeprefix('data:').removesuffix(';base64')}, {len(data) * 3 // 4:,} bytes"
            yield Cell(name, said, text if len(text) <= _LARGEST_PICTURE else None)
        else:
            yield Cell(name, cut(text))


async def parts_of(service: Service, record: Record, item: Mapping[str, Any], ends: Mapping[str, End]) -> list[Part]:
    """Return the outcome of each task for an item."""
    evaluation = await asyncio.to_thread(evaluation_of, record, service.settings)
    config, document = evaluation.config, evaluation.file.document
    requests = await _requests(config, item, ends)
    sections = {None: document["endpoint"], **document["endpoints"]}
    shells = {name: Shell(one, {"endpoint": sections[name]}, evaluation.environment) for name, one in config.asking.items()}
    asked = {task.name: task.endpoint for task in config.run_tasks}
    parts = []
    for task in record.tasks:
        alias = task["alias"]
        end, request, shell = ends.get(alias), requests.get(alias), shells.get(asked.get(alias))
        parts.append(
            Part(
                alias,
                (item["task_result_statuses"] or {}).get(alias, "pending"),
                {} if end is None else _fields(end),
                None if request is None or shell is None else cut(shell.without_secrets(request.shown)),
                None if request is None or shell is None else shell.line(request.path, request.content),
            )
        )
    return parts


#: Fields that the page of an item shows in addition to those of a report: tokens, attempts and times.
_MORE = (
    *("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens"),
    *("attempts", "queue_s", "wire_s", "backoff_s"),
)


def _fields(end: End) -> dict[str, Any]:
    found = {name: value for name, value in task_fields(end).items() if name not in {"alias", "request"}}
    return found | {name: value for name in _MORE if (value := getattr(end, name))}


async def _requests(config: Config, item: Mapping[str, Any], ends: Mapping[str, End]) -> dict[str, Request]:
    """Return the request of each task. It is rendered again, because the journal keeps no answered requests."""
    found: dict[str, Request] = {}

    async def note(request: Request) -> Outcome:
        found.setdefault(request.unit.task, request)
        return await send_nothing(request)

    outputs, steps = Outputs(), build_steps(config, note, NoCalls())
    for step in steps:
        if (end := ends.get(step.task.alias)) is not None:
            outputs.add(step, prior_result(end))
    row = {name: value for name, value in item["data"].items() if name not in outputs.values}
    one = Item(item_id=item["id"], index=0, row=row, place="the item")
    for step in steps:
        if not step.judges and outputs.instead_of(step, row) is None and outputs.values.keys() >= set(step.inputs):
            try:
                await step.task.run(Sample(one, 0), row | outputs.values)
            except RunnerError:  # it has no request, and its result says why
                continue
    return found
