"""Builds the transport and the client of an endpoint from its config."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from runner.config.model import Config
from runner.endpoint.client import ChatClient
from runner.endpoint.http.client_cert import ClientCert
from runner.endpoint.http.http1 import Http1Transport
from runner.endpoint.http.open_files import room_for
from runner.endpoint.http.timeouts import Timeouts
from runner.endpoint.http.transport import Transport
from runner.endpoint.recordings.recorder import Recorder
from runner.endpoint.recordings.replayer import Replayer
from runner.keypaths import KeyPath
from runner.logs import logger

__all__ = [
    "base_url_of",
    "cap_concurrency",
    "cert_of",
    "client_of",
    "env_proxy",
    "headers_of",
    "missing_places",
    "network_of",
    "timeouts_of",
    "transport_of",
]

_log = logger(__name__)
_REPLAYED_BASE_URL = "http://replay.invalid/v1"


def cap_concurrency(config: Config) -> Config:
    """Return the config with its concurrency capped at the possible connections: more requests would only wait."""
    if all(one.endpoint.replay is not None for one in config.asking.values()):
        return config
    room = room_for(config.limits.most_in_flight)
    return config.model_copy(update={"limits": config.limits.with_most_in_flight(room)})


def missing_places(config: Config, environment: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Yield each endpoint setting whose path cannot be used, and why: better reported before a run directory exists."""
    for place, endpoint in config.all_endpoints.items():
        for name, what in _missing_at(config.model_copy(update={"endpoint": endpoint}), environment):
            yield (*place, name), what


def _missing_at(config: Config, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    endpoint = config.endpoint
    for name, value in (("replay", endpoint.replay), ("verify", endpoint.verify)):
        if isinstance(value, str) and not Path(value).exists():
            yield name, f"{value!r} is not there (the path is relative to {Path.cwd()})"
    if endpoint.replay is None and (cert := cert_of(config, environment)) is not None:
        try:
            cert.load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        except ValueError as error:
            yield "cert", str(error)
    if endpoint.record is not None:
        wanted = Path(endpoint.record).absolute()
        place = next(path for path in (wanted, *wanted.parents) if path.exists())
        if not os.access(place, os.W_OK) or (place.is_file() and place != wanted):
            yield "record", f"{endpoint.record!r} cannot be written, because {place} cannot"


def transport_of(config: Config, environment: Mapping[str, str]) -> Transport:
    """Return the network, recorded or not, or recordings instead of it. Call it in a running loop."""
    endpoint, limits = config.endpoint, config.limits
    if endpoint.replay is not None:
        return Replayer(Path(endpoint.replay))
    assert endpoint.base_url is not None
    if endpoint.verify is False and endpoint.base_url.startswith("https:"):
        _log.warning("the server's TLS certificate is not checked (endpoint.verify is false): others may read the traffic")
    cert = cert_of(config, environment)
    if cert is not None and endpoint.base_url.startswith("http:"):
        _log.warning("the client's certificate (endpoint.cert) is not used: endpoint.base_url begins with http, not https")
    transport = network_of(
        endpoint.base_url,
        connections=limits.most_in_flight,
        connect_timeout=endpoint.timeout.connect,
        verify=endpoint.verify,
        cert=cert,
    )
    if endpoint.record is None:
        return transport
    return Recorder(transport, Path(endpoint.record), secrets=config.secrets(environment))


def cert_of(config: Config, environment: Mapping[str, str]) -> ClientCert | None:
    """Return the client's certificate, or None."""
    cert = config.endpoint.cert
    if cert is None:
        return None
    return ClientCert(
        certificate=cert.certificate,
        key=cert.key or cert.certificate,
        passphrase=config.passphrase(environment),
        passphrase_env=cert.passphrase_env,
    )


def network_of(
    base_url: str, *, connections: int, connect_timeout: float, verify: bool | str, cert: ClientCert | None = None
) -> Transport:
    """Return the transport to a server: plain connections without TLS and proxy, else an aiohttp session."""
    proxy = env_proxy(base_url)
    if proxy is None and base_url.startswith("http:"):
        return Http1Transport(connections=connections, connect_timeout=connect_timeout)
    from runner.endpoint.http.aiohttp_session import AiohttpTransport

    return AiohttpTransport(connections=connections, connect_timeout=connect_timeout, verify=verify, cert=cert, proxy=proxy)


def env_proxy(url: str) -> str | None:
    """Return the proxy for a URL by HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or None."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None  # on other systems the system settings count too
    from urllib.request import getproxies, proxy_bypass  # imports a whole HTTP client and a mail parser

    parsed = urlsplit(url)
    if parsed.hostname is None or proxy_bypass(parsed.hostname):
        return None
    return getproxies().get(parsed.scheme)


def client_of(config: Config, transport: Transport, headers: Mapping[str, str]) -> ChatClient:
    """Return the client that sends through a transport."""
    return ChatClient(
        transport,
        base_url=base_url_of(config),
        headers=headers,
        timeouts=timeouts_of(config),
        run_label=config.name,
    )


def headers_of(config: Config, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of every request. Headers of the config win, in upper or lower case."""
    headers = {"Content-Type": "application/json", "User-Agent": "runner"}
    if key := config.api_key(environment):
        headers["Authorization"] = f"Bearer {key}"
    given = {name.lower() for name in config.endpoint.headers}
    return {name: value for name, value in headers.items() if name.lower() not in given} | config.endpoint.headers


def base_url_of(config: Config) -> str:
    """Return the base URL; if only recordings answer, a URL that leads nowhere."""
    return next(iter(config.endpoint.urls), _REPLAYED_BASE_URL)


def timeouts_of(config: Config) -> Timeouts:
    """Return the timeouts that the client enforces on an attempt."""
    timeout = config.endpoint.timeout
    return Timeouts(first_byte=timeout.first_byte, idle=timeout.idle, total=timeout.total)
