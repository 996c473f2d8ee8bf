"""`batch`: write the requests of a run into files for a batch service, and read the answers of the service into the run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import options
from runner.cli.command import FINISHED, STOPPED, Command, do_without_numpy, print_text
from runner.cli.run import evaluate
from runner.errors import UsageError
from runner.meant import path_meant

if TYPE_CHECKING:
    from runner.batch import Batch
    from runner.evaluation import Evaluation
    from runner.storage.rundir import RunDir

__all__ = ["BATCH"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    acts = parser.add_subparsers(required=True, metavar="export|import", dest="act")
    export = acts.add_parser("export", help="write the requests that have no answer yet into files of OpenAI's batch format")
    export.add_argument("what", metavar="CONFIG|RUN", help="a config, which begins a new run; or a run directory")
    export.add_argument(
        "-o",
        "--directory",
        metavar="DIR",
        type=Path,
        help="where the files are written (default: `batch` in the run directory)",
    )
    export.add_argument(
        "--again", action="store_true", help="also export requests that wait for the answers to an earlier file"
    )
    export.add_argument("--limit", metavar="N", type=options.at_least(1), help="export only the first N items")
    taken = acts.add_parser("import", help="read the answers from output and error files, in any order, and judge them")
    taken.add_argument("run", metavar="RUN", help="a run directory")
    taken.add_argument(
        "files", metavar="FILE", type=Path, nargs="+", help="an output or error file that the service has written"
    )
    taken.set_defaults(command=_import)
    for one in (export, taken):
        options.add_overrides(one)
        options.add_no_progress(one)


def _export(arguments: argparse.Namespace) -> int:
    from runner.batch.files import Export

    export = Export(directory=arguments.directory, again=arguments.again)
    is_config = Path(arguments.what).is_file()
    if is_config:
        export.check()
    run = None if is_config else _run(arguments.what)
    evaluation = _prepared(arguments, Path(arguments.what) if run is None else run.config, export)
    export.endpoints, export.redactor = evaluation.config.endpoint_names, evaluation.redactor
    code = _evaluated(evaluation, run, lambda: ["import", "FILE"] if evaluation.waits else ["export"])
    for line in export.lines():
        print_text(f"  batch      {line}")
    return FINISHED if code == STOPPED and evaluation.waits else code


def _import(arguments: argparse.Namespace) -> int:
    from runner.batch.answers import Answers

    for file in arguments.files:
        if not file.is_file():  # checked here, because a finished run reads no files
            raise UsageError(f"{file}: there is no such file{path_meant(file)}")
    answers, run = Answers(arguments.files), _run(arguments.run)
    code = _evaluated(_prepared(arguments, run.config, answers), run, lambda: ["import", *map(str, arguments.files)])
    for line in answers.lines():
        print_text(f"  batch      {line}")
    return code


def _run(word: str) -> RunDir:
    from runner.analysis.naming import named_run

    return named_run(word)


def _prepared(arguments: argparse.Namespace, config: Path, batch: Batch) -> Evaluation:
    from runner.evaluation import prepare

    evaluation = prepare(config, options.overrides_of(arguments), batch=batch, bar=options.has_bar(arguments))
    do_without_numpy(arguments)
    return evaluation


def _evaluated(evaluation: Evaluation, run: RunDir | None, act: Callable[[], Sequence[str]]) -> int:
    """Run the evaluation; print its summary, and how to go on: `act` returns a subcommand and its files."""
    from runner.evaluation import Resume

    resume = False if run is None else Resume(run=str(run.path))

    def words(found: RunDir) -> Sequence[str]:
        name, *files = act()
        return ["batch", name, str(found.path), *files]

    return evaluate(evaluation, resume, words)


BATCH = Command(
    name="batch",
    help="let a batch service answer: export the requests, import the answers",
    modules=["runner.evaluation", "runner.analysis.naming"],
    add_arguments=_add_arguments,
    run=_export,
)
