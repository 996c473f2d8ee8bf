"""Signals while an evaluation runs: the first drains, the second drops, the third ends the process at once."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from runner.cli.command import STOPPING
from runner.logs import logger
from runner.session import Session

if TYPE_CHECKING:
    from runner.evaluation import Evaluation

__all__ = ["SignalledSession", "Signals"]

_log = logger(__name__)
_T = TypeVar("_T")
#: How many signals are handled here. The next one is left to the system, which ends the process.
_LAST_HANDLED = 2


class Signals:
    """SIGINT, SIGTERM and SIGHUP: the first drains, the second drops the requests in flight, the third ends the process.

    Python's signal handlers count them, not those of the event loop, which may be blocked. The third is left to the system: it
    ends the process even during a call that lets no Python code run.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._count = 0
        self._before: dict[signal.Signals, Any] = {}

    @contextmanager
    def heard(self, evaluation: Evaluation) -> Iterator[None]:
        """Handle signals within the block, in which an event loop runs."""
        act = asyncio.get_running_loop().call_soon_threadsafe
        for number in STOPPING:
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:  # ignored under `nohup` and in background shells
                self._before[number] = before
                signal.signal(number, lambda came, _frame: self._count_one(signal.Signals(came), act, evaluation))
        try:
            yield
        finally:
            if self._count < _LAST_HANDLED:
                for number, before in self._before.items():
                    signal.signal(number, before)

    def _count_one(self, number: signal.Signals, act: Callable[..., Any], evaluation: Evaluation) -> None:
        self._count += 1
        self.exit_code = self.exit_code or 128 + number
        act(self._drain if self._count == 1 else self._drop, number, evaluation)
        if self._count == _LAST_HANDLED:
            for one in self._before:
                signal.signal(one, signal.SIG_DFL)

    def _drain(self, number: signal.Signals, evaluation: Evaluation) -> None:
        flying = evaluation.drain(f"stopped by {number.name}")
        within = f"within {evaluation.config.limits.drain:g} s (limits.drain)"
        _log.info("%s: no new requests; %d in flight may finish %s; a second signal drops them", number.name, flying, within)

    def _drop(self, number: signal.Signals, evaluation: Evaluation) -> None:
        _log.info("%s: dropping the requests in flight", number.name)
        evaluation.drop()


class SignalledSession(Session):
    """An event loop in the main thread of the program, which handles signals while it runs."""

    def __init__(self, evaluation: Evaluation, signals: Signals) -> None:
        super().__init__()
        self._evaluation, self._signals = evaluation, signals

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end in the loop. Signals are handled once a run has begun: before, nothing can be drained."""
        if self._evaluation.running is None:
            return super().run(work)

        async def listening() -> _T:
            with self._signals.heard(self._evaluation):
                gc.freeze()
                return await work

        return super().run(listening())
