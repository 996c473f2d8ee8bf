"""`plan`: a run directory with a plan, whose rows shards ask."""

from __future__ import annotations

import argparse
from pathlib import Path

from runner.cli.command import FINISHED, Command, at_least, print_text
from runner.cli.run import overrides_of

__all__ = ["PLAN"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path)
    parser.add_argument("--limit", metavar="N", type=at_least(0), help="only the first N items")
    parser.add_argument("--set", metavar="KEY.PATH=VALUE", action="append", default=[], help="override the config (repeatable)")
    parser.add_argument("--output", metavar="DIR", help="instead of `output:`")


def _plan(arguments: argparse.Namespace) -> int:
    from runner.evaluation import prepare

    print_text(str(prepare(arguments.config, overrides_of(arguments)).plan().run.path))
    return FINISHED


PLAN = Command(
    name="plan",
    help="make a run whose rows `shard` asks, on any number of machines; print its directory",
    modules=["runner.evaluation"],
    add_arguments=_add_arguments,
    run=_plan,
)
