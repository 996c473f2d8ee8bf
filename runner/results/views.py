"""From the journal to what users read: the Parquet files, evaluation.json, the closing summary, DataFrames."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.file import read_config_file
from runner.errors import RunDirError, StorageError
from runner.results.closing import Report
from runner.results.evaluation import About, evaluation_object, progress_of
from runner.results.summary import Summary
from runner.storage.ledger import Ledger
from runner.storage.rundir import LATEST, RunDir, run_directories
from runner.structs import Struct

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Frames",
    "bare_report",
    "export",
    "has_views",
    "load",
    "load_late",
    "make_views",
    "report_of",
]

_log = logging.getLogger(__name__)
#: From here on whole numbers are too large for pandas' type of them, and for a float to be exact.
_INT64 = 1 << 63
_EXACT = 1 << 53


class Frames(Struct, frozen=True):
    """A run in pandas."""

    #: As in results.parquet.
    results: pd.DataFrame
    #: As in errors.parquet.
    errors: pd.DataFrame
    #: A row per item and sample: the item's own columns, and one column per alias.
    wide: pd.DataFrame


def make_views(
    run: RunDir,
    *,
    stopped: str | None,
    expected: int | None,
    about: About,
    status: str | None = None,
    loop_lag_s: float | None = None,
    known: Ledger | None = None,
) -> Report:
    """Write both Parquet files and evaluation.json from the journal. Raises StorageError, also where the counts do not fit.

    `loop_lag_s` is how late the event loop of the latest start was at worst; the journal does not know it. `known` is what
    a resume has read of the journal: only what this start has written is read then.
    """
    from runner.storage.parquet import write_views  # late: it is heavy, and the first request should not wait for it

    with _up_to_date(run, known) as ledger:
        run.run_id = ledger.opens[0].run_id  # the directory may have been renamed since
        summary = Summary()
        results, errors = write_views(summary.fold(ledger.ends(), ledger.plan.width), run.path, run.run_id, run.files)
        status = status or ("completed" if stopped is None else "failed")
        report = _report(run, ledger, summary, stopped=stopped, expected=expected, status=status, loop_lag_s=loop_lag_s)
        _check_counts(report, ledger, results, errors)
        items = ledger.items_begun if expected is None else expected // ledger.plan.width
        evaluation = evaluation_object(run.run_id, about, status=status, status_reason=stopped) | {
            "error_count": errors,
            "progress": progress_of(summary, items),
            "totals": dict(report.totals),
        }
        run.write_evaluation(evaluation)
    return report


def report_of(run: RunDir, *, stopped: str | None, known: Ledger | None = None) -> Report:
    """Return what a run came to, from its journal alone: nothing is written. Raises RunDirError, StorageError."""
    with _up_to_date(run, known) as ledger:
        summary = Summary()
        for _ in summary.fold(ledger.ends(), ledger.plan.width):
            pass
        expected = ledger.succeeded + ledger.failed if stopped is None else None
        status = "completed" if stopped is None else "failed"
        lag_s = _lag_in(run.read_evaluation())
        return _report(run, ledger, summary, stopped=stopped, expected=expected, status=status, loop_lag_s=lag_s)


def bare_report(run: RunDir, *, stopped: str, results: int, errors: int) -> Report:
    """Return a report of nothing but counts, for where the journal cannot be read now."""
    return Report(run.path, stopped, Summary().totals(wall_s=0, slot_s=0) | {"control": 0}, results, errors, None, "failed")


def has_views(run: RunDir, ledger: Ledger) -> bool:
    """Whether a run's evaluation.json says that it is done, and its Parquet files are whole and hold what its journal does."""
    from runner.storage.parquet import can_be_read

    return run.read_evaluation().get("status") == "completed" and can_be_read(run.path, ledger.succeeded, ledger.failed)


def _lag_in(evaluation: Mapping[str, Any]) -> float | None:
    """Return how late the event loop was, where an evaluation.json says it."""
    totals = evaluation.get("totals")
    lag_s = totals.get("loop_lag_s") if isinstance(totals, dict) else None
    return lag_s if isinstance(lag_s, int | float) else None


def _report(
    run: RunDir,
    ledger: Ledger,
    summary: Summary,
    *,
    stopped: str | None,
    expected: int | None,
    status: str,
    loop_lag_s: float | None,
) -> Report:
    totals = summary.totals(wall_s=ledger.wall_s, slot_s=ledger.slot_s)
    totals |= {"control": ledger.controls, "loop_lag_s": loop_lag_s}
    errors = summary.errors.total()
    return Report(run.path, stopped, totals, summary.results, errors, expected, status, ledger.damaged)


@contextmanager
def _up_to_date(run: RunDir, known: Ledger | None) -> Iterator[Ledger]:
    """Read the journal, or the rest of it where some of it is known: a million rows take seconds to read."""
    if known is not None:
        known.read_on()
        yield known
        return
    ledger = Ledger.read(run.journal, run.files)
    try:
        yield ledger
    finally:
        ledger.close()


