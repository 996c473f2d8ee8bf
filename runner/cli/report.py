"""`report`: write the results of a run into one file that people can read, send and keep."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from runner.cli import decisions
from runner.cli.command import Command, do_without_numpy, print_text

__all__ = ["REPORT"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, NAME, NAME~1 or NAME@baseline")
    decisions.add_arguments(parser, gate="correct >= 0.8")
    parser.add_argument(
        "--items",
        choices=["auto", "all", "none"],
        default="auto",
        help="which items the HTML page shows with their texts (default: auto)",
    )


def _report(arguments: argparse.Namespace) -> int:
    from runner.analysis.files import check_files
    from runner.analysis.gates import gate_lines
    from runner.analysis.naming import named_run
    from runner.analysis.report.reported import Reported

    files = arguments.files or [Path("report.html")]
    check_files(files)
    gates = decisions.texts_of_gates(arguments)
    do_without_numpy(arguments)
    passes = arguments.cannot_tell == "pass"
    by = decisions.by_of(arguments)
    with closing(Reported(named_run(arguments.run), by=by, cluster=arguments.cluster, gates=gates)) as reported:
        reported.write(files, items=arguments.items, cannot_tell_passes=passes)
    print_text("\n".join([*gate_lines(reported.decisions), *(f"report     {file}" for file in files)]))
    return decisions.exit_code(reported.outcome, cannot_tell_passes=passes)


REPORT = Command(
    name="report",
    help="write the results of a run into one file: HTML, Markdown, JSON, or the gates as JUnit XML",
    modules=["runner.analysis.report.reported"],
    add_arguments=_add_arguments,
    run=_report,
)
