"""Calls of functions without a process of their own, for tests of what calls them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from runner.pipeline.rehearsal import NoCalls
from runner.processes.pool import raised


class InThisProcess(NoCalls):
    """Calls functions in this process without any limit: for trusted code."""

    async def call(self, function: str, *args: Any, seconds: float = 1.0, within: float | None = None) -> Any:
        """Return the value of a function. Raises CallError."""
        module, _, name = function.partition(":")
        try:
            return getattr(import_module(module), name)(*args)
        except Exception as error:
            raise raised(type(error).__name__, str(error)) from error
