"""What a client can do to an evaluation: change it, archive it, cancel it, resume it, or add a task to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from runner.pipeline.beginning import Resume
from runner.service.asked import Asked
from runner.service.asking import Service
from runner.service.kept import now
from runner.service.refusals import Mistake, conflict, invalid
from runner.service.rows import Columns
from runner.service.store import RUNNING, Record
from runner.service.tasks import asked_by, mistakes_of_columns, with_aliases

__all__ = ["act", "add_task", "archived", "change"]

_READ_AT_ONCE = 1000


def change(service: Service, record: Record, changes: dict[str, Any]) -> None:
    """Change values of an evaluation, such as its name. Raises OSError, StorageError."""
    record.change(**changes)
    if record.status != RUNNING:
        service.store.save(record)


async def archived(service: Service, record: Record) -> None:
    """Archive an evaluation; a running one is drained."""
    if record.archived_at is None:
        await asyncio.to_thread(change, service, record, {"archived_at": now()})
    if record.status == RUNNING:
        await _call_off(service, record, "archived while it ran")


async def add_task(service: Service, record: Record, task: dict[str, Any]) -> None:
    """Add a task to an evaluation and resume it; a running evaluation pauses for that. The task may read other results.

    Answered requests are not sent again. Raises Refusal with every mistake.
    """
    record.check_open()
    async with service.supervisor.changing:
        questions = service.questions.asked_of(record.account) | record.questions
        tasks = with_aliases([*record.tasks, task])
        asked = await asyncio.to_thread(asked_by, tasks, service.settings, questions)
        wrong = asked.mistakes or list(await asyncio.to_thread(_mistakes_of_columns, record, asked))
        if wrong:
            raise invalid(*({**one, "loc": _in_body(one["loc"])} for one in wrong))
        await service.supervisor.pause(record)
        try:
            await asyncio.to_thread(change, service, record, {"tasks": tasks, "questions": asked.questions})
        finally:  # a paused evaluation goes on, even if the task could not be saved
            service.standings.forget(record)
            await _submit(service, record, Resume())


def _mistakes_of_columns(record: Record, asked: Asked) -> Iterator[Mistake]:
    columns = Columns()
    for start in range(0, record.rows, _READ_AT_ONCE):
        for row in record.data.read(range(start, min(start + _READ_AT_ONCE, record.rows))):
            columns.note(row)
        if not columns.all_seen:
            break
    return mistakes_of_columns(asked, columns.names, all_seen=columns.all_seen)


def _in_body(place: Sequence[str | int]) -> list[str | int]:
    """Return a path among all tasks as a path in the body, which has only the last of them."""
    return ["body", "task", *place[3:]]


async def act(service: Service, record: Record, verb: str, who: str) -> None:
    """Do what a verb says: `cancel` drains a running evaluation, `resume` and `retry-errors` go on with one that has ended.

    Raises Refusal if it is not running, or is.
    """
    is_running = record.status == RUNNING
    if verb == "cancel" and not is_running:
        raise conflict("the evaluation is not running")
    if verb != "cancel" and is_running:
        raise conflict("the evaluation is running")
    if is_running:
        await _call_off(service, record, f"cancelled by {who}")
    elif record.tasks:
        await _submit(service, record, Resume(retry_errors=verb == "retry-errors"))


async def _call_off(service: Service, record: Record, reason: str) -> None:
    await asyncio.to_thread(record.change, called_off=reason)
    service.supervisor.stop(record, reason)


async def _submit(service: Service, record: Record, resume: Resume) -> None:
    record.status, record.status_reason, record.progress = RUNNING, None, None
    await asyncio.to_thread(_written_as_running, service, record)
    service.supervisor.submit(record, resume)


def _written_as_running(service: Service, record: Record) -> None:
    if record.called_off is not None:
        record.change(called_off=None)
    service.store.save(record)
