"""An async batch evaluation runner for OpenAI-compatible chat endpoints: a YAML config in, Parquet out, nothing lost.

    run = runner.evaluate("configs/eval.yaml")          run an evaluation; in a coroutine `await runner.evaluate_async(…)`
    run.results, run.errors, run.wide                   its results, as DataFrames
    runner.rescore(run, "configs/stricter.yaml")        judge its answers again, in a new run, without sending anything
    runner.load("results/capitals/latest").wide         the results of any run, also of one that is going on or was killed
    runner.compare("capitals~1", "capitals").table      is this run worse than the one before?
    runner.report("capitals", "report.html")            the results of a run as a page

README.md beside this file is the map of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import RunDirError, RunnerError, StorageError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from runner.analysis_api import Comparison, compare, report
    from runner.api import evaluate, evaluate_async, rescore
    from runner.results.run import Run

__all__ = [
    "Comparison",
    "Run",
    "RunDirError",
    "RunnerError",
    "StorageError",
    "UsageError",
    "compare",
    "evaluate",
    "evaluate_async",
    "load",
    "report",
    "rescore",
]

#: The modules of names that are imported late, so that `--help` does not wait for them.
_HOMES = {
    "Comparison": "runner.analysis_api",
    "Run": "runner.results.run",
    "compare": "runner.analysis_api",
    "evaluate": "runner.api",
    "evaluate_async": "runner.api",
    "report": "runner.analysis_api",
    "rescore": "runner.api",
}


def __getattr__(name: str) -> object:
    """Import a name on its first use."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'runner' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOMES[name]), name)
    return found


def load(run: str | Path | Run) -> Run:
    """Return a run with its frames. `run` is its directory, or the name of an evaluation: its latest run in `results/`.

    The frames of a run that is going on hold what it has so far. The run directory is not changed. Raises RunDirError if there
    is no run.
    """
    from runner.results.run import Run, find_run

    return Run(find_run(run)).read()
