"""The command line: which command was typed, and how the program ends."""

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
#: A new command is one in a file beside this one, and its name here.
COMMANDS = (RUN, CHECK, SCHEMA, EXPORT, REPORT, COMPARE, RESCORE, BASELINE, CACHE, BATCH, PLAN, SHARD, MERGE, WORK, SERVE)
#: With thousands of requests in flight a collection stops the program for half a second, and finds next to nothing: collect
#: rarely. Whoever runs an evaluation from Python decides for himself.
_GC_THRESHOLDS = (50_000, 50)


def program() -> NoReturn:
    """Run the command that was typed, and exit."""
    code = main(own_process=True)
    # While Python exits a signal would only change the exit code.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Run a command; return the exit code. `own_process` says that nothing else is done in this process."""
    _open_closed_streams()
    _print_what_can_be_printed()
    # Looking for plugins of the validation library means reading the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = parsed(sys.argv[1:] if argv is None else argv, COMMANDS)
    arguments.own_process = own_process
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    clean_handlers()
    try:
        if own_process:
            gc.set_threshold(*_GC_THRESHOLDS)
            _load(arguments.modules)
        return int(arguments.command(arguments))
    except UsageError as error:
        print(error, file=sys.stderr)
        return USAGE
    except RunnerError as error:
        print(error, file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001  this is the last place that can say so
        _log.exception("unexpected")
        return STOPPED


def _load(modules: Sequence[str]) -> None:
    """Load what a command will import. To collect garbage meanwhile takes a sixth longer, and finds next to none."""
    gc.disable()
    try:
        for module in modules:
            import_module(module)
        gc.freeze()
    finally:
        gc.enable()


def _open_closed_streams() -> None:
    """Open the null device where a standard stream was closed: the next file opened would get its place, and the log.

    A connection that got it ends the program, for uvloop closes none.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY), number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _print_what_can_be_printed() -> None:
    """Print a question mark where a terminal's encoding lacks a character: the summary is worth more than its signs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
