"""Build the views of a run from its journal: the Parquet files, evaluation.json and the closing summary."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.file import expand, read_config_file
from runner.errors import ConfigError, StorageError
from runner.keypaths import dotted
from runner.logs import logger
from runner.results.closing import Report
from runner.results.evaluation_json import About, evaluation_object, final_status, progress_of
from runner.storage.ledger import Ledger
from runner.storage.rundir import RunDir, run_at

if TYPE_CHECKING:
    from runner.results.scores import Scoring
    from runner.results.summary import Summary

__all__ = [
    "bare_report",
    "document_of",
    "export",
    "has_views",
    "make_views",
    "preload_parquet",
    "report_of",
    "rescored_from",
    "summary_of",
    "totals_of",
]

_log = logger(__name__)


def make_views(
    run: RunDir,
    *,
    stopped: str | None,
    expected: int | None,
    about: About,
    document: Mapping[str, Any],
    status: str | None = None,
    loop_lag_s: float | None = None,
    known: Ledger | None = None,
    prices_used: Mapping[str, Any] | None = None,
    whole: int | None = None,
) -> Report:
    """Write both Parquet files and evaluation.json from the journal. Raises StorageError, also if the counts do not agree.

    `document` is the config, which says how scores are counted. `loop_lag_s` is the longest delay of the event loop in the
    latest start; the journal does not have it. `known` is the ledger that a resume has read: then only the lines that this
    start has written are read. `prices_used` are the prices of its answers. `whole` is how many items the dataset has, those
    beyond the limit included.
    """
    from runner.storage.parquet import write_views  # late: it is heavy, and would delay the first request

    with _up_to_date(run, known) as ledger:
        run.run_id = ledger.opens[0].run_id  # the directory may have been renamed since
        summary = summary_of(_with_variables(document), ledger)
        results, errors = write_views(summary.fold(ledger.ends(), ledger.plan.width), run.path, run.run_id, run.files)
        status = status or final_status(stopped)
        report = _report(
            run, ledger, summary, stopped=stopped, expected=expected, status=status, loop_lag_s=loop_lag_s, whole=whole
        )
        _check_counts(report, ledger, results, errors)
        items = ledger.items_begun if expected is None else expected // ledger.plan.width
        begun = evaluation_object(run.run_id, about, status=status, status_reason=stopped, prices_used=prices_used)
        evaluation = begun | {
            "error_count": errors,
            "progress": progress_of(items, summary.items_successful, summary.failed_items, failed=summary.items_failed),
            "totals": dict(report.totals),
            **rescored_from(ledger),
        }
        run.write_evaluation(evaluation)
    return report


def rescored_from(ledger: Ledger | None) -> dict[str, str]:
    """Return the member of evaluation.json that names the directory of the run whose answers were reused, if any."""
    rescored = None if ledger is None else ledger.rescored
    return {} if rescored is None else {"rescored_from": rescored.path}


def report_of(run: RunDir, *, stopped: str | None, known: Ledger | None = None) -> Report:
    """Return the report of a run, from its journal alone: nothing is written. Raises RunDirError, StorageError."""
    with _up_to_date(run, known) as ledger:
        summary = summary_of(document_of(run), ledger)
        for _ in summary.fold(ledger.ends(), ledger.plan.width):
            pass
        expected = ledger.succeeded + ledger.failed if stopped is None else None
        kept = _kept_in(run.read_evaluation())
        return _report(run, ledger, summary, stopped=stopped, expected=expected, status=final_status(stopped), **kept)


def summary_of(document: Mapping[str, Any], ledger: Ledger | None, scoring: Scoring | None = None) -> Summary:
    """Return an empty summary, which counts scores as `scoring` says, or else as a config's document does."""
    from runner.results.costs import Costs
    from runner.results.judging import Judges, judges_of
    from runner.results.pairs import pairings_of
    from runner.results.scores import Scores, Scoring
    from runner.results.slots import SlotTimes
    from runner.results.summary import Summary  # late: statistics are only needed at the end of a run

    scores = Scores(scoring or Scoring.of(document), {} if ledger is None else dict(ledger.plan.tasks))
    endpoint = document.get("endpoint")
    return Summary(
        slots=SlotTimes(replays=isinstance(endpoint, dict) and endpoint.get("replay") is not None),
        scores=scores,
        costs=Costs(is_wanted=bool(document.get("prices"))),
        judges=Judges(judges_of(document), pairings_of(document)),
    )


def totals_of(summary: Summary, ledger: Ledger, *, whole: int | None = None) -> dict[str, Any]:
    """Return the totals of a run whose results were all counted; its dataset has `whole` items, if that is known."""
    cost = summary.costs.report(control=ledger.control_cost, items=ledger.items_begun, whole=whole)
    totals = summary.totals(wall_s=ledger.wall_s, slot_s=ledger.slot_s, limits=ledger.limits, starts=ledger.starts)
    return totals | {"control": ledger.controls, "cost": cost}


