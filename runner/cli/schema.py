"""`schema`: the JSON Schema of the config file."""

from __future__ import annotations

import argparse
import json

from runner.cli.command import FINISHED, Command, print_text

__all__ = ["SCHEMA"]


def _schema(_arguments: argparse.Namespace) -> int:
    from runner.config.model import schema

    print_text(json.dumps(schema(), indent=2))
    return FINISHED


SCHEMA = Command(
    name="schema",
    help="print the JSON Schema of the config file, for editors",
    modules=["runner.config.model"],
    add_arguments=lambda _parser: None,
    run=_schema,
)
