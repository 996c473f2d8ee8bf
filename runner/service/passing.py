"""Chat completions outside evaluations: passed on to the endpoint of their model, within the limits of the endpoint.

They take turns with evaluations, and are not stored. Nothing is retried here, because the client does that itself.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import Any

from runner.config.model import Config
from runner.endpoint.connect import client_of, headers_of
from runner.endpoint.overheard import OnPiece, Overheard
from runner.endpoint.pacing.rate_limiter import limited
from runner.endpoint.shared import Guest
from runner.errors import AttemptError, RowError
from runner.pipeline.rehearsal import NoCalls, send_nothing
from runner.service.asking import Service
from runner.service.refusals import Refusal, invalid, mistake
from runner.service.served import served_config
from runner.service.settings import ServiceConfig
from runner.service.tasks import chat_task
from runner.tasks.request import RequestTask
from runner.types import Attempt, Request, Response, Unit

__all__ = ["pass_on"]

#: The status if the server has not answered with one.
_BAD_GATEWAY = 502
_UNIT = Unit("passed on", 0, 0, "reply")


async def pass_on(service: Service, said: dict[str, Any], on_piece: OnPiece) -> Response:
    """Return the answer to a body of `/chat/completions`; if it is streamed, `on_piece` takes the bytes as they arrive.

    Raises Refusal, with the status of the endpoint if there is one.
    """
    endpoint, config, request = await asyncio.to_thread(_asked, service.settings, said)
    environment = service.settings.environment_of(os.environ, endpoint)
    guest = Guest(config, environment, left=lambda: 1.0, has_fresh=lambda: False)
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(service.supervisor.endpoints.asked_by(guest))
        transport = Overheard(shared.transport(guest, stack), on_piece)
        client = client_of(config, transport, headers_of(config, environment))
        send = limited(client.send, shared.limiter, guest, tokens_per_minute=config.limits.tokens_per_minute)
        try:
            return await send(Attempt(request, 1))
        except AttemptError as error:
            raise _refusal(service, error) from error


def _asked(settings: ServiceConfig, said: dict[str, Any]) -> tuple[str, Config, Request]:
    """Return the endpoint, the config and the request of a body. Raises Refusal."""
    endpoint, task = chat_task(said, settings)
    config = served_config(settings, endpoint, name="chat", tasks=[task])
    # Built without the configuration, so that no text of a message is rendered as a template.
    plain = task.model_copy(update={"configuration": type(task.settings).unchecked({})})
    built = plain.build(send_nothing, config.media_files, NoCalls())
    assert isinstance(built, RequestTask)
    try:
        return endpoint, config, built.request_of(_UNIT, task.settings.verbatim)
    except RowError as error:
        raise invalid(mistake(("body", "messages"), error.failure.message)) from error


def _refusal(service: Service, error: AttemptError) -> Refusal:
    failure = error.failure
    wait = {} if failure.retry_after_s is None else {"Retry-After": f"{failure.retry_after_s:g}"}
    return Refusal(failure.status_code or _BAD_GATEWAY, service.redactor.text(failure.message), wait)
