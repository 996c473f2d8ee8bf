"""The interface to a worker, wherever it runs, and to the launcher that starts workers: `engine.kind` chooses the launcher."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

from runner.config.sections import EngineConfig
from runner.errors import UsageError
from runner.scale.beat import Job, Orders, Report
from runner.scale.children import ChildProcesses

__all__ = ["Child", "Launcher", "launcher_of"]


class Child(Protocol):
    """A running worker."""

    @property
    def last_words(self) -> Collection[str]:
        """The last lines that the worker wrote to stderr."""

    async def report(self) -> Report | None:
        """Wait for the next report; return None if no more will come."""

    def send(self, orders: Orders) -> None:
        """Send orders. A worker that has ended does not get them."""

    def kill(self) -> None:
        """Kill the worker."""

    async def ended(self) -> int:
        """Wait for the worker to end, and kill it if it does not; return its exit code."""


class Launcher(Protocol):
    """Starts workers."""

    @property
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines: then they read the copy of the config in the run directory."""

    @property
    def room(self) -> int:
        """The number of workers if `engine.workers` is not set."""

    async def start(self, job: Job, on_line: Callable[[str], None]) -> Child:
        """Start a worker as soon as a CPU is free. `on_line` is called with each line of its stderr. Raises OSError."""


@contextmanager
def launcher_of(engine: EngineConfig) -> Iterator[Launcher]:
    """Yield the launcher of the workers of a run. Raises UsageError if Ray is not installed or has no cluster."""
    if engine.kind == "ray":
        try:
            from runner.scale.raycluster import connected  # only a run with Ray needs it
        except ImportError as error:
            raise UsageError(f"engine.kind: ray: {error}; pip install 'batch-eval-runner[ray]'") from error
        with connected(engine.address) as cluster:
            yield cluster
    else:
        yield ChildProcesses()
