"""The endpoints that answer, each a process of its own on a core of its own, and what they saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.benchmarks.processes import ProcessError, on_core

__all__ = ["Endpoint", "arrivals_endpoint", "build_fast_endpoint", "fast_endpoint"]

_PATIENCE_S = 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that is up, on 127.0.0.1."""

    root: str

    def base_url(self, **settings: float) -> str:
        """Return the base URL under which it behaves so; the names are those at the top of mockd.c."""
        listed = ",".join(f"{name}={value:g}" for name, value in settings.items())
        return f"{self.root}/c/{listed}/v1" if listed else f"{self.root}/v1"

    def reset(self) -> None:
        """Forget all requests."""
        self.ask("/reset")

    def stats(self) -> Mapping[str, Any]:
        """Return what came since the last reset, in mockd's words; `first_t` is a moment of `time.monotonic`."""
        found: dict[str, Any] = self.ask("/stats")
        return found

    def ask(self, path: str) -> Any:
        with urlopen(f"{self.root}{path}", timeout=_PATIENCE_S) as response:
            return json.load(response)


def build_fast_endpoint(bench: Path, directory: Path) -> Path:
    """Compile mockd. Raises ProcessError where that does not work."""
    command = ["make", "-C", str(bench), f"WORK={directory}"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise ProcessError(f"mockd cannot be built: {made.stderr.strip()[-300:]}")
    return directory / "mockd"


@contextmanager
def fast_endpoint(program: Path, core: int | None) -> Iterator[Endpoint]:
    """Run mockd, which is never the bottleneck of a client in Python."""
    with _serving([str(program), "0"], core) as endpoint:
        yield endpoint


@contextmanager
def arrivals_endpoint(core: int | None) -> Iterator[Endpoint]:
    """Run the endpoint that notes when each request came."""
    with _serving([sys.executable, "-m", "tests.benchmarks.arrivals"], core) as endpoint:
        yield endpoint


@contextmanager
def _serving(command: Sequence[str], core: int | None) -> Iterator[Endpoint]:
    with on_core(core):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # "… listening on 127.0.0.1:12345"
        if not line:
            raise ProcessError(f"{command[0]} does not start")
        yield Endpoint(f"http://{line.split()[-1]}")
    finally:
        process.terminate()
        process.communicate()
