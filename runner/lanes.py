"""The lanes to endpoints: for each endpoint that tasks ask, the layers between a request and its servers.

retrying ─► Circuit ─► Budget ─┬─► limited ─► … ─► ChatClient.send           one server
                               └─► limited ─► Balancer ─► limited ─► …      several: rates first, then slots and pauses of each
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import zip_longest
from typing import Any

from runner import jsontext
from runner.config.model import Config
from runner.endpoint.connect import client_of, headers_of
from runner.endpoint.limiting import limiter_of
from runner.endpoint.pacing.balancing import Balancer, Server
from runner.endpoint.pacing.circuit import Circuit, Circuits
from runner.endpoint.pacing.rate_limiter import RateLimiter, limited
from runner.endpoint.pacing.retry import RetryPolicy, retrying
from runner.endpoint.shared import Endpoints, Guest, SharedEndpoint
from runner.pipeline.attempts import journal_attempts, known_good
from runner.pipeline.budget import Budget
from runner.pipeline.keeping import Keeping
from runner.pipeline.pipeline import InFlight, Pipeline
from runner.structs import Struct, field
from runner.types import Attempt, Execute, Outcome, Request, Send

__all__ = ["Lane", "Lanes"]

#: Two requests with a single message begin alike if their first letters, this many, are the same.
_PREFIX_LETTERS = 256


class Lane(Struct):
    """The lane to one endpoint."""

    config: Config
    execute: Execute
    circuits: Circuits
    limiters: Sequence[RateLimiter]


class Lanes(Struct, kw_only=True):
    """The lanes of a run."""

    config: Config
    environment: Mapping[str, str]
    keeper: Keeping
    budget: Budget
    in_flight: InFlight
    #: Returns the pipeline, which is made after the lanes.
    pipeline: Callable[[], Pipeline]
    has_fresh: Callable[[], bool]
    _lanes: dict[str, Lane] = field(default_factory=dict)
    #: By the name of the endpoint in the config; "" is the `endpoint` of the config itself.
    _by_endpoint: dict[str, Lane] = field(default_factory=dict)

    async def open(self, endpoints: Endpoints, stack: AsyncExitStack, policy: Callable[..., RetryPolicy]) -> None:
        """Open the lane of each task; `stack` closes it."""
        for name, config in self.config.asking.items():
            lane = self._by_endpoint[name or ""] = await self._lane(config, endpoints, stack, policy)
            for task in self.config.run_tasks:
                if task.endpoint == name and not task.judges:
                    self._lanes[task.name] = lane

    async def execute(self, request: Request) -> Outcome:
        """Ask the endpoint of the task of a request."""
        return await self._lanes[request.unit.task].execute(request)

    @property
    def asking(self) -> Execute:
        """The function that asks the endpoint of a task. If all tasks have the same lane, it needs no look-up."""
        lanes = list({id(lane): lane for lane in self._lanes.values()}.values())
        return lanes[0].execute if len(lanes) == 1 else self.execute

    def by_task(self) -> Mapping[str, Lane]:
        """Return the lane of each task that asks."""
        return self._lanes

    @property
    def limiters(self) -> Sequence[RateLimiter]:
        """The rate limiters of all servers."""
        return list(dict.fromkeys(limiter for lane in self._lanes.values() for limiter in lane.limiters))

    def wished_pauses(self) -> Mapping[str, float]:
        """Return, by endpoint, for how many seconds its server wants no request; without endpoints of several servers."""
        alone = {name: lane.limiters[0] for name, lane in self._by_endpoint.items() if len(lane.limiters) == 1}
        return {name: limiter.wished_pause_s for name, limiter in alone.items() if limiter.wished_pause_s}

    def pause(self, endpoint: str, seconds: float) -> None:
        """Send nothing to an endpoint for `seconds`, because it has asked another client of the run to pause."""
        if (lane := self._by_endpoint.get(endpoint)) is not None:  # the lane may not be open yet
            for limiter in lane.limiters:
                limiter.pause(seconds)

    def concurrency(self) -> Mapping[str, Sequence[int]]:
        """Return, by endpoint, how many requests are to be in flight at each server, if the run finds that number."""
        autos = {name: [limiter.slots.auto for limiter in lane.limiters] for name, lane in self._by_endpoint.items()}
        found = {name: [auto.target for auto in of if auto is not None] for name, of in autos.items()}
        return {name: numbers for name, numbers in found.items() if numbers}

    def keep_to(self, concurrency: Mapping[str, Sequence[int]]) -> None:
        """Use the numbers that another worker has found for the servers of an endpoint; search for missing ones."""
        for name, lane in self._by_endpoint.items():
            for limiter, limit in zip_longest(lane.limiters, concurrency.get(name, ())):
                limiter.slots.keep_to(limit)

    def paces(self) -> Mapping[str, Sequence[float]]:
        """Return, by endpoint, the pace that 429s have shown at each server, in requests a second; 0 where none came."""
        found = {name: [limiter.learnt_per_second for limiter in lane.limiters] for name, lane in self._by_endpoint.items()}
        return {name: paces for name, paces in found.items() if any(paces)}

    def rise(self, paces: Mapping[str, Sequence[float]]) -> None:
        """Go faster by the paces of another worker, which has no rows left."""
        for name, lane in self._by_endpoint.items():
            for limiter, pace in zip(lane.limiters, paces.get(name, ()), strict=False):
                limiter.rise(pace)

    def down(self) -> dict[str, bool]:
        """Return, by task whose endpoint is down, whether there is a control request."""
        known = {task: circuit.health.known for task, circuit in self._circuits()}
        return {task: one.is_good for task, one in known.items() if one.is_down}

    def back(self, tasks: Collection[str]) -> None:
        """Note that the endpoint of these tasks has answered another worker."""
        for task, circuit in self._circuits():
            if task in tasks:
                circuit.back()

    def _circuits(self) -> Iterator[tuple[str, Circuit]]:
        for lane in self._by_endpoint.values():
            yield from lane.circuits.items()

    def notify(self) -> None:
        """Let the circuits decide again about all rows that wait."""
        for lane in self._lanes.values():
            lane.circuits.notify()

    async def _lane(
        self, config: Config, endpoints: Endpoints, stack: AsyncExitStack, policy: Callable[..., RetryPolicy]
    ) -> Lane:
        circuits = Circuits(lambda task: self._circuit(config, shared[0], guests[0], task, send))
        configs = _of_servers(config)
        guests = [
            Guest(one, self.environment, left=lambda: self.keeper.progress.left, has_fresh=self.has_fresh) for one in configs
        ]
        shared = [await stack.enter_async_context(endpoints.asked_by(guest)) for guest in guests]
        sends = [self._sends(*one, circuits, stack) for one in zip(shared, guests, strict=True)]
        limiters = [one.limiter for one in shared]
        if len(sends) > 1:
            send = _balanced(config, sends, limiters)
            own = limiter_of(config.limits.model_copy(update={"concurrency": config.limits.most_in_flight}))
            send = limited(send, own, tokens_per_minute=config.limits.tokens_per_minute)
        else:
            (send,) = sends
        send = self.budget.watching(send)
        limits = config.limits
        retry = policy(max_attempts=limits.max_attempts, longest_s=limits.max_row_time)
        return Lane(config, retrying(retry, circuits, aside=lambda: self.pipeline().aside()), circuits, limiters)

    def _sends(self, shared: SharedEndpoint, guest: Guest, circuits: Circuits, stack: AsyncExitStack) -> Send:
        """Return the layers to one server."""
        config = guest.config
        client = client_of(config, shared.transport(guest, stack), headers_of(config, self.environment))
        noted = journal_attempts(client.send, self.keeper.journal, self.keeper.progress, self.keeper.cost_of)
        send = circuits.counting(self.in_flight.watch(noted))
        return limited(send, shared.limiter, guest, tokens_per_minute=config.limits.tokens_per_minute)

    def _circuit(self, config: Config, shared: SharedEndpoint, guest: Guest, alias: str, send: Send) -> Circuit:
        task = next(step.task for step in self.pipeline().steps if step.task.alias == alias)
        # If rows choose the model, the circuit is not shared with other evaluations.
        alike = (alias, task.task_type, guest if task.model is None else task.model, *config.endpoint.urls[1:])
        found = known_good(self.keeper.pending.ledger, task)
        return shared.circuit(
            alike,
            send,
            give_up_after=config.limits.give_up_after,
            known_good=found,
            may_probe=lambda: self.budget.may_probe(alias),
        )


def _of_servers(config: Config) -> list[Config]:
    """Return a config for each server of an endpoint. With several servers the rates hold for all together, not for each."""
    members = config.endpoint.members
    if len(members) == 1:
        return [config]
    free = {"requests_per_second": None, "requests_per_minute": None, "tokens_per_minute": None}
    limits = config.limits.model_copy(update=free)
    return [config.model_copy(update={"endpoint": one, "limits": limits}) for one in members]


def _balanced(config: Config, sends: Sequence[Send], limiters: Sequence[RateLimiter]) -> Send:
    servers = config.endpoint.servers or ()
    known = [
        Server(member.name, send, limiter, server.weight)
        for member, server, send, limiter in zip(config.endpoint.members, servers, sends, limiters, strict=True)
    ]
    return Balancer(known, _key_of if config.endpoint.affinity == "prefix" else None).send


def _key_of(attempt: Attempt) -> bytes:
    """Return a key that requests with the same beginning share: all messages except the last, or the start of the only one."""
    body: Any = jsontext.decode(attempt.request.content)
    messages = body.get("messages") or [body.get("prompt", body.get("input"))]
    start = messages[:-1] if len(messages) > 1 else str(messages[0])[:_PREFIX_LETTERS]
    return hashlib.blake2b(jsontext.encode(start), digest_size=16).digest()
