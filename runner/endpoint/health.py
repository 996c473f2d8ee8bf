"""The endpoint's health: whose fault a failure is, the row's or the endpoint's.

A row is charged with its failures only when the endpoint is seen to work for others at that time; before anybody knows, the
row waits beside the others (`Verdict.UNDECIDED`) and its place goes to another one. So an outage costs no row, whatever the
concurrency, and one bad row does not stop a run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from runner.endpoint.circuit import Circuit
from runner.errors import AttemptError, RunStopped
from runner.structs import Struct
from runner.types import ErrorType, Unit

__all__ = ["Health", "Trouble", "Verdict"]

#: So many fatal answers end the run: one could be a row's own fault, three are the config's, or the key's.
_FATAL_ANSWERS = 3
_USELESS_ANSWERS = 2
_FIRST_HOLD_S = 0.2
_LONGEST_HOLD_S = 30.0
#: A row whose every answer is a 429, while others are answered, is too much in itself.
_MOST_RATE_LIMITED = 10
#: The endpoint works for others when at most so many of their attempts fail …
_FEW = 0.1
#: … or when so many failures in a row would be as unlikely as this.
_BY_CHANCE = 1e-6
#: How much the newest answer counts in the mean of the failures that came before answers.
_NEWEST = 0.05
_LONGEST_LAG_S = 5.0
_NOT_REACHED = frozenset({ErrorType.CONNECT, ErrorType.TIMEOUT})


class Verdict(Enum):
    """What is to become of a row whose attempt failed."""

    #: Ask again.
    AGAIN = "again"
    #: It is the row's own fault: the failure is its result.
    CHARGED = "charged"
    #: Nobody can tell before more is known of other rows.
    UNDECIDED = "undecided"


class Trouble(Struct):
    """What one request has met so far."""

    unit: Unit
    #: Failures that count against it.
    failures: int = 0
    #: Answers among them that came whole and were of no use: not JSON, without choices.
    useless: int = 0
    #: Its answers of 429, and its fatal ones.
    rate_limited: int = 0
    refused: int = 0
    #: Attempts of which the endpoint has seen nothing, after it had answered others.
    unreached: int = 0
    #: How many more failures it may have.
    allowed: int = 1
    #: What the endpoint had done for everybody when this began.
    successes_before: int = 0
    failures_before: int = 0
    limited_before: int = 0
    outages_before: int = 0
    #: The successes of all when it last failed, and whether others had failed since the last of them.
    successes_then: int = 0
    among_others: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether anything counts against it since the last outage."""
        return bool(self.failures or self.refused or self.unreached)


