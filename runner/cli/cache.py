"""`cache`: show what a file of cached answers holds, and delete old answers from it."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.command import FINISHED, Command, print_text
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.storage.responses import Stored

__all__ = ["CACHE"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=Path, help="the file, the same as `cache.path` in the config")
    parser.add_argument("--prune", metavar="AGE", help="delete answers that are older than AGE, such as 30d or 12h")


def _cache(arguments: argparse.Namespace) -> int:
    from runner.durations import seconds_in
    from runner.storage.responses import looked_at, prune

    path: Path = arguments.path
    try:
        if arguments.prune is not None:
            deleted = prune(path, before=int(time.time()) - seconds_in(arguments.prune))
            print_text(f"{deleted} answers older than {arguments.prune} deleted")
        print_text(f"{path}: {_said_of(looked_at(path))}")
    except ValueError as error:
        raise UsageError(f"--prune: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: {error}") from error
    return FINISHED


def _said_of(stored: Stored) -> str:
    if stored.first_at is None or stored.last_at is None:
        return "no answers"
    first, last = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M") for at in (stored.first_at, stored.last_at))
    return f"{stored.answers} answers, {stored.body_bytes:,} bytes, from {first} to {last} UTC"


CACHE = Command(
    name="cache",
    help="show what a file of cached answers holds, or delete old answers from it",
    modules=["runner.storage.responses"],
    add_arguments=_add_arguments,
    run=_cache,
)
