"""What the commands have in common that decide by gates: their files, their gates, and their exit codes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.command import ERRORS, FINISHED, UNTOLD
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.analysis.gates import Decision

__all__ = ["add_arguments", "by_of", "check_files", "exit_code", "texts_of_gates", "write_files"]

_ENDINGS = (".html", ".md", ".json", ".junit.xml")


def add_arguments(parser: argparse.ArgumentParser, *, gate: str) -> None:
    """Add the arguments; `gate` is an example of one."""
    parser.add_argument(
        "-o", metavar="FILE", dest="files", action="append", type=Path, default=[], help=f"{', '.join(_ENDINGS)} (repeatable)"
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


def check_files(files: Iterable[Path]) -> None:
    """Raise UsageError for a file that could not be written."""
    for file in files:
        if not file.name.endswith(_ENDINGS):
            known = f"{', '.join(_ENDINGS[:-1])} and {_ENDINGS[-1]}"
            raise UsageError(f"-o {file}: the ending says what is written; known are {known}")
        if not file.absolute().parent.is_dir():
            raise UsageError(f"-o {file}: there is no directory {file.absolute().parent}")


def write_files(files: Iterable[Path], kinds: Mapping[str, Callable[[], str]]) -> None:
    """Write each file as its ending says, at once as a whole. Raises UsageError."""
    for file in files:
        text = next(write for ending, write in kinds.items() if file.name.endswith(ending))()
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
            temporary.replace(file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UsageError(f"-o {file}: cannot be written: {error.strerror}") from error


def exit_code(decisions: Iterable[Decision], *, cannot_tell_passes: bool) -> int:
    """Return what the gates come to: 0 all hold, 1 one is broken, 4 one cannot be told."""
    from runner.analysis.gates import Outcome

    outcomes = {decision.outcome for decision in decisions}
    if Outcome.BROKEN in outcomes:
        return ERRORS
    return UNTOLD if Outcome.CANNOT_TELL in outcomes and not cannot_tell_passes else FINISHED
