"""The pace: how many requests a second to send to an endpoint that says 429, learnt from its answers and its refusals.

    no 429 yet ────────── no pace; only the times of answers are noted
    the first 429 ─────── all requests pause; then a lower rate than that of the answers, because a bucket may have held some;
                          and faster with each answer, like TCP's slow start, because the first burst says little of the rate
    an answer later ───── faster, like TCP's CUBIC: soon near the rate that was too much, long about there, then ever faster
    a 429 ─────────────── seven tenths of the pace, but never less than what was answered in the last second
    429s, no answers ──── all requests pause again; then as many a second as were answered between the pauses
    near the end ──────── a little less than what was too much: the whole run would wait for a row that is refused now
    429s at any pace ──── a slower pace does not help: no pace until several 429s come in a row
    another one ends ──── its pace is added: what the endpoint allows is shared by all clients of the run

So about one request in a hundred is refused, and almost the whole allowance is used, although neither a bucket of tokens nor a
window says how large it is.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Pace"]

#: What a refusal leaves of the pace: at least the first share if it is the first for long, or the second if others came just
#: before; and at most the third.
_KEPT_AT_FIRST = 0.93
_KEPT = 0.7
_MOST_KEPT = 0.97
#: In a search, each answer raises the pace by one request per this many seconds. Later searches are slower, up to the longest.
_FIRST_SEARCH_S = 0.5
_LONGEST_SEARCH_S = 8.0
#: Near the end the pace is this share of what was too much, so that no row is refused then.
_AT_THE_END = 0.95
#: If the rate that was too much no longer is, the pace grows beyond it: by at least this share of it, in the time that the way
#: back took.
_FURTHER = 0.15
#: After this many answers, or seconds, the pace is back where it was too much. Each time it needs twice as many answers, up to
#: the most.
_FIRST_ANSWERS_BACK = 400
_MOST_ANSWERS_BACK = 1600
_SECONDS_BACK = 20.0
#: How much is allowed now is measured over the answers of this many seconds, and over at least this many answers. A time that
#: is shorter than the last figure counts as that long.
_LOOK_BACK_S = 1.0
_FEWEST = 20
_SHORTEST_S = 0.05
#: If this many are answered before a pause, they are the content of a window, and not only a burst.
_MANY = 100
#: At least this many answers come between two steps down; steps with fewer answers than this between them have one cause.
_BETWEEN_STEPS = 3
_SAME_CAUSE = 20
#: A slower pace has helped if no 429 came for this share of the way back. If it fails to help more often than this, the rate is
#: not the cause.
_HELPS_FOR = 0.2
_MOST_IN_VAIN = 3
#: After more refusals in a row than this, the endpoint lets nothing through at the moment.
_IN_A_ROW = 5
#: If this program is late, requests may make up for this much; and a request may go this much early, in seconds.
_CATCH_UP_S = 0.05
_EARLY_S = 0.0005
_FASTEST = 1e6


class Pace:
    """Says when the next request may go. All times are seconds on one clock; rates are requests a second."""

    def __init__(self, limit: float | None = None) -> None:
        #: The configured limit of the rate; None if there is none.
        self.limit = limit
        #: The rate right after the last step down, the one that was too much before it, and when the step was.
        self._low: float | None = None
        self._too_much = 0.0
        #: Whether it is still unknown what is too much, and how slow the search for it is.
        self._is_searching, self._search_s = False, _FIRST_SEARCH_S / 2
        #: Whether requests go slower than the pace allows, so that answers do not show that it could be faster.
        self._is_behind = False
        #: Whether so few rows are left that the run would have to wait for a row that is refused now.
        self.is_ending = False
        self._stepped_at = 0.0
        self._answers_back = _FIRST_ANSWERS_BACK
        #: Steps down in a row that did not help; and whether the 429s seem to have another cause than the rate.
        self._in_vain, self._judged_at = 0, 0.0
        self._is_indifferent = False
        #: Answers since the last step, since the last step with a new cause, and since the last pause (to requests after it).
        self._answers = 0
        self._since_cause = 0
        self._since_pause = 0
        self._refused_in_a_row = 0
        #: When the last answers came, and since when they have been counted.
        self._last_answers: deque[float] = deque()
        self._counted_since: float | None = None
        #: The pause that is not over yet: its beginning, its end, and how long the server asked for.
        self._pause: tuple[float, float, float] | None = None
        self._paused_at = 0.0
        self._resumed_at = 0.0
        #: The rate of answers between the last two pauses, if they were the content of a window.
        self._between_pauses = _FASTEST
        #: When the last request was due.
        self._last_due = 0.0

    @property
    def is_kept(self) -> bool:
        """Whether requests have to wait for their time at all."""
        return self.limit is not None or self._low is not None or self._pause is not None

    @property
    def is_learnt(self) -> bool:
        """Whether a 429 has shown how much is too much."""
        return self._low is not None or self._is_indifferent

    def learnt_per_second(self, now: float) -> float:
        """Return the rate now as 429s have shown it; 0 if they have not."""
        return 0.0 if self._low is None else self.per_second(now) or 0.0

    def rise(self, per_second: float) -> None:
        """Go faster by this rate, if there is a pace: another client of the run that went at it has ended."""
        if self._low is not None:
            self._low += per_second
            self._too_much += per_second

    def per_second(self, now: float) -> float | None:
        """Return the rate now; None if there is no limit."""
        if self._low is None:
            return self.limit
        if self._is_searching:
            learnt = self._low + self._answers / self._search_s
        else:
            beyond = self._way_back(now) - 1
            reach = self._too_much - self._low if beyond < 0 else max(self._too_much - self._low, _FURTHER * self._too_much)
            learnt = self._too_much + reach * beyond**3
            if self.is_ending:
                learnt = min(learnt, max(self._low, _AT_THE_END * self._too_much))
        return min(learnt, self.limit or _FASTEST)

    def _way_back(self, now: float) -> float:
        """Return the share of the way back to what was too much that is done since the last step down."""
        return self._answers / self._answers_back + (now - self._stepped_at) / _SECONDS_BACK

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next request is due. It may be sooner, because the pace grows."""
        if self._pause is not None and now >= self._pause[1]:
            began, _, retry_after_s = self._pause
            self._resume(now, began, retry_after_s)
        rate = self.per_second(now)
        wait = 0.0 if rate is None else self._last_due + 1 / rate - now
        return wait if wait > _EARLY_S else 0.0

    def passed(self, now: float) -> None:
        """Note that a request goes on the wire."""
        if self._counted_since is None:
            self._counted_since = now
        if (rate := self.per_second(now)) is not None:
            due = self._last_due + 1 / rate
            self._last_due = max(due, now - _CATCH_UP_S)
            self._is_behind = due < now - _CATCH_UP_S

    def answered(self, sent_at: float, now: float) -> None:
        """Note an answer to a request that was sent at `sent_at`."""
        self._refused_in_a_row = 0
        self._answers += not (self._is_behind and self._is_searching)
        self._since_cause += 1
        self._since_pause += sent_at >= self._resumed_at
        self._last_answers.append(now)
        self._forget_before(now - _LOOK_BACK_S)

    def refused(self, sent_at: float, now: float) -> bool:
        """Note a 429 to a request that was sent at `sent_at`. Return whether all requests should pause."""
        if not self.is_learnt:
            return True
        if sent_at < self._stepped_at:
            return False
        self._refused_in_a_row += 1
        if self._refused_in_a_row > _IN_A_ROW or not self._since_pause:
            self._is_indifferent = False
            return True
        if self._answers >= _BETWEEN_STEPS and not self._is_indifferent:
            self._step_down(now)
        return False

    def pause(self, began: float, until: float, retry_after_s: float) -> None:
        """Note that nothing is sent before `until`."""
        self._pause = began, until, retry_after_s

    def _resume(self, now: float, began: float, retry_after_s: float) -> None:
        """Choose the pace after a pause, from the answers before it."""
        self._pause = None
        if self._low is None and self._last_answers and self._counted_since is not None:
            self._begin(now, len(self._last_answers), began - self._counted_since, retry_after_s)
        elif self._low is not None and self._since_pause:
            self._begin_again(now, began, retry_after_s)
        self._paused_at = began
        self._refused_in_a_row = self._since_pause = 0
        self._resumed_at = self._last_due = now
        if (pace := self.per_second(now)) is not None:
            self._last_due -= 1 / pace  # the first request goes at once

    def _begin(self, now: float, count: int, seconds: float, retry_after_s: float) -> None:
        """Choose the first pace, from the number of answers until the first pause and the seconds that these took."""
        if count >= _MANY:  # the content of a window, or of a bucket as large, which is full again
            self._between_pauses = count / max(_LOOK_BACK_S, retry_after_s, seconds)
            self._set(now, low=_MOST_KEPT * self._between_pauses, too_much=self._between_pauses)
        else:  # the content of a bucket and its refill: a rate between that without the pause and that with it
            busy = max(_SHORTEST_S, seconds)
            self._search(now, count / math.sqrt(busy * (busy + retry_after_s / 2)))

    def _begin_again(self, now: float, began: float, retry_after_s: float) -> None:
        """Choose the pace after a later pause, from the answers since the previous one."""
        busy = max(_SHORTEST_S, retry_after_s, began - self._resumed_at)
        whole = max(_SHORTEST_S, retry_after_s, began - self._paused_at)
        rate = self._since_pause / math.sqrt(busy * whole)
        if self._since_pause >= _MANY:
            # The answers use up a window: two, if another began meanwhile; less than one, if the pause was too long.
            rate = min(self._between_pauses, rate)
            self._between_pauses = self._since_pause / busy
            self._set(now, low=_MOST_KEPT * rate, too_much=rate)
        else:
            self._search(now, _MOST_KEPT * rate)

    def _search(self, now: float, rate: float) -> None:
        """Begin a search at a rate that may be far too low."""
        self._set(now, low=rate, too_much=rate)
        self._is_searching = True
        self._search_s = min(2 * self._search_s, _LONGEST_SEARCH_S)

    def _step_down(self, now: float) -> None:
        rate = self.per_second(now)
        assert rate is not None
        if self._way_back(now) >= _HELPS_FOR:
            self._in_vain, self._judged_at = 0, now
        elif now - self._judged_at >= _LOOK_BACK_S:  # by now the answers since then decide the rate
            self._in_vain, self._judged_at = self._in_vain + 1, now
        if self._in_vain > _MOST_IN_VAIN:
            self._low, self._is_indifferent, self._in_vain = None, True, 0
            return
        same_cause = self._since_cause < _SAME_CAUSE and not self._is_searching
        kept = _KEPT if same_cause or self._is_searching else _KEPT_AT_FIRST
        low = min(_MOST_KEPT * rate, max(kept * rate, _MOST_KEPT * self._answered_per_second(now)))
        if not same_cause:
            self._since_cause = 0
            self._answers_back = min(2 * self._answers_back, _MOST_ANSWERS_BACK)
        self._set(now, low=low, too_much=self._too_much if same_cause else rate)

    def _set(self, now: float, *, low: float, too_much: float) -> None:
        self._low, self._too_much = low, max(too_much, low / _MOST_KEPT)
        self._stepped_at, self._answers, self._is_searching = now, 0, False
        self._last_due = max(self._last_due, now - 1 / low)  # lateness at the faster pace is not made up for

    def _answered_per_second(self, now: float) -> float:
        self._forget_before(now - _LOOK_BACK_S)
        if not self._last_answers:
            return 0.0
        return len(self._last_answers) / max(_LOOK_BACK_S, now - self._last_answers[0])

    def _forget_before(self, moment: float) -> None:
        while len(self._last_answers) > _FEWEST and self._last_answers[0] < moment:
            self._counted_since = self._last_answers.popleft()
