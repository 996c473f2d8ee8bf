"""An endpoint for all evaluations of one event loop that name it with the same key: what is its own they have together.

connections     one pool, as large as the highest concurrency needs
limits          one gate: the strictest rates, the highest concurrency, the same pauses and pace; each has its turn
circuits        one state for each task of one alias, type and model: what one evaluation finds out, all know
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from runner.config.model import Config
from runner.endpoint.connect import gate_of, headers_of, per_second_of, transport_of
from runner.endpoint.http.transport import Transport
from runner.endpoint.pacing.circuit import Circuit
from runner.endpoint.pacing.health import Health
from runner.endpoint.pacing.loop_lag import LoopLag
from runner.endpoint.pacing.rate_limiter import RateLimiter
from runner.structs import Struct
from runner.types import Request, Send

__all__ = ["Endpoints", "Guest", "SharedEndpoint"]


#: Settings that connections cannot share where they differ.
_OF_CONNECTIONS = {"verify", "cert", "timeout", "record", "replay"}


class Guest(Struct, frozen=True, eq=False):
    """An evaluation that asks an endpoint."""

    #: How many results are missing; infinite where nobody knows.
    left: Callable[[], float]
    #: Whether there are rows that were not asked yet.
    has_fresh: Callable[[], bool]


class SharedEndpoint:
    """What evaluations share of an endpoint while at least one of them asks it."""

    def __init__(self, config: Config) -> None:
        self.guests: set[Guest] = set()
        self.gate: RateLimiter = gate_of(config, left=lambda: sum(guest.left() for guest in self.guests))
        self.loop_lag = LoopLag()
        self._circuits: dict[object, Circuit] = {}
        self._transports: dict[str, Transport] = {}
        self._closing = AsyncExitStack()
        self._beating = asyncio.create_task(self.loop_lag.watch())

    def join(self, config: Config, guest: Guest) -> None:
        """Let another evaluation ask: its limits hold for all."""
        self.guests.add(guest)
        self.gate.slots.widen(config.limits.concurrency)
        self.gate.tighten(per_second_of(config), config.limits.tokens_per_minute)

    def transport(self, config: Config, environment: Mapping[str, str]) -> Transport:
        """Return the way to the server that an evaluation's settings ask for."""
        settings = config.endpoint.model_dump_json(include=_OF_CONNECTIONS)
        transport = self._transports.get(settings)
        if transport is None:
            transport = self._transports[settings] = transport_of(config, environment)
            self._closing.push_async_callback(transport.close)
        transport.make_room(config.limits.concurrency)
        return transport

    def circuit(self, task: object, send: Send, *, give_up_after: float, known_good: Sequence[Request]) -> Circuit:
        """Return the circuit of a task: of those that evaluations have alike, what one finds out is known to all."""
        if (first := self._circuits.get(task)) is not None:
            first.health.know_good(known_good)
            return first.beside(send, give_up_after=give_up_after)
        health = Health(known_good, has_fresh=self._has_fresh, give_up_after=give_up_after, lag_s=self.loop_lag.late_s)
        circuit = Circuit(health, send, give_up_after=give_up_after, on_back=self.gate.slots.restart)
        self._circuits[task] = circuit
        return circuit

    def _has_fresh(self) -> bool:
        return any(guest.has_fresh() for guest in self.guests)

    async def close(self) -> None:
        """Close all connections. Raises StorageError where an exchange could not be kept."""
        self._beating.cancel()
        await self._closing.aclose()


class Endpoints:
    """The endpoints that are asked now, in one event loop."""

    def __init__(self) -> None:
        self._open: dict[Any, SharedEndpoint] = {}

    @asynccontextmanager
    async def asked_by(self, guest: Guest, config: Config, environment: Mapping[str, str]) -> AsyncIterator[SharedEndpoint]:
        """Share an endpoint within the block; whoever leaves last closes its connections."""
        key = (config.endpoint.asked, config.endpoint.replay, tuple(sorted(headers_of(config, environment).items())))
        shared = self._open.get(key)
        if shared is None:
            shared = self._open[key] = SharedEndpoint(config)
        shared.join(config, guest)
        try:
            yield shared
        finally:
            shared.guests.discard(guest)
            if not shared.guests:
                del self._open[key]
                await shared.close()
