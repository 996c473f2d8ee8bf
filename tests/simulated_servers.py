"""Simulated servers: what they make of so many requests in flight, by a discrete model that needs a microsecond a request.

A server has slots and a queue before them. All that is in the slots goes on at one speed, which may fall with their number: a
server of queueing theory (M/M/c) has steps of constant length, and one that batches, as vLLM does, steps that grow with it.
A bucket of tokens or a bounded queue refuses, a neighbour takes a share away for some time, a restart loses what is in flight.
"""

from __future__ import annotations

import math
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

from runner.endpoint.pacing.pace import Pace

__all__ = ["KINDS", "Controller", "Fixed", "Run", "Server", "best_fixed", "drive", "servers"]

#: Everybody waits so long after a refusal, as the rate limiter has it.
_PAUSE_S = 1.0
#: The fewest in flight that come so near to the most answers is the best number: more only wait longer.
_AS_GOOD = 0.99
_AROUND_THE_KNEE = (0.25, 0.35, 0.5, 0.6, 0.7, 0.85, 1.0, 1.15, 1.4, 2.0)


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a server is like; times in seconds."""

    kind: str
    #: So many are worked on at a time; of them and of those that wait as many as fit are taken, the others refused.
    slots: int
    room: int = sys.maxsize
    #: A request takes so many steps, by a log-normal of this spread, or an exponential distribution (None).
    steps: float
    spread: float | None
    #: How long a step is, with nobody else and with each other one.
    step_s: float = 1.0
    more_s: float = 0.0
    #: By how much a step is longer for each that waits, of a server that has to put some aside.
    thrash: float = 0.0
    #: The way there and back.
    way_s: float = 0.02
    #: Whether what is refused is refused by 503: then the rate limiter does not hear of it.
    says_503: bool = False
    #: The share that fails by 503 at any load.
    fails: float = 0.0
    #: Requests a second and how many at once, where a bucket limits them.
    rate: float = math.inf
    burst: float = 1.0
    #: From a time on the slots are this share, and the speed that one.
    changes: Sequence[tuple[float, float, float]] = ()
    #: When it falls over, and for how long.
    down_at: float = math.inf
    down_s: float = 5.0
    seed: int = 0

    @property
    def knee(self) -> float:
        """About how many in flight it needs to be busy."""
        whole = self.steps * (self.step_s + self.more_s * self.slots)
        busy = self.slots * (1 + self.way_s / whole)
        return max(1.0, min(busy, self.rate * (self.steps * self.step_s + self.way_s), self.room))


class Controller(Protocol):
    """What decides how many may be in flight."""

    @property
    def limit(self) -> int: ...
    def answered(self, now: float, latency_s: float) -> None: ...
    def refused(self, in_flight: int, pause_s: float) -> None: ...
    def failed(self, in_flight: int) -> None: ...
    def restart(self) -> None: ...


@dataclass
class Fixed:
    """A fixed number."""

    limit: int

    def answered(self, now: float, latency_s: float) -> None: ...
    def refused(self, in_flight: int, pause_s: float) -> None: ...
    def failed(self, in_flight: int) -> None: ...
    def restart(self) -> None: ...


@dataclass
class Run:
    """What became of the requests after the first seconds; refusals are those of the whole run."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    sent: int = 0
    refused: int = 0

    @property
    def answers_per_s(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p99_s(self) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)] if self.latencies else math.inf

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.sent)


