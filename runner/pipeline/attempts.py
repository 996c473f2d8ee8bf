"""Attempts in the journal: that of a row is written before it is sent, a control request when it has ended."""

from __future__ import annotations

from itertools import islice

from runner.errors import AttemptError
from runner.results.progress import Progress
from runner.storage.journal import Journal
from runner.storage.ledger import Ledger
from runner.storage.records import Control, End, Start, Try
from runner.structs import replace
from runner.tasks.base import Task
from runner.tasks.request import RequestTask
from runner.types import Attempt, CostOf, Request, Response, Send, Unit
from runner.usage import used_by

__all__ = ["journal_attempts", "known_good"]

#: How many results of earlier starts are searched for answered requests.
_LOOKED_AT = 200


def known_good(ledger: Ledger | None, task: Task) -> list[Request]:
    """Return up to two requests of a task that were answered in an earlier start, the fastest answer first."""
    if ledger is None or not isinstance(task, RequestTask):
        return []
    ends = [end for end in islice(ledger.ends(), _LOOKED_AT) if end.task == task.alias and _is_answer(end)]
    ends.sort(key=lambda end: end.latency_s or 0.0)
    found = (task.again(Unit(end.item_id, end.item_index, end.sample_index, end.task), end.request or "") for end in ends)
    return [request for request in found if request is not None][:2]


def _is_answer(end: End) -> bool:
    return end.error_type is None and not end.skipped


def journal_attempts(send: Send, journal: Journal, progress: Progress, cost_of: CostOf | None = None) -> Send:
    """Return the same send, which writes each attempt to the journal before it is sent, and its failure if it fails.

    An attempt that a kill interrupts in between may be paid twice. `cost_of` returns the cost of an answer in dollars.
    """

    async def send_control(attempt: Attempt) -> Response:
        unit = attempt.request.unit
        line = Control(item_index=unit.item_index, sample_index=unit.sample_index, task=unit.task)
        try:
            response = await send(attempt)
        except AttemptError as error:
            failure = error.failure
            said = replace(line, error_type=failure.error_type.value, message=failure.message, status_code=failure.status_code)
            journal.append(said)
            raise
        cost = None if cost_of is None else cost_of(attempt.request, response)
        journal.append(replace(line, tokens=used_by(attempt.request, response).tokens, cost=cost))
        return response

    async def send_noted(attempt: Attempt) -> Response:
        if attempt.is_control:
            return await send_control(attempt)
        unit, number = attempt.request.unit, attempt.number
        journal.append(Start(item_index=unit.item_index, sample_index=unit.sample_index, task=unit.task, attempt=number))
        try:
            return await send(attempt)
        except AttemptError as error:
            progress.retries += error.retry
            journal.append(
                Try(
                    item_index=unit.item_index,
                    sample_index=unit.sample_index,
                    task=unit.task,
                    attempt=number,
                    error_type=error.failure.error_type.value,
                    message=error.failure.message,
                    status_code=error.failure.status_code,
                )
            )
            raise

    return send_noted
