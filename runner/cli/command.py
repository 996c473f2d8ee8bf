"""A command: its words, what it does, and what its exit code says.

0 finished with errors within `limits.fail_on_error`; 1 finished with more; 2 wrong usage, config or dataset, and nothing was
sent; 3 stopped early by itself, resumable; 4 a gate cannot be told; 129, 130 or 143 stopped by SIGHUP, SIGINT or SIGTERM,
resumable.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = [
    "ERRORS",
    "FINISHED",
    "STOPPED",
    "STOPPING",
    "UNEXPECTED",
    "UNTOLD",
    "USAGE",
    "Command",
    "do_without_numpy",
    "print_text",
]

FINISHED = 0
ERRORS = 1
USAGE = 2
#: Also of what is unexpected, for 1, which Python would give then, says that the evaluation finished.
STOPPED = 3
#: A gate of a comparison cannot be told.
UNTOLD = 4
#: The signals that stop the program.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNEXPECTED = "unexpected; what was answered is kept, and the run can be resumed"


class Command(NamedTuple):
    """A command of the program."""

    name: str
    #: None: it is not listed.
    help: str | None
    #: What it will import, loaded before it begins.
    modules: Sequence[str]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    #: Returns the exit code. Raises UsageError, StorageError.
    run: Callable[[argparse.Namespace], int]


def print_text(text: str) -> None:
    """Print to stdout; a reader that has gone away or a full disk is no reason to fail, for everything is in files."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def do_without_numpy(arguments: argparse.Namespace) -> None:
    """In a process of its own, keep pyarrow from loading numpy, which costs twice the time of pyarrow itself.

    Writing Parquet files needs nothing of it. Where a file of the dataset is Arrow data, whose times in nanoseconds do, pyarrow
    and numpy are there already: the first rows of all files were read when the dataset was opened.
    """
    if arguments.own_process:
        sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]  # as for a package that is not installed
