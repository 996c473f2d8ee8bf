"""`baseline`: the run with which later ones are compared."""

from __future__ import annotations

import argparse

from runner.cli.command import FINISHED, Command, print_text

__all__ = ["BASELINE"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, or NAME, NAME~1")


def _baseline(arguments: argparse.Namespace) -> int:
    from runner.analysis.naming import make_baseline, named_run

    run = named_run(arguments.run)
    print_text(f"{make_baseline(run)} leads to {run.path.name}")
    return FINISHED


BASELINE = Command(
    name="baseline",
    help="make `results/NAME/baseline` lead to a run, for `compare NAME@baseline …`",
    modules=["runner.analysis.naming"],
    add_arguments=_add_arguments,
    run=_baseline,
)
