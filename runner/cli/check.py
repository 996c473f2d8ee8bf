"""`check`: which kinds of requests work at the endpoint, or at each server of each endpoint."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from pathlib import Path

from runner.cli import options
from runner.cli.command import ERRORS, FINISHED, Command, print_text

__all__ = ["CHECK"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, help="the config whose endpoints are probed")
    options.add_set(parser)
    parser.add_argument(
        "--only-needed", action="store_true", help="probe only the kinds of requests that the tasks of the config need"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--curl", action="store_true", help="print a curl line for every request, not only for those that fail")
    parser.add_argument(
        "--save", metavar="DIR", type=Path, help="write the request bodies into DIR, where the curl lines read them"
    )


def _check(arguments: argparse.Namespace) -> int:
    from runner.check import check_endpoint
    from runner.evaluation import prepare

    found = prepare(arguments.config, arguments.set)
    rows = found.dataset.first_rows
    how = {"save": arguments.save, "only_needed": arguments.only_needed}
    reports = [
        asyncio.run(check_endpoint(server, found.file.document, rows, found.environment, **how))
        for server in found.config.servers
    ]
    if arguments.json:
        documents = [report.document() for report in reports]
        print_text(json.dumps(documents if len(documents) > 1 else documents[0], indent=2, ensure_ascii=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print_text("\n\n".join(report.text(width=width, every_line=arguments.curl) for report in reports))
    return FINISHED if all(report.works for report in reports) else ERRORS


CHECK = Command(
    name="check",
    help="probe the endpoint: which kinds of requests work",
    modules=["runner.evaluation", "runner.check"],
    add_arguments=_add_arguments,
    run=_check,
)
