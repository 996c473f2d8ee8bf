"""`schema`: print the JSON Schema of the config file, with the plug-ins of installed packages."""

from __future__ import annotations

import argparse
import json

from runner.cli.command import FINISHED, Command, print_text
from runner.errors import UsageError

__all__ = ["SCHEMA"]


def _schema(_arguments: argparse.Namespace) -> int:
    from runner.config.model import schema
    from runner.config.plugging import with_installed

    try:
        print_text(json.dumps(with_installed(schema()), indent=2))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return FINISHED


SCHEMA = Command(
    name="schema",
    help="print the JSON Schema of the config file, for editors",
    modules=["runner.config.model"],
    add_arguments=lambda _parser: None,
    run=_schema,
)
