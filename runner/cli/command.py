"""A command: its name, its arguments and the function that runs it; and the exit codes of the program.

0 finished, with no more errors than `limits.fail_on_error` allows; 1 finished with more errors, or a gate is broken; 2 wrong
usage, config or dataset, and nothing was sent; 3 stopped early by itself, resumable; 4 a gate cannot be told; 129, 130 or
143 stopped by SIGHUP, SIGINT or SIGTERM, resumable.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from runner.config.sections import LimitsConfig
    from runner.results.closing import Report

__all__ = [
    "ERRORS",
    "FINISHED",
    "STOPPED",
    "STOPPING",
    "UNEXPECTED",
    "UNTOLD",
    "USAGE",
    "Command",
    "code_of",
    "do_without_numpy",
    "print_text",
]

FINISHED = 0
ERRORS = 1
USAGE = 2
#: Also the code after an unexpected error. Python's own code would be 1, which means that the evaluation finished.
STOPPED = 3
#: A gate cannot be told.
UNTOLD = 4
#: The signals that stop the program.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNEXPECTED = "unexpected error; all answers are kept, and the run can be resumed"


class Command(NamedTuple):
    """A command of the program."""

    name: str
    #: The line in the list of commands; None: the command is not listed.
    help: str | None
    #: The modules that the command imports. They are loaded before it begins.
    modules: Sequence[str]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    #: Returns the exit code. Raises UsageError, StorageError.
    run: Callable[[argparse.Namespace], int]


def code_of(report: Report, limits: LimitsConfig) -> int:
    """Return the exit code of an evaluation that has finished."""
    return ERRORS if report.errors > limits.errors_allowed(report.results + report.errors) else FINISHED


def print_text(text: str) -> None:
    """Print to stdout. A closed pipe or a full disk does not fail the command, because all results are in files."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def do_without_numpy(arguments: argparse.Namespace) -> None:
    """Keep pyarrow from loading numpy, if this process runs only the command: numpy takes twice as long to load as pyarrow.

    Writing Parquet files does not need numpy. Reading times in nanoseconds from Arrow data does; then pyarrow and numpy are
    loaded already, because the first rows of all files were read when the dataset was opened.
    """
    if arguments.own_process:
        sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]  # as if numpy were not installed
