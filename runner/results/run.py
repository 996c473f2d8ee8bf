"""A run in Python: its status, and its results as DataFrames."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import RunDirError
from runner.meant import path_meant
from runner.results.frames import Frames, read_frames
from runner.storage.buckets import brought, is_bucket
from runner.storage.rundir import LATEST, run_at

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "find_run"]


class Run:
    """A run that goes on, has finished, was stopped or was killed.

    Status and totals are those at the time when this object was made. Frames are read on first use, from the journal; nothing
    in the run directory is changed.
    """

    def __init__(self, path: str | Path) -> None:
        """Take a run directory. Raises RunDirError if it is not one."""
        found = run_at(Path(path))
        #: The run directory.
        self.path: Path = found.path
        evaluation = found.read_evaluation()
        #: Such as `20261121T021500Z-4f2a`.
        self.id: str = str(evaluation.get("id") or found.run_id)
        #: The name of the evaluation in the config.
        self.name: str = str(evaluation.get("name") or self.path.parent.name)
        #: `running` (also if the run was killed), `completed` or `failed`.
        self.status: str = str(evaluation.get("status") or "running")
        #: Why it stopped early; None if it did not.
        self.stopped: str | None = evaluation.get("status_reason")
        self._error_count = evaluation.get("error_count") or 0
        #: As in evaluation.json; while the run goes on, only counts.
        self.totals: Mapping[str, object] = evaluation.get("totals") or {}

    @property
    def results(self) -> pd.DataFrame:
        """A row for each result, with the columns of results.parquet."""
        return self._frames.results

    @property
    def errors(self) -> pd.DataFrame:
        """A row for each error, with the columns of errors.parquet."""
        return self._frames.errors

    @property
    def wide(self) -> pd.DataFrame:
        """A row for each item and sample: the item's own columns, and one for each alias."""
        return self._frames.wide

    @cached_property
    def _frames(self) -> Frames:
        return read_frames(self.path)

    def read(self) -> Run:
        """Read the frames now; return the run itself. Raises RunDirError, and StorageError if its journal cannot be read."""
        _ = self._frames
        return self

    def __repr__(self) -> str:
        """Return the directory and the status of the run."""
        return f"<Run {self.path}: {self._standing}>"

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows: the status of the run, and its metrics."""
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self._scores())
        head = "".join(f"<th>{name}</th>" for name in ("metric", "mean", "standard error", "95 % interval", "n", "errors"))
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        said = f"<b>{html.escape(self.name)}</b> {html.escape(self.id)}: {html.escape(self._standing)}"
        return f"<div>{said}{table}<code>{html.escape(str(self.path))}</code></div>"

    @property
    def _standing(self) -> str:
        results, errors = self.totals.get("results", 0), self._error_count
        if "_frames" in self.__dict__:  # for a killed run they are newer than its last status
            results, errors = len(self.results), len(self.errors)
        counts = f", {results} results, {errors} errors"
        return f"{self.status}{counts}{f' ({self.stopped})' if self.stopped else ''}"

    def _scores(self) -> Iterator[tuple[str, ...]]:
        metrics = self.totals.get("metrics")
        for alias, metric in metrics.items() if isinstance(metrics, dict) else ():
            interval = metric.get("ci95")
            shown = "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
            yield alias, _number(metric["mean"]), _number(metric["stderr"]), shown, str(metric["n"]), str(metric["errors"])


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}"


def find_run(run: str | Path | Run) -> Path:
    """Return a run directory. A name means the latest run of that evaluation in `results/`; a run in a bucket is downloaded.

    Raises RunDirError if there is no such run.
    """
    if isinstance(run, Run):
        return run.path
    if is_bucket(str(run)):
        return brought(str(run))
    path = Path(run)
    latest = Path("results") / path / LATEST
    if not path.exists() and latest.exists():
        return latest
    if path.is_dir() and not (path / "journal").is_dir() and (path / LATEST).exists():
        return path / LATEST
    if not path.exists() and isinstance(run, str) and len(path.parts) == 1:
        there = f"{Path('results').absolute()}{path_meant(run, Path('results'))}"
        raise RunDirError(f"{run}: is neither a run directory nor the name of an evaluation in {there}")
    return path
