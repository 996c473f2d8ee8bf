"""`compare`: whether a run is worse than an earlier run, by more than chance. `baseline`: name that earlier run."""

from __future__ import annotations

import argparse
from contextlib import closing

from runner.cli import decisions
from runner.cli.command import FINISHED, Command, do_without_numpy, print_text
from runner.errors import UsageError

__all__ = ["BASELINE", "COMPARE"]


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="two runs or more, A first: a run directory, NAME, NAME~1 or NAME@baseline"
    )
    decisions.add_arguments(parser, gate="correct >= -0.01")
    parser.add_argument(
        "--min-pairs",
        metavar="SHARE",
        type=float,
        default=0.95,
        help="share of all items that must have a value in both runs (default: 0.95)",
    )
    parser.add_argument(
        "--alpha",
        metavar="P",
        type=float,
        default=0.05,
        help="significance level: a difference counts if p is below (default: 0.05)",
    )
    parser.add_argument(
        "--changed-items",
        choices=["keep", "leave"],
        default="leave",
        help="keep items whose row has changed, or leave them out (default: leave)",
    )


def _compare(arguments: argparse.Namespace) -> int:
    from runner.analysis.compare.compared import Compared, Terms
    from runner.analysis.compare.texts import as_text
    from runner.analysis.files import check_files
    from runner.analysis.naming import named_run

    if len(arguments.runs) < 2:  # noqa: PLR2004  A and B
        raise UsageError("compare needs two runs or more: python -m runner compare NAME~1 NAME")
    check_files(arguments.files)
    terms = Terms(
        by=decisions.by_of(arguments),
        cluster=arguments.cluster,
        gates=decisions.texts_of_gates(arguments),
        min_pairs=arguments.min_pairs,
        alpha=arguments.alpha,
        keep_changed=arguments.changed_items == "keep",
    )
    do_without_numpy(arguments)
    passes = arguments.cannot_tell == "pass"
    with closing(Compared([named_run(word) for word in arguments.runs], terms)) as compared:
        compared.write(arguments.files, cannot_tell_passes=passes)
        print_text(as_text(compared.comparisons))
    return decisions.exit_code(compared.outcome, cannot_tell_passes=passes)


COMPARE = Command(
    name="compare",
    help="compare runs with the first of them, and check gates",
    modules=["runner.analysis.compare.compared"],
    add_arguments=_add_compare,
    run=_compare,
)


def _add_baseline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, NAME or NAME~1")


def _baseline(arguments: argparse.Namespace) -> int:
    from runner.analysis.naming import make_baseline, named_run

    run = named_run(arguments.run)
    print_text(f"{make_baseline(run)} points to {run.path.name}")
    return FINISHED


BASELINE = Command(
    name="baseline",
    help="point `results/NAME/baseline` to a run, for `compare NAME@baseline …`",
    modules=["runner.analysis.naming"],
    add_arguments=_add_baseline,
    run=_baseline,
)
