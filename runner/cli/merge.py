"""`merge`: the files of a run whose rows shards have asked, and whether any is missing."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from runner.cli.command import ERRORS, FINISHED, STOPPED, Command, do_without_numpy, print_text

__all__ = ["MERGE"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="what `plan` has printed")


def _merge(arguments: argparse.Namespace) -> int:
    from runner.config.loading import load_config
    from runner.scale.merging import merge
    from runner.scale.shards import read_plan

    if arguments.own_process:
        do_without_numpy()
    plan = read_plan(arguments.run)
    report, lacking = merge(plan)
    print_text(report.text())
    for line in lacking:
        print_text(line)
    if lacking:
        return STOPPED
    config, _ = load_config(plan.run.config, (), os.environ, asks=False)
    allowed = config.limits.fail_on_error
    most = allowed * (report.results + report.errors) if isinstance(allowed, float) else allowed
    return ERRORS if report.errors > most else FINISHED


MERGE = Command(
    name="merge",
    help="make the files of a run that shards have asked, and say what is missing",
    modules=["runner.scale.merging"],
    add_arguments=_add_arguments,
    run=_merge,
)
