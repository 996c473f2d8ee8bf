"""The seam to the network: a call in, a reply out, bytes on both sides.

`HttpTransport` is the real one; recording and replaying take its place or wrap it (`recordings`). What aiohttp raises is
turned into AttemptError here and nowhere else, without the text of its own exceptions: some hold the request's headers.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yarl
from msgspec import Struct

from runner.errors import AttemptError, ConfigError
from runner.types import ErrorType, Failure

__all__ = ["Call", "HttpTransport", "Reply", "Transport", "env_proxy"]


class Call(Struct, frozen=True, kw_only=True):
    """One HTTP request."""

    url: str
    headers: Mapping[str, str]
    content: bytes
    #: Names the unit it is for, so that recordings of equal bodies can be told apart.
    label: str = ""
    method: str = "POST"


class Reply(Protocol):
    """The start of an HTTP response; its body is still to be read."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in any case."""

    async def read(self) -> bytes:
        """Return the next piece of the body, decompressed, as soon as it comes; b"" at its end.

        Raises AttemptError where the body breaks off.
        """

    def close(self) -> None:
        """Give the connection back if the body was read, else drop it. Never waits."""


class Transport(Protocol):
    """Something that answers calls."""

    async def send(self, call: Call) -> Reply:
        """Send a call and wait for the head of the reply. Raises AttemptError."""

    async def close(self) -> None:
        """Close all connections."""


class HttpTransport:
    """The network, through one aiohttp session."""

    def __init__(self, *, connections: int, connect_timeout: float, verify: bool | str, proxy: str | None = None) -> None:
        """Open the session; must be called in a running loop.

        `connections` bounds the pool, `connect_timeout` is in seconds, `verify` as in the config. Raises ConfigError.
        """
        self._urls: dict[str, yarl.URL] = {}
        self._proxy = proxy
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=_tls(verify), ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_noting_kept_connections()],
            # Only the connection is timed here; the phases of an attempt are timed by the client, which knows them.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
        )

    async def send(self, call: Call) -> Reply:
        """Send a call and wait for the head of the reply. Raises AttemptError."""
        url = self._urls.get(call.url)
        if url is None:
            url = self._urls.setdefault(call.url, yarl.URL(call.url, encoded=True))
        while True:
            connection = _Connection()
            try:
                response = await self._session.request(
                    call.method,
                    url,
                    data=call.content or None,
                    headers=call.headers,
                    allow_redirects=False,
                    proxy=self._proxy,
                    trace_request_ctx=connection,
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if connection.kept and isinstance(error, aiohttp.ClientConnectionError):
                    continue  # nobody has read the request: it is sent again at once, and is no failure
                raise _translated(error, url) from error
            return _HttpReply(response, url)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


@dataclass(slots=True)
class _Connection:
    """What a request went over."""

    #: Whether it was kept from an earlier request.
    kept: bool = False


def _noting_kept_connections() -> aiohttp.TraceConfig:
    async def note(_session: aiohttp.ClientSession, context: Any, _parameters: aiohttp.TraceConnectionReuseconnParams) -> None:
        context.trace_request_ctx.kept = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(note)
    return config


class _HttpReply:
    """A reply of aiohttp's."""

    __slots__ = ("_response", "_url", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, url: yarl.URL) -> None:
        self._response = response
        self._url = url
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, self._url) from error

    def close(self) -> None:
        # aiohttp's release() drops a connection whose body was not read to its end.
        self._response.release()


def env_proxy(url: str) -> str | None:
    """Return the proxy for a URL by HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or None."""
    parsed = yarl.URL(url)
    if parsed.host is None or proxy_bypass(parsed.host):
        return None
    return getproxies().get(parsed.scheme)


def _tls(verify: bool | str) -> ssl.SSLContext | bool:
    if isinstance(verify, bool):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"endpoint.verify: {verify}: is no CA bundle that can be read: {error}"]) from error


def _translated(error: Exception, url: yarl.URL) -> AttemptError:  # noqa: PLR0911  a table of cases
    """Say what happened, by the kinds of error that a run knows."""
    where = f"{url.host}:{url.port}"
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            return _failed(
                ErrorType.CONNECT,
                f"{where}: bad TLS certificate: {reason}; for a private CA give its bundle in `endpoint.verify`",
                retry=False,
                stops_run="first",
            )
        case aiohttp.ClientProxyConnectionError():
            return _failed(ErrorType.CONNECT, f"the proxy cannot be reached: {_reason(error)}", stops_run="first")
        case aiohttp.ClientConnectorDNSError():
            return _failed(ErrorType.CONNECT, f"{where}: the name cannot be resolved: {_reason(error)}", stops_run="first")
        case aiohttp.ConnectionTimeoutError():
            return _failed(ErrorType.TIMEOUT, f"connect: no connection to {where} within its time; is the scheme right?")
        case aiohttp.ClientSSLError():
            return _failed(
                ErrorType.CONNECT, f"{where}: TLS handshake failed: {_reason(error)}; is it http?", stops_run="first"
            )
        case aiohttp.ClientConnectorError():
            return _failed(ErrorType.CONNECT, f"{where}: no connection: {_reason(error)}", stops_run="first")
        case aiohttp.ClientPayloadError():
            return _failed(ErrorType.INVALID_RESPONSE, f"{where}: the response's body broke off or is damaged")
        case aiohttp.ClientResponseError():
            return _failed(ErrorType.INVALID_RESPONSE, f"{where}: does not speak HTTP: {error.message.splitlines()[0][:200]}")
        case aiohttp.ServerDisconnectedError():
            return _failed(ErrorType.CONNECT, f"{where}: the connection was closed before an answer came")
        case _:
            return _failed(ErrorType.CONNECT, f"{where}: the connection broke: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return the system's words. Some of aiohttp's own hold the whole URL, whose query may be a secret."""
    said = getattr(error, "strerror", None)
    return said if isinstance(said, str) and "://" not in said else type(error).__name__


def _failed(error_type: ErrorType, message: str, *, retry: bool = True, stops_run: str | None = None) -> AttemptError:
    return AttemptError(Failure(error_type=error_type, message=message), retry=retry, stops_run=stops_run)