class Health:
    """What all attempts together say about the endpoint."""

    def __init__(
        self,
        circuit: Circuit | None = None,
        *,
        has_succeeded: bool = False,
        give_up_after: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        lag_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Start without knowing anything.

        `has_succeeded` is true for a run that is resumed with results already there; `give_up_after` is how long the endpoint
        may answer nothing but 429, in seconds; `lag_s` tells how late this program itself is.
        """
        self._circuit = circuit or Circuit()
        self._had_succeeded, self._give_up_after, self._clock, self._lag_s = has_succeeded, give_up_after, clock, lag_s
        #: Attempts that are being made.
        self.trying = 0
        #: Rows that wait for news of others.
        self.undecided = 0
        #: Whether no other row is left that could tell more.
        self.alone = False
        self._successes = 0
        self._failures = 0
        #: Failures before an answer, in the mean of the last answers: how unreliable the endpoint is while it is up.
        self._failures_per_answer = 0.0
        #: Rows that got a useless answer and then a good one, and those that did not.
        self._mended = 0
        self._not_mended = 0
        #: Rows that failed since the last answer: one, or two that stand for more.
        self._failing: set[Unit] = set()
        self._refused: set[Unit] = set()
        self._limited = 0
        self._limited_since: float | None = None
        self._unreached_since: float | None = None
        self._news: list[asyncio.Future[None]] = []

    def trouble(self, unit: Unit) -> Trouble:
        """Return the record of a request that meets its first failure."""
        trouble = Trouble(unit)
        self._begin(trouble)
        return trouble

    def succeeded(self, trouble: Trouble | None = None) -> None:
        """Note an answer, and what its request had met before."""
        failures = 0 if trouble is None else trouble.failures
        if trouble is not None and trouble.useless:
            self._mended += 1
        self._failures_per_answer += _NEWEST * (failures - self._failures_per_answer)
        self._successes += 1
        self._limited_since = self._unreached_since = None
        self.alone = False
        self._failing.clear()
        if self._refused:
            self._refused.clear()
        if self._news:
            self.tell()

    def failed(self, trouble: Trouble, error: AttemptError, max_attempts: int) -> Verdict:  # noqa: C901, PLR0911  a table of cases
        """Note a failed attempt and judge it. Raises RunStopped when the run cannot go on."""
        if error.stops_run == "always":
            raise RunStopped(error.failure.message)
        if self._news:
            self.tell()
        kind = error.failure.error_type
        if error.stops_run == "first" and not self._successes and not (self._had_succeeded and error.failure.status_code):
            return self._refused_from_the_start(trouble, error)
        if kind is ErrorType.AUTH and error.failure.status_code in {401, 403}:
            return self._refused_later(trouble, error)
        if kind is ErrorType.RATE_LIMIT and error.retry:
            return self._rate_limited(trouble, error)
        if error.stops_run == "first" and kind in _NOT_REACHED:
            return self._not_reached(trouble, error)
        if not error.retry:
            return Verdict.CHARGED
        if kind is ErrorType.TIMEOUT and self._lag_s() > _LONGEST_LAG_S:
            return Verdict.AGAIN  # it was this program that stood still
        if error.is_outage and self._circuit.is_open:
            self._begin(trouble)
            return Verdict.AGAIN
        trouble.failures += 1
        trouble.refused = trouble.rate_limited = 0
        trouble.successes_then = self._successes
        trouble.allowed = max_attempts
        self._failures += error.is_outage
        if error.is_outage and len(self._failing) < 2:  # noqa: PLR2004  more are no more than several
            self._failing.add(trouble.unit)
        trouble.among_others = len(self._failing) > 1
        if error.is_outage:
            return self.reconsider(trouble)
        is_enough = trouble.failures >= trouble.allowed
        if error.once:
            is_enough = self._is_useless_for_good(trouble, is_enough=is_enough)
        return Verdict.CHARGED if is_enough else Verdict.AGAIN

    def reconsider(self, trouble: Trouble) -> Verdict:
        """Judge a row by what is known now. Raises RunStopped."""
        if self._circuit.outages > trouble.outages_before:
            self._begin(trouble)
            return Verdict.AGAIN
        if trouble.rate_limited:
            others_answered = self.alone or self._successes > trouble.successes_then
            return Verdict.AGAIN if others_answered else Verdict.UNDECIDED
        if trouble.refused:
            return self._refusal_verdict(trouble)
        return Verdict.AGAIN if trouble.failures < trouble.allowed else self._failure_verdict(trouble)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count a row as undecided."""
        self.undecided += 1
        try:
            yield
        finally:
            self.undecided -= 1

    async def news(self) -> None:
        """Wait until something more is known of other rows."""
        future = asyncio.get_running_loop().create_future()
        self._news.append(future)
        await future

    def nobody_else(self) -> None:
        """Note that no other row is left that could tell more: who waits is charged."""
        self.alone = True
        self.tell()

    def tell(self) -> None:
        """Let the undecided rows be judged anew."""
        waiting, self._news = self._news, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def hold_s(self, trouble: Trouble) -> float:
        """Return how long a row that was refused waits before it is asked again, in seconds."""
        return float(min(_FIRST_HOLD_S * 2 ** max(0, trouble.refused + trouble.unreached - 1), _LONGEST_HOLD_S))

    def _is_useless_for_good(self, trouble: Trouble, *, is_enough: bool) -> bool:
        """Note a useless answer; after a second one there will be no better, unless there was for most rows that met one."""
        trouble.useless += 1
        is_enough = is_enough or (trouble.useless >= _USELESS_ANSWERS and self._mended <= self._not_mended)
        self._not_mended += is_enough
        return is_enough

    def _refused_from_the_start(self, trouble: Trouble, error: AttemptError) -> Verdict:
        self._refused.add(trouble.unit)
        trouble.refused += 1
        by_all = len(self._refused) >= _FATAL_ANSWERS
        if by_all or (trouble.refused >= _FATAL_ANSWERS and not self.trying):
            raise RunStopped(f"nothing succeeded, and the endpoint refuses: {error.failure.message}")
        return Verdict.AGAIN

    def _not_reached(self, trouble: Trouble, error: AttemptError) -> Verdict:
        """Judge an attempt of which the endpoint has seen nothing, after answers: no row can be at fault."""
        if self._unreached_since is None:
            self._unreached_since = self._clock()
        elif self._clock() - self._unreached_since >= self._give_up_after:
            waited = f"{self._give_up_after:g} s (limits.give_up_after)"
            raise RunStopped(f"the endpoint could not be reached for {waited}: {error.failure.message}")
        if self._circuit.is_open:
            self._begin(trouble)
        else:
            trouble.unreached += 1
        return Verdict.AGAIN

    def _refused_later(self, trouble: Trouble, error: AttemptError) -> Verdict:
        """Judge a 401 or 403 after answers: of one row it may be the row's, of three in a row it is a key that was revoked."""
        self._refused.add(trouble.unit)
        trouble.refused += 1
        if len(self._refused) >= _FATAL_ANSWERS:
            raise RunStopped(f"{len(self._refused)} rows in a row were refused: {error.failure.message}")
        return self._refusal_verdict(trouble)

    def _refusal_verdict(self, trouble: Trouble) -> Verdict:
        if trouble.refused < _FATAL_ANSWERS:
            return Verdict.AGAIN
        return Verdict.CHARGED if self.alone or self._successes > trouble.successes_before else Verdict.UNDECIDED

    def _rate_limited(self, trouble: Trouble, error: AttemptError) -> Verdict:
        """Judge a 429, which is no failure: everybody waits. It is the row's own only when others are answered meanwhile."""
        trouble.rate_limited += 1
        self._limited += 1
        if self._limited_since is None:
            self._limited_since = self._clock()
        elif self._clock() - self._limited_since >= self._give_up_after:
            waited = f"{self._give_up_after:g} s (limits.give_up_after)"
            raise RunStopped(f"the endpoint has answered nothing but 429 for {waited}: {error.failure.message}")
        trouble.successes_then = self._successes
        if trouble.rate_limited < _MOST_RATE_LIMITED:
            return Verdict.AGAIN
        answered = self._successes - trouble.successes_before
        others_limited = self._limited - trouble.limited_before - trouble.rate_limited
        if others_limited > _FEW * answered:
            return Verdict.AGAIN  # all have too little, and it had no luck yet
        if answered > (0 if self.alone else 2 * trouble.rate_limited):
            return Verdict.CHARGED
        return Verdict.AGAIN if self.alone else Verdict.UNDECIDED

    def _failure_verdict(self, trouble: Trouble) -> Verdict:
        """Judge a row that has failed as often as it may."""
        successes = self._successes - trouble.successes_before
        failures = max(0, self._failures - trouble.failures_before - trouble.failures)
        answered_only_later = trouble.successes_then == trouble.successes_before < self._successes
        if answered_only_later and (failures or trouble.among_others):
            return Verdict.AGAIN  # others failed as well, until it was all over: it has not been asked since
        if successes and _is_its_own(trouble, (failures + 1) / (successes + failures + 1)):
            return Verdict.CHARGED
        if self.alone:  # others fail too, but may all be such rows: what counts is what failed and was answered in the end
            share = self._failures_per_answer / (1 + self._failures_per_answer)
            return Verdict.CHARGED if _is_its_own(trouble, share) else Verdict.AGAIN
        others_answered = self._successes > trouble.successes_then
        return Verdict.AGAIN if failures and others_answered else Verdict.UNDECIDED

    def _begin(self, trouble: Trouble) -> None:
        """Let a row begin anew: what it met before does not count."""
        trouble.failures = trouble.refused = trouble.unreached = trouble.rate_limited = 0
        trouble.successes_before = trouble.successes_then = self._successes
        trouble.failures_before = self._failures
        trouble.limited_before = self._limited
        trouble.outages_before = self._circuit.outages


def _is_its_own(trouble: Trouble, share: float) -> bool:
    """Whether so many failures are the row's own fault, where such a share of the other rows' attempts fails."""
    return share <= _FEW or bool(share**trouble.failures <= _BY_CHANCE)
