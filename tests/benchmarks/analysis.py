"""Measurements of what is made of finished runs: rescored, reported, compared."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.jobs import Job, runner_command, write_config
from tests.benchmarks.lab import ROOT, Lab, watched_command
from tests.benchmarks.processes import Process, ProcessError, do
from tests.benchmarks.table import Row

__all__ = ["compare", "report", "rescore"]

_LONGEST_RESCORING_S, _LONGEST_ANALYSIS_S = 20, 15
_MOST_REPORT_MB, _MOST_COMPARE_MB, _LARGEST_PAGE = 300, 400, 3_000_000


def rescore(lab: Lab) -> Row:
    rows = 10_000 if lab.quick else 100_000
    with lab.scratch() as directory:
        config = _finished_run(lab, directory, rows)
        process = _rescored(directory, config, "item.prompt")
    if f"finished: {2 * rows} results, 0 errors" not in process.output:
        raise ProcessError("it did not rescore all rows", process.output)
    return _in_time(f"rescore of {rows:,} rows by an exact_match", process, rows, _LONGEST_RESCORING_S)


def report(lab: Lab) -> Row:
    rows = 10_000 if lab.quick else 100_000
    with lab.scratch() as directory:
        _rescored(directory, _finished_run(lab, directory, rows), "item.prompt")
        page = directory / "report.html"
        process = watched_command("report", str(_latest(directory)), "-o", str(page))
        size = page.stat().st_size
    row = _in_time(f"report of {rows:,} rows", process, rows, _LONGEST_ANALYSIS_S)
    fits = size <= _LARGEST_PAGE and process.peak_mib * 1.048576 <= _MOST_REPORT_MB
    return replace(row, runner=f"{row.runner}, a page of {size / 1e6:.2f} MB", reached=bool(row.reached) and fits)


def compare(lab: Lab) -> Row:
    rows = 10_000 if lab.quick else 100_000
    with lab.scratch() as directory:
        config = _finished_run(lab, directory, rows)
        before: list[Path] = []
        for reference in ("item.prompt", "{{ item.reply if item.id % 7 else 'x' }}"):
            _rescored(directory, config, reference, of=before[0] if before else None)
            before.append(_latest(directory))
        process = watched_command("compare", *map(str, before))
    row = _in_time(f"compare of two runs of {rows:,} rows", process, rows, _LONGEST_ANALYSIS_S)
    return replace(row, reached=bool(row.reached) and process.peak_mib * 1.048576 <= _MOST_COMPARE_MB)


def _finished_run(lab: Lab, directory: Path, rows: int) -> Path:
    """Make a run whose rows are all answered; return its config."""
    nobody = "http://127.0.0.1:9/v1"
    config = write_config(directory, Job(rows=rows, concurrency=64), base_url=nobody, dataset=lab.dataset(rows))
    do([sys.executable, "-m", "tests.benchmarks.oldrun", str(config), str(rows)], ROOT)
    do(runner_command(config, "--resume"), ROOT)  # nothing is left, so that it is finished
    return config


def _rescored(directory: Path, config: Path, reference: str, *, of: Path | None = None) -> Process:
    """Judge the answers of a run by an exact_match, as one that was watched."""
    metric = {"type": "exact_match", "candidate": "item.reply", "reference": reference}
    changed = json.loads(config.read_text())
    changed["tasks"] = [changed["tasks"][0], {"task_type": "metric", "alias": "correct", "configuration": metric}]
    config.write_text(json.dumps(changed))
    return watched_command("rescore", str(of or _latest(directory)), str(config))


def _latest(directory: Path) -> Path:
    return (directory / "results" / "benchmark" / "latest").resolve()


def _in_time(measure: str, process: Process, rows: int, longest_s: float) -> Row:
    return Row(
        measure=f"{measure}: seconds of the whole process",
        runner=f"{process.wall_s:.1f} s, {process.cpu_s:.1f} s of CPU, {process.peak_mib:.0f} MiB",
        reached=process.wall_s * 100_000 / rows <= longest_s,
    )
