"""Finds how many requests are best in flight, from the answers alone. Pure: events and times go in, a limit comes out.

One idea: more in flight are worth it as long as the answers a second grow by a sixth, at least, of what they would grow by
below the plateau. Each round of answers at one limit is a point of two logarithms: x, how many were in flight, and y, the
answers a second. Wanted is the top of y - x / 6: from there on latency grows nearly as fast, by Little's law. The same law
tells y a second time, by the latencies: the mean of that and of what was counted depends less on chance where answers are few.

    search ────── the limit doubles while that brings half as many answers more at least; where not even the first time does, it
                  is halved while that loses little. Of what was added last as much is kept as it brought
    climb ─────── rounds with a little more and a little less take turns; a line through the latest points, the near ones above
                  all, says which way is up. Where they say little, the step is small: a ridge regression
    too much ──── a 429, or more failures than are usual: a little less at once, and slowly back (`too_much`); in a search, and
                  where that does not help, half as many, and half of that, until a round is over. If as much fails in that
                  round, it is no sign of too much, but usual there
    an outage ─── a search anew: what is back may be another server

Of many workers of a run one finds it, and the others keep to its limit, for the answers that one alone gets by more in flight
are mostly taken from the others: each for itself would climb without end.

A round in which the limit was not reached says nothing. What fails speaks against its limit.
Vegas and Gradient2 of Netflix' concurrency-limits, and BBR, know an idle server by its least latency. A server that batches has
none such: its latency grows with the batch, long before its throughput stops to. So slopes are compared here, not latencies.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, median

from runner.endpoint.pacing.too_much import Ceiling, UsualFailures
from runner.structs import Struct

__all__ = ["AutoLimit", "Found", "Round"]

#: Of what the answers would grow by below the plateau, so much at least makes more in flight worth it; and another doubling.
_WORTH = 1 / 6
_WORTH_DOUBLING = 0.5
_DOUBLE = math.log(2)
#: How far the rounds with more and with less are apart at most, as a logarithm; of many answers chance hides less.
_APART = 0.25
#: A round has so many answers, or as many as may be in flight.
_FEWEST = 16
#: What a point counts for: less with each point after it, and where it is farther away than about this logarithm.
_POINTS = 16
_REMEMBERED = 0.85
_NEAR = 0.5
#: The ridge, in answers times squared logarithm; and the longest step.
_RIDGE = 8.0
_LONGEST_STEP = 0.4
#: After too much, less by this logarithm.
_LESS = 0.15
#: So many answers less are as bad as one failure.
_WORTH_OF_A_FAILURE = 2.0
#: Where with less in flight this part of the share still fails, it was no sign of too much.
_STILL = 1 / 4
#: Nothing is too much for so many.
_NEVER_TOO_MUCH = 2
#: A limit was reached where so much of it was in flight in the mean; by Little's law, with the chance of few answers.
_REACHED = 0.6
#: At the ceiling one round in so many is a little lower, to see whether that does as well.
_LOWER_EVERY = 8
#: Until all others keep to a new limit it takes so many seconds at most: two reports to whoever passes it on, and some more.
_FOLLOWED_S = 3.0
#: After an outage the search begins with this part of what was best.
_AFTER_AN_OUTAGE = 4
#: What was found is what the last so many rounds say.
_LAST = 8


class _Point(Struct, frozen=True):
    """What a round of answers has shown."""

    #: The logarithm of how many were in flight, and of the answers a second, with what failed counted against them.
    x: float
    y: float
    answers: int
    seconds: float


class Round(Struct, frozen=True):
    """What a round of answers at one limit has come to."""

    limit: int
    answers_per_s: float
    #: Of all its answers.
    p50_s: float


class Found(Struct, frozen=True):
    """What was found to be best."""

    limit: int
    answers_per_s: float


class AutoLimit:
    """The limit of requests in flight, which follows what the answers say."""

    def __init__(self, most: int, *, now: float, first: int = 8) -> None:
        """`most` is never exceeded, and the first round has `first`; times are seconds on one clock."""
        self._first = min(most, first)
        #: How many may be in flight now; on the way to the limit of a round it grows by one with each answer.
        self.limit = self._first
        self._ceiling, self._usual = Ceiling(math.log(most)), UsualFailures()
        self._rounds = 0
        self._is_searching = True
        #: Whether a round has ended since the search, and since the limit fell.
        self._is_steady = False
        #: The share that failed when the limit last fell, if it was for failures.
        self._fell_for: float | None = None
        #: Whether the search goes up or down; the point before, where the next one may be compared with it.
        self._way = 1
        self._last: _Point | None = None
        self._points: deque[_Point] = deque(maxlen=_POINTS)
        #: Around this logarithm the rounds take turns.
        self._middle = math.log(self.limit)
        #: The limit of this round; for how many answers it only settles; what it has seen since.
        self._target = self._settling = self.limit
        self._answers = self._settled = self._failures = 0
        self._since = now
        self._latencies: list[float] = []
        #: The limit that another worker has found, if this one does not; and how long others need to follow this one.
        self._kept_to: int | None = None
        self._followed_s = 0.0
        #: For how many seconds, at least, this round only settles; and when its first answer came.
        self._settling_s = 0.0
        self._began: float | None = None
        #: The latest round that is over and had its limit reached.
        self.latest: Round | None = None

    def widen(self, most: int) -> None:
        """Let more be in flight, where that is more than before."""
        self._ceiling.widen(math.log(most))

    def keep_to(self, limit: int | None) -> None:
        """Keep to what another worker of the run has found; None: find it, also for those who will keep to it."""
        self._followed_s = _FOLLOWED_S
        if limit is not None and limit != self._kept_to:
            self._ceiling.lift()
            self._middle = math.log(limit)
            self._is_searching = False
            self._begin_round(self._middle)
        self._kept_to = limit

    @property
    def target(self) -> int:
        """The limit of this round."""
        return self._target

    @property
    def found(self) -> Found | None:
        """What is best by the last rounds; None while no round with the limit reached is over."""
        last = list(self._points)[-_LAST:]
        if not last:
            return None
        limit = math.exp(sum(point.x for point in last) / len(last))
        return Found(max(1, round(limit)), sum(point.answers for point in last) / sum(point.seconds for point in last))

    def answered(self, now: float, latency_s: float) -> None:
        """Note an answer."""
        self._answers += 1
        self._ceiling.answered()
        if self._settling:
            self.limit = min(self._target, self.limit + 1)
            self._began = now if self._began is None else self._began
            if self._answers >= self._settling and now - self._began >= self._settling_s:
                self._measure(now)
            return
        self._latencies.append(latency_s)
        if self._answers >= max(_FEWEST, self._target):
            self._end_round(now)

    def failed(self, in_flight: int) -> None:
        """Note a 5xx, or no answer at all, with so many in flight: more of them than usual are too much."""
        if in_flight > self.limit:
            return  # it was sent before the limit fell
        self._failures += 1
        if not self._usual.are_fewer_than(self._failures, self._attempts):
            return
        if self.limit <= _NEVER_TOO_MUCH:
            self._usual.note(self._failures, self._attempts)
            self._take_as_usual()
            return
        share = self._failures / (self._attempts + in_flight)  # failures come sooner than answers
        self._fall(in_flight, self._failures)
        self._fell_for = share

    def refused(self, in_flight: int, pause_s: float) -> None:
        """Note that so many in flight were too much, and that nothing is sent for so many seconds."""
        self._fall(in_flight, 1 + pause_s * (0.0 if self.latest is None else self.latest.answers_per_s))

    def _fall(self, in_flight: int, refusals: float) -> None:
        less = _LESS if self._is_steady else _DOUBLE
        self._is_searching = self._is_steady = False
        self._fell_for = None
        self._ceiling.fall(math.log(max(1, min(in_flight, self.limit))), less, refusals)
        self._middle = min(self._middle, self._ceiling.height)
        self._begin_round(self._ceiling.height)

    def _take_as_usual(self) -> None:
        """Find out anew how many are best, of a server that fails as often at any load."""
        self._ceiling.lift()
        self._search_from(max(self.limit, self._first) if self._kept_to is None else self._kept_to)

    def restart(self) -> None:
        """Search again after an outage, from a part of what was best: what is back may be another server."""
        found = self.found
        self.limit = min(self.limit, self._first if found is None else max(self._first, found.limit // _AFTER_AN_OUTAGE))
        self._points.clear()
        self._ceiling.lift()
        self._search_from(self.limit)

    def _search_from(self, limit: int) -> None:
        self._is_searching, self._way, self._last = True, 1, None
        self._is_steady, self._fell_for = False, None
        self._middle = math.log(limit)
        self._begin_round(self._middle)

    @property
    def _attempts(self) -> int:
        """How many attempts of this round have ended."""
        return self._settled + self._answers + self._failures

    def _begin_round(self, x: float) -> None:
        """Begin a round at a limit: until what is in flight has come, answers say something of the limit before."""
        self._target = self._limit_at(x)
        self._settling = self.limit
        self.limit = min(self.limit, self._target)
        self._answers = self._settled = self._failures = 0
        self._settling_s, self._began = self._followed_s, None

    def _limit_at(self, x: float) -> int:
        return max(1, round(math.exp(min(x, self._ceiling.height))))

    def _measure(self, now: float) -> None:
        self._settled, self._settling = self._answers, 0
        self.limit = self._target
        self._answers = 0
        self._since = now
        self._latencies = []

    def _end_round(self, now: float) -> None:
        count, seconds = self._answers, max(1e-9, now - self._since)
        if sum(self._latencies) / seconds < _REACHED * self._target:
            self._begin_round(math.log(self._target))
            return
        self.latest = Round(self._target, count / seconds, median(self._latencies))
        last, this = self._last, self._point(count, seconds)
        if last is None or this.x <= last.x:
            self._usual.note(self._failures, self._attempts)
        if self._fell_for is not None and self._usual.share >= _STILL * self._fell_for:
            self._take_as_usual()
            return
        self._ceiling.rise(_LESS)
        self._last = this
        self._points.append(this)
        if self._kept_to is not None:
            self._is_steady = True
            self._begin_round(math.log(self._kept_to))
            return
        if self._is_searching:
            self._search(last, this)
        else:
            self._is_steady = True
            self._climb()
        if not self._is_searching:
            self._begin_round(self._next())

    def _point(self, answers: int, seconds: float) -> _Point:
        failures = _WORTH_OF_A_FAILURE * self._failures / (self._settled + answers)
        # The geometric mean of what was counted, answers / seconds, and of what is in flight over the mean latency.
        answers_per_s = answers * math.sqrt(self._target / (seconds * sum(self._latencies)))
        return _Point(math.log(self._target), math.log(answers_per_s) - math.log1p(failures), answers, seconds)

    def _search(self, last: _Point | None, this: _Point) -> None:
        """Go on by a factor of two while that pays, or end the search."""
        self._middle = this.x
        if last is not None and not self._goes_on(last, this):
            if self._way < 0 or last is not self._points[0]:
                low, high = sorted((last, this), key=lambda point: point.x)
                self._middle = low.x + min(high.x - low.x, max(0.0, high.y - low.y))
                self._is_searching = False
                return
            self._way, self._last, self._middle = -1, last, last.x  # not even the first doubling
        if last is None and self._limit_at(self._middle + _DOUBLE) == self._target:
            self._way = -1
        x = self._middle + self._way * _DOUBLE
        if self._limit_at(x) == self._target:
            self._is_searching = False
        else:
            self._begin_round(x)

    def _goes_on(self, last: _Point, this: _Point) -> bool:
        """Whether doubling has paid, or what halving has lost was not worth it."""
        worth = _WORTH_DOUBLING if self._way > 0 else _WORTH
        return this.y - last.y > worth * (this.x - last.x)

    def _climb(self) -> None:
        """Move to where the line through the latest points goes up."""
        points = list(reversed(self._points))
        xs, worths = [point.x for point in points], [point.y - _WORTH * point.x for point in points]
        near = [math.exp(-(((x - self._middle) / _NEAR) ** 2) / 2) for x in xs]
        weights = [point.answers * _REMEMBERED**age * near[age] for age, point in enumerate(points)]
        x, worth = fmean(xs, weights), fmean(worths, weights)
        together = sum(weight * (at - x) * (value - worth) for weight, at, value in zip(weights, xs, worths, strict=True))
        spread = sum(weight * (at - x) ** 2 for weight, at in zip(weights, xs, strict=True))
        step = max(-_LONGEST_STEP, min(_LONGEST_STEP, together / (spread + _RIDGE)))
        self._middle = min(self._ceiling.height, max(0.0, self._middle + step))

    def _next(self) -> float:
        """Return the limit of the next round, as a logarithm."""
        self._rounds += 1
        ceiling = self._ceiling.height
        one = math.exp(-self._middle)  # more in flight; of few it is a large step
        apart = max(1.2 * one, min(_APART, math.sqrt(one)))
        if self._middle + apart / 2 > ceiling:
            return ceiling - (apart if self._rounds % _LOWER_EVERY == 0 else 0.0)
        return self._middle + (apart / 2 if self._rounds % 2 else -apart / 2)
