"""The line of progress: what matters first, on any terminal, and log lines above it."""

from __future__ import annotations

import io
import logging
import time

import pytest

from runner.logs import logger
from runner.results.progress import Bar, Progress


class Terminal(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def test_what_matters_fits_80_columns_of_a_run_of_millions() -> None:
    progress = Progress(total=2_000_000, ok=1_000_000, errors=12_345, started=time.monotonic() - 500)
    first = progress.line(1024, 0)[:80]
    assert first.startswith("1012345/2000000 50 % · errors 12345 · in flight 1024 · 2025 results/s · ETA 0:0")


@pytest.mark.parametrize(
    ("progress", "beginning"),
    [
        (Progress(), "0/? · errors 0 · in flight 3 · 0.0 results/s · retries 0"),
        (Progress(total=0), "0/0 100 % · errors 0 · in flight 3 · 0.0 results/s · retries 0"),
        # What earlier starts have done is done, and their errors are errors.
        (Progress(total=48, initial=23, initial_errors=2), "23/48 47 % · errors 2 · in flight 3 · 0.0 results/s · retries 0"),
    ],
)
def test_the_counts_add_up_from_the_beginning(progress: Progress, beginning: str) -> None:
    assert progress.line(3, 0).startswith(beginning)


def test_results_a_second_are_those_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = Progress(total=10_000)
    for second in range(101):
        now, progress.ok = 1000.0 + second, 10 * second if second < 50 else 500
        progress.line(0, 0)
    assert progress.per_second() == 0  # nothing for 50 seconds
    now, progress.ok = 1101.0, 530
    assert progress.per_second() == pytest.approx(1.0, rel=0.05)


def test_a_log_line_stands_above_the_bar_and_the_handlers_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stderr", terminal)
    handler = logging.StreamHandler(terminal)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    bar = Bar(Progress(total=5, ok=2), terminal)
    bar.draw((1, 0))
    logger("runner.test").warning("the endpoint is down")
    bar.draw((1, 0))
    bar.close()
    lines = terminal.getvalue().replace("\r", "\n").splitlines()
    assert "the endpoint is down" in lines  # on a line of its own
    assert root.handlers == [handler]
