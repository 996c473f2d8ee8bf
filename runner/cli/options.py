"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

__all__ = ["add_no_progress", "add_overrides", "add_set", "as_typed", "at_least", "has_bar", "overrides_of"]


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add the option that overrides a value of the config."""
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], help="override a value of the config (repeatable)"
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the options that change the config, which `overrides_of` reads."""
    add_set(parser)
    parser.add_argument("--output", metavar="DIR", help="directory of the results, instead of `output:` in the config")


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides that were typed, each as `--set` takes it."""
    overrides = list(arguments.set)
    if getattr(arguments, "limit", None) is not None:
        overrides.append(f"dataset.limit={arguments.limit}")
    if arguments.output is not None:
        overrides.append(f"output={json.dumps(arguments.output)}")
    return overrides


def as_typed(overrides: Sequence[str]) -> list[str]:
    """Return overrides as words of a command line."""
    return [word for one in overrides for word in ("--set", one)]


def add_no_progress(parser: argparse.ArgumentParser) -> None:
    """Add the option that `has_bar` reads."""
    parser.add_argument("--no-progress", action="store_true", help="print log lines instead of the progress bar")


def has_bar(arguments: argparse.Namespace) -> bool:
    """Return whether progress is shown as a bar: on a terminal, without `--no-progress`."""
    return not arguments.no_progress and sys.stderr.isatty()


def at_least(least: int) -> Callable[[str], int]:
    """Return a function that reads an option as a whole number of at least `least`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"should be a whole number of at least {least}, got {text!r}")
        return number

    return read
