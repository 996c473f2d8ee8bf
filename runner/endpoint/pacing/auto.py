"""Finds the best number of requests in flight, from the answers alone. Pure: events and times go in, a limit comes out.

One idea: more requests in flight are worth it while the rate of answers grows at least a sixth as fast as it would below the
plateau. Each round of answers at one limit gives a point of two logarithms: x, the number in flight, and y, the answers a
second. The best limit is where y - x / 6 is highest: above it, latency grows nearly as fast as the number in flight, by
Little's law. The same law gives y a second time, from the latencies. The mean of this and of the counted rate depends less on
chance when answers are few.

    search ────── the limit doubles while a doubling brings at least half of what it would below the plateau; if not even the
                  first one does, the limit is halved while that loses little. The last doubling is kept in part: by as much as
                  it brought
    climb ─────── rounds with a little more and a little less take turns; a line through the latest points, mainly the near
                  ones, says which way is up. If the points say little, the step is small: a ridge regression
    too much ──── a 429, or more failures than usual: a little less at once, and slowly back (`too_much`); in a search, and if
                  that does not help, half as many, and half of that, until a round is over. If as many still fail in that
                  round, they are no sign of too much, but usual for this endpoint
    an outage ─── a new search: another server may be back

Among several workers of a run one finds the limit, and the others follow it, because the answers that one worker gains by more
in flight are mostly taken from the others. If each searched for itself, all would climb without end.

A round in which the limit was not reached says nothing. Failures count against the limit of their round.

Vegas and Gradient2 of Netflix' concurrency-limits, and BBR, recognise an idle server by its lowest latency. That fails for a
server that batches: its latency grows with the batch, long before its throughput stops growing. So slopes are compared here,
not latencies.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, median

from runner.endpoint.pacing.too_much import Ceiling, UsualFailures
from runner.structs import Struct

__all__ = ["AutoLimit", "Found", "Round"]

#: More in flight, and another doubling, are worth it if answers grow by at least this share of the growth below the plateau.
_WORTH = 1 / 6
_WORTH_DOUBLING = 0.5
_DOUBLE = math.log(2)
#: The longest distance between rounds with more and with less, as a logarithm. With a high limit it is
#: shorter, because many answers depend less on chance.
_APART = 0.25
#: A round has at least this many answers, or as many as may be in flight.
_FEWEST = 16
#: The climb looks at this many points. A point counts less with each later point, and the farther away it is, compared
#: with this logarithm.
_POINTS = 16
_REMEMBERED = 0.85
_NEAR = 0.5
#: The ridge, in answers times squared logarithm; and the longest step, as a logarithm.
_RIDGE = 8.0
_LONGEST_STEP = 0.4
#: After too much, the limit falls by this logarithm.
_LESS = 0.15
#: One failure counts as much as this many missing answers.
_WORTH_OF_A_FAILURE = 2.0
#: If, with less in flight, at least this part of the failing share still fails, the failures were no sign of too much.
_STILL = 1 / 4
#: A limit this low is never too much.
_NEVER_TOO_MUCH = 2
#: A limit was reached if on average this share of it was in flight, by Little's law. Chance keeps some below 1.
_REACHED = 0.6
#: At the ceiling one round in this many is a little lower, to see whether that does as well.
_LOWER_EVERY = 8
#: The longest time until all workers follow a new limit, in seconds: two reports to the coordinator, and some more.
_FOLLOWED_S = 3.0
#: After an outage the search begins at the best limit divided by this.
_AFTER_AN_OUTAGE = 4
#: `found` is the mean of this many latest rounds.
_LAST = 8


class _Point(Struct, frozen=True):
    """What a round of answers shows."""

    #: The logarithms of the number in flight and of the answers a second; failures lower the latter.
    x: float
    y: float
    answers: int
    seconds: float


class Round(Struct, frozen=True):
    """The result of a round of answers at one limit."""

    limit: int
    answers_per_s: float
    #: The median latency of its answers.
    p50_s: float


class Found(Struct, frozen=True):
    """The best limit, and its rate of answers."""

    limit: int
    answers_per_s: float


class AutoLimit:
    """The limit of requests in flight, adapted to the answers."""

    def __init__(self, most: int, *, now: float, first: int = 8) -> None:
        """`most` is the upper bound, and `first` the limit of the first round. All times are seconds on one clock."""
        self._first = min(most, first)
        #: How many may be in flight now. It grows by one with each answer, up to the limit of the round.
        self.limit = self._first
        self._ceiling, self._usual = Ceiling(math.log(most)), UsualFailures()
        self._rounds = 0
        self._is_searching = True
        #: Whether a round has ended since the search, and since the limit fell.
        self._is_steady = False
        #: The share that failed when the limit last fell, if it was for failures.
        self._fell_for: float | None = None
        #: Whether the search goes up (1) or down (-1); and the previous point, if the next one may be compared with it.
        self._way = 1
        self._last: _Point | None = None
        self._points: deque[_Point] = deque(maxlen=_POINTS)
        #: The rounds take turns above and below this logarithm.
        self._middle = math.log(self.limit)
        #: The limit of this round; how many answers it waits for until it has settled; and what it has counted since.
        self._target = self._settling = self.limit
        self._answers = self._settled = self._failures = 0
        self._since = now
        self._latencies: list[float] = []
        #: The limit that another worker has found, if this one does not search; and how long other workers need to follow this
        #: one.
        self._kept_to: int | None = None
        self._followed_s = 0.0
        #: The shortest time that this round settles, in seconds; and when its first answer came.
        self._settling_s = 0.0
        self._began: float | None = None
        #: The latest complete round that reached its limit.
        self.latest: Round | None = None

    def widen(self, most: int) -> None:
        """Raise the upper bound; a lower one changes nothing."""
        self._ceiling.widen(math.log(most))

    def keep_to(self, limit: int | None) -> None:
        """Follow the limit that another worker of the run has found. None: find it here, for other workers as well."""
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
        """The best limit by the last rounds; None until a round has reached its limit."""
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
        """Note a 5xx, or no answer at all, with so many in flight. More failures than usual mean too much."""
        if in_flight > self.limit:
            return  # the request was sent before the limit fell
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
        """Note a 429: `in_flight` was too much, and nothing is sent for `pause_s` seconds."""
        self._fall(in_flight, 1 + pause_s * (0.0 if self.latest is None else self.latest.answers_per_s))

    def _fall(self, in_flight: int, refusals: float) -> None:
        less = _LESS if self._is_steady else _DOUBLE
        self._is_searching = self._is_steady = False
        self._fell_for = None
        self._ceiling.fall(math.log(max(1, min(in_flight, self.limit))), less, refusals)
        self._middle = min(self._middle, self._ceiling.height)
        self._begin_round(self._ceiling.height)

    def _take_as_usual(self) -> None:
        """Search again, because this server fails equally often at any load."""
        self._ceiling.lift()
        self._search_from(max(self.limit, self._first) if self._kept_to is None else self._kept_to)

    def restart(self) -> None:
        """Search again after an outage, from a part of the best limit: another server may be back."""
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
        """Begin a round at a limit. It settles first: the next answers are to requests that were sent at the limit before."""
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
        # The geometric mean of the counted rate, answers / seconds, and of the number in flight over the mean latency.
        answers_per_s = answers * math.sqrt(self._target / (seconds * sum(self._latencies)))
        return _Point(math.log(self._target), math.log(answers_per_s) - math.log1p(failures), answers, seconds)

    def _search(self, last: _Point | None, this: _Point) -> None:
        """Double (or halve) again while that pays, or end the search."""
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
        """Return whether the search goes on: doubling has paid, or halving has lost little."""
        worth = _WORTH_DOUBLING if self._way > 0 else _WORTH
        return this.y - last.y > worth * (this.x - last.x)

    def _climb(self) -> None:
        """Move the middle to where the line through the latest points goes up."""
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
        one = math.exp(-self._middle)  # one more in flight: a large step when few are
        apart = max(1.2 * one, min(_APART, math.sqrt(one)))
        if self._middle + apart / 2 > ceiling:
            return ceiling - (apart if self._rounds % _LOWER_EVERY == 0 else 0.0)
        return self._middle + (apart / 2 if self._rounds % 2 else -apart / 2)
