"""`work`: a worker of a run. The coordinator of the run starts it; it is not for people to type."""

from __future__ import annotations

import argparse
import logging
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING

from runner.cli.command import FINISHED, Command, do_without_numpy
from runner.errors import RunnerError, RunStopped
from runner.logs import cleaning

if TYPE_CHECKING:
    from runner.evaluation import Evaluation
    from runner.scale.beat import Job

__all__ = ["WORK"]

_PR_SET_PDEATHSIG = 1


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("socket", metavar="FD", type=int, help="the number of an open socket to the run's coordinator")


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, even while it loads modules or computes.

    On other systems than Linux the closed socket ends it, once it is read.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _is_left_alone(connection: socket.socket) -> bool:
    """Return whether the parent of this process ended before the kernel was asked to end both together."""
    poll = select.poll()
    poll.register(connection, 0)  # only that the other end is closed
    return bool(poll.poll(0))


def _work(arguments: argparse.Namespace) -> int:
    _end_with_parent()
    connection = socket.socket(fileno=arguments.socket)
    if _is_left_alone(connection):
        return FINISHED
    from runner.evaluation import prepare
    from runner.scale.beat import Ended, Report, line_of, read_job
    from runner.scale.worker import check_same

    do_without_numpy(arguments)
    logging.getLogger().setLevel(logging.ERROR)  # the coordinator has logged what concerns the config
    with connection.makefile("rb", 0) as messages:
        job = read_job(messages.readline())
    try:
        evaluation = prepare(job.config, job.overrides, rows=job.rows, bar=None)
        check_same(evaluation.asked, job, evaluation.environment)
    except RunnerError as error:
        is_own = not isinstance(error, RunStopped)
        connection.sendall(line_of(Report(ended=Ended(f"{job.worker}: {error}" if is_own else str(error), own=is_own))))
        connection.recv(1)  # wait until it was read: then the other end closes
        return FINISHED
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger().handlers[0].setFormatter(logging.Formatter("%(message)s"))
    with cleaning(evaluation.redactor.text):
        _run(evaluation, job, connection)
    return FINISHED


def _run(evaluation: Evaluation, job: Job, connection: socket.socket) -> None:
    from runner.scale.worker import worker_of
    from runner.session import Session

    prices = evaluation.prices

    async def work() -> None:
        worker = worker_of(
            job,
            evaluation.asked,
            environment=evaluation.environment,
            cost_of=evaluation.cost_of,
            prices_used=None if prices is None else lambda: prices.used,
        )
        await worker.work(connection)

    Session().run(work())


WORK = Command(
    name="work",
    help=None,
    modules=["runner.evaluation", "runner.scale.worker"],
    add_arguments=_add_arguments,
    run=_work,
)
