"""The list of models: a GET, which only the check needs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from runner import jsontext
from runner.check.judge import Judgement, Verdict
from runner.check.report import Finding
from runner.config.model import Config
from runner.endpoint.answers.refusals import refusal
from runner.endpoint.connect import base_url_of, timeouts_of
from runner.endpoint.http.transport import Call, Transport
from runner.errors import AttemptError
from runner.timers import timeout
from runner.types import ErrorType, Failure

__all__ = ["PATH", "list_models"]

PATH = "/models"
_OK = 200
_LARGEST_BODY = 8 << 20
_SHOWN = 5


async def list_models(config: Config, transport: Transport, headers: Mapping[str, str], models: Sequence[str]) -> Finding:
    """Get the list of models, and see whether it names the models of the config. No task needs the list."""
    started = time.perf_counter()
    status: int | None = _OK
    failure: Failure | None = None
    try:
        judgement = _judged(await _get(config, transport, headers), models)
    except AttemptError as error:
        failure = error.failure
        status, judgement = failure.status_code, Judgement(Verdict.REFUSED, failure.message)
    return Finding(
        name="models",
        model=None,
        path=PATH,
        stream=False,
        needed_by=(),
        verdict=judgement.verdict,
        status=status,
        error_type=None if failure is None else failure.error_type.value,
        latency_s=round(time.perf_counter() - started, 4),
        message=judgement.message,
    )


async def _get(config: Config, transport: Transport, headers: Mapping[str, str]) -> bytes:
    """Return the body of a 200. Raises AttemptError."""
    if config.endpoint.replay is not None:
        message = "replay: recordings hold no list of models"
        raise AttemptError(Failure(error_type=ErrorType.REQUEST, message=message), retry=False)
    base, _, query = base_url_of(config).partition("?")
    call = Call(url=f"{base}{PATH}{f'?{query}' if query else ''}", headers=headers, content=b"", method="GET")
    timeouts = timeouts_of(config)
    seconds = min(timeouts.first_byte, timeouts.total)
    try:
        async with timeout(seconds):
            reply = await transport.send(call)
            try:
                body = bytearray()
                while (piece := await reply.read()) and len(body) < _LARGEST_BODY:
                    body += piece
            finally:
                reply.close()
    except TimeoutError as error:
        message = f"no list of models within {seconds:g} s"
        raise AttemptError(Failure(error_type=ErrorType.TIMEOUT, message=message), retry=True) from error
    if reply.status != _OK:
        raise refusal(reply.status, reply.headers, bytes(body))
    return bytes(body)


def _judged(body: bytes, models: Sequence[str]) -> Judgement:
    """Judge the body of a 200. A model that is not listed is no fault: some servers accept any name."""
    try:
        decoded = jsontext.decode(body)
    except jsontext.JsonError as error:
        return Judgement(Verdict.WRONG, f"the list of models is not JSON ({error})")
    data = decoded.get("data") if isinstance(decoded, dict) else None
    if not isinstance(data, list):
        return Judgement(Verdict.WRONG, "no list of models: `data` is missing")
    names = [str(entry["id"]) for entry in data if isinstance(entry, dict) and "id" in entry]
    missing = [model for model in models if model not in names]
    lists = f"it lists {', '.join(names[:_SHOWN]) or 'nothing'}{f' and {len(names) - _SHOWN} more' * (len(names) > _SHOWN)}"
    return Judgement(Verdict.WORKS, f"not listed: {', '.join(missing)}; {lists}" if missing else lists)
