"""What becomes of an evaluation when somebody says so: changed, archived, cancelled, or gone on with."""

from __future__ import annotations

import asyncio
from typing import Any

from runner.pipeline.beginning import Resume
from runner.service.asking import Service
from runner.service.refusals import conflict
from runner.service.store import RUNNING, Record, now

__all__ = ["archived", "cancel", "change", "go_on"]


def change(service: Service, record: Record, changes: dict[str, Any]) -> None:
    """Change what an evaluation says of itself. Raises OSError, StorageError."""
    record.change(**changes)
    if not service.supervisor.is_busy(record):
        service.store.save(record)


async def archived(service: Service, record: Record) -> None:
    """Archive an evaluation; one that runs is drained."""
    if record.archived_at is None:
        await asyncio.to_thread(change, service, record, {"archived_at": now()})
    if record.status == RUNNING:
        service.supervisor.stop(record, "archived while it ran")


def cancel(service: Service, record: Record, who: str) -> None:
    """Let an evaluation end. Raises Refusal where it does not run."""
    if record.status != RUNNING:
        raise conflict("the evaluation does not run")
    service.supervisor.stop(record, f"cancelled by {who}")


async def go_on(service: Service, record: Record, *, retry_errors: bool) -> None:
    """Let an evaluation go on that has ended. Raises Refusal where it runs."""
    if record.status == RUNNING or service.supervisor.is_busy(record):
        raise conflict("the evaluation runs")
    if record.tasks:
        record.status, record.status_reason, record.progress = RUNNING, None, None
        await asyncio.to_thread(service.store.save, record)
        service.supervisor.submit(record, Resume(retry_errors=retry_errors))
