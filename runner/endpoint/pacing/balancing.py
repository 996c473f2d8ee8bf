"""Several servers that answer alike: which one a request goes to, which one is left out, and when it is asked again.

    least busy        the server with the fewest requests for its proven capacity; the weights of the config count too
    a failure         another server is asked in the same attempt, so that the row is not charged with it
    three in a row    the server is left out; after half a second, and ever longer, one request finds out whether it is back
    a 429             its server pauses, by its own rate limiter, and other servers are asked meanwhile

The capacity of a server is, as in BBR, the highest rate of answers times the shortest time that an answer took: it works on
that many requests at once. A refusal of the request itself is not a failure of the server.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence

from runner.endpoint.pacing.rate_limiter import RateLimiter
from runner.errors import AttemptError
from runner.structs import Struct, field
from runner.types import Attempt, ErrorType, Response, Send

__all__ = ["Balancer", "Server"]

#: After this many failures in a row, without an answer in between, a server is left out.
_IN_A_ROW = 3
_FIRST_BREAK_S, _LONGEST_BREAK_S = 0.5, 10.0
#: The rate of answers is measured over at least this many seconds and this many answers.
_WINDOW_S, _WINDOW_ANSWERS = 0.5, 8
#: How much of the proven values each window keeps: a server may have become slower. The shortest time is forgotten more slowly,
#: because no time is short while requests queue at a server.
_KEPT, _KEPT_OF_TIME = 0.97, 0.998
#: With affinity, a server may be busier than its share by this factor before another one takes its requests.
_BUSIER = 1.25
_SERVERS_OWN = frozenset({ErrorType.CONNECT, ErrorType.TIMEOUT, ErrorType.SERVER, ErrorType.RATE_LIMIT})


class Server(Struct, eq=False):
    """One of the servers."""

    #: Its name in results.
    name: str
    send: Send
    limiter: RateLimiter
    weight: float = 1.0
    #: Its attempts, including those that wait for their turn.
    active: int = 0
    #: Failures since its last answer, and until when it is left out.
    failures: int = 0
    left_out_until: float = 0.0
    #: Its proven capacity: how many requests it works on at once.
    proved: float = 1.0
    _quickest_s: float = 0.0
    _fastest: float = 0.0
    _since: float = 0.0
    _answers: int = 0

    def answered(self, now: float, seconds: float) -> None:
        """Note an answer that took `seconds`."""
        self.failures, self.left_out_until = 0, 0.0
        self._quickest_s = min(self._quickest_s or seconds, seconds)
        self._answers += 1
        since = self._since or now - seconds
        self._since = since
        if self._answers >= _WINDOW_ANSWERS and now - since >= _WINDOW_S:
            self._fastest = max(self._fastest * _KEPT, self._answers / (now - since))
            self._since, self._answers = now, 0
            self.proved = max(1.0, self._fastest * self._quickest_s)
            self._quickest_s /= _KEPT_OF_TIME

    def failed(self, now: float) -> None:
        """Note a failure. A server that only fails is left out for a while."""
        self.failures += 1
        if (more := self.failures - _IN_A_ROW) >= 0:
            self.left_out_until = now + min(_LONGEST_BREAK_S, _FIRST_BREAK_S * 2.0 ** min(more, 10))

    def is_up(self, now: float) -> bool:
        """Return whether it may be asked. A server that was left out gets one request at a time until it answers."""
        return not self.left_out_until or (now >= self.left_out_until and not self.active)

    @property
    def load(self) -> float:
        """How busy it would be with one more request."""
        return (self.active + 1) / (self.proved * self.weight)


class Balancer(Struct):
    """Sends each attempt to one of the servers, and to another one if that fails."""

    servers: Sequence[Server]
    #: Returns the part of a request that decides its server, so that equal parts go to the same one; None: any server will do.
    key_of: Callable[[Attempt], bytes] | None = None
    clock: Callable[[], float] = field(default=time.monotonic)

    async def send(self, attempt: Attempt) -> Response:
        """Make an attempt. Raises AttemptError if no server is left to ask, or the request itself is refused."""
        tried: list[Server] = []
        wire_s, first_sent_at = 0.0, None
        while True:
            server = self._choose(attempt, tried)
            tried.append(server)
            server.active += 1
            attempt.wire_s = 0.0
            try:
                response = await server.send(attempt)
            except AttemptError as error:
                if not _is_servers_own(error):
                    raise
                if error.failure.error_type is not ErrorType.RATE_LIMIT:
                    server.failed(self.clock())
                if not self._is_another_up(tried):
                    raise
                attempt.send_again()
            else:
                server.answered(self.clock(), max(attempt.wire_s, 1e-6))
                attempt.endpoint = server.name
                return response
            finally:
                server.active -= 1
                wire_s += attempt.wire_s
                first_sent_at = first_sent_at or attempt.sent_at
                attempt.wire_s, attempt.sent_at = wire_s, first_sent_at

    def _choose(self, attempt: Attempt, tried: Sequence[Server]) -> Server:
        now = self.clock()
        others = [one for one in self.servers if one not in tried]
        up = [one for one in others if one.is_up(now)]
        open_now = [one for one in up if not one.limiter.paused_s]
        if not up:  # the one that may be asked soonest: a request has to find out
            return min(others, key=lambda one: one.left_out_until)
        if not open_now:
            return min(up, key=lambda one: one.limiter.paused_s)
        if self.key_of is not None and (wanted := self._own(self.key_of(attempt), open_now)) is not None:
            return wanted
        return min(open_now, key=lambda one: one.load)

    def _own(self, key: bytes, servers: Sequence[Server]) -> Server | None:
        """Return the server of a key, unless it is much busier than the others."""
        # Rendezvous hashing: a key stays with its server when another one is left out.
        wanted = max(servers, key=lambda one: one.weight / -math.log(_drawn(key, one.name)))
        taken = sum(one.active for one in servers) + 1
        share = wanted.weight / sum(one.weight for one in servers)
        return wanted if wanted.active + 1 <= _BUSIER * taken * share + 1 else None

    def _is_another_up(self, tried: Sequence[Server]) -> bool:
        now = self.clock()
        return any(one not in tried and one.is_up(now) and not one.limiter.paused_s for one in self.servers)


def _drawn(key: bytes, name: str) -> float:
    """Return a fixed number between 0 and 1 for a key and a server."""
    digest = hashlib.blake2b(name.encode(), key=key, digest_size=7).digest()
    return (int.from_bytes(digest, "big") + 1) / (2**56 + 1)


def _is_servers_own(error: AttemptError) -> bool:
    """Return whether another server may answer: this one is out of order, or rejects this client."""
    return error.failure.error_type in _SERVERS_OWN or error.stops_run is not None
