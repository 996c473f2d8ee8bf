"""What the commands have in common that decide by gates: their arguments and their exit codes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.command import ERRORS, FINISHED, UNTOLD

if TYPE_CHECKING:
    from runner.analysis.gates import Outcome

__all__ = ["add_arguments", "by_of", "exit_code", "texts_of_gates"]


def add_arguments(parser: argparse.ArgumentParser, *, gate: str) -> None:
    """Add the arguments; `gate` is an example of one."""
    parser.add_argument(
        "-o",
        metavar="FILE",
        dest="files",
        action="append",
        type=Path,
        default=[],
        help=".html, .md, .json or .junit.xml (repeatable)",
    )
    parser.add_argument(
        "--by",
        metavar="item.COLUMN",
        action="append",
        default=[],
        help="by groups; columns with commas are crossed (repeatable)",
    )
    parser.add_argument("--cluster", metavar="item.COLUMN", help="the column whose value makes items one cluster")
    parser.add_argument("--gate", metavar="EXPR", action="append", default=[], help=f"{gate!r} (repeatable)")
    parser.add_argument("--gates", metavar="FILE", type=Path, help="a YAML list of gates")
    parser.add_argument(
        "--cannot-tell", choices=["fail", "pass"], default="fail", help="what becomes of a gate that cannot be told"
    )


def by_of(arguments: argparse.Namespace) -> list[list[str]]:
    """Return the columns of each table of groups."""
    return [[column.strip() for column in one.split(",")] for one in arguments.by]


def texts_of_gates(arguments: argparse.Namespace) -> list[str]:
    """Return the gates that were typed, and those of the file. Raises UsageError."""
    if arguments.gates is None:
        return list(arguments.gate)
    from runner.config.file import read_list

    return [*arguments.gate, *read_list(arguments.gates)]


def exit_code(outcome: Outcome | None, *, cannot_tell_passes: bool) -> int:
    """Return what the gates come to: 0 all hold, 1 one is broken, 4 one cannot be told."""
    from runner.analysis.gates import Outcome

    if outcome is Outcome.BROKEN:
        return ERRORS
    return UNTOLD if outcome is Outcome.CANNOT_TELL and not cannot_tell_passes else FINISHED
