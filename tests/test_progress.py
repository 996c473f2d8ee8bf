"""The line of progress: what matters first, on any terminal, and log lines above it."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import re
import struct
import termios
import time
from contextlib import suppress

import pytest

from runner.logs import logger
from runner.results.progress import Bar, Progress
from runner.storage.records import end_of
from runner.structs import replace
from runner.types import Item, Outcome, Response, Result, Unit, Value


class Terminal(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def judged(task: str, value: float) -> Result:
    """Return what a metric has found."""
    outcome = Outcome(answer=Value(value, None), started_at=0, completed_at=0)
    item = Item(item_id="i", index=0, row={}, place="rows:1")
    return Result(unit=Unit("i", 0, 0, task), task_type="metric", outcome=outcome, item=item)


def test_latencies_are_those_of_answers() -> None:
    progress, answer = Progress(), Response(output="ok", latency_s=0.25)
    of_an_answer = replace(judged("r", 0.0), outcome=Outcome(answer=answer, started_at=0, completed_at=0))
    for line, result in enumerate([of_an_answer, judged("correct", 1.0)], 1):
        progress.note(end_of(result, None, ran_us=1), line)
    assert list(progress.latencies) == [0.25]


def test_what_matters_fits_80_columns_of_a_run_of_millions() -> None:
    progress = Progress(total=2_000_000, ok=1_000_000, errors=12_345, started=time.monotonic() - 500)
    first = progress.line(1024, 0)[:80]
    assert first.startswith("1012345/2000000 50% · errors 12345 · in flight 1024 · 2025 results/s · ETA ")


@pytest.mark.parametrize(
    ("progress", "beginning"),
    [
        (Progress(), "0/? · errors 0 · in flight 3 · 0.0 results/s · retries 0"),
        (Progress(total=0), "0/0 100% · errors 0 · in flight 3 · 0.0 results/s · retries 0"),
        # What earlier starts have done is done, and their errors are errors.
        (Progress(total=48, initial=23, initial_errors=2), "23/48 47% · errors 2 · in flight 3 · 0.0 results/s · retries 0"),
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


@pytest.mark.parametrize("columns", [100, 80, 40])
def test_no_line_of_the_bar_is_cut_within_from_the_first_on(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 102.0)
    progress = Progress(total=1600, started=102.0)
    shown, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(terminal, "w") as stream:
        bar = Bar(progress, stream)
        bar.draw((8, 0))
        bar.close()
    said = b""
    with suppress(OSError), os.fdopen(shown, "rb", buffering=0) as screen:  # which ends with an error where nobody writes
        while piece := screen.read(1 << 16):
            said += piece
    lines = {line.removesuffix("\x1b[A").rstrip() for line in re.split(r"[\r\n]+", said.decode())} - {""}
    assert lines == {progress.line(in_flight, 0, columns - 1) for in_flight in (0, 8)}
    assert all(line.startswith("0/1600 0% · errors 0 · in flight") for line in lines)
    assert said.endswith(b"\n"), "what is printed next would stand behind the bar"


@pytest.mark.parametrize(
    ("width", "end"),
    [
        (None, " · correct 0.750 · n 2 · retries 0 · waiting 0 · 0 tokens/s"),
        (82, " · correct 0.750 · n 2"),
        (81, " · correct 0.750"),
        (76, " · correct 0.750"),
        (75, ""),
        (60, ""),
    ],
)
def test_the_mean_of_the_first_metric_is_shown_and_nothing_is_cut_within(
    monkeypatch: pytest.MonkeyPatch, width: int | None, end: str
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 102.0)
    progress = Progress(total=40, metric="correct", synced_lines=3, started=100.0)
    found = [("correct", 1.0), ("other", 7.0), ("correct", 0.5), ("correct", 0.0)]
    for line, (task, value) in enumerate(found, 1):
        progress.note(end_of(judged(task, value), None, ran_us=1), line)
    progress.advance()  # the last one is not on disk yet
    progress.ok = 2
    assert progress.line(3, 0, width) == "2/40 5% · errors 0 · in flight 3 · 1.0 results/s · ETA 00:38" + end
    assert progress.line(3, 0, 3) == "2/40 5%"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7, "ETA 00:07"), (3599, "ETA 59:59"), (3600, "ETA 1:00:00"), (90_061, "ETA 1 day, 1:01:01")]
)
def test_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch, seconds: int, shown: str) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    assert f" · {shown} · " in Progress(total=seconds + 1, ok=1, started=0.0).line(1, 0)
