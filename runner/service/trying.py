"""Dry runs: a function of a client is called on some rows, and nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from runner import jsontext
from runner.pipeline.rehearsal import send_nothing
from runner.processes.pool import Calls
from runner.tasks.base import TaskConfig
from runner.tasks.mediafiles import MediaFiles
from runner.types import ErrorType, Failure, Item, Sample, Value

__all__ = ["MOST_ROWS", "try_out"]

MOST_ROWS = 100
#: For all rows together. The client gives up after a minute.
_WITHIN_S = 40.0


async def try_out(task: TaskConfig, rows: Sequence[dict[str, Any]], calls: Calls) -> list[dict[str, Any]]:
    """Return for each row `{"result": …}` or `{"error": {"type": …, "message": …}}`, in their order."""
    built = task.build(send_nothing, MediaFiles(), calls)

    async def tried(number: int, row: dict[str, Any]) -> dict[str, Any]:
        item = Item(item_id=str(number), index=number, row=row, place=f"sample_data.{number}")
        result = await built.run(Sample(item, 0), row)
        return _said(result.outcome.answer)

    jobs = [asyncio.create_task(tried(number, row)) for number, row in enumerate(rows)]
    _, late = await asyncio.wait(jobs, timeout=_WITHIN_S)
    for job in late:
        job.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return [_OVER if job in late else job.result() for job in jobs]


_OVER = {"error": {"type": ErrorType.TIMEOUT.value, "message": f"a dry run may take at most {_WITHIN_S:g} s"}}


def _said(answer: object) -> dict[str, Any]:
    if isinstance(answer, Failure):
        return {"error": {"type": answer.error_type.value, "message": answer.message}}
    assert isinstance(answer, Value)
    return {"result": jsontext.decode(answer.output or "null") if answer.value is None else answer.value}
