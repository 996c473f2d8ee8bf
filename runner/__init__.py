"""An async batch evaluation runner for OpenAI-compatible chat endpoints: a YAML config in, Parquet out, nothing lost.

    run = runner.evaluate("configs/eval.yaml")          run an evaluation; in a coroutine `await runner.evaluate_async(…)`
    run.results, run.errors, run.wide                   what it has found, as DataFrames
    runner.rescore(run, "configs/stricter.yaml")        its answers judged once more, in a new run: nothing is sent
    runner.load("results/capitals/latest").wide         the same of any run, also of one that goes on or was killed
    runner.compare("capitals~1", "capitals").table      whether a run is worse than the one before
    runner.report("capitals", "report.html")            what a run found, as a page

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

#: Where what is imported late comes from: a command line that asks for its help has no need of it.
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
    """Import a name when it is first asked for."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'runner' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOMES[name]), name)
    return found


def load(run: str | Path | Run) -> Run:
    """Return a run with its frames, by its directory or by the name of an evaluation, which means its latest run in `results/`.

    Of a run that goes on they are what it has found so far. Nothing in the run directory is changed. Raises RunDirError where
    there is no run.
    """
    from runner.results.run import Run, find_run

    return Run(find_run(run)).read()
