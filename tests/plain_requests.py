"""Requests for tests of what sends and reads them: as plain as can be, but for what a test names."""

from __future__ import annotations

from typing import Any

from runner.types import Request, Unit

__all__ = ["request"]


def request(index: int = 0, **more: Any) -> Request:
    """Return a chat completion for a row; with `chat=False`, a text completion."""
    fields: dict[str, Any] = {
        "unit": Unit(f"row-{index}", index, 0, "answer"),
        "path": "/chat/completions" if more.get("chat", True) else "/completions",
        "model": "m",
        "content": b"{}",
        "shown": "{}",
        "stream": False,
    }
    return Request(**(fields | more))
