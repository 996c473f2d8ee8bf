"""Whose fault are a row's failures? Pure: the record of the row and that of the endpoint go in, a verdict comes out.

The measure is how often a request that is known to be good fails now. Known to be good are rows that were answered in the end,
whose earlier failures count, and control requests, which were answered before. A row that has only failed says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum

from runner.errors import AttemptError
from runner.structs import Struct, field
from runner.types import ErrorType

__all__ = ["EndpointRecord", "Evidence", "FailureRecord", "Kind", "Verdict", "is_enough", "kind_of", "most_failures", "verdict"]

#: An endpoint that is up fails at most this share of good requests. If it fails more of them, rows have more attempts, by the
#: same measure.
_USUAL_SHARE = 1 / 16
#: The lowest weight of the newest answer in the mean number of failures before an answer.
_NEWEST = 0.02
#: How often a kind of failure that was never met is assumed to come before each answer: this, divided by n + 1 after n answers.
_AT_FIRST = 0.4


class Verdict(Enum):
    """What happens to a row whose attempt failed."""

    #: Ask again.
    AGAIN = "again"
    #: It is the row's own fault: the failure is its result.
    CHARGED = "charged"
    #: It cannot be decided before more is known: the row waits aside.
    WAIT = "wait"


class Kind(Enum):
    """What a failure says about the row or the endpoint."""

    #: The request is at fault, and no other attempt can help.
    OWN = "own"
    #: No answer, or an incomplete one: the endpoint may be down.
    BROKEN = "broken"
    #: 401, 403, 404: the key or the model may be gone.
    REFUSED = "refused"
    #: A complete answer that is of no use.
    USELESS = "useless"
    #: 429.
    LIMITED = "limited"


#: How many failures of a kind make an error row, if the endpoint is up. For BROKEN it is `limits.max_attempts`.
_MOST: Mapping[Kind, int] = {Kind.REFUSED: 3, Kind.USELESS: 2, Kind.LIMITED: 10}


def kind_of(error: AttemptError) -> Kind:
    """Return the kind of a failure."""
    if error.failure.error_type is ErrorType.AUTH:
        return Kind.REFUSED
    if not error.retry and error.failure.error_type is not ErrorType.CONNECT:
        return Kind.OWN
    if error.failure.error_type is ErrorType.RATE_LIMIT:
        return Kind.LIMITED
    return Kind.USELESS if error.once else Kind.BROKEN


def most_failures(at_least: int, share: float) -> float:
    """Return how many failures in a row are as unlikely as `at_least` of them are on an endpoint that is up.

    `share` of the attempts of known-good requests fail. Up to one in sixteen, the number is `at_least`. If half of them fail,
    it is four times that; if all fail, no number is enough.
    """
    if share <= _USUAL_SHARE:
        return at_least
    return at_least * math.log(_USUAL_SHARE) / math.log(share) if share < 1 else math.inf


class FailureRecord(Struct):
    """The failures of one row since it began, or since the last outage, which is not the row's fault."""

    #: Its failures by their kind.
    failures: dict[Kind, int] = field(default_factory=dict)
    #: The kind of the last one, and when it came, in seconds.
    last: Kind = Kind.BROKEN
    failed_at: float = 0.0
    #: Whether the last one may concern the whole run, while nothing was answered: such as a redirect, or a missing model.
    may_be_all: bool = False
    #: How many outages there were before these failures.
    outages: int = 0

    @property
    def count(self) -> int:
        """How many failures count for its back-off: all but 429s."""
        return sum(count for kind, count in self.failures.items() if kind is not Kind.LIMITED)


