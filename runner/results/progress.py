"""Progress while a run goes on: one tqdm line on a terminal, else a log line every ten seconds. Done means durable.

The most important parts come first: if the line is too long for the terminal, the last parts are left out.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from itertools import accumulate
from typing import Any, TextIO

from runner.logs import clean_handlers, logger
from runner.storage.records import End, tokens_of
from runner.structs import Struct, field

__all__ = ["Bar", "Progress", "show_progress"]

_log = logger(__name__)
_BAR_EVERY_S = 0.2
_LOG_EVERY_S = 10.0
#: The rate of results is that of this many last seconds.
_RECENT_S = 30.0
_LATENCIES = 200
#: From this rate on, no decimal place is shown.
_MANY = 100


class Progress(Struct):
    """Counts results when they are synced to disk."""

    #: How many results there will be, if it is known.
    total: int | None = None
    #: Results from earlier starts of the run.
    initial: int = 0
    #: How many of those are errors.
    initial_errors: int = 0
    ok: int = 0
    errors: int = 0
    retries: int = 0
    #: The task whose mean is shown; None if no task gives values.
    metric: str | None = None
    #: How many values it has given since this start, and their sum.
    values: int = 0
    value_sum: float = 0.0
    #: The tokens of the answers of this start, prompts included.
    tokens: int = 0
    #: The costs of all answers, those of earlier starts included, in dollars; None if no prices are set.
    cost: float | None = None
    #: The costs of this start.
    cost_of_start: float = 0.0
    #: How many workers there are, and how many there should be; None for a run without workers.
    workers: tuple[int, int] | None = None
    #: The number of journal lines that are synced; set by the journal's thread.
    synced_lines: int = 0
    started: float = field(default_factory=time.monotonic)
    #: Latencies of the last answers, in seconds.
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    _waiting: deque[tuple[int, bool, int, float, float | None]] = field(default_factory=deque)
    #: Times within the last seconds, each with the number of results that this start had then.
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def done(self) -> int:
        """Results that are safe on disk, those of earlier starts included."""
        return self.initial + self.ok + self.errors

    @property
    def left(self) -> float:
        """How many results are still missing; infinite while the total is unknown."""
        return math.inf if self.total is None else self.total - self.done

    @property
    def is_half_done(self) -> bool:
        """Whether at least half of the work of this start is done; False while the total is unknown."""
        return self.total is not None and 2 * (self.done - self.initial) >= self.total - self.initial

    def note(self, end: End, line: int) -> None:
        """Take a result that was written as line number `line` of the journal."""
        failed = end.error_type is not None
        if end.latency_s is not None:
            self.latencies.append(end.latency_s)
        value = end.value if end.task == self.metric else None
        self._waiting.append((line, failed, tokens_of(end), end.cost or 0.0, value))

    def advance(self) -> None:
        """Count the results that are now durable."""
        while self._waiting and self._waiting[0][0] <= self.synced_lines:
            _, failed, tokens, cost, value = self._waiting.popleft()
            self.ok += not failed
            self.errors += failed
            self.tokens += tokens
            if value is not None:
                self.values += 1
                self.value_sum += value
            if self.cost is not None:
                self.cost += cost
                self.cost_of_start += cost

    def per_second(self) -> float:
        """Return the rate of results per second, over the last seconds."""
        recent, now, results = self._recent, time.monotonic(), self.ok + self.errors
        if not recent:
            recent.append((self.started, 0))
        recent.append((now, results))
        while recent[1][0] < now - _RECENT_S:
            recent.popleft()
        since, before = recent[0]
        return (results - before) / max(now - since, 1e-9)

    def line(self, in_flight: int, waiting: int, width: int | None = None) -> str:
        """Return the progress line, cut to `width`; `in_flight` counts requests, `waiting` samples that wait."""
        rate = self.per_second()
        seconds = max(time.monotonic() - self.started, 1e-9)
        parts = [
            f"{self.done}/?" if self.total is None else f"{self.done}/{self.total} {self._percent()}%",
            f"errors {self.initial_errors + self.errors}",
            f"in flight {in_flight}",
            f"{rate:.1f} results/s" if rate < _MANY else f"{rate:.0f} results/s",
            f"ETA {_clock(self.left / rate)}" if rate and math.isfinite(self.left) else "",
            f"{self.metric} {self.value_sum / self.values:.3f}" if self.values else "",
            f"n {self.values}" if self.values else "",
            f"retries {self.retries}",
            f"waiting {waiting}",
            f"{self.tokens / seconds:.0f} tokens/s",
            "" if self.cost is None else self._spent(self.cost),
            "" if self.workers is None else f"workers {self.workers[0]}/{self.workers[1]}",
        ]
        return _fitting(list(filter(None, parts)), width)

    def _percent(self) -> int:
        return 100 * self.done // self.total if self.total else 100

    def _spent(self, cost: float) -> str:
        """Return the costs so far, and of the whole run if each further result costs as much as those of this start."""
        results = self.ok + self.errors
        if self.total is None or not results or not self.left:
            return f"${cost:,.2f}"
        return f"${cost:,.2f} of ~${cost + self.cost_of_start / results * self.left:,.2f}"


def _clock(seconds: float) -> str:
    """Return seconds as minutes and seconds, with hours and days if there are any."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:")


