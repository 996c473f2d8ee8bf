"""The service in this process, on a real socket and in a thread of its own; and a client without a library."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from aiohttp import web

from runner.service.api.app import application, service_of
from runner.service.settings import load_service
from tests.serving import Served, in_thread

__all__ = ["Running", "chat", "running_service", "settings_text"]


def settings_text(url: str, output: Path, more: str = "", other: str = "", models: str = "") -> str:
    """Return a service's config; `other` is another endpoint, which has the model `j`; `models` are more of the first one."""
    second = f", other: {{base_url: '{other}', limits: {{concurrency: 2}}}}" if other else ""
    return (
        f"output: {output}\nendpoints: {{local: {{base_url: '{url}', limits: {{concurrency: 8}}}}{second}}}\n"
        f"models: {{m: {{endpoint: local}}, 'v/*': {{endpoint: local}}{', j: {endpoint: other}' if other else ''}{models}}}\n"
        f"{more}\n"
    )


def chat(content: str = "item.q", alias: str = "r", model: str = "m", **more: Any) -> dict[str, Any]:
    configuration = {"model": model, "messages": [{"role": "user", "content": content}], **more}
    return {"task_type": "chat_completion", "alias": alias, "configuration": configuration}


@dataclass
class Running:
    """A service in a `with` block. It asks an endpoint that answers with what it was asked, or another one."""

    path: Path
    endpoint: Served | None = None
    more: str = ""
    other: str = ""
    models: str = ""
    url: str = ""
    key: str = "k"

    def __enter__(self) -> Self:
        self.path.mkdir(exist_ok=True)
        self.echo = self.endpoint or Served()
        if self.endpoint is None:
            self.echo.__enter__()
        file = self.path / "service.yaml"
        file.write_text(settings_text(self.echo.url, self.path / "out", self.more, self.other, self.models))
        self.service = service_of(load_service(file))
        self._thread = in_thread(self._serve)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._thread.join(20)
        if self.endpoint is None:
            self.echo.__exit__(kind, error, trace)

    def call(self, function: Callable[[], object]) -> None:
        """Have the service's loop call a function."""
        self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Let the service end, as a signal would; it may have ended already."""
        with suppress(RuntimeError):
            self.call(self._stop.set)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(application(self.service), access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.service.supervisor.start()
        started.set()
        await self._stop.wait()
        await self.service.supervisor.drain()
        await runner.cleanup()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request; return the status and the JSON, or the text where it is none."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"x-api-key": self.key, "content-type": "application/json"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        target = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(target, method=method, data=content, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text, self.headers = error.code, error.read(), error.headers
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode()

    def create(self, data: Any, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
        status, made = self.ask("POST", "/v5/evaluations", {"name": "n", "data": data, "tasks": list(tasks), **more})
        assert status == 200, made
        return dict(made)

    def ended(self, evaluation_id: str) -> dict[str, Any]:
        """Wait until an evaluation has ended."""
        deadline, found = time.monotonic() + 30, None
        while time.monotonic() < deadline:
            _, found = self.ask("GET", f"/v5/evaluations/{evaluation_id}?views=tasks&include_archived=true")
            if found["status"] != "running":
                return dict(found)
            time.sleep(0.01)
        raise AssertionError(found)

    def items(self, evaluation_id: str, query: str = "") -> list[dict[str, Any]]:
        status, found = self.ask("GET", f"/v5/evaluation-items?evaluation_id={evaluation_id}{query}")
        assert status == 200, found
        return list(found["items"])


def running_service(**how: Any) -> Any:
    """Return a fixture: a service that runs for all tests of a module."""

    @pytest.fixture(scope="module", name="running")
    def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        with Running(tmp_path_factory.mktemp("service") / "s", **how) as service:
            yield service

    return running
