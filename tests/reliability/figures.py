"""What a figure of the campaign is, and what all of them need to run the runner."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.commands import Project, questions
from tests.reliability.endpoint import Endpoint

__all__ = ["Figure", "Measured", "finish", "keys_of", "project_at"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a figure came to."""

    value: str
    #: Whether the target is met; None where that could not be measured.
    met: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table."""

    name: str
    text: str
    target: str
    #: Seconds that it takes in full; with less it measures less, and says how much.
    seconds: float
    #: Takes an empty directory and the seconds that it has.
    measure: Callable[[Path, float], Measured]


def project_at(directory: Path, found: Endpoint | str, rows: int, *, concurrency: int = 32, **limits: Any) -> Project:
    """Return a project of so many questions; the endpoint may be a URL."""
    url = found if isinstance(found, str) else found.url
    return Project(directory, url, rows=questions(rows), limits={"concurrency": concurrency, **limits})


def finish(process: subprocess.Popen[str], seconds: float) -> tuple[int, str, str]:
    """Wait for a runner; return its exit code and what it printed. Raises TimeoutExpired: it hangs."""
    output, said = process.communicate(timeout=seconds)
    return process.returncode, output, said


def keys_of(run: Path) -> Sequence[tuple[str, str]]:
    """Return the item and task of every row in both Parquet files."""
    tables = [pq.read_table(run / f"{name}.parquet", columns=["item_id", "task"]) for name in ("results", "errors")]
    return [(row["item_id"], row["task"]) for table in tables for row in table.to_pylist()]