def document_of(run: RunDir) -> Mapping[str, Any]:
    """Return the config of a run, with variables expanded in the parts about scoring; empty if the run's copy is gone."""
    try:
        return _with_variables(read_config_file(run.config).document)
    except ConfigError:  # the copy is gone; the results are not
        return {}


def _with_variables(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config with variables expanded in its tasks and its analysis; warn of one that is not set, which is empty."""
    scoring, unset = expand({key: document[key] for key in ("tasks", "analysis") if key in document}, os.environ)
    for path, mistake in unset:
        if "configuration" not in path:  # that part decides what is asked, and not how it is scored
            _log.warning("%s: %s", dotted(path), mistake)
    return {**document, **scoring}


def bare_report(run: RunDir, *, stopped: str | None, results: int, errors: int) -> Report:
    """Return a report that has only counts, for a journal that cannot be read now."""
    return Report(
        run.path,
        stopped,
        summary_of({}, None).totals(wall_s=0, slot_s=0) | {"control": 0, "cost": None},
        results,
        errors,
        expected=None,
        status=final_status(stopped),
    )


def has_views(run: RunDir, ledger: Ledger) -> bool:
    """Return whether evaluation.json says that the run is completed, and its Parquet files are whole and up to date."""
    from runner.storage.parquet import can_be_read

    return run.is_completed and can_be_read(run.path, ledger.succeeded, ledger.failed)


def _kept_in(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the journal does not have: the longest delay of the event loop, and how many items the dataset has."""
    lag_s = _said_at(evaluation, "totals", "loop_lag_s")
    whole = _said_at(evaluation, "totals", "cost", "projected", "items")
    return {
        "loop_lag_s": lag_s if isinstance(lag_s, int | float) else None,
        "whole": whole if isinstance(whole, int) else None,
    }


def _said_at(found: Any, *keys: str) -> Any:
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _report(
    run: RunDir,
    ledger: Ledger,
    summary: Summary,
    *,
    stopped: str | None,
    expected: int | None,
    status: str,
    loop_lag_s: float | None,
    whole: int | None,
) -> Report:
    totals = totals_of(summary, ledger, whole=whole) | {"loop_lag_s": loop_lag_s}
    errors, source = summary.errors.total(), None if ledger.rescored is None else ledger.rescored.path
    return Report(run.path, stopped, totals, summary.results, errors, expected, status, ledger.damaged, source)


@contextmanager
def _up_to_date(run: RunDir, known: Ledger | None) -> Iterator[Ledger]:
    """Read the journal, or only the rest of it if some is known: a million rows take seconds to read."""
    if known is not None:
        known.read_on()
        yield known
        return
    ledger = Ledger.read(run.journal, run.files)
    try:
        yield ledger
    finally:
        ledger.close()


def preload_parquet() -> None:
    """Load the heavy modules that are only needed at the end of a run."""
    import runner.results.summary
    import runner.storage.parquet  # noqa: F401


def _check_counts(report: Report, ledger: Ledger, results: int, errors: int) -> None:
    """Compare the counts of the written files with those of the journal and the dataset. Raises StorageError."""
    if (results, errors) != (ledger.succeeded, ledger.failed):
        found = f"{results} results + {errors} errors"
        raise StorageError(f"{report.run}: the journal has {ledger.succeeded} + {ledger.failed}, the Parquet files {found}")
    rows = report.results + report.errors
    if report.stopped is None and report.expected is not None and rows != report.expected:
        raise StorageError(f"{report.run}: {report.expected} results were due, but there are {rows}; resume the run")


def export(directory: Path, *, complete: int | None = None, known: Ledger | None = None) -> Report:
    """Make the Parquet files of a run that goes on, was killed, or has finished. Raises RunDirError, StorageError.

    `complete` is how many results there should be, if the run is known to have them all: then its status becomes completed.
    `known` is the ledger, if the journal was read already.
    """
    run = run_at(directory)
    document = read_config_file(run.config).document
    with run.making_views():
        before = run.read_evaluation()
        said: dict[str, Any] = {key: before.get(key, document.get(key)) for key in ("name", "description", "tags", "metadata")}
        about = About(
            **said, tasks=before.get("tasks") or list(document.get("tasks", [])), plug_ins=before.get("plug_ins") or {}
        )
        return make_views(
            run,
            stopped=None if complete is not None else before.get("status_reason"),
            expected=complete,
            about=about,
            document=document,
            status="completed" if complete is not None else before.get("status") or "running",
            known=known,
            prices_used=before.get("prices_used"),
            **_kept_in(before),
        )
