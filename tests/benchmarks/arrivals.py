"""An endpoint that notes when each request came: `python -m tests.benchmarks.arrivals`. Made for some hundred a second.

`GET /arrivals` gives the moments, `/waits` for how many seconds each was made to wait, `/stats` those counters of mockd that a
measurement reads, `/reset` forgets all. Below `/c/byte_us=5/v1` an answer comes five microseconds later for each byte asked.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

__all__: list[str] = []

_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 0,
    "model": "mock-model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
_SLOW = re.compile(r"/c/byte_us=([0-9.e+-]+)/")


class Arrivals:
    """When requests came, and for how many seconds each was made to wait."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.waits: list[float] = []

    async def answer(self, method: str, path: str, length: int) -> Any:
        if method == "POST":
            self.moments.append(time.monotonic())
            if (slow := _SLOW.match(path)) is not None:
                self.waits.append(float(slow[1]) * length / 1e6)
                await asyncio.sleep(self.waits[-1])
            return _ANSWER
        match path:
            case "/arrivals":
                return self.moments
            case "/waits":
                return self.waits
            case "/reset":
                self.moments, self.waits = [], []
        return self._stats()

    def _stats(self) -> dict[str, Any]:
        moments = self.moments or [0.0]
        count = len(self.moments)
        return {
            "chat": count,
            "distinct_ids": count,
            "dup_ids": 0,
            "first_t": moments[0],
            "span_s": moments[-1] - moments[0],
            "server_cpu_s": time.process_time(),
        }


async def converse(arrivals: Arrivals, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer what comes over one connection until it is closed."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *fields = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (field.partition(":") for field in fields)}
            content = await reader.readexactly(int(headers.get("content-length", "0")))
            method, path, _ = first.split(" ")
            body = json.dumps(await arrivals.answer(method, path, len(content))).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve() -> None:
    arrivals = Arrivals()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(arrivals, reader, writer)

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    print(f"arrivals listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
