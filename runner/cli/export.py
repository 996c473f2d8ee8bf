"""`export`: make the Parquet files of a run from its journal."""

from __future__ import annotations

import argparse

from runner.cli.command import FINISHED, Command, do_without_numpy, print_text

__all__ = ["EXPORT"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, or NAME for the latest run of that evaluation")


def _export(arguments: argparse.Namespace) -> int:
    from runner.results.run import find_run
    from runner.results.views import export

    do_without_numpy(arguments)
    print_text(export(find_run(arguments.run)).text())
    return FINISHED


EXPORT = Command(
    name="export",
    help="make the Parquet files of a run from its journal",
    modules=["runner.results.views"],
    add_arguments=_add_arguments,
    run=_export,
)
