"""Parses the command line, and suggests the command or option that was probably meant by an unknown one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.cli.command import USAGE, Command, print_text

__all__ = ["parsed", "parser_of"]

_MORE = """`runner CONFIG.yaml` runs an evaluation. `runner run --help` lists its options; each command has its own `--help`."""


def parsed(words: Sequence[str], commands: Sequence[Command]) -> argparse.Namespace:
    """Return the arguments of the command that was typed. Exits if there is no such command, or after printing help."""
    parser, known = parser_of(commands)
    if words and (meant := _command_meant(words[0], known)):
        parser.exit(USAGE, f"there is no command and no config {words[0]!r}{meant}\n")
    arguments, rest = parser.parse_known_args(_with_command(list(words), known))
    if rest:
        _refuse(rest, getattr(arguments, "set", ()), known[arguments.command_name])
    return arguments


def parser_of(commands: Sequence[Command]) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of all commands, and the parser of each command by its name."""
    parser = argparse.ArgumentParser(
        prog="runner", description="Evaluate chat endpoints: a YAML config in, Parquet out.", epilog=_MORE
    )
    parser.add_argument("--version", action=_Version)
    listed = parser.add_subparsers(required=True, metavar="COMMAND", dest="command_name")
    for command in commands:
        said: dict[str, Any] = {}
        if command.help is not None:
            said = {"help": command.help, "description": f"{command.help[0].upper()}{command.help[1:]}."}
        own = listed.add_parser(command.name, **said)
        own.set_defaults(command=command.run, modules=command.modules)
        command.add_arguments(own)
    return parser, listed.choices


def _with_command(words: list[str], known: Mapping[str, argparse.ArgumentParser]) -> list[str]:
    """`runner CONFIG` is short for `runner run CONFIG`."""
    is_whole = not words or words[0] in {*known, "-h", "--help", "--version"}
    return words if is_whole else ["run", *words]


def _command_meant(word: str, known: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return what was probably meant by a first argument that is neither a command nor an existing path; else nothing."""
    if word in known or word.startswith("-") or Path(word).exists():
        return ""
    return _nearest(word, list(known))


def _refuse(rest: Sequence[str], overrides: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Exit, and name the arguments that the command does not know; one may be the value of a `--set` split at a space."""
    for key in (one for one in overrides if "=" not in one):
        parser.error(f"--set {key}: write --set {key}=VALUE, in one word")
    options = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001  there is no public one
    parser.error(f"unknown: {' '.join(rest)}{_nearest(rest[0].partition('=')[0], options)}")


def _nearest(word: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # loaded only after a mistake

    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


class _Version(argparse.Action):
    """`--version`: the version is looked up only when this option is given."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the program's version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.metadata import PackageNotFoundError, version
        from platform import python_version

        try:
            installed = version("batch-eval-runner")
        except PackageNotFoundError:
            installed = "not installed"
        print_text(f"runner {installed} (Python {python_version()})")
        parser.exit()
