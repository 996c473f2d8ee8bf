"""The same job for the runner and for the references: each row's prompt in one request, the answers kept."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Job", "runner_command", "write_config"]

MODEL = "mock-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A dataset of so many rows, and how it is asked."""

    rows: int
    concurrency: int
    #: Milliseconds until the endpoint answers.
    latency_ms: float = 0
    #: Pieces of each answer, which is then streamed.
    chunks: int | None = None
    #: Milliseconds between two pieces.
    gap_ms: float = 0
    requests_per_second: float | None = None

    @property
    def settings(self) -> dict[str, float]:
        """How the endpoint is to behave."""
        settings: dict[str, float] = {"lat": self.latency_ms, "chunks": self.chunks or 0, "gap": self.gap_ms}
        return {name: value for name, value in settings.items() if value}

    def slots_full(self, span_s: float) -> float:
        """Return the share of the time that the slots were full; 1.0 is perfect."""
        return self.rows * self.latency_ms / 1000 / self.concurrency / span_s


def write_config(directory: Path, job: Job, *, base_url: str, dataset: Path) -> Path:
    """Write the runner's config for a job; its results go to the same directory."""
    configuration: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "{{item.prompt}}"}],
        "max_tokens": 256,
        "temperature": 0.0,
    }
    limits: dict[str, Any] = {"concurrency": job.concurrency}
    if job.requests_per_second is not None:
        limits["requests_per_second"] = job.requests_per_second
    task = {"task_type": "chat_completion", "alias": "reply", "stream": job.chunks is not None, "configuration": configuration}
    config = {
        "name": "benchmark",
        "dataset": {"path": str(dataset), "id": "id"},
        "endpoint": {"base_url": base_url},
        "tasks": [task],
        "limits": limits,
        "output": str(directory / "results"),
    }
    path = directory / "config.yaml"
    path.write_text(json.dumps(config, indent=2))  # JSON is YAML too
    return path


def runner_command(config: Path, *options: str) -> list[str]:
    """Return what a user types."""
    return [sys.executable, "-m", "runner", str(config), *options]