def _fitting(parts: Sequence[str], width: int | None) -> str:
    """Join the first parts, as many as fit into a line of this width."""
    lines = accumulate(parts, lambda line, part: f"{line} · {part}")
    return max((line for line in lines if width is None or len(line) <= width), key=len, default=parts[0])


async def show_progress(
    progress: Progress, *, activity: Callable[[], tuple[int, int]], bar: bool | None, stream: TextIO = sys.stderr
) -> None:
    """Count, and show progress until cancelled: as a bar (True), as log lines (False), or not at all (None).

    `activity` returns the numbers of requests in flight and of samples that wait.
    """
    shown = Bar(progress, stream) if bar else None
    last_log = time.monotonic()
    try:
        while True:
            await asyncio.sleep(_BAR_EVERY_S)
            progress.advance()
            if shown is not None:
                shown.draw(activity())
            elif bar is False and time.monotonic() - last_log >= _LOG_EVERY_S:
                last_log = time.monotonic()
                _log.info("%s", progress.line(*activity()))
    finally:
        progress.advance()
        if shown is not None:
            shown.draw(activity())
            shown.close()


class Bar:
    """One tqdm line, or in a notebook its own kind of bar. Log lines appear above it."""

    def __init__(self, progress: Progress, stream: TextIO | None = None) -> None:
        """Begin to show it: on a terminal's stream, or, without one, where tqdm finds that it runs."""
        import tqdm
        import tqdm.auto
        from tqdm.contrib.logging import logging_redirect_tqdm

        self._progress = progress
        kind: Any = tqdm.auto.tqdm if stream is None else tqdm.tqdm
        how = {"total": progress.total, "initial": progress.initial, "file": stream, "dynamic_ncols": True}
        self._shown = kind(bar_format="{desc}", delay=1e-6, **how)  # nothing is shown before its width is known
        self.draw((0, 0))
        self._shown.delay = 0  # else tqdm treats it as one that was never shown, and leaves its line open
        self._logging = ExitStack()
        if stream is not None:  # the handlers of a notebook are its own
            self._logging.enter_context(logging_redirect_tqdm())
            clean_handlers()

    def draw(self, activity: tuple[int, int]) -> None:
        """Show the progress, with the numbers of requests in flight and of samples that wait."""
        self._shown.total = self._progress.total
        self._shown.n = self._progress.done
        self._shown.set_description_str(self._progress.line(*activity, self._shown.format_dict["ncols"]), refresh=True)

    def close(self) -> None:
        """Close the bar; its line stays."""
        self._shown.close()
        self._logging.close()
