"""What a worker is to whoever gives it rows, wherever it runs, and what starts one: `engine.kind` decides."""

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
        """The last lines that it has written to stderr."""

    async def report(self) -> Report | None:
        """Wait for the next report; None where there will be none."""

    def send(self, orders: Orders) -> None:
        """Send orders; whoever is gone does not get them."""

    def kill(self) -> None:
        """End it at once."""

    async def ended(self) -> int:
        """Wait until it has ended, or end it; return its exit code."""


class Launcher(Protocol):
    """Starts workers."""

    @property
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines: then they read the run's own copy of the config."""

    @property
    def room(self) -> int:
        """How many workers there are where nobody says how many."""

    async def start(self, job: Job, on_line: Callable[[str], None]) -> Child:
        """Start one, as soon as there is room. `on_line` gets each line that it writes to stderr. Raises OSError."""


@contextmanager
def launcher_of(engine: EngineConfig) -> Iterator[Launcher]:
    """Yield what starts the workers of a run. Raises UsageError where there is none such."""
    if engine.kind == "ray":
        try:
            from runner.scale.raycluster import connected  # only who asks for it needs it
        except ImportError as error:
            raise UsageError(f"engine.kind: ray: {error}; pip install 'batch-eval-runner[ray]'") from error
        with connected(engine.address) as cluster:
            yield cluster
    else:
        yield ChildProcesses()
