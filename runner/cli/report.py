"""`report`: what a run found, as one file that people can read, send and keep."""

from __future__ import annotations

import argparse
from pathlib import Path

from runner.cli import decisions
from runner.cli.command import Command, do_without_numpy, print_text

__all__ = ["REPORT"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, NAME, NAME~1 or NAME@baseline")
    decisions.add_arguments(parser, gate="correct >= 0.8")
    parser.add_argument(
        "--items", choices=["auto", "all", "none"], default="auto", help="which items have their texts in a page"
    )


def _report(arguments: argparse.Namespace) -> int:
    from runner.analysis.files import check_files, write_files
    from runner.analysis.naming import named_run
    from runner.analysis.report.reported import Reported

    files = arguments.files or [Path("report.html")]
    check_files(files)
    gates = decisions.texts_of_gates(arguments)
    do_without_numpy(arguments)
    passes = arguments.cannot_tell == "pass"
    reported = Reported(named_run(arguments.run), by=decisions.by_of(arguments), cluster=arguments.cluster, gates=gates)
    try:
        kinds = {
            ".html": lambda: reported.as_html(items=arguments.items),
            ".md": reported.as_markdown,
            ".json": reported.as_json,
            ".junit.xml": lambda: reported.as_junit(cannot_tell_passes=passes),
        }
        write_files(files, kinds)
    finally:
        reported.close()
    told = [f"gate       {one.gate.text:<34} {one.outcome.value:<12} ({one.reason})" for one in reported.decisions]
    print_text("\n".join([*told, *(f"report     {file}" for file in files)]))
    return decisions.exit_code(reported.outcome, cannot_tell_passes=passes)


REPORT = Command(
    name="report",
    help="write what a run found as one file: a page, Markdown, JSON, or gates as JUnit's XML",
    modules=["runner.analysis.report.reported"],
    add_arguments=_add_arguments,
    run=_report,
)
