"""Configs for the evaluations of clients, which ask the endpoints of the service, open no file and keep no secret.

URLs of media are only sent on if the service names their host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.config.endpoint import EndpointConfig, NamedEndpointConfig, RatesConfig
from runner.config.model import Config
from runner.errors import RowError
from runner.keypaths import dotted, leaves
from runner.service.settings import ServiceConfig, ServiceEndpoint
from runner.tasks.mediafiles import MediaError, MediaFiles, Medium
from runner.types import ErrorType

__all__ = ["served_config"]

_URL = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_SHOWN = 100


class NoFiles(MediaFiles):
    """Refuses local files, and URLs of other hosts."""

    def __init__(self, hosts: Sequence[str]) -> None:
        super().__init__()
        self._hosts = frozenset(hosts)

    def read(self, url: str, base: Path, *, anywhere: bool) -> Medium:  # noqa: ARG002  the signature of its base
        """Raise MediaError, without a look at the disk."""
        raise MediaError("names a local file, and the service opens no files for clients; send it as a data: URL")

    def check_urls(self, messages: object) -> None:
        """Raise RowError for a media URL in messages whose host the service does not name."""
        for path, value in leaves(messages, ()):
            if not path:  # messages are not a list: the endpoint will refuse them
                continue
            number, *rest = path
            is_medium = isinstance(value, str) and "content" in rest and rest[-1] not in {"content", "text"}
            if is_medium and _URL.match(value) and (urlsplit(value.strip()).hostname or "") not in self._hosts:
                place = dotted(("configuration", "messages", number, *rest))
                what = "names a host that is not in `media_urls` of the service; send the file as a data: URL"
                raise RowError(ErrorType.TEMPLATE, f"{place}: {value[:_SHOWN]!r} {what}")


def served_config(settings: ServiceConfig, endpoint: str, *others: str, **said: Any) -> Config:
    """Return a config that asks an endpoint of the service, others for tasks that name them, and further values."""
    chosen = settings.endpoints[endpoint]
    config = Config.model_construct(
        description=None,
        tags=[],
        metadata={},
        endpoint=chosen,
        endpoints={name: _named(settings.endpoints[name]) for name in others},
        limits=chosen.limits,
        output=settings.output,
        **said,
    )
    config._written = settings.secrets(os.environ)  # noqa: SLF001  secrets that no file may hold
    vars(config)["media_files"] = NoFiles(settings.media_urls)  # in place of the reader that the config would make
    return config


def _named(endpoint: ServiceEndpoint) -> NamedEndpointConfig:
    """Return a further endpoint, with its own concurrency and rates."""
    limits = endpoint.limits
    rates = RatesConfig(
        concurrency=limits.most_in_flight,
        requests_per_second=limits.requests_per_second,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
    )
    settings = {name: getattr(endpoint, name) for name in EndpointConfig.model_fields}
    return NamedEndpointConfig.model_construct(**settings, limits=rates)
