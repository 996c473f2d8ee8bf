"""The cache: reuses an earlier run's answer to the same request instead of asking again.

It is the outermost layer around a request: a cached answer bypasses limits, retries and the circuit. The key is everything that
decides the answer: base URL, path, the bytes of the body, and the sample index. Two equal requests of one run are two units,
and both are asked: a look-up does not find what this run itself has stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from runner import jsontext
from runner.config.sections import CacheConfig
from runner.endpoint.answers.responses import read_response
from runner.errors import AttemptError
from runner.secrets.redaction import Redactor
from runner.storage.responses import ResponseFile
from runner.tasks.base import wall_clock_us
from runner.types import Execute, Outcome, Request, Response, Result, Unit

__all__ = ["ResponseCache", "opened_cache"]

#: Part of each key. Raise it when bodies are read differently: older answers are then no longer found.
_VERSION = b"1"
#: Finish reasons of complete answers. An answer that was cut off or filtered may differ the next time.
_WHOLE = frozenset({"stop", "tool_calls", "function_call"})


class ResponseCache:
    """Looks up answers of earlier runs, and keeps new ones for later runs."""

    def __init__(self, file: ResponseFile) -> None:
        self._file = file
        #: The keys of requests in flight.
        self._asked: dict[Unit, bytes] = {}

    def before(self, execute: Execute, base_url: str) -> Execute:
        """Wrap `execute` so that it asks only if the cache has no answer. `base_url` holds no API keys."""

        async def execute_unless_known(request: Request) -> Outcome:
            key = _key(base_url, request)
            if not request.again and (response := await self._known(key, request)) is not None:
                now = wall_clock_us()
                return Outcome(answer=response, sent=request, cached=True, started_at=now, completed_at=now)
            self._asked[request.unit] = key
            return await execute(request)

        return execute_unless_known

    def keep(self, result: Result) -> None:
        """Keep the answer of a result that is in the journal, if the answer may be reused."""
        key, answer = self._asked.pop(result.unit, None), result.outcome.answer
        if (
            key is not None
            and result.request is not None
            and isinstance(answer, Response)
            and _is_whole(answer, result.request)
        ):
            self._file.put(key, answer.body)

    async def _known(self, key: bytes, request: Request) -> Response | None:
        found: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._file.look_up(key, found)
        body = await found
        try:
            return None if body is None else read_response(body, request)
        except AttemptError:  # another version stored a body that this one rejects
            return None


def _key(base_url: str, request: Request) -> bytes:
    parts = (_VERSION, base_url.encode(), request.path.encode(), b"%d" % request.unit.sample_index)
    return hashlib.sha256(b"\0".join((*parts, request.content))).digest()


def _is_whole(answer: Response, request: Request) -> bool:
    """Return whether the same request may get this answer again."""
    if answer.text_repaired or answer.refusal:
        return False
    if request.embeds:
        return True
    choices = None if answer.choices is None else jsontext.decode(answer.choices)
    reasons = [answer.finish_reason] if choices is None else [choice.get("finish_reason") for choice in choices]
    return all(reason in _WHOLE for reason in reasons)


_Found: TypeAlias = Sequence[tuple[asyncio.Future[bytes | None], bytes | None]]


def _settle(found: _Found) -> None:
    for asked_by, body in found:
        if not asked_by.done():  # the waiting task may have been cancelled
            asked_by.set_result(body)


@asynccontextmanager
async def opened_cache(settings: CacheConfig, *, run_id: str, redactor: Redactor) -> AsyncIterator[ResponseCache]:
    """Open the cache for the block; pending writes finish at its end."""
    oldest = 0 if settings.max_age_s is None else int(time.time()) - settings.max_age_s
    loop = asyncio.get_running_loop()

    def tell(found: _Found) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, found)

    file = ResponseFile(
        Path(settings.path),
        tell,
        run_id=run_id,
        reads=settings.reads,
        writes=settings.writes,
        oldest=oldest,
        redactor=redactor,
    )
    try:
        yield ResponseCache(file)
    finally:
        await asyncio.to_thread(file.close)