class _Patience:
    """What the rate limiter makes of 429s: everybody pauses, and then goes on at a pace."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._closed_until = 0.0
        self._paused_at = 0.0

    @property
    def is_needed(self) -> bool:
        return self.pace.is_kept

    def wait_s(self, now: float) -> float:
        return max(self._closed_until - now, self.pace.wait_s(now))

    def answered(self, sent_at: float, now: float) -> None:
        self.pace.answered(sent_at, now)

    def refused(self, sent_at: float, now: float) -> bool:
        """Note a 429; return whether it begins a pause."""
        first = sent_at >= self._paused_at
        too_much = self.pace.refused(sent_at, now) if first else now < self._closed_until
        if self.pace.is_learnt and not too_much:
            return False
        if first:
            self._paused_at = now
        self._closed_until = max(self._closed_until, now + _PAUSE_S)
        self.pace.pause(self._paused_at, self._closed_until, _PAUSE_S)
        return first


def drive(server: Server, controller: Controller, *, seconds: float = 150.0, first_s: float = 30.0) -> Run:
    """Let as many be in flight as the controller says, always; return what came after the first seconds."""
    simulation = _Simulation(server, controller, Run(seconds - first_s), first_s)
    while simulation.now < seconds and simulation.go_on():
        pass
    return simulation.run


class _Simulation:
    """A server and who asks it."""

    def __init__(self, server: Server, controller: Controller, run: Run, first_s: float) -> None:
        self.now = 0.0
        self.run = run
        self._server, self._controller, self._first_s = server, controller, first_s
        self._draw = random.Random(server.seed)
        self._middle = None if server.spread is None else math.log(server.steps) - server.spread**2 / 2
        self._patience = _Patience()
        self._in_flight = 0
        #: Steps that were done since the beginning; what is worked on, by the step with which it ends; and what waits.
        self._steps = 0.0
        self._busy: list[tuple[float, float]] = []
        self._waiting: deque[tuple[float, float]] = deque()
        #: What is on its way back: when it is there, when it was sent, and whether it is an answer.
        self._back: deque[tuple[float, float, bool]] = deque()
        self._slots, self._speed = server.slots, 1.0
        self._changes = deque([*server.changes, (math.inf, 1.0, 1.0)])
        self._down_at = server.down_at
        self._tokens, self._tokens_at = server.burst, 0.0

    def go_on(self) -> bool:
        """Go on to what happens next; return whether anything does."""
        limit, patience = self._controller.limit, self._patience
        while self._in_flight < limit and (not patience.is_needed or patience.wait_s(self.now) <= 0):
            self._send()
        step_s = self._step_s()
        ends_at = self.now + (self._busy[0][0] - self._steps) * step_s if self._busy else math.inf
        there_at = self._back[0][0] if self._back else math.inf
        sent_at = self.now + patience.wait_s(self.now) if patience.is_needed and self._in_flight < limit else math.inf
        at = min(ends_at, there_at, sent_at, self._changes[0][0], self._down_at)
        self._steps += max(0.0, at - self.now) / step_s
        self.now = at
        if at == self._down_at:
            self._fall_over()
        elif at == self._changes[0][0]:
            _, share, self._speed = self._changes.popleft()
            self._slots = max(1, round(self._server.slots * share))
        elif at == there_at:
            self._take_back(*self._back.popleft())
        elif at == ends_at:
            self._back.append((at + self._server.way_s, heappop(self._busy)[1], True))
        while self._waiting and len(self._busy) < self._slots:
            sent_at, steps = self._waiting.popleft()
            heappush(self._busy, (self._steps + steps, sent_at))
        return at < math.inf

    def _step_s(self) -> float:
        server, waiting = self._server, min(1.0, len(self._waiting) / self._slots)
        return (server.step_s + server.more_s * len(self._busy)) * (1 + server.thrash * waiting) / self._speed

    def _send(self) -> None:
        self._in_flight += 1
        self.run.sent += 1
        self._patience.pace.passed(self.now)
        if self._is_refused():
            self._back.append((self.now + self._server.way_s, self.now, False))
            return
        mean, spread = self._server.steps, self._server.spread or 0.0
        steps = self._draw.expovariate(1 / mean) if self._middle is None else self._draw.lognormvariate(self._middle, spread)
        if len(self._busy) < self._slots:
            heappush(self._busy, (self._steps + steps, self.now))
        else:
            self._waiting.append((self.now, steps))

    def _is_refused(self) -> bool:
        server = self._server
        if server.rate < math.inf:
            self._tokens = min(server.burst, self._tokens + (self.now - self._tokens_at) * server.rate)
            self._tokens_at = self.now
            if self._tokens < 1:
                return True
            self._tokens -= 1
        return len(self._busy) + len(self._waiting) >= server.room or self._draw.random() < server.fails

    def _take_back(self, _at: float, sent_at: float, is_answer: bool) -> None:
        if is_answer:
            self._controller.answered(self.now, self.now - sent_at)
            self._patience.answered(sent_at, self.now)
            if self.now >= self._first_s:
                self.run.latencies.append(self.now - sent_at)
        else:
            self.run.refused += not self._server.fails
            if self._server.says_503:
                self._controller.failed(self._in_flight)
            elif self._patience.refused(sent_at, self.now):
                self._controller.refused(self._in_flight, _PAUSE_S)
        self._in_flight -= 1

    def _fall_over(self) -> None:
        self._down_at = math.inf
        self.now += self._server.down_s
        self._in_flight = 0
        self._waiting.clear()
        self._busy.clear()
        self._back.clear()
        self._controller.restart()


def best_fixed(server: Server, *, most: int = 1024, seconds: float = 150.0) -> tuple[int, Run]:
    """Return the fewest in flight that bring about as many answers as any number does, and what becomes of it."""
    knee = server.knee
    numbers = sorted({min(most, server.room, max(1, round(knee * share))) for share in _AROUND_THE_KNEE})
    runs = [(number, drive(server, Fixed(number), seconds=seconds)) for number in numbers]
    fit = [(number, run) for number, run in runs if run.refused_share <= 0.01] or runs[:1]
    most_answers = max(run.answers_per_s for _, run in fit)
    return next((number, run) for number, run in fit if run.answers_per_s >= _AS_GOOD * most_answers)


KINDS = ("queue", "batch", "thrashing batch", "bucket", "bounded", "overloaded", "flaky", "neighbour", "restart")


def servers(count: int, *, seed: int = 1) -> Iterator[Server]:
    """Yield so many servers, of all kinds in turn."""
    draw = random.Random(seed)
    for number in range(count):
        yield _server(KINDS[number % len(KINDS)], draw, number)


def _server(kind: str, draw: random.Random, seed: int) -> Server:
    def between(low: float, high: float) -> float:
        return math.exp(draw.uniform(math.log(low), math.log(high)))

    mean_s = between(0.1, 5.0)
    #: No more than about 200 answers a second: the model of a faster one would only take longer.
    slots = round(between(4, max(8.0, min(500.0, 200 * mean_s))))
    common = {"kind": kind, "seed": seed, "way_s": between(0.002, 0.1), "spread": draw.choice([None, 0.2, 0.7])}
    batches = kind in {"batch", "thrashing batch"} or (kind in {"neighbour", "restart"} and draw.random() < 0.5)
    if batches:
        # A full batch has steps that are so many times as long as one alone.
        longer = between(1.2, 6.0)
        steps = between(20, 300)
        alone_s = mean_s / steps / longer
        common |= {"steps": steps, "step_s": alone_s, "more_s": alone_s * (longer - 1) / slots}
    else:
        common |= {"steps": mean_s}
    match kind:
        case "thrashing batch":
            common |= {"thrash": draw.uniform(0.05, 0.4)}
        case "bucket":
            rate = max(2.0, slots / mean_s)
            common |= {"rate": rate, "burst": max(1.0, rate * draw.uniform(0.1, 5)), "steps": mean_s}
            slots = 100_000
        case "bounded" | "overloaded":
            common |= {"room": slots + round(slots * draw.uniform(0.0, 1.0)), "says_503": kind == "overloaded"}
        case "flaky":
            common |= {"fails": draw.uniform(0.02, 0.3), "says_503": True}
        case "neighbour":
            at, changes = 0.0, []
            while (at := at + draw.uniform(20, 60)) < 150:
                changes.append((at, draw.uniform(0.4, 1.0), 1.0) if draw.random() < 0.5 else (at, 1.0, draw.uniform(0.4, 1.0)))
            common |= {"changes": changes}
        case "restart":
            at = draw.uniform(40, 80)
            common |= {"down_at": at, "changes": [(at + 0.1, 0.5, 1.0)]}
    return Server(slots=slots, **common)  # type: ignore[arg-type]
