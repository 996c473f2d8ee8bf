"""The command line: `main` runs the command that was typed, and returns the exit code."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from runner.cli.batch import BATCH
from runner.cli.cache import CACHE
from runner.cli.check import CHECK
from runner.cli.command import STOPPED, STOPPING, USAGE
from runner.cli.compare import BASELINE, COMPARE
from runner.cli.export import EXPORT
from runner.cli.report import REPORT
from runner.cli.rescore import RESCORE
from runner.cli.run import RUN
from runner.cli.schema import SCHEMA
from runner.cli.serve import SERVE
from runner.cli.shard import MERGE, PLAN, SHARD
from runner.cli.words import parsed
from runner.cli.work import WORK
from runner.errors import RunnerError, UsageError
from runner.logs import clean_handlers, logger

__all__ = ["COMMANDS", "main", "program"]

_log = logger(__name__)
#: To add a command, write it in a file of this directory, and list it here.
COMMANDS = (RUN, CHECK, SCHEMA, EXPORT, REPORT, COMPARE, RESCORE, BASELINE, CACHE, BATCH, PLAN, SHARD, MERGE, WORK, SERVE)
#: With thousands of requests in flight a garbage collection stops the program for half a second, and frees next to nothing. So
#: the program collects rarely. A Python program that runs an evaluation keeps its own thresholds.
_GC_THRESHOLDS = (50_000, 50)


def program() -> NoReturn:
    """Run the command that was typed, and exit."""
    code = main(own_process=True)
    # A signal while Python exits would only change the exit code.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Run a command; return the exit code. `own_process`: this process does nothing else."""
    _open_closed_streams()
    _print_what_can_be_printed()
    # To find its own plug-ins, Pydantic would read the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = parsed(sys.argv[1:] if argv is None else argv, COMMANDS)
    arguments.own_process = own_process
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    clean_handlers()
    try:
        if own_process:
            gc.set_threshold(*_GC_THRESHOLDS)
            _load(arguments.modules)
        _find_working_directory()
        return int(arguments.command(arguments))
    except UsageError as error:
        print(error, file=sys.stderr)
        return USAGE
    except RunnerError as error:
        print(error, file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001  nothing above reports the error
        _log.exception("unexpected error")
        return STOPPED


def _find_working_directory() -> None:
    """Raise UsageError if the working directory was removed: no relative path means anything then."""
    try:
        os.getcwd()  # noqa: PTH109  Path.cwd() is the same
    except OSError as error:
        raise UsageError("the working directory is gone; change to one that exists: cd DIRECTORY") from error


def _load(modules: Sequence[str]) -> None:
    """Load the modules of a command. Garbage collection is off meanwhile: it would take a sixth longer, and free nothing."""
    gc.disable()
    try:
        for module in modules:
            import_module(module)
        gc.freeze()
    finally:
        gc.enable()


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Else the next file that is opened would get the number of the stream, and the log would go into that file. A connection with
    such a number ends the program, because uvloop cannot close it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY), number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _print_what_can_be_printed() -> None:
    """Print a question mark for a character that the encoding of the terminal lacks, so that the summary can be printed."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
