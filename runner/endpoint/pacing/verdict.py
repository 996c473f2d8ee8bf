"""Whose fault are a row's failures? Pure: what the row has met and what is known of others in, a verdict out.

The measure is how often a request that is known to be good fails now. Known to be good is a row that was answered in the end,
with the failures that it met before, and a control request, which was answered already. What has only failed says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum

from runner.errors import AttemptError
from runner.structs import Struct, field
from runner.types import ErrorType

__all__ = ["EndpointRecord", "Evidence", "FailureRecord", "Kind", "Verdict", "is_enough", "kind_of", "most_failures", "verdict"]

#: An endpoint is up that fails at most so often. Where it fails more often, rows have more attempts, by the same measure.
_USUAL_SHARE = 1 / 16
#: So much the newest answer counts, at least, in the mean of the failures that come before an answer.
_NEWEST = 0.02
#: After n answers a kind that was never met is thought to come so often, divided by n + 1, before each answer.
_AT_FIRST = 0.4


class Verdict(Enum):
    """What is to become of a row whose attempt failed."""

    #: Ask again.
    AGAIN = "again"
    #: It is the row's own fault: the failure is its result.
    CHARGED = "charged"
    #: Nobody can tell before more is known: it waits aside.
    WAIT = "wait"


class Kind(Enum):
    """What a failure says, of the row or of the endpoint."""

    #: The request is at fault, and no other attempt can help.
    OWN = "own"
    #: No answer, or none that is whole: the endpoint may be down.
    BROKEN = "broken"
    #: 401, 403, 404: the key or the model may be gone.
    REFUSED = "refused"
    #: A whole answer that is of no use.
    USELESS = "useless"
    #: 429.
    LIMITED = "limited"


#: How many failures of a kind make an error row, where the endpoint is up; of BROKEN `limits.max_attempts`.
_MOST: Mapping[Kind, int] = {Kind.REFUSED: 3, Kind.USELESS: 2, Kind.LIMITED: 10}


def kind_of(error: AttemptError) -> Kind:
    """Return what a failure says."""
    if error.failure.error_type is ErrorType.AUTH:
        return Kind.REFUSED
    if not error.retry and error.failure.error_type is not ErrorType.CONNECT:
        return Kind.OWN
    if error.failure.error_type is ErrorType.RATE_LIMIT:
        return Kind.LIMITED
    return Kind.USELESS if error.once else Kind.BROKEN


def most_failures(at_least: int, share: float) -> float:
    """Return how many failures in a row are as unlikely as `at_least` of them are on an endpoint that is up.

    `share` of the attempts of known-good requests fail. Up to one in sixteen nothing changes; where half of them fail, four
    times as many are needed, and where nearly all do, no number is enough.
    """
    if share <= _USUAL_SHARE:
        return at_least
    return at_least * math.log(_USUAL_SHARE) / math.log(share) if share < 1 else math.inf


class FailureRecord(Struct):
    """What one row has met since it began, or since the last outage, which is nobody's fault."""

    #: Its failures by their kind.
    failures: dict[Kind, int] = field(default_factory=dict)
    #: The kind of the last one, and when it came, in seconds.
    last: Kind = Kind.BROKEN
    failed_at: float = 0.0
    #: Whether it may be the whole run's, while nothing was answered: as a redirect, or a model that is not there.
    may_be_all: bool = False
    #: How many outages there had been.
    outages: int = 0

    @property
    def count(self) -> int:
        """How many failures it backs off for: a 429 is none."""
        return sum(count for kind, count in self.failures.items() if kind is not Kind.LIMITED)


class Evidence:
    """How many failures come before an answer, in the mean of the last answers, by their kind."""

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
        """Return what to think of a kind that was never met before an answer: the fewer answers, the less is known."""
        return _AT_FIRST / (self.answers + 1) if self.answers and kind in {Kind.BROKEN, Kind.REFUSED} else 0.0


class EndpointRecord(Struct, kw_only=True):
    """What is known of the requests of one task."""

    evidence: Evidence = field(default_factory=Evidence)
    #: Whether one of them was ever answered.
    is_good: bool = False
    #: When the latest of the requests was sent that were answered, in seconds.
    good_sent_at: float = -math.inf
    #: Whether rows are left that were not asked yet; and whether any other row is asked now, or may be.
    has_fresh: bool = True
    has_others: bool = True
    #: Whether the last refusals are alike: then it may be the config that is refused, and no row.
    all_alike: bool = False
    #: Whether the endpoint is down now, and how often it was.
    is_down: bool = False
    outages: int = 0


def is_enough(record: FailureRecord, known: EndpointRecord, max_attempts: int) -> bool:
    """Whether a row has failed more often than a known-good request may, where the endpoint is up."""
    return record.last is Kind.OWN or any(
        count >= most_failures(_least(kind, max_attempts), known.evidence.share(kind))
        for kind, count in record.failures.items()
    )


def verdict(record: FailureRecord, known: EndpointRecord, max_attempts: int) -> Verdict:
    """Return what is to become of a row that has failed. The first case that fits decides.

    1. There was an outage: nothing that the row met counts.
    2. Nothing was ever answered: see `_before_anything`.
    3. The endpoint may be down, and no request that was sent after the failure is answered yet: the row waits. So of an outage
       one failure counts at most.
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

    1. The failure is plainly the row's own, and no other is refused in the same words.
    2. Another row is being asked, or may be, and may be the first that is answered. A 429 says nothing, for everybody waits.
    3. The failure is plainly the row's own after all; or all rows have failed, and they are too few for an outage.
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
    """Return how many failures of a kind make an error row where the endpoint is up."""
    most = _MOST.get(kind, max_attempts)
    return most if kind is Kind.LIMITED else min(most, max_attempts)
