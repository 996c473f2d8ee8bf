"""`run`: an evaluation, from the command line to the closing summary."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import options
from runner.cli.command import ERRORS, FINISHED, STOPPED, UNEXPECTED, Command, code_of, do_without_numpy, print_text
from runner.errors import RunnerError, UsageError
from runner.logs import cleaning, logger

if TYPE_CHECKING:
    from runner.evaluation import Evaluation, Resume
    from runner.results.closing import Report
    from runner.storage.rundir import RunDir

__all__ = ["RUN", "evaluate"]

_log = logger(__name__)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    # The config may come after `--resume`.
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, nargs="?", help="the config of the evaluation")
    parser.add_argument("--limit", metavar="N", type=options.at_least(0), help="evaluate only the first N items")
    options.add_overrides(parser)
    _add_resume(parser)
    _add_engine(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything, send nothing")
    options.add_no_progress(parser)


def _add_engine(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--processes", metavar="N", type=options.at_least(1), help="run in N worker processes, which share `limits`"
    )
    run.add_argument(
        "--engine", choices=["local", "processes", "ray"], help="where to run, instead of `engine.kind` in the config"
    )
    run.add_argument("--workers", metavar="N", type=options.at_least(1), help="number of workers of the engine")
    run.add_argument("--address", metavar="ADDRESS", help="Ray cluster: HOST:PORT, auto, or local, which starts one")


def _add_resume(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--resume",
        metavar="RUN",
        nargs="?",
        const=True,
        help="continue the latest run of this config, or the run with this directory or id; if it is finished, send nothing "
        "and print its summary again; if there is no run, start a new one",
    )
    run.add_argument("--or-new", action="store_true", help="with --resume: start a new run if that run is finished")
    run.add_argument("--retry-errors", action="store_true", help="with --resume: ask again for rows that ended as errors")
    run.add_argument("--new-base-url", action="store_true", help="with --resume: go on although endpoint.base_url has changed")


def _engine(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides of the section `engine`. Raises UsageError."""
    words = {"kind": arguments.engine, "workers": arguments.workers, "address": arguments.address}
    if arguments.processes is not None:
        if arguments.workers is not None or arguments.engine not in {None, "processes"}:
            raise UsageError("--processes N is short for --engine processes --workers N; leave one of them out")
        words |= {"kind": "processes", "workers": arguments.processes}
    return [f"engine.{name}={word}" for name, word in words.items() if word is not None]


def _run(arguments: argparse.Namespace) -> int:
    from runner.evaluation import prepare

    resume = _resume(arguments)
    overrides = [*options.overrides_of(arguments), *_engine(arguments)]
    evaluation = prepare(arguments.config, overrides, bar=options.has_bar(arguments), needs_keys=not arguments.dry_run)
    do_without_numpy(arguments)
    if arguments.dry_run:
        from runner.cli.dry_run import dry_run

        return ERRORS if dry_run(evaluation, lambda text: print_text(evaluation.redactor.text(text))) else FINISHED
    return evaluate(evaluation, resume, lambda run: _resume_command(arguments, run))


def evaluate(evaluation: Evaluation, resume: Resume | bool, resume_command: Callable[[RunDir], Sequence[str]]) -> int:
    """Run an evaluation and print its summary; if it stopped early, also the command that resumes it. Return the exit code.

    Raises UsageError, StorageError.
    """
    from runner.cli.signals import SignalledSession, Signals

    signals = Signals()
    try:
        report = evaluation.run(resume=resume, session=SignalledSession(evaluation, signals))
    except (Exception, KeyboardInterrupt) as error:
        if evaluation.keeper is not None:
            reason = evaluation.redactor.text(str(error)) or type(error).__name__
            _print_stopped(evaluation, evaluation.keeper.report(reason), resume_command)
        if isinstance(error, RunnerError | KeyboardInterrupt):
            raise
        with cleaning(evaluation.redactor.text):
            _log.exception("%s", UNEXPECTED)
        return STOPPED
    if report.stopped is not None:
        _print_stopped(evaluation, report, resume_command)
        if not (signals.exit_code or report.results or report.errors or evaluation.batch):
            _print_check(evaluation)
        return signals.exit_code or STOPPED
    print_text(report.text())
    return code_of(report, evaluation.config.limits)


def _resume(arguments: argparse.Namespace) -> Resume | bool:
    """Return which run is resumed, and find the config: it may be the argument after `--resume`. Raises UsageError."""
    from runner.evaluation import Resume

    config, named = arguments.config, arguments.resume
    if isinstance(named, str) and (config is None or (config.is_dir() and Path(named).is_file())):
        arguments.config, named = Path(named), True if config is None else str(config)
    if arguments.config is None:
        raise UsageError("the following arguments are required: CONFIG.yaml")
    if named is None:
        for option in ("or_new", "retry_errors", "new_base_url"):
            if getattr(arguments, option):
                raise UsageError(f"--{option.replace('_', '-')} needs --resume")
        return False
    return Resume(
        run=named if isinstance(named, str) else None,
        or_new=arguments.or_new,
        retry_errors=arguments.retry_errors,
        new_base_url=arguments.new_base_url,
    )


def _print_stopped(evaluation: Evaluation, report: Report, resume_command: Callable[[RunDir], Sequence[str]]) -> None:
    """Print the summary of a run that stopped early, and the command that resumes it."""
    assert evaluation.keeper is not None
    print_text(report.text())
    _print_command(evaluation, "resume", resume_command(evaluation.keeper.run))


def _print_check(evaluation: Evaluation) -> None:
    """Print the command that finds out why an endpoint has answered nothing."""
    if isinstance(evaluation.source, Path):
        _print_command(evaluation, "check", ["check", str(evaluation.source), *options.as_typed(evaluation.overrides)])


def _print_command(evaluation: Evaluation, what_for: str, words: Sequence[str]) -> None:
    """Print a command. An override in it may hold a key, which is redacted: then the user has to type it again."""
    command = shlex.join(["python", "-m", "runner", *words])
    print_text(f"  {what_for:<10} {evaluation.redactor.text(command)}")


def _resume_command(arguments: argparse.Namespace, run: RunDir) -> list[str]:
    """Return the arguments that resume this run: with its overrides, because without them it would be another evaluation."""
    words = ["--resume"] if run.is_latest else ["--resume", str(run.path)]
    words += ["--retry-errors"] if arguments.retry_errors else []
    for option in ("processes", "engine", "workers", "address"):
        if (word := getattr(arguments, option)) is not None:
            words += [f"--{option}", str(word)]
    return [str(arguments.config), *words, *options.as_typed(options.overrides_of(arguments))]


RUN = Command(
    name="run",
    help="run an evaluation (`runner CONFIG.yaml` is short for it)",
    modules=["runner.evaluation"],
    add_arguments=_add_arguments,
    run=_run,
)