class Evidence:
    """The mean number of failures before an answer, over the last answers, by kind."""

    def __init__(self) -> None:
        #: How many answers there were.
        self.answers = 0
        self._means: dict[Kind, float] = {}

    def answered(self, record: FailureRecord | None) -> None:
        """Note an answer, and the failures before it."""
        failures = {} if record is None else record.failures
        for kind in failures:
            self._means.setdefault(kind, self._unseen(kind))
        self.answers += 1
        newest = max(_NEWEST, 1 / (self.answers + 1))
        for kind, mean in self._means.items():
            self._means[kind] = mean + newest * (failures.get(kind, 0) - mean)

    def share(self, kind: Kind) -> float:
        """Return the share of attempts of known-good requests that fail in this way."""
        mean = self._means.get(kind)
        mean = self._unseen(kind) if mean is None else mean
        return mean / (1 + mean)

    def _unseen(self, kind: Kind) -> float:
        """Return the assumed mean of a kind that was never met before an answer: the fewer answers, the higher."""
        return _AT_FIRST / (self.answers + 1) if self.answers and kind in {Kind.BROKEN, Kind.REFUSED} else 0.0


class EndpointRecord(Struct, kw_only=True):
    """What is known of the requests of one task."""

    evidence: Evidence = field(default_factory=Evidence)
    #: Whether one of them was ever answered.
    is_good: bool = False
    #: When the latest of the answered requests was sent, in seconds.
    good_sent_at: float = -math.inf
    #: Whether rows are left that were not asked yet; and whether any other row is on the wire, or may be asked.
    has_fresh: bool = True
    has_others: bool = True
    #: Whether the last refusals are alike. Then the config may be at fault, and not a row.
    all_alike: bool = False
    #: Whether the endpoint is down now, and how often it was.
    is_down: bool = False
    outages: int = 0


def is_enough(record: FailureRecord, known: EndpointRecord, max_attempts: int) -> bool:
    """Return whether a row has failed more often than a known-good request may, if the endpoint is up."""
    return record.last is Kind.OWN or any(
        count >= most_failures(_least(kind, max_attempts), known.evidence.share(kind))
        for kind, count in record.failures.items()
    )


def verdict(record: FailureRecord, known: EndpointRecord, max_attempts: int) -> Verdict:
    """Return what happens to a row that has failed. The first case that fits decides.

    1. There was an outage: the row's failures do not count.
    2. Nothing was ever answered: see `_before_anything`.
    3. The endpoint may be down, and no request that was sent after the failure is answered yet: the row waits. So at most one
       failure of an outage counts.
    4. The endpoint is up: the row is asked again until it has failed often enough.
    """
    if known.outages > record.outages:
        return Verdict.AGAIN
    enough = is_enough(record, known, max_attempts)
    if not known.is_good:
        return _before_anything(record, known, enough=enough)
    may_be_down = record.last in {Kind.BROKEN, Kind.REFUSED} or (enough and record.last is Kind.LIMITED)
    if may_be_down and known.good_sent_at <= record.failed_at:
        return Verdict.WAIT
    return Verdict.CHARGED if enough else Verdict.AGAIN


def _before_anything(record: FailureRecord, known: EndpointRecord, *, enough: bool) -> Verdict:
    """Judge a row before any row was answered: the config may be wrong, or the endpoint not up yet.

    1. The failure is clearly the row's own, and the last refusals are not alike: it is charged.
    2. Another row is on the wire, or may be asked, and may be the first to be answered: the row waits. A 429 says nothing,
       because all rows wait.
    3. The failure is clearly the row's own after all; or all rows have failed, and they are too few for an outage: it is
       charged. Else the row is asked again.
    """
    is_own = record.last is Kind.OWN and not record.may_be_all
    if is_own and not known.all_alike:
        return Verdict.CHARGED
    is_another_left = known.has_fresh if known.is_down else known.has_others
    if is_another_left and record.last is not Kind.LIMITED:
        return Verdict.WAIT
    may_be_all = record.may_be_all or record.last is Kind.LIMITED or known.is_down
    return Verdict.CHARGED if is_own or (enough and not may_be_all) else Verdict.AGAIN


def _least(kind: Kind, max_attempts: int) -> int:
    """Return how many failures of a kind make an error row if the endpoint is up."""
    most = _MOST.get(kind, max_attempts)
    return most if kind is Kind.LIMITED else min(most, max_attempts)
