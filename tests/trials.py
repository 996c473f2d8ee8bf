"""A trial: one run of the real program against one fault, in this process, and all that came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.storage.journal import read_segment, segments_of
from tests.commands import Project

__all__ = [
    "LIMITS",
    "ROWS",
    "SHORT",
    "TROUBLED",
    "Ran",
    "assert_failed",
    "assert_retried",
    "assert_stopped",
    "config_of",
    "outputs",
    "run",
    "trial",
    "tries",
]

#: Rows that all meet the fault.
TROUBLED = [{"id": f"row-{n}", "question": f"question {n}"} for n in range(4)]
#: Two rows that meet the fault, two that do not.
ROWS = [
    {"id": f"row-{n}", "question": f"question {n}"} if n % 2 == 0 else {"id": f"row-{n}", "question": f"fine {n}"}
    for n in range(4)
]
LIMITS: Mapping[str, Any] = {
    "concurrency": 4,
    "max_attempts": 3,
    "max_row_time": 10,
    "give_up_after": 10,
    "max_error_rate": 1.0,
}
#: Seconds, for faults that are about time; healthy requests of these trials take milliseconds.
SHORT = {"connect": 1, "first_byte": 0.8, "idle": 0.8, "total": 2}


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    #: The closing summary.
    out: str
    #: Everything else that it said, messages and log lines.
    said: str
    project: Project

    @property
    def results(self) -> list[dict[str, Any]]:
        return self.project.results()

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self.project.errors()

    @property
    def all_said(self) -> str:
        return self.out + self.said

    @property
    def error(self) -> dict[str, Any]:
        """One error row, which stands for all: they are of one kind."""
        errors = self.errors
        assert errors, f"no error row: {self.all_said}"
        assert len({row["error_type"] for row in errors}) == 1, [row["message"] for row in errors]
        return errors[0]


def run(project: Project, *options: str) -> Ran:
    """Run a config in this process, as the command would."""
    done = project.run_here(*options)
    return Ran(done.returncode, done.stdout, done.stderr, project)


def config_of(
    folder: Path,
    url: str,
    *,
    rows: Sequence[Mapping[str, Any]] = ROWS,
    endpoint: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    limits: Mapping[str, Any] | None = None,
    **more: Any,
) -> Project:
    """Return a project that asks a URL."""
    return Project(
        folder,
        url,
        rows=rows,
        limits={**LIMITS, **(limits or {})},
        environment=environment or {},
        more={"endpoint": {"base_url": url, **(endpoint or {})}, **more.pop("more", {})},
        **more,
    )


def trial(folder: Path, url: str, *options: str, **more: Any) -> Ran:
    """Run four rows against a URL: two that meet its fault, and two that do not."""
    return run(config_of(folder, url, **more), *options)


def tries(ran: Ran) -> list[dict[str, Any]]:
    """Return what the journal says of attempts that failed, in their order."""
    lines = [line.payload for segment in segments_of(ran.project.run_dir / "journal") for line in read_segment(segment)]
    return [record for payload in lines if payload and (record := json.loads(payload)).get("kind") == "try"]


def outputs(ran: Ran) -> dict[str, Any]:
    """Return the text of each result by its row."""
    return {row["item_id"]: row["output"] for row in ran.results}


def assert_retried(ran: Ran, kind: str, *words: str, billed: bool = False) -> None:
    """Assert that both troubled rows failed once, in one way, and then succeeded like the others."""
    assert ran.code == 0, ran.all_said
    assert set(outputs(ran)) == {"row-0", "row-1", "row-2", "row-3"}
    failed = tries(ran)
    assert [one["error_type"] for one in failed] == [kind, kind], failed
    for one in failed:
        assert all(word in one["message"] for word in words), one["message"]
        assert ("may have been billed" in one["message"]) == billed, one["message"]


def assert_failed(ran: Ran, kind: str, *words: str, attempts: int = 1) -> dict[str, Any]:
    """Assert that both troubled rows became errors and the others did not; return one of the errors."""
    assert ran.code == 1, ran.all_said
    assert set(outputs(ran)) == {"row-1", "row-3"}
    errors = ran.errors
    assert [row["error_type"] for row in errors] == [kind, kind], errors
    assert [row["attempts"] for row in errors] == [attempts, attempts]
    for row in errors:
        assert all(word in row["message"] for word in words), row["message"]
    return errors[0]


def assert_stopped(ran: Ran, *words: str) -> None:
    """Assert that the run stopped by itself, charged no row and can be resumed."""
    assert ran.code == 3, ran.all_said
    assert ran.errors == []
    assert "--resume" in ran.out
    for word in words:
        assert word in ran.out, ran.out
