"""The command: `python -m tests.benchmarks [NAME …]` measures and prints one table."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from tests.benchmarks import analysis, order, requests, scale, streaming, workers
from tests.benchmarks.lab import Lab
from tests.benchmarks.processes import ProcessError
from tests.benchmarks.table import MissingError, Row, markdown

__all__: list[str] = []

#: What is measured, in the order of the table: what it is, what is to be reached, and how.
MEASUREMENTS: Mapping[str, tuple[str, str, Callable[[Lab], Row]]] = {
    "cpu": ("CPU per request against raw_tuned", "≤ 1.5", requests.cpu),
    "slots64": ("slots kept full, 64 in flight, 50 ms", "≥ 0.90, ≥ 0.97 of raw_tuned", requests.slots_64),
    "slots256": ("slots kept full, 256 in flight, 50 ms", "≥ 0.9 of raw_tuned", requests.slots_256),
    "wall": ("wall of the whole process against NeMo Evaluator", "≥ 4 times faster", requests.wall),
    "startup": ("process start to first request", "≤ 0.5 s", requests.startup),
    "stream": ("CPU per chunk, back to back", "≤ 1.3", streaming.stream),
    "stream256": ("CPU per chunk, 256 streams, a chunk every 10 ms", "≤ 0.75, keeps up (≤ 1.05)", streaming.stream_paced),
    "memory": ("peak memory, 100,000 rows against 1,000", "≤ 1.15", scale.memory),
    "inflight": ("10,000 requests in flight, 5 s latency", "slots full ≥ 0.90, ≤ 600 MB", scale.in_flight),
    "resume": ("resume of 1,000,000 finished rows and 1,000 open ones", "≤ 10 s, memory ≤ 1.15", scale.resume),
    "rescore": ("rescore of 100,000 rows by an exact_match", "≤ 20 s", analysis.rescore),
    "report": ("report of 100,000 rows", "≤ 15 s, ≤ 300 MB, ≤ 3 MB", analysis.report),
    "compare": ("compare of two runs of 100,000 rows", "≤ 15 s, ≤ 400 MB", analysis.compare),
    "processes": ("1 and 2 workers against one process", "≥ 0.95 and ≥ 1.5", workers.processes),
    "ray": ("2 workers on Ray against 2 worker processes", "≥ 0.9", workers.ray),
    "plan": ("plan, and the first request of workers", "≤ 10 us a row; ≤ 0.3 s later", workers.plan),
    "merge": ("merge of 1,000,000 results", "≤ 30 s, ≤ 300 MB", workers.merge),
    "workers-memory": ("memory of the largest of 2 workers and their driver", "≤ 5 MiB more than one process", workers.memory),
    "beat": ("a report to the coordinator and its orders, 1,000 workers", "≤ 30 us", workers.beat),
    "rate": ("rate limit of 200/s for 30 s", "≥ 0.98; ≤ 200", scale.rate),
    "order": ("longest first against the shortest possible time", "≤ 1.1", order.order),
    "tail": ("second-last answer to process end", "≤ 0.5 s", requests.tail),
}
_VERSIONS = ("aiohttp", "uvloop", "msgspec", "pyarrow")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return 0 whether or not the targets were reached, 1 where a measurement failed, 2 for an unknown name."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        for name, (about, _, _) in MEASUREMENTS.items():
            print(f"{name:14} {about}")
        return 0
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    if unknown := [name for name in arguments.names if name not in MEASUREMENTS]:
        print(f"unknown: {', '.join(unknown)}; there is: {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 2
    lab = Lab(rounds=rounds, quick=arguments.quick, references=arguments.references, nemo=arguments.nemo, say=_say)
    with lab:
        rows = [_measured(lab, name) for name in MEASUREMENTS if not arguments.names or name in arguments.names]
    print(f"{_conditions(lab)}\n\n{markdown(rows)}")
    return 1 if any(row.ratio == "failed" for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these; see --list")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rows, one round: shows that all works, its figures mean little"
    )
    parser.add_argument("--rounds", type=int, help="how often each side is measured, in turn (default 5; medians are shown)")
    parser.add_argument("--references", metavar="PYTHON", default=sys.executable, help="Python with the references' packages")
    parser.add_argument("--nemo", metavar="PYTHON", help="Python with nemo-evaluator")
    return parser


def _measured(lab: Lab, name: str) -> Row:
    about, target, measure = MEASUREMENTS[name]
    _say(f"── {name}: {about}")
    try:
        row = measure(lab)
    except MissingError as error:
        row = Row(measure=about, ratio="skipped", note=f"skipped: {error}")
    except ProcessError as error:
        _say(str(error))
        row = Row(measure=about, ratio="failed", reached=False, note=f"failed: {error.reason}")
    return replace(row, name=name, target=target)


def _conditions(lab: Lab) -> str:
    pinned = "client and endpoint each on a core of its own"
    if lab.client_core is None:
        pinned = "client and endpoint on one core, for there is no other: the figures mean little"
    kind = "--quick: the figures only show that everything runs" if lab.quick else f"medians of {lab.rounds}"
    packages = ", ".join(f"{name} {_version(name)}" for name in _VERSIONS)
    busy = f"the endpoint used at most {lab.busiest:.0%} of it"
    load = "load average {:.1f} {:.1f} {:.1f}".format(*os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {kind}; {pinned}; {busy}; {load}; Python"
        f" {platform.python_version()}, {packages}."
        + ("" if find_spec("uvloop") else " uvloop is not installed: the runner is slower than it can be.")
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
