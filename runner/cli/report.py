"""`report`: what a run found, as one file that people can read, send and keep."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import decisions
from runner.cli.command import Command, do_without_numpy, print_text

if TYPE_CHECKING:
    from runner.analysis.gates import Decision
    from runner.analysis.report.gathering import Gathered

__all__ = ["REPORT"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, NAME, NAME~1 or NAME@baseline")
    decisions.add_arguments(parser, gate="correct >= 0.8")
    parser.add_argument(
        "--items", choices=["auto", "all", "none"], default="auto", help="which items have their texts in a page"
    )


def _report(arguments: argparse.Namespace) -> int:
    from runner.analysis.gates import decide, parse_gate
    from runner.analysis.naming import named_run
    from runner.analysis.report.gathering import gather

    files = arguments.files or [Path("report.html")]
    decisions.check_files(files)
    texts = decisions.texts_of_gates(arguments)
    if arguments.own_process:
        do_without_numpy()
    gathered = gather(named_run(arguments.run), by=decisions.by_of(arguments), cluster=arguments.cluster)
    try:
        figures = gathered.figures
        gates = [parse_gate(text, figures, of_one_run=True) for text in texts]
        decided = [decide(gate, figures[gate.subject]) for gate in gates]
        _write(arguments, files, gathered, decided)
    finally:
        gathered.ledger.close()
    print_text("\n".join([*_told(decided), *(f"report     {file}" for file in files)]))
    return decisions.exit_code(decided, cannot_tell_passes=arguments.cannot_tell == "pass")


def _told(decided: list[Decision]) -> list[str]:
    return [f"gate       {one.gate.text:<34} {one.outcome.value:<12} ({one.reason})" for one in decided]


def _write(arguments: argparse.Namespace, files: list[Path], gathered: Gathered, decided: list[Decision]) -> None:
    from runner.analysis.junit import Suite, as_junit
    from runner.analysis.report.documents import as_json, as_markdown

    def as_page() -> str:
        from runner.analysis.report.page import as_html

        return as_html(gathered, decided, items=arguments.items)

    suite = Suite(gathered.run.path.name, gathered.run.path.parent.name, decided)
    kinds = {
        ".html": as_page,
        ".md": lambda: as_markdown(gathered, decided),
        ".json": lambda: as_json(gathered, decided),
        ".junit.xml": lambda: as_junit([suite], cannot_tell_passes=arguments.cannot_tell == "pass"),
    }
    decisions.write_files(files, kinds)


REPORT = Command(
    name="report",
    help="write what a run found as one file: a page, Markdown, JSON, or gates as JUnit's XML",
    modules=["runner.analysis.report.gathering"],
    add_arguments=_add_arguments,
    run=_report,
)
