"""The web application of the service: its routes, its start and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

from aiohttp import web

from runner.errors import UsageError
from runner.logs import cleaning, logger
from runner.processes.pool import ProcessPool
from runner.secrets.redaction import Redactor
from runner.service.api import datasets, evaluations, items, openapi, others, questions
from runner.service.api.creation import Creations
from runner.service.asking import SERVICE, Service, middleware, with_headers
from runner.service.datasets import Datasets
from runner.service.exports import secret_in
from runner.service.questions import Questions
from runner.service.refusals import not_served
from runner.service.settings import ServiceConfig
from runner.service.standing import Standings
from runner.service.store import Store
from runner.service.supervisor import Supervisor
from runner.service.watch import Watch
from runner.service.web.routes import add_pages
from runner.session import loop_factory
from runner.storage.rundir import RunDir

__all__ = ["application", "serve", "service_of"]

_log = logger(__name__)
_SERVED = ("evaluations", "evaluation-items", "datasets", "dataset-items", "questions", "models", "chat/completions")
_NOT_SERVED = (
    *("evaluation-groups", "evaluation-dashboards", "rubrics", "annotation-tasks", "span-assessments", "spans"),
    *("vector-stores", "agent-configs", "build", "deploy", "files", "credentials", "responses"),
    *("completions", "inference"),
)


def service_of(settings: ServiceConfig) -> Service:
    """Load the evaluations, datasets and questions of the service. Raises ConfigError, UsageError."""
    keys, output = settings.keys(os.environ), Path(settings.output)
    store, standings = Store(output=output), Standings()
    try:
        store.load()
        kept = Datasets(output=output / "datasets")
        kept.load()
        questions_kept = Questions(path=output / "questions" / "questions.jsonl")
        questions_kept.load()
        secret = secret_in(output)
    except OSError as error:
        raise _no_directory(output, error) from error
    supervisor = Supervisor(settings, store, standings)
    return Service(
        settings=settings,
        keys=keys,
        store=store,
        datasets=kept,
        questions=questions_kept,
        standings=standings,
        supervisor=supervisor,
        watch=Watch(supervisor.going),
        secret=secret,
        redactor=Redactor(settings.secrets(os.environ)),
    )


def _no_directory(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: cannot be read or written: {error.strerror}; `output` should be a directory that you may write")


def application(service: Service) -> web.Application:
    """Return the application with all routes."""
    app = web.Application(middlewares=[middleware], client_max_size=service.settings.limits.body)
    app[SERVICE] = service
    app.on_response_prepare.append(with_headers)
    app[evaluations.CREATIONS] = Creations(service)
    app[others.CALLS] = ProcessPool()
    app.on_cleanup.append(others.close_calls)
    for routes in (datasets, items, questions, evaluations, others, openapi):
        app.add_routes(routes.ROUTES)
    add_pages(app)
    for path in (*(f"/v5/{name}" for name in _NOT_SERVED), "/v5/evaluations/{id}/tasks/{alias}"):
        app.router.add_route("*", path, _not_served)
        app.router.add_route("*", path + "/{rest:.*}", _not_served)
    return app


async def _not_served(request: web.Request) -> web.Response:
    raise not_served(f"{request.method} {request.path[:100]}", _SERVED)


def serve(settings: ServiceConfig) -> int:
    """Serve until a signal; return 0. A second signal drops the requests in flight. Raises UsageError."""
    directory = RunDir(Path(settings.output))
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_directory(directory.path, error) from error
    directory.lock()  # before reading: incomplete directories may be the work of another service
    try:
        service = service_of(settings)
        with cleaning(service.redactor.text), asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(service))
    finally:
        directory.unlock()
    return 0


async def _serve(service: Service) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            service.supervisor.drop()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    # aiohttp logs a traceback for every request that is not HTTP. The client gets a 400 anyway.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    runner = web.AppRunner(application(service), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    host, port = service.settings.address
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise UsageError(
            f"{service.settings.listen}: cannot listen here: {error.strerror}; choose another address with --listen"
        ) from error
    address = runner.addresses[0]
    _log.info("serving on http://%s:%d; %d evaluations are kept", host, address[1], len(service.store.records))
    service.supervisor.start()
    await stopping.wait()
    _log.info("stopping: requests in flight may finish; running evaluations go on at the next start")
    await service.supervisor.drain()
    await runner.cleanup()
