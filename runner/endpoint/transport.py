"""The seam to the network: a call in, a reply out, bytes on both sides.

`HttpTransport` is the real one; recording and replaying take its place or wrap it (`recordings`). What aiohttp raises is
turned into AttemptError here and nowhere else, without the text of its own exceptions: some hold the request's headers.
"""

from __future__ import annotations

import errno
import io
import logging
import ssl
import time
import zlib
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yarl
from msgspec import Struct

from runner.endpoint.encodings import ACCEPTED, Decoder, decoder_of
from runner.endpoint.responses import MAY_BE_BILLED
from runner.errors import AttemptError, ConfigError
from runner.types import ErrorType, Failure

__all__ = ["Call", "HttpTransport", "Reply", "Transport", "env_proxy"]

_log = logging.getLogger(__name__)
_LARGE_BODY = 1 << 20
#: A kept connection that the server had closed shows it at once; what breaks later was being worked on.
_STALE_S = 1.0


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

    @property
    def is_whole(self) -> bool:
        """Whether the rest of the body is here already, so that reading it does not wait."""

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
        if proxy is not None:
            _log.info("requests go through the proxy %s", _host_and_port(yarl.URL(proxy)))
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=connections, ssl=_tls(verify), ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            # What is decompressed is bounded by us: aiohttp would do it whole.
            auto_decompress=False,
            headers={"Accept-Encoding": ACCEPTED},
            # Only the connection is timed here; the phases of an attempt are timed by the client, which knows them.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
        )

    async def send(self, call: Call) -> Reply:
        """Send a call and wait for the head of the reply. Raises AttemptError."""
        url = self._urls.get(call.url)
        if url is None:
            url = self._urls.setdefault(call.url, yarl.URL(call.url, encoded=True))
        while True:
            _opened.set(False)
            sent = time.monotonic()
            try:
                response = await self._session.request(
                    call.method,
                    url,
                    data=_payload(call.content),
                    headers=call.headers,
                    allow_redirects=False,
                    proxy=self._proxy,
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                at_once = time.monotonic() - sent < _STALE_S
                if at_once and not _opened.get() and isinstance(error, aiohttp.ClientConnectionError):
                    continue  # nobody has read the request: it is sent again at once, and is no failure
                raise _translated(error, url, self._proxy) from error
            return _HttpReply(response, url)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _payload(content: bytes) -> bytes | io.BytesIO | None:
    """Return a body as aiohttp takes it: a large one, with pictures in it, is written in pieces, and others have their turn."""
    return io.BytesIO(content) if len(content) > _LARGE_BODY else content or None


#: Whether the request at hand opened a connection of its own; aiohttp asks its connector in the task that sends.
_opened: ContextVar[bool] = ContextVar("opened", default=False)


class _Connector(aiohttp.TCPConnector):
    """Notes which requests open a connection. A trace would tell it too, but it costs all requests a share of their time."""

    async def _create_connection(self, *arguments: Any) -> Any:
        _opened.set(True)
        return await super()._create_connection(*arguments)


class _HttpReply:
    """A reply of aiohttp's."""

    __slots__ = ("_decoder", "_response", "_url", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, url: yarl.URL) -> None:
        self._response = response
        self._url = url
        self._decoder: Decoder | None = None
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        try:
            self._decoder = decoder_of(response.headers.get("Content-Encoding", ""))
        except ValueError as error:
            response.close()
            message = f"{_host_and_port(url)}: {error}"
            raise _failed(ErrorType.INVALID_RESPONSE, message, once=True) from error

    @property
    def is_whole(self) -> bool:
        return self._response.content.is_eof()

    async def read(self) -> bytes:
        if self._decoder is None:
            return await self._read_on()
        try:
            while not (piece := self._decoder.take()):
                data = await self._read_on()
                if not data:
                    if not self._decoder.is_whole:
                        raise _damaged(self._url, "it ended too early")
                    return b""
                self._decoder.feed(data)
        except zlib.error as error:
            raise _damaged(self._url, str(error)) from error
        return piece

    async def _read_on(self) -> bytes:
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


def _translated(error: Exception, url: yarl.URL, proxy: str | None = None) -> AttemptError:  # noqa: C901, PLR0911  a table
    """Say what happened, by the kinds of error that a run knows."""
    where = _host_and_port(url)
    through = f" through the proxy {_host_and_port(yarl.URL(proxy))}" if proxy else ""
    match error:
        case OSError() if error.errno in {errno.EMFILE, errno.ENFILE}:
            message = "no connection: too many open files; raise `ulimit -n` or lower limits.concurrency"
            return _failed(ErrorType.CONNECT, message)
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            return _failed(
                ErrorType.CONNECT,
                f"{where}: bad TLS certificate: {reason}; for a private CA give its bundle in `endpoint.verify`",
                retry=False,
                stops_run="first",
            )
        case aiohttp.ClientProxyConnectionError():
            message = f"the proxy cannot be reached{through.replace(' through the proxy', ':')}: {_reason(error)}"
            return _failed(ErrorType.CONNECT, message, stops_run="first")
        case aiohttp.ClientHttpProxyError():
            message = f"{where}: the proxy{through.removeprefix(' through the proxy')} refuses with {error.status}"
            return _failed(ErrorType.CONNECT, message, stops_run="first")
        case aiohttp.ClientConnectorDNSError():
            return _failed(ErrorType.CONNECT, f"{where}: the name cannot be resolved: {_reason(error)}", stops_run="first")
        case aiohttp.ConnectionTimeoutError():
            hint = f"is the scheme right{'; is this http' if url.scheme == 'https' else ''}?"
            message = f"connect: no connection to {where}{through} within its time (endpoint.timeout.connect); {hint}"
            return _failed(ErrorType.TIMEOUT, message, stops_run="first")
        case aiohttp.ClientSSLError():
            return _failed(
                ErrorType.CONNECT, f"{where}: TLS handshake failed: {_reason(error)}; is it http?", stops_run="first"
            )
        case aiohttp.ClientConnectorError():
            return _failed(ErrorType.CONNECT, f"{where}: no connection: {_reason(error)}", stops_run="first")
        case aiohttp.ClientPayloadError():
            message = f"{where}: the response's body broke off or is damaged{MAY_BE_BILLED}"
            return _failed(ErrorType.INVALID_RESPONSE, message)
        case aiohttp.ClientResponseError():
            # The status that aiohttp gives it was never sent by anybody.
            said = (error.message.splitlines() or [""])[0][:200]
            return _failed(ErrorType.INVALID_RESPONSE, f"{where}: does not speak HTTP: {said}")
        case aiohttp.ServerDisconnectedError():
            message = f"{where}: the connection was closed before an answer came{MAY_BE_BILLED}"
            return _failed(ErrorType.CONNECT, message)
        case _:
            return _failed(ErrorType.CONNECT, f"{where}: the connection broke: {_reason(error)}{MAY_BE_BILLED}")


def _damaged(url: yarl.URL, why: str) -> AttemptError:
    message = f"{_host_and_port(url)}: the response's body broke off or is damaged: it is compressed, and {why}"
    return _failed(ErrorType.INVALID_RESPONSE, message, once=True)


def _host_and_port(url: yarl.URL) -> str:
    return f"{url.host}:{url.port}"


def _reason(error: Exception) -> str:
    """Return the system's words. Without an error number they are not its own, and may hold a URL with a secret in it."""
    number = getattr(error, "errno", None)
    said = getattr(error, "strerror", None)
    return said if isinstance(number, int) and isinstance(said, str) and "://" not in said else type(error).__name__


def _failed(
    error_type: ErrorType, message: str, *, retry: bool = True, once: bool = False, stops_run: str | None = None
) -> AttemptError:
    return AttemptError(Failure(error_type=error_type, message=message), retry=retry, once=once, stops_run=stops_run)