def load_late() -> None:
    """Load the modules that are heavy and not needed before the end of a run."""
    import runner.storage.parquet  # noqa: F401


def _check_counts(report: Report, ledger: Ledger, results: int, errors: int) -> None:
    """Hold what was written against what the journal says, and against the dataset. Raises StorageError."""
    if (results, errors) != (ledger.succeeded, ledger.failed):
        found = f"{results} results + {errors} errors"
        raise StorageError(f"{report.run}: the journal has {ledger.succeeded} + {ledger.failed}, the Parquet files {found}")
    rows = report.results + report.errors
    if report.stopped is None and report.expected is not None and rows != report.expected:
        raise StorageError(f"{report.run}: {report.expected} results were due, there are {rows}; resume the run")


def export(directory: Path) -> Report:
    """Make the Parquet files of a run that goes on, was killed, or has finished. Raises RunDirError, StorageError."""
    run = _run_at(directory)
    document = read_config_file(run.config).document
    with run.making_views():
        before = run.read_evaluation()
        known: dict[str, Any] = {key: before.get(key, document.get(key)) for key in ("name", "description", "tags", "metadata")}
        about = About(**known, tasks=before.get("tasks") or list(document.get("tasks", [])))
        return make_views(
            run,
            stopped=before.get("status_reason"),
            expected=None,
            about=about,
            status=before.get("status") or "running",
            loop_lag_s=_lag_in(before),
        )


def load(run_dir: str | Path) -> Frames:
    """Return a run as pandas DataFrames: also of a run that goes on, was killed, or lacks its Parquet files.

    Nothing in the run directory is changed. Raises RunDirError if there is no run.
    """
    import pandas as pd

    from runner.storage.parquet import write_views

    run = _run_at(Path(run_dir))
    ledger = Ledger.read(run.journal)
    for place in ledger.damaged:
        _log.warning("a damaged line of the journal is left out: %s", place)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            write_views(ledger.ends(), Path(temporary), ledger.opens[0].run_id)
        finally:
            ledger.close()
        results = pd.read_parquet(Path(temporary) / "results.parquet")
        errors = pd.read_parquet(Path(temporary) / "errors.parquet")
    return Frames(results, errors, _wide(results, errors, [alias for alias, _ in ledger.plan.tasks]))


def _wide(results: pd.DataFrame, errors: pd.DataFrame, aliases: Sequence[str]) -> pd.DataFrame:
    """Return a row per item and sample.

    A column of the item that is named like one of ours gets the prefix `item.`, a task that is named like a key `task.`.
    """
    import pandas as pd

    keys = ["item_index", "item_id", "sample_index"]
    both = pd.concat([frame[[*keys, "item"]] for frame in (results, errors) if len(frame)] or [results[[*keys, "item"]]])
    rows = both.drop_duplicates(keys).sort_values(keys).reset_index(drop=True)
    own = _own_columns([json.loads(text) for text in rows["item"]], rows.index)
    named = {alias: f"task.{alias}" if alias in keys else alias for alias in aliases}
    own.columns = [f"item.{name}" if name in {*keys, *named.values()} else name for name in own.columns]
    wide = pd.concat([rows[keys], own], axis=1)
    for alias in aliases:
        mine = results[results["task"] == alias]
        column = "value" if len(mine) and mine["value"].notna().any() else "output"
        wide = wide.merge(mine[[*keys, column]].rename(columns={column: named[alias]}), on=keys, how="left")
    return wide


def _own_columns(items: Sequence[Mapping[str, Any]], index: pd.Index) -> pd.DataFrame:
    """Return the columns of the items themselves; what an item does not have is missing."""
    import pandas as pd

    names = dict.fromkeys(name for item in items for name in item)
    return pd.DataFrame({name: _column([item.get(name) for item in items], index) for name in names}, index=index)


def _column(values: Sequence[Any], index: pd.Index) -> pd.Series[Any]:
    """Return values of JSON as they are: whole numbers and booleans stay what they are where some are missing."""
    import pandas as pd

    kinds = {type(value) for value in values} - {type(None)}
    dtype: str | None = "object"
    if kinds == {bool}:
        dtype = "boolean" if None in values else "bool"
    elif kinds == {int} and all(-_INT64 <= value < _INT64 for value in values if value is not None):
        dtype = "Int64" if None in values else "int64"
    elif kinds and kinds <= {int, float} and all(abs(value) <= _EXACT for value in values if type(value) is int):
        dtype = "float64"
    elif kinds == {str}:
        dtype = None  # pandas' own, which is another one from version to version
    return pd.Series(values, index=index, dtype=dtype)


def _run_at(directory: Path) -> RunDir:
    if directory.name == LATEST and not directory.exists():
        there = ", ".join(run.path.name for run in run_directories(directory.parent)) or "none"
        raise RunDirError(f"{directory}: leads to no run, for nothing was answered yet; name one of these: {there}")
    if not (directory / "journal").is_dir():
        raise RunDirError(
            f"{directory}: is no run directory (it has no journal); name one as results/NAME/RUN_ID or results/NAME/latest"
        )
    return RunDir(directory.resolve())
