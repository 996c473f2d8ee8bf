"""`serve`: the evaluation service that Scale's SGP client talks to."""

from __future__ import annotations

import argparse
from pathlib import Path

from runner.cli.command import Command

__all__ = ["SERVE"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE.yaml", type=Path, help="the config of the service")
    parser.add_argument("--listen", metavar="HOST:PORT", help="address to listen on, instead of `listen:` in SERVICE.yaml")


def _serve(arguments: argparse.Namespace) -> int:
    from runner.service.api.app import serve
    from runner.service.settings import load_service

    return serve(load_service(arguments.service, listen=arguments.listen))


SERVE = Command(
    name="serve",
    help="serve evaluations over HTTP, with Scale's SGP v5 API",
    modules=["runner.service.api.app"],
    add_arguments=_add_arguments,
    run=_serve,
)
