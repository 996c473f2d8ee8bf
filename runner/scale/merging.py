"""The merge of a run in shards: it checks that every unit has a result, and writes the Parquet files."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator
from contextlib import closing

from runner.results.closing import Report
from runner.results.views import export
from runner.scale.shards import Planned
from runner.storage.journal import Journal, mend
from runner.storage.ledger import Ledger
from runner.storage.records import UNSET, Close, Open
from runner.storage.unit_order import units_of
from runner.structs import replace
from runner.tasks.base import wall_clock_us

__all__ = ["merge"]

_MOST_NAMED = 20


def merge(plan: Planned) -> tuple[Report, list[str]]:
    """Write the files of a run; return its report, and a line for each range of rows that lacks results.

    If no result is lacking, the run is completed. A resume may have asked more rows than were planned. Raises RunDirError,
    StorageError.
    """
    with closing(Ledger.read(plan.run.journal, plan.run.files, tasks=plan.tasks)) as ledger:
        if lacking := [*_named(list(_lacking(plan, ledger))), *_beyond(plan, ledger)]:
            return export(plan.run.path, known=ledger), lacking
        plan.run.lock()
        try:
            if not ledger.is_finished:
                _finish(plan, ledger.opens[0])
            plan.run.point_latest_here()
            due = max(plan.count * ledger.plan.width, ledger.succeeded + ledger.failed)
            return export(plan.run.path, complete=due, known=ledger), []
        finally:
            plan.run.unlock()


def _finish(plan: Planned, opened: Open) -> None:
    """Write to the journal that the run is finished, in a new segment."""
    for _ in mend(plan.run.journal, plan.run.files):
        pass
    with closing(Journal(plan.run.journal, files=plan.run.files)) as journal:
        now = wall_clock_us()
        own = replace(opened, at=now, host=socket.gethostname(), pid=os.getpid(), worker=UNSET)
        for _ in range(2):  # twice, like each start
            journal.append(own)
        journal.append(Close(at=now, reason=None))


def _lacking(plan: Planned, ledger: Ledger) -> Iterator[tuple[int, int, int]]:
    """Yield the first and last row, without the last, of each range that lacks results, and how many it lacks."""
    current: tuple[int, int, int] | None = None
    done = ledger.items_standing(max((last for _, last in plan.rows), default=0)).done
    for first, last in plan.rows:
        while first < last:
            end = done.find(not done[first], first, last)
            end = last if end < 0 else end
            if not done[first]:
                lacks = sum(not ledger.is_done(*unit) for index in range(first, end) for unit in units_of(plan.tasks, index))
                current = (first, end, lacks) if current is None else (current[0], end, current[2] + lacks)
            elif current is not None:
                yield current
                current = None
            first = end  # noqa: PLW2901  the next part of the range
    if current is not None:
        yield current


def _beyond(plan: Planned, ledger: Ledger) -> Iterator[str]:
    """Yield a line if a resume had a larger limit than the plan, and did not finish."""
    planned, *others = (math.inf if opened.limit is None else opened.limit for opened in ledger.opens)
    if not ledger.is_finished and max(others, default=0) > planned:
        what = "a resume wants more rows than were planned, and has not finished"
        yield f"{what}: continue it with --resume {plan.run.path}"


def _named(lacking: list[tuple[int, int, int]]) -> list[str]:
    lines = [
        f"rows {first:,}–{last - 1:,} lack {count:,} results: run those shards again"
        for first, last, count in lacking[:_MOST_NAMED]
    ]
    if more := lacking[_MOST_NAMED:]:
        lines.append(f"and {sum(count for _, _, count in more):,} more in {len(more):,} other ranges")
    return lines
