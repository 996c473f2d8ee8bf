"""`plan`, `shard` and `merge`: a run in parts, on machines that do not talk to each other."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import options
from runner.cli.command import FINISHED, STOPPED, Command, code_of, do_without_numpy, print_text
from runner.errors import RunnerError, UsageError
from runner.logs import cleaning

if TYPE_CHECKING:
    from runner.evaluation import Evaluation
    from runner.scale.sharding import Shard

__all__ = ["MERGE", "PLAN", "SHARD", "shard_in"]

#: The variables in which schedulers give the index of this shard and the number of shards.
_VARIABLES = (
    ("RUNNER_SHARD_INDEX", "RUNNER_SHARD_COUNT"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", None),
)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, help="the config of the evaluation")
    parser.add_argument("--limit", metavar="N", type=options.at_least(0), help="evaluate only the first N items")
    options.add_overrides(parser)


def _plan(arguments: argparse.Namespace) -> int:
    from runner.evaluation import prepare

    print_text(str(prepare(arguments.config, options.overrides_of(arguments)).plan().run.path))
    return FINISHED


PLAN = Command(
    name="plan",
    help="make a run that `shard` runs in parts, on any number of machines; print its directory",
    modules=["runner.evaluation"],
    add_arguments=_add_plan,
    run=_plan,
)


def _add_shard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="the directory that `plan` has printed")
    parser.add_argument(
        "--index", metavar="I", type=options.at_least(0), help="index of this shard, from 0 (default: from Slurm or Kubernetes)"
    )
    parser.add_argument("--of", metavar="N", type=options.at_least(1), help="number of shards (default: from Slurm)")
    parser.add_argument(
        "--at-once", metavar="M", type=options.at_least(1), help="how many shards run at a time and share `limits` (default: N)"
    )
    parser.add_argument("--retry-errors", action="store_true", help="ask again for rows that ended as errors")
    options.add_no_progress(parser)


def shard_in(index: int | None, of: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """Return the index of the shard and the number of shards, as typed or from the scheduler. Raises UsageError."""
    for index_name, count_name in _VARIABLES:
        if index is None and environment.get(index_name, "").isdecimal():
            index = int(environment[index_name]) - _first_of(index_name, environment)
            if of is None and count_name is not None and environment.get(count_name, "").isdecimal():
                of = int(environment[count_name])
    if index is None or of is None:
        missing = "--index" if index is None else "--of"
        raise UsageError(f"{missing}: is missing, and no variable of Slurm or Kubernetes gives it; write --index 3 --of 64")
    if not 0 <= index < of:
        raise UsageError(f"--index {index} --of {of}: the index goes from 0 to {of - 1}")
    return index, of


def _first_of(name: str, environment: Mapping[str, str]) -> int:
    """Return the index of the first shard: a Slurm array may begin at any number."""
    first = environment.get("SLURM_ARRAY_TASK_MIN", "") if name.startswith("SLURM") else ""
    return int(first) if first.isdecimal() else 0


def _shard(arguments: argparse.Namespace) -> int:
    from runner.evaluation import prepare
    from runner.scale.sharding import Shard
    from runner.scale.shards import read_plan

    plan = read_plan(arguments.run)
    index, of = shard_in(arguments.index, arguments.of, os.environ)
    try:
        os.chdir(plan.cwd)
    except OSError as error:
        raise UsageError(f"{plan.cwd}: {error.strerror}; the plan was made there, and its paths are relative to it") from error
    evaluation = prepare(plan.run.config, bar=options.has_bar(arguments))
    do_without_numpy(arguments)
    shard = Shard(plan, index, of, at_once=arguments.at_once or of, retries=arguments.retry_errors)
    with cleaning(evaluation.redactor.text):
        return _work(evaluation, shard)


def _work(evaluation: Evaluation, shard: Shard) -> int:
    from runner.cli.signals import SignalledSession, Signals

    signals = Signals()
    with shard.begun(evaluation.asked, evaluation.environment, evaluation.cost_of, bar=evaluation.bar) as running:
        evaluation.running = running
        try:
            session = SignalledSession(evaluation, signals)
            reason = session.run(running.work(session.endpoints))
        except RunnerError as error:
            reason = str(error)
    progress = running.progress
    said = f"shard {shard.number} of {shard.of}: {progress.ok} results, {progress.errors} errors"
    print_text(evaluation.redactor.text(said if reason is None else f"{said}; stopped early: {reason}"))
    return FINISHED if reason is None else signals.exit_code or STOPPED


SHARD = Command(
    name="shard",
    help="run one of N parts of a planned run, or what is left of it",
    modules=["runner.evaluation", "runner.scale.sharding"],
    add_arguments=_add_shard,
    run=_shard,
)


def _add_merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="the directory that `plan` has printed")


def _merge(arguments: argparse.Namespace) -> int:
    from runner.config.loading import load_config
    from runner.scale.merging import merge
    from runner.scale.shards import read_plan

    do_without_numpy(arguments)
    plan = read_plan(arguments.run)
    report, lacking = merge(plan)
    print_text(report.text())
    for line in lacking:
        print_text(line)
    if lacking:
        return STOPPED
    config, _ = load_config(plan.run.config, (), os.environ, asks=False)
    return code_of(report, config.limits)


MERGE = Command(
    name="merge",
    help="make the files of a run from its shards, and list what is missing",
    modules=["runner.scale.merging"],
    add_arguments=_add_merge,
    run=_merge,
)
