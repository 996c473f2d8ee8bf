"""Configs that ask the endpoints of the service for its clients: no file is opened for them, and no secret is kept."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from pydantic import PrivateAttr

from runner.config.endpoint import EndpointConfig, NamedEndpointConfig, RatesConfig
from runner.config.model import Config
from runner.service.media import NoFiles
from runner.service.settings import ServiceConfig, ServiceEndpoint
from runner.tasks.mediafiles import MediaFiles

__all__ = ["served_config"]


class _ServedConfig(Config):
    """A config that a client had a part in: it was checked by the service, and opens no file."""

    _media: MediaFiles = PrivateAttr(default_factory=MediaFiles)

    @cached_property
    def media_files(self) -> MediaFiles:
        """What refuses to read local files."""
        return self._media


def served_config(settings: ServiceConfig, endpoint: str, *others: str, **said: Any) -> Config:
    """Return a config that asks an endpoint of the service, by tasks that name them others too, and what else is said of it."""
    chosen = settings.endpoints[endpoint]
    config = _ServedConfig.model_construct(
        description=None,
        tags=[],
        metadata={},
        endpoint=chosen,
        endpoints={name: _named(settings.endpoints[name]) for name in others},
        limits=chosen.limits,
        output=settings.output,
        **said,
    )
    config._written = settings.secrets(os.environ)  # noqa: SLF001  what neither the journal nor any other file may hold
    config._media = NoFiles(settings.media_urls)  # noqa: SLF001  its own class
    return config


def _named(endpoint: ServiceEndpoint) -> NamedEndpointConfig:
    """Return an endpoint beside the first one, with its own concurrency and rates."""
    limits = endpoint.limits
    rates = RatesConfig(
        concurrency=limits.most_in_flight,
        requests_per_second=limits.requests_per_second,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
    )
    settings = {name: getattr(endpoint, name) for name in EndpointConfig.model_fields}
    return NamedEndpointConfig.model_construct(**settings, limits=rates)
