"""Progress while a run goes on: one tqdm line on a terminal, else a log line every ten seconds. Done means durable.

What matters first stands first: of what does not fit into a terminal's line the last is left out.
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
#: Results a second are those of so many seconds.
_RECENT_S = 30.0
_LATENCIES = 200
#: From so many on, tenths of them are of no use.
_MANY = 100


class Progress(Struct):
    """Counts results when they are synced to disk."""

    #: Results that there will be, where that is known.
    total: int | None = None
    #: Results from earlier starts of the run.
    initial: int = 0
    #: Those of them that are errors.
    initial_errors: int = 0
    ok: int = 0
    errors: int = 0
    retries: int = 0
    #: The task of which the mean is shown; None where no task gives values.
    metric: str | None = None
    #: How many values it has given since this start, and their sum.
    values: int = 0
    value_sum: float = 0.0
    #: What its answers have used, prompts included.
    tokens: int = 0
    #: What all answers have cost, those of earlier starts included, in dollars; None where no prices are set.
    cost: float | None = None
    #: What this start has cost.
    cost_of_start: float = 0.0
    #: How many workers there are, of how many; None of a run without.
    workers: tuple[int, int] | None = None
    #: The number of journal lines that are synced; set by the journal's thread.
    synced_lines: int = 0
    started: float = field(default_factory=time.monotonic)
    #: Seconds that the last answers took.
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    _waiting: deque[tuple[int, bool, int, float, float | None]] = field(default_factory=deque)
    #: How many results this start had at which time, in the last seconds.
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def done(self) -> int:
        """Results that are safe on disk, those from before included."""
        return self.initial + self.ok + self.errors

    @property
    def left(self) -> float:
        """How many results are not there yet; infinite while nobody knows how many there will be."""
        return math.inf if self.total is None else self.total - self.done

    @property
    def is_half_done(self) -> bool:
        """Whether at least half of what this start has to do is done; False while nobody knows how much that is."""
        return self.total is not None and 2 * (self.done - self.initial) >= self.total - self.initial

    def note(self, end: End, line: int) -> None:
        """Take a result that was written as the journal's n-th line."""
        failed = end.error_type is not None
        if end.latency_s is not None:
            self.latencies.append(end.latency_s)
        value = end.value if end.task == self.metric else None
        self._waiting.append((line, failed, tokens_of(end), end.cost or 0.0, value))

    def advance(self) -> None:
        """Count what has become durable."""
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
        """Return how many results there were in a second lately."""
        recent, now, results = self._recent, time.monotonic(), self.ok + self.errors
        if not recent:
            recent.append((self.started, 0))
        recent.append((now, results))
        while recent[1][0] < now - _RECENT_S:
            recent.popleft()
        since, before = recent[0]
        return (results - before) / max(now - since, 1e-9)

    def line(self, in_flight: int, waiting: int, width: int | None = None) -> str:
        """Return how it stands, with the numbers of requests in flight and of samples that wait, as far as it fits."""
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
        """Return what was spent, and what all will cost if the rest costs as much for each result as this start has so far."""
        results = self.ok + self.errors
        if self.total is None or not results or not self.left:
            return f"${cost:,.2f}"
        return f"${cost:,.2f} of ~${cost + self.cost_of_start / results * self.left:,.2f}"


def _clock(seconds: float) -> str:
    """Return seconds as minutes and seconds, and hours and days where there are so many."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:")


def _fitting(parts: Sequence[str], width: int | None) -> str:
    """Join the first parts, as many as fit into a line of this width."""
    lines = accumulate(parts, lambda line, part: f"{line} · {part}")
    return max((line for line in lines if width is None or len(line) <= width), key=len, default=parts[0])


async def show_progress(
    progress: Progress, *, activity: Callable[[], tuple[int, int]], bar: bool | None, stream: TextIO = sys.stderr
) -> None:
    """Count, and show progress until cancelled: as a bar, as log lines, or not at all (None).

    `activity` gives the numbers of requests in flight and of samples that wait.
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
    """One tqdm line, in a notebook a bar of its own kind. Log lines stand above it."""

    def __init__(self, progress: Progress, stream: TextIO | None = None) -> None:
        """Begin to show it: on a terminal's stream, or wherever tqdm finds that it is."""
        import tqdm
        import tqdm.auto
        from tqdm.contrib.logging import logging_redirect_tqdm

        self._progress = progress
        kind: Any = tqdm.auto.tqdm if stream is None else tqdm.tqdm
        how = {"total": progress.total, "initial": progress.initial, "file": stream, "dynamic_ncols": True}
        self._shown = kind(bar_format="{desc}", delay=1e-6, **how)  # nothing is shown before its width is known
        self._shown.delay = 0  # else it would be taken for one that was never shown, and leave its line open
        self.draw((0, 0))
        self._logging = ExitStack()
        if stream is not None:  # the handlers of a notebook are its own
            self._logging.enter_context(logging_redirect_tqdm())
            clean_handlers()

    def draw(self, activity: tuple[int, int]) -> None:
        """Show how it stands, with the numbers of requests in flight and of samples that wait."""
        self._shown.total = self._progress.total
        self._shown.n = self._progress.done
        self._shown.set_description_str(self._progress.line(*activity, self._shown.format_dict["ncols"]), refresh=True)

    def close(self) -> None:
        """Leave it as it stands."""
        self._shown.close()
        self._logging.close()
