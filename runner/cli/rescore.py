"""`rescore`: judge the answers of a run again, with other metrics or other references."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import options
from runner.cli.command import Command, do_without_numpy
from runner.cli.run import evaluate

if TYPE_CHECKING:
    from runner.storage.rundir import RunDir

__all__ = ["RESCORE"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="the run whose answers are taken: a run directory, NAME, NAME~1 or NAME@baseline"
    )
    parser.add_argument(
        "config",
        metavar="CONFIG.yaml",
        type=Path,
        help="a config with the same tasks that send requests, and with the new metrics",
    )
    parser.add_argument(
        "--ask", action="store_true", help="send requests that RUN has no answer to, such as those of a new judge"
    )
    parser.add_argument(
        "--fresh-rows", action="store_true", help="use the rows of CONFIG's dataset, matched by `dataset.id`, instead of RUN's"
    )
    options.add_overrides(parser)
    options.add_no_progress(parser)


def _rescore(arguments: argparse.Namespace) -> int:
    from runner.analysis.naming import named_run
    from runner.evaluation import prepare
    from runner.pipeline.rescoring import opened_rescoring

    with opened_rescoring(named_run(arguments.run), asks=arguments.ask, fresh_rows=arguments.fresh_rows) as rescoring:
        evaluation = prepare(
            arguments.config, options.overrides_of(arguments), rescoring=rescoring, bar=options.has_bar(arguments)
        )
        do_without_numpy(arguments)
        return evaluate(evaluation, False, lambda _run: _same_command(arguments, rescoring.run))


def _same_command(arguments: argparse.Namespace, source: RunDir) -> list[str]:
    """Return the command that goes on: the same, with the path of RUN, because NAME may mean a newer run by then."""
    words = [f"--{name.replace('_', '-')}" for name in ("ask", "fresh_rows") if getattr(arguments, name)]
    overrides = options.as_typed(options.overrides_of(arguments))
    return ["rescore", str(source.path), str(arguments.config), *words, *overrides]


RESCORE = Command(
    name="rescore",
    help="judge the answers of a run again, in a new run; without --ask nothing is sent",
    modules=["runner.evaluation", "runner.analysis.naming"],
    add_arguments=_add_arguments,
    run=_rescore,
)
