"""Evaluations in one event loop that name the same URL and key share the endpoint.

connections     one pool, as large as the highest concurrency needs
limits          one rate limiter: the strictest rates, the highest concurrency, the same pauses and pace; evaluations
                take turns; if one finds its concurrency (`auto`), its limit holds for all
circuits        one state for all tasks with equal alias, type and model: all evaluations share what one finds out
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from runner.config.model import Config
from runner.endpoint.connect import headers_of, transport_of
from runner.endpoint.http.transport import Transport
from runner.endpoint.limiting import auto_limit, limiter_of, per_second_of
from runner.endpoint.pacing.circuit import Circuit
from runner.endpoint.pacing.health import Health
from runner.endpoint.pacing.loop_lag import LoopLag
from runner.structs import Struct
from runner.types import Request, Send

__all__ = ["Endpoints", "Guest", "SharedEndpoint"]


#: Evaluations share connections only if these settings are equal.
_OF_CONNECTIONS = {"verify", "cert", "timeout", "replay"}


class Guest(Struct, frozen=True, eq=False):
    """An evaluation that asks an endpoint."""

    config: Config
    environment: Mapping[str, str]
    #: Returns how many results are missing; infinite if unknown.
    left: Callable[[], float]
    #: Returns whether there are rows that were not asked yet.
    has_fresh: Callable[[], bool]


class SharedEndpoint:
    """What evaluations share of an endpoint while at least one of them asks it."""

    def __init__(self, config: Config) -> None:
        self.guests: set[Guest] = set()
        self.limiter = limiter_of(config.limits, left=lambda: sum(guest.left() for guest in self.guests))
        self.loop_lag = LoopLag()
        self._circuits: dict[tuple[object, ...], Circuit] = {}
        self._transports: dict[str, Transport] = {}
        self._closing = AsyncExitStack()
        self._watching = asyncio.create_task(self.loop_lag.watch())

    def join(self, guest: Guest) -> None:
        """Add an evaluation: its limits hold for all."""
        self.guests.add(guest)
        self._keep_limits()

    def leave(self, guest: Guest) -> None:
        """Remove an evaluation: its limits end, and rows that waited for its rows wait for other rows."""
        self.guests.discard(guest)
        self.limiter.forget(guest)
        self._keep_limits()
        self._circuits = {task: circuit for task, circuit in self._circuits.items() if guest not in task}
        for circuit in self._circuits.values():
            circuit.notify()

    def _keep_limits(self) -> None:
        """Apply the strictest rates and the highest concurrency of the current evaluations."""
        limits = [guest.config.limits for guest in self.guests]
        rates = [rate for rate in map(per_second_of, limits) if rate is not None]
        tokens = [one.tokens_per_minute for one in limits if one.tokens_per_minute is not None]
        self.limiter.keep(min(rates, default=None), min(tokens, default=None))
        if self.limiter.slots.auto is None and (finding := [one for one in limits if one.finds_concurrency]):
            self.limiter.slots.follow(auto_limit(finding[0], self.limiter.clock()))
        self.limiter.slots.widen(max((one.most_in_flight for one in limits), default=0))

    def transport(self, guest: Guest, own: AsyncExitStack) -> Transport:
        """Return the transport for an evaluation's settings. If it records, it is not shared and closes with `own`."""
        config = guest.config
        if config.endpoint.record is not None:
            transport = transport_of(config, guest.environment)
            own.push_async_callback(transport.close)
            return transport
        settings = config.endpoint.model_dump_json(include=_OF_CONNECTIONS)
        if settings not in self._transports:
            self._transports[settings] = transport_of(config, guest.environment)
            self._closing.push_async_callback(self._transports[settings].close)
        self._transports[settings].make_room(config.limits.most_in_flight)
        return self._transports[settings]

    def circuit(
        self,
        task: tuple[object, ...],
        send: Send,
        *,
        give_up_after: float,
        known_good: Sequence[Request],
        may_probe: Callable[[], bool],
    ) -> Circuit:
        """Return the circuit of a task; evaluations with an equal task share its state."""
        if (first := self._circuits.get(task)) is not None:
            first.health.know_good(known_good)
            return first.beside(send, give_up_after=give_up_after)
        health = Health(known_good, has_fresh=self._has_fresh, give_up_after=give_up_after, lag_s=self.loop_lag.late_s)
        on_back = self.limiter.slots.restart
        circuit = Circuit(health, send, give_up_after=give_up_after, on_back=on_back, may_probe=may_probe)
        self._circuits[task] = circuit
        return circuit

    @property
    def is_down(self) -> bool:
        """Whether requests are held back because the endpoint does not answer."""
        return any(circuit.health.known.is_down for circuit in self._circuits.values())

    def _has_fresh(self) -> bool:
        return any(guest.has_fresh() for guest in self.guests)

    async def close(self) -> None:
        """Close all connections."""
        self._watching.cancel()
        await self._closing.aclose()


class Endpoints:
    """The endpoints in use in one event loop."""

    def __init__(self) -> None:
        self._open: dict[Any, SharedEndpoint] = {}

    def asked(self, *base_urls: str) -> list[SharedEndpoint]:
        """Return the shared endpoints with these URLs: one for each URL and key in use."""
        return [shared for key, shared in self._open.items() if key[0] in base_urls]

    @asynccontextmanager
    async def asked_by(self, guest: Guest) -> AsyncIterator[SharedEndpoint]:
        """Share an endpoint within the block. The last evaluation to leave closes its connections."""
        endpoint = guest.config.endpoint
        headers = headers_of(guest.config, guest.environment)
        # The whole URL, because its query may hold a key.
        key = (endpoint.base_url, endpoint.replay, tuple(sorted(headers.items())))
        shared = self._open.get(key)
        if shared is None:
            shared = self._open[key] = SharedEndpoint(guest.config)
        shared.join(guest)
        try:
            yield shared
        finally:
            shared.leave(guest)
            if not shared.guests:
                del self._open[key]
                await shared.close()
