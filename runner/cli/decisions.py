"""The arguments and exit codes that the commands with gates share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.command import ERRORS, FINISHED, UNTOLD

if TYPE_CHECKING:
    from runner.analysis.gates import Outcome

__all__ = ["add_arguments", "by_of", "exit_code", "texts_of_gates"]


def add_arguments(parser: argparse.ArgumentParser, *, gate: str) -> None:
    """Add the arguments; `gate` is an example for the help text."""
    parser.add_argument(
        "-o",
        metavar="FILE",
        dest="files",
        action="append",
        type=Path,
        default=[],
        help="write FILE: .html, .md, .json or .junit.xml (repeatable)",
    )
    parser.add_argument(
        "--by",
        metavar="item.COLUMN",
        action="append",
        default=[],
        help="also show each group of items with the same value; A,B crosses two columns (repeatable)",
    )
    parser.add_argument("--cluster", metavar="item.COLUMN", help="items with the same value in this column are one cluster")
    parser.add_argument(
        "--gate", metavar="EXPR", action="append", default=[], help=f"a condition, such as {gate!r} (repeatable)"
    )
    parser.add_argument("--gates", metavar="FILE", type=Path, help="a YAML list of gates")
    parser.add_argument(
        "--cannot-tell",
        choices=["fail", "pass"],
        default="fail",
        help="whether a gate that cannot be told fails or passes (default: fail)",
    )


def by_of(arguments: argparse.Namespace) -> list[list[str]]:
    """Return the columns of each table of groups."""
    return [[column.strip() for column in one.split(",")] for one in arguments.by]


def texts_of_gates(arguments: argparse.Namespace) -> list[str]:
    """Return the gates of the command line and of the file. Raises UsageError."""
    if arguments.gates is None:
        return list(arguments.gate)
    from runner.config.file import read_list

    return [*arguments.gate, *read_list(arguments.gates)]


def exit_code(outcome: Outcome | None, *, cannot_tell_passes: bool) -> int:
    """Return 0 if all gates hold, 1 if a gate is broken, 4 if a gate cannot be told."""
    from runner.analysis.gates import Outcome

    if outcome is Outcome.BROKEN:
        return ERRORS
    return UNTOLD if outcome is Outcome.CANNOT_TELL and not cannot_tell_passes else FINISHED
