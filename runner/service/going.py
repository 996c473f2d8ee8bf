"""The live state of an evaluation, and of the endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.analysis.pages.plots import Line, lines
from runner.config.model import Config
from runner.endpoint.shared import SharedEndpoint
from runner.service.asking import Service
from runner.service.store import Record
from runner.service.watch import Sample

__all__ = ["endpoint_view", "live_view"]

#: How many samples the tokens per second are averaged over.
_FOR_A_RATE = 10


def live_view(service: Service, record: Record) -> dict[str, Any] | None:
    """Return the live state of an evaluation, with its curves; None if it has no samples."""
    samples = service.watch.of(record.id)
    if not samples:
        return None
    last, before = samples[-1], samples[max(0, len(samples) - _FOR_A_RATE)]
    shared = _asked(service, record)
    return {
        "last": last,
        "tokens_per_s": (last.tokens - before.tokens) / max(last.at - before.at, 1e-9),
        "paused_s": max((one.limiter.paused_s for one in shared), default=0.0),
        "is_down": any(one.is_down for one in shared),
        "rates": _rates(service, record, samples[0].at),
        "latencies": _latencies(samples),
    }


def _rates(service: Service, record: Record, since: float) -> str | None:
    rates = [(at - since, rate) for at, rate in service.watch.rates(record.id)]
    line = Line("results", rates)
    return lines([line], said="results per second over time", unit="results/s") if len(rates) > 1 else None


def _latencies(samples: Sequence[Sample]) -> str | None:
    if len(samples) < 2 or samples[-1].p50 is None:  # noqa: PLR2004  a line has two ends
        return None
    since = samples[0].at
    series = [Line(name, [(one.at - since, getattr(one, name)) for one in samples]) for name in ("p50", "p90")]
    return lines(series, said="latency of answers in seconds, over time", unit="s")


def _asked(service: Service, record: Record) -> Sequence[SharedEndpoint]:
    evaluation = service.supervisor.evaluations.get(record.id)
    return [] if evaluation is None else service.supervisor.endpoints.asked(*_urls_of(evaluation.config))


def _urls_of(config: Config) -> list[str]:
    return [url for one in config.all_endpoints.values() for url in one.urls]


def endpoint_view(service: Service, name: str, account: str) -> dict[str, Any]:
    """Return the live state of an endpoint. Evaluations of other accounts are only counted."""
    settings, supervisor = service.settings.endpoints[name], service.supervisor
    shared = supervisor.endpoints.asked(*settings.urls)
    running = list(supervisor.evaluations.items())
    asking = [service.store.records[one] for one, it in running if set(settings.urls) & set(_urls_of(it.config))]
    return {
        "name": name,
        "url": settings.name or "recordings",
        "limit": settings.limits.most_in_flight,
        "in_flight": sum(one.limiter.slots.taken for one in shared),
        "now": min((one.limiter.slots.limit for one in shared), default=None),
        "per_second": next((rate for one in shared if (rate := one.limiter.per_second) is not None), None),
        "paused_s": max((one.limiter.paused_s for one in shared), default=0.0),
        "is_down": any(one.is_down for one in shared),
        "models": [pattern for pattern, model in service.settings.models.items() if model.endpoint == name],
        "asking": len(asking),
        "own": [one for one in asking if one.account == account],
        "others": sum(one.account != account for one in asking),
    }
