"""An async batch evaluation runner for OpenAI-compatible chat endpoints: a YAML config in, Parquet out, nothing lost.

The flow, and where each part of it lives:

    config      configfile, config, fields, mistakes      the YAML file, checked as a whole
    data        datasets, templates (sandbox, allowance,  rows, one at a time; how a task reads them
                growth), output
    tasks       tasks, foreign (processes)                what is asked, what is judged, and what of it runs apart
    run         pipeline, evaluate, beginning (choosing,  samples in, results out, bounded in flight
                resume), remaining, attempts, budget
    endpoint    endpoint                                  retries, verdict, health, circuit, limits, client, transport,
                                                          recordings
    results     storage, views, summary                   the journal, and what is made of it
    secrets     credentials, redaction, escapes           which values are secrets, and how they are taken out
    people      cli, progress, dryrun, check              the command line, and how it stands
    everybody   types, errors, usage, jsontext, structs,  values, errors, and small things that import next to nothing
                fingerprint, standstill

`load(run_dir)` opens a run in pandas.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.results.views import Frames

__all__ = ["load"]


def load(run_dir: str | Path) -> Frames:
    """Return a run's `results`, `errors` and `wide` DataFrames: of a live, killed or finished run."""
    from runner.results.views import load as load_frames

    return load_frames(run_dir)
