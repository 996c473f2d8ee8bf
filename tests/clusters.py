"""A Ray cluster on this machine's loopback, for tests: nodes that can be killed, and the workers on them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.crowds import lives

__all__ = ["Cluster", "Node", "cluster"]

_START_WITHIN_S = 60


class Node:
    """One node: the processes of `ray start --block`."""

    def __init__(self, *words: str, host: str, cpus: int, environment: Mapping[str, str]) -> None:
        program = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        more = [f"--node-ip-address={host}", f"--num-cpus={cpus}", "--object-store-memory=80000000"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  as long as the node
        self._process = subprocess.Popen(
            [*program, *more, *words], env=environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        self.host = host

    @property
    def processes(self) -> list[int]:
        """All its processes, those of the tasks and workers too."""
        parents = dict(_parents())
        found = {self._process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    @property
    def workers(self) -> list[int]:
        """The workers on it, the oldest first."""
        return [pid for pid in self.processes if b"work" in _words(pid) and b"runner" in _words(pid)]

    def said(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    def kill(self) -> None:
        """End all of it at once."""
        gone = self.processes
        for pid in gone:
            _signal(pid, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + 10
        while any(map(lives, gone)) and time.monotonic() < until:
            time.sleep(0.05)


class Cluster:
    """Some nodes, and the address of the first."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(os.environ) | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"} | dict(environment)
        for name in ("OPENAI_API_KEY", "PYTEST_CURRENT_TEST"):
            self._environment.pop(name, None)
        self.address = f"127.0.0.2:{_free_port()}"
        port = self.address.rpartition(":")[2]
        self.nodes: list[Node] = []
        self._add("--head", f"--port={port}", "--include-dashboard=false", host="127.0.0.2")

    def add(self, host: str, cpus: int = 2) -> Node:
        """Have another node join."""
        return self._add(f"--address={self.address}", host=host, cpus=cpus)

    def _add(self, *words: str, host: str, cpus: int = 2) -> Node:
        node = Node(*words, host=host, cpus=cpus, environment=self._environment)
        self.nodes.append(node)
        until = time.monotonic() + _START_WITHIN_S
        while "Ray runtime started" not in node.said():
            assert time.monotonic() < until, node.said()
            time.sleep(0.1)
        return node

    @property
    def workers(self) -> list[int]:
        return [pid for node in self.nodes for pid in node.workers]

    def end(self) -> None:
        for node in self.nodes:
            node.kill()


@contextmanager
def cluster(environment: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Have a cluster of one node of two CPUs within the block."""
    found = Cluster(environment or {})
    try:
        yield found
    finally:
        found.end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                yield int(path.name), int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _signal(pid: int, number: Any) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
