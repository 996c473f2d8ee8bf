"""Makes the requests of the check, a few at once, one attempt each, and returns the findings."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

from runner import jsontext
from runner.check.curl import Shell
from runner.check.judge import Verdict, excerpt, judge_failure, judge_response, parts_present
from runner.check.probes import Asked
from runner.check.report import Finding
from runner.errors import AttemptError, UsageError
from runner.processes.pool import Calls
from runner.secrets.redaction import Redactor
from runner.structs import replace
from runner.types import Attempt, Failure, Response, Send

__all__ = ["Asker"]

_OK = 200


class Asker:
    """Makes requests and judges their outcomes."""

    def __init__(
        self, *, send: Send, calls: Calls, shell: Shell | None, at_once: int, save: Path | None, redactor: Redactor
    ) -> None:
        """`shell` writes the curl lines, None for none; `save` is a directory for the bodies. Raises UsageError.

        `calls` runs the checks against JSON Schemas; `redactor` removes secrets from the bodies that are shown or saved.
        """
        self._send, self._calls, self._shell, self._save, self._redactor = send, calls, shell, save, redactor
        self._room = asyncio.Semaphore(at_once)
        if save is not None:
            try:
                save.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"--save: {save}: cannot be created: {error.strerror}") from error

    async def all(self, asked: Iterable[Asked]) -> list[Finding]:
        """Make requests and return their findings, in the same order. Raises UsageError if a body cannot be saved."""
        wanted = [(one, self._line(one)) for one in asked]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(one, line)) for one, line in wanted]
        return [task.result() for task in tasks]

    async def _ask(self, asked: Asked, line: str | None) -> Finding:
        attempt = Attempt(asked.request, 1)
        async with self._room:
            try:
                answer: Response | Failure = await self._send(attempt)
            except AttemptError as error:
                answer = error.failure
        finding = _failed(asked, answer) if isinstance(answer, Failure) else await _answered(asked, answer, self._calls)
        return replace(finding, latency_s=round(attempt.wire_s, 4), curl=line)

    def _line(self, asked: Asked) -> str | None:
        """Return a request's curl line, and save its body if wanted."""
        request, file, content = asked.request, None, self._redactor.json(asked.request.content)
        if self._save is not None:
            stem = re.sub(r"[^\w.-]+", "-", "-".join([asked.model, asked.name, *["stream"] * request.stream]))
            file = self._save / f"{stem}.json"
            _write(file, content)
        if self._shell is None:
            return None
        return self._shell.line(request.path, content, stream=request.stream, file=file)


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise UsageError(f"--save: {file}: cannot be written: {error.strerror}") from error


def _failed(asked: Asked, failure: Failure) -> Finding:
    verdict, message = judge_failure(failure, asked.expects)
    return _finding(asked, verdict, message, status=failure.status_code, error_type=failure.error_type.value)


async def _answered(asked: Asked, response: Response, calls: Calls) -> Finding:
    verdict, message = await judge_response(jsontext.decode(asked.request.content), response, asked.expects, calls)
    finding = _finding(asked, verdict, message, status=_OK)
    return replace(
        finding,
        ttft_s=None if response.ttft_s is None else round(response.ttft_s, 4),
        finish_reason=response.finish_reason,
        present=parts_present(response),
        answer=excerpt(response),
    )


def _finding(asked: Asked, verdict: Verdict, message: str, *, status: int | None, error_type: str | None = None) -> Finding:
    return Finding(
        name=asked.name,
        model=asked.model,
        path=asked.request.path,
        stream=asked.request.stream,
        needed_by=asked.needed_by,
        verdict=verdict,
        status=status,
        error_type=error_type,
        message=message,
        notes=asked.notes,
    )
