"""Progress while a run goes on: one tqdm line on a terminal, else a log line every ten seconds. Done means durable."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from runner.logs import logger
from runner.structs import Struct, field
from runner.types import Result
from runner.usage import used_by

__all__ = ["Bar", "Progress", "show_progress"]

_log = logger(__name__)
_BAR_EVERY_S = 0.2
_LOG_EVERY_S = 10.0


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
    _waiting: deque[tuple[int, bool, int, float]] = field(default_factory=deque)

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

    def note(self, result: Result, line: int, cost: float | None = None) -> None:
        """Take a result that was written as the journal's n-th line, and what its answer has cost, in dollars."""
        paid, request = result.paid, result.request
        tokens = used_by(request, paid).tokens if paid is not None and request is not None else 0
        self._waiting.append((line, result.failed, tokens, cost or 0.0))

    def advance(self) -> None:
        """Count what has become durable."""
        while self._waiting and self._waiting[0][0] <= self.synced_lines:
            _, failed, tokens, cost = self._waiting.popleft()
            self.ok += not failed
            self.errors += failed
            self.tokens += tokens
            if self.cost is not None:
                self.cost += cost
                self.cost_of_start += cost

    def details(self, in_flight: int, waiting: int) -> str:
        """Return everything but the count and the times."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        spent = "" if self.cost is None else f" · {self._spent(self.cost)}"
        workers = "" if self.workers is None else f" · workers {self.workers[0]}/{self.workers[1]}"
        return (
            f"ok {self.ok} · errors {self.errors} · retries {self.retries} · in flight {in_flight} · waiting {waiting}"
            f" · {self.tokens / seconds:.0f} tokens/s{spent}{workers}"
        )

    def _spent(self, cost: float) -> str:
        """Return what was spent, and what all will cost if the rest costs as much for each result as this start has so far."""
        results = self.ok + self.errors
        if self.total is None or not results or not self.left:
            return f"${cost:,.2f}"
        return f"${cost:,.2f} of ~${cost + self.cost_of_start / results * self.left:,.2f}"


async def show_progress(
    progress: Progress, *, activity: Callable[[], tuple[int, int]], bar: bool | None, stream: TextIO = sys.stderr
) -> None:
    """Count, and show progress until cancelled: as a bar, as log lines, or not at all (None).

    `activity` gives the numbers of requests in flight and of workers waiting.
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
                _log.info("%s", _line(progress, activity()))
    finally:
        progress.advance()
        if shown is not None:
            shown.draw(activity())
            shown.close()


class Bar:
    """One tqdm line, in a notebook a bar of its own kind."""

    def __init__(self, progress: Progress, stream: TextIO | None = None) -> None:
        """Begin to show it: on a terminal's stream, or wherever tqdm finds that it is."""
        import tqdm
        import tqdm.auto

        self._progress = progress
        kind: Any = tqdm.auto.tqdm if stream is None else tqdm.tqdm
        self._shown = kind(
            total=progress.total, initial=progress.initial, unit="row", file=stream, dynamic_ncols=True, smoothing=0.1
        )

    def draw(self, activity: tuple[int, int]) -> None:
        """Show how it stands, with the numbers of requests in flight and of workers waiting."""
        self._shown.total = self._progress.total
        self._shown.n = self._progress.done
        self._shown.set_postfix_str(self._progress.details(*activity), refresh=True)

    def close(self) -> None:
        """Leave it as it stands."""
        self._shown.close()


def _line(progress: Progress, activity: tuple[int, int]) -> str:
    seconds = max(time.monotonic() - progress.started, 1e-9)
    rate = (progress.ok + progress.errors) / seconds
    total = "?" if progress.total is None else progress.total
    line = f"{progress.done}/{total} rows · {progress.details(*activity)} · {rate:.1f} rows/s"
    if progress.total is not None and rate > 0:
        line += f" · ETA {(progress.total - progress.done) / rate:.0f} s"
    return line
