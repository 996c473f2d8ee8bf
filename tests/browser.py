"""A real browser for tests: headless Chromium, driven over its own protocol; for files with the network off.

It opens pages, presses keys, and notes everything that a page says on its console.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest

__all__ = ["Page", "browse", "needs_a_browser"]

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_a_browser = pytest.mark.skipif(_CHROMIUM is None, reason="there is no Chromium here")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
)
#: Longer than anything takes on a machine that has other work to do.
_PATIENCE_S = 25
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40, "ArrowUp": 38}


class Page:
    """An open page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        #: What stands on the console, and each request for anything but the file itself.
        self.said: list[str] = []
        self.requested: list[str] = []

    async def listen(self) -> None:
        """Take what the browser says, until cancelled."""
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" in found:
                self._answers.pop(found["id"]).set_result(found)
            elif found["method"] in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
                self.said.append(json.dumps(found["params"]))
            elif found["method"] == "Network.requestWillBeSent" and not found["params"]["request"]["url"].startswith("file:"):
                self.requested.append(found["params"]["request"]["url"])
            elif found["method"] == "Page.javascriptDialogOpening":
                self.said.append(f"a dialog: {found['params']['message']}")

    async def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; return what comes of it."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        found = await answer
        assert "error" not in found, (method, found)
        return dict(found["result"])

    async def open(self, url: str) -> None:
        """Load a page, a file with the network off, and wait until it stands."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.tell(f"{domain}.enable")
        if url.startswith("file:"):
            off = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
            await self.tell("Network.emulateNetworkConditions", **off)
        await self.tell("Page.navigate", url=url)
        await self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript comes to; a promise is awaited."""
        found = await self.tell("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true; return its value."""
        async with asyncio.timeout(_PATIENCE_S):
            while not (value := await self._value_in_time(expression)):  # noqa: ASYNC110  a page sends no events
                await asyncio.sleep(0.01)
            return value

    async def _value_in_time(self, expression: str) -> Any:
        """Return a value, or None where the page gives way to another one: what was asked of it may never be answered."""
        try:
            async with asyncio.timeout(1):
                return await self.value(expression)
        except (AssertionError, TimeoutError):
            return None

    async def press(self, *keys: str) -> None:
        """Press keys: one by its name, a text letter by letter."""
        for key in keys:
            for one in [key] if key in _KEYS else key:
                text = {"Enter": "\r", " ": " "}.get(one, "" if one in _KEYS else one)
                code = _KEYS.get(one, ord(one[0]))
                for kind in ("keyDown", "keyUp"):
                    own = {"text": text} if text and kind == "keyDown" else {}
                    await self.tell("Input.dispatchKeyEvent", type=kind, key=one, windowsVirtualKeyCode=code, **own)


def browse(place: Path | str, look: Callable[[Page], Awaitable[None]]) -> None:
    """Open a file or a URL in a browser of its own, and let somebody look at it."""

    url = place if isinstance(place, str) else place.absolute().as_uri()

    async def visit() -> None:
        async with _opened(url) as page:
            await look(page)

    asyncio.run(visit())


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Page]:
    assert _CHROMIUM is not None
    with TemporaryDirectory() as profile:
        pipe = asyncio.subprocess.PIPE
        browser = await asyncio.create_subprocess_exec(
            _CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank", stdout=asyncio.subprocess.DEVNULL, stderr=pipe
        )
        try:
            assert browser.stderr is not None
            async for line in browser.stderr:
                if found := re.search(rb"DevTools listening on ws://(\S+?)/", line):
                    break
            else:
                raise AssertionError("the browser has not started")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://{found[1].decode()}/json/list") as listed:
                    (tab,) = [one for one in await listed.json() if one["type"] == "page"]
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    listening = asyncio.create_task(page.listen())
                    try:
                        await page.open(url)
                        yield page
                    finally:
                        listening.cancel()
        finally:
            browser.terminate()
            await browser.communicate()
