"""The campaign: measures every figure, or those that are named, and prints a Markdown table of them."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.commands import ROOT
from tests.reliability.auto import measure_auto
from tests.reliability.bad_rows import measure_bad_rows, measure_refusals, measure_simulated
from tests.reliability.canary import measure_secrets
from tests.reliability.coverage import measure_coverage
from tests.reliability.crowded import measure_auto_run, measure_several
from tests.reliability.figures import Figure, Measured
from tests.reliability.hostile import measure_hostile
from tests.reliability.kills import measure_kills
from tests.reliability.memory import measure_memory
from tests.reliability.on_ray import measure_ray
from tests.reliability.outages import (
    measure_blip,
    measure_dead,
    measure_death,
    measure_half_errors,
    measure_interrupts,
    measure_rate_limit,
)
from tests.reliability.paid import measure_paid
from tests.reliability.service import measure_service_kills, measure_service_load
from tests.reliability.shares import measure_shares
from tests.reliability.storage import measure_full_disk, measure_journal, measure_power_loss, measure_storage_calls
from tests.reliability.suite import measure_tests
from tests.reliability.workers import measure_workers


def measure_matrix(_directory: Path, _seconds: float) -> Measured:
    """Count the faults of the matrix that have a test of their name. The tests themselves run with all others."""
    try:
        from tests.matrix import MATRIX
    except ImportError:
        return Measured("not measured: there is no table of faults", met=None)
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    tested = sum(f"def test_fault_{number:02d}_" in source for number in MATRIX)
    return Measured(f"{tested} of {len(MATRIX)}", met=tested >= 90)


FIGURES = [
    Figure(
        name="kills",
        text="200 SIGKILLs at any moment over 30,000 rows: missing / twice / answers lost; requests paid twice per kill",
        target="0 / 0 / 0; ≤ those in flight, mean ≤ 20 % of the concurrency, within the printed bound",
        seconds=640,
        measure=measure_kills,
    ),
    Figure(
        name="workers",
        text="SIGKILLs of workers, and of the program with all of them, over 60,000 rows: missing / twice; paid twice per kill",
        target="0 / 0; ≤ those in flight; no worker outlives the program by a second",
        seconds=100,
        measure=measure_workers,
    ),
    Figure(
        name="ray",
        text="the same on a Ray cluster over 20,000 rows: five workers, a node and the program",
        target="0 / 0; ≤ those in flight; no worker outlives the program by five seconds",
        seconds=120,
        measure=measure_ray,
    ),
    Figure(
        name="shares",
        text="a rate, a budget of tokens, and what a server allows, shared by workers: used; most in a second; beyond; 429s",
        target="≥ 90 %, the rate + workers; ≤ those in flight; ≥ 93 %, ≤ 4 %, no row lost",
        seconds=200,
        measure=measure_shares,
    ),
    Figure(
        name="service",
        text="SIGKILLs of the service with four evaluations of 5,000 rows: missing, paid twice; a SIGTERM; a retry of a POST",
        target="0; ≤ those in flight; drain + 2 s; one evaluation",
        seconds=200,
        measure=measure_service_kills,
    ),
    Figure(
        name="service-load",
        text="a POST of 1,000,000 rows, pages of it while it runs, 100 rows beside it, GETs while files are made",
        target="≤ 30 s, ≤ 500 MB; ≤ 50 ms, failed ≤ 100 ms; ≤ 2 x alone + 1 s; GET p99 ≤ 50 ms",
        seconds=120,
        measure=measure_service_load,
    ),
    Figure(
        name="power-loss",
        text="power-loss states explored / acknowledged rows lost",
        target="≥ 10,000 / 0, in under 60 s",
        seconds=50,
        measure=measure_power_loss,
    ),
    Figure(
        name="storage-calls",
        text="every storage call failed in turn with ENOSPC, EIO, EINTR, short write",
        target="all end clean, no journaled row lost",
        seconds=480,
        measure=measure_storage_calls,
    ),
    Figure(name="full-disk", text="full disk: answers lost", target="0", seconds=30, measure=measure_full_disk),
    Figure(
        name="journal",
        text="answer to synced, p99; event-loop stall by storage, p99.9, at 3,000 rows/s",
        target="≤ 100 ms; ≤ 2 ms",
        seconds=20,
        measure=measure_journal,
    ),
    Figure(
        name="matrix",
        text="faults of the matrix with a real-socket or real-file test",
        target="≥ 90",
        seconds=1,
        measure=measure_matrix,
    ),
    Figure(
        name="tests",
        text="all tests in all their variations, with 500 examples where they draw some: failures",
        target="0",
        seconds=400,
        measure=measure_tests,
    ),
    Figure(
        name="dead",
        text="dead endpoint from the start: time and requests until it stops",
        target="≤ 5 s, ≤ 10; of a wrong key ≤ 24",
        seconds=10,
        measure=measure_dead,
    ),
    Figure(
        name="refusals",
        text="the same refusal to everything, from the start: requests and time until it stops, each",
        target="≤ 24, ≤ 5 s",
        seconds=30,
        measure=measure_refusals,
    ),
    Figure(
        name="simulated",
        text="histories of bad rows, outages and chance in virtual time: broken promises",
        target="0 of ≥ 10,000",
        seconds=1000,
        measure=measure_simulated,
    ),
    Figure(
        name="bad-rows",
        text="the same by real sockets, up to half of the rows bad, concurrency 1 to 256: wrong outcomes",
        target="0 of 30",
        seconds=360,
        measure=measure_bad_rows,
    ),
    Figure(
        name="death",
        text="endpoint dies in mid-run: rows burned / failing requests",
        target="0 / ≤ 2 × concurrency + 20 + probes",
        seconds=30,
        measure=measure_death,
    ),
    Figure(
        name="blip",
        text="8 s of 503: error rows; extra time",
        target="0; ≤ the blip + 5 s",
        seconds=100,
        measure=measure_blip,
    ),
    Figure(
        name="rate-limit",
        text="200 requests/s allowed: share of 429, rows lost, throughput",
        target="≤ 3 %, 0, ≥ 95 % of the cap",
        seconds=40,
        measure=measure_rate_limit,
    ),
    Figure(
        name="auto",
        text="`concurrency: auto` on simulated servers, by the best fixed number: throughput after 30 s in the median / at the "
        "tenth percentile; p99 latency; refused; then by kind",
        target="≥ 0.95 / ≥ 0.90; ≤ 2 times for ≥ 95 %; ≤ 1 % for ≥ 90 %",
        seconds=400,
        measure=measure_auto,
    ),
    Figure(
        name="auto-run",
        text="the same over real sockets on three servers: throughput; p99 latency; refused",
        target="≥ 0.95; ≤ 2 times; ≤ 1 %, each",
        seconds=270,
        measure=measure_auto_run,
    ),
    Figure(
        name="several",
        text="two servers of 8 and 24 slots as one endpoint, the larger one is killed",
        target="≥ 95 % of their sum; 0 rows lost, ≤ 1 s idle",
        seconds=60,
        measure=measure_several,
    ),
    Figure(
        name="half-errors",
        text="half of the answers 500 at random: requests per row",
        target="≤ 2.1, no row lost",
        seconds=30,
        measure=measure_half_errors,
    ),
    Figure(
        name="paid",
        text="whole answers with odd tails and statuses; then with SIGSTOPs, plain and TLS: rows paid twice / missing / errors",
        target="0 / 0 / 0",
        seconds=120,
        measure=measure_paid,
    ),
    Figure(
        name="interrupts",
        text="first Ctrl-C until no new request; second until exit",
        target="≤ 50 ms; ≤ 1 s",
        seconds=40,
        measure=measure_interrupts,
    ),
    Figure(
        name="secrets",
        text="places where a marked key is found (every file, Parquet metadata, output, base64 and URL forms), over all faults",
        target="0",
        seconds=600,
        measure=measure_secrets,
    ),
    Figure(
        name="hostile",
        text="rows and answers made to hold the process, among good ones: wrong outcomes; time each; lateness of the loop",
        target="0; ≤ 8 s; ≤ 600 ms (by templates ≤ 8 s)",
        seconds=120,
        measure=measure_hostile,
    ),
    Figure(
        name="coverage",
        text="how often an interval that says 95 % holds the truth, simulated",
        target="93 to 98 % everywhere",
        seconds=240,
        measure=measure_coverage,
    ),
    Figure(
        name="memory",
        text="memory from 100,000 to 1,000,000 rows",
        target="+ ≤ 20 MB",
        seconds=840,
        measure=measure_memory,
    ),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return 1 where a target was missed."""
    arguments = _parser().parse_args(argv)
    chosen = [figure for figure in FIGURES if not arguments.only or figure.name in arguments.only]
    if arguments.rows is not None:
        sized = partial(measure_service_load, rows=arguments.rows)
        chosen = [replace(one, measure=sized) if one.measure is measure_service_load else one for one in chosen]
    whole = sum(figure.seconds for figure in chosen)
    share = 1.0 if arguments.minutes is None else arguments.minutes * 60 / whole
    # A shell has Ctrl-C ignored by what it starts in the background, and so by the programs that are started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The endpoint would tell of each client that leaves in the middle of an answer, as is meant here.
    logging.getLogger("aiohttp.server").addHandler(logging.NullHandler())
    print("| figure | target | measured | |")
    print("|---|---|---|---|", flush=True)
    missed = 0
    for figure in chosen:
        measured, seconds = _measure(figure, share)
        missed += measured.met is False
        mark = {True: "met", False: "**missed**", None: "–"}[measured.met]
        print(f"| {figure.text} | {figure.target} | {measured.value.replace('|', '/')} | {mark} |", flush=True)
        print(f"{figure.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return int(missed > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--minutes", type=float, help="about how long it is to take; by default as each figure says")
    parser.add_argument("--rows", type=int, help="of service-load; by default 1,000,000, or fewer where --minutes says so")
    names = [figure.name for figure in FIGURES]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}; repeatable")
    return parser


def _measure(figure: Figure, share: float) -> tuple[Measured, float]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reliability-") as directory:
        try:
            measured = figure.measure(Path(directory), figure.seconds * share)
        except Exception as error:  # noqa: BLE001  the other figures are still to be measured
            traceback.print_exc()
            measured = Measured(f"could not be measured: {type(error).__name__}: {str(error)[:200]}", met=False)
    return measured, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
