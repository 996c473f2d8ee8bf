"""HTTP through aiohttp: what needs TLS or a proxy.

It could carry everything; a plain connection has its own, cheaper way (`http1`), which also knows whether a request came to
the server before its connection broke (`delivery`). Here it cannot be known: the socket is closed before aiohttp tells.
"""

from __future__ import annotations

import io
import re
import ssl
import time
from contextvars import ContextVar
from typing import Any

import aiohttp
import yarl

from runner.endpoint.http import transport_errors
from runner.endpoint.http.client_cert import ClientCert
from runner.endpoint.http.encodings import ACCEPTED
from runner.endpoint.http.transport import Call, NetworkReply, Reply
from runner.errors import AttemptError, ConfigError
from runner.logs import logger
from runner.timers import timeout

__all__ = ["AiohttpTransport"]

_log = logger(__name__)
_LARGE_BODY = 1 << 20
#: What a server's TLS says of the certificate that a client has shown, or has not.
_ALERT = re.compile(r"ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA)\b")
_MISSING = "CERTIFICATE_REQUIRED"
#: A kept connection that the server had closed shows it at once; what breaks later was being worked on.
_STALE_S = 1.0


class AiohttpTransport:
    """The network, through one aiohttp session."""

    def __init__(
        self,
        *,
        connections: int,
        connect_timeout: float,
        verify: bool | str,
        cert: ClientCert | None = None,
        proxy: str | None = None,
    ) -> None:
        """Open the session; must be called in a running loop.

        `connections` bounds the pool, `connect_timeout` is in seconds, `verify` as in the config. Raises ConfigError.
        """
        self._urls: dict[str, yarl.URL] = {}
        self._proxy = proxy
        if proxy is not None:
            _log.info("requests go through the proxy %s", _host_and_port(yarl.URL(proxy)))
        self._connector = _Connector(connect_timeout, limit=connections, ssl=_tls(verify, cert), ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # What is decompressed is bounded by us: aiohttp would do it whole.
            auto_decompress=False,
            headers={"Accept-Encoding": ACCEPTED},
            # The connector times the connection, and the client the phases of an attempt, which it knows.
            timeout=aiohttp.ClientTimeout(total=None),
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
                    if call.resending is not None:
                        call.resending()
                    continue  # it may be that nobody has read the request: it is sent again at once, and is no failure
                raise _translated(error, url, self._proxy) from error
            return _SessionReply(response, url)

    def make_room(self, connections: int) -> None:
        """Let so many connections be open at once, where that is more than before."""
        self._connector.make_room(connections)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _payload(content: bytes) -> bytes | io.BytesIO | None:
    """Return a body as aiohttp takes it: a large one, with pictures in it, is written in pieces, and others have their turn."""
    return io.BytesIO(content) if len(content) > _LARGE_BODY else content or None


#: Whether the request at hand opened a connection of its own; aiohttp asks its connector in the task that sends.
_opened: ContextVar[bool] = ContextVar("opened", default=False)


class _Connector(aiohttp.TCPConnector):
    """Times connections, which aiohttp does without regard to a program that stood still, and notes which requests open one.

    A trace would tell the latter too, but it costs all requests a share of their time.
    """

    def __init__(self, connect_timeout: float, **options: Any) -> None:
        super().__init__(**options)
        self._connect_timeout = connect_timeout

    def make_room(self, connections: int) -> None:
        self._limit = max(self._limit, connections)

    async def _create_connection(self, *arguments: Any) -> Any:
        _opened.set(True)
        async with timeout(self._connect_timeout):
            return await super()._create_connection(*arguments)

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        """Drop a TLS connection at once: a goodbye that nobody waits for would leave its socket open when the loop ends."""
        transport = protocol.transport
        super()._release(key, protocol, should_close=should_close)
        if key.is_ssl and transport is not None and transport.is_closing():
            transport.abort()


class _SessionReply(NetworkReply):
    """A reply of aiohttp's."""

    __slots__ = ("_response", "_url")

    def __init__(self, response: aiohttp.ClientResponse, url: yarl.URL) -> None:
        self._response = response
        self._url = url
        super().__init__(_host_and_port(url), response.status, response.headers)

    async def _read_on(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, self._url) from error

    def close(self, *, answered: bool = False) -> None:  # noqa: ARG002  aiohttp knows no such thing
        # aiohttp's release() drops a connection whose body was not read to its end.
        self._response.release()


def _tls(verify: bool | str, cert: ClientCert | None) -> ssl.SSLContext | bool:
    if isinstance(verify, bool) and cert is None:
        return verify
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"endpoint.verify: {verify}: is no CA bundle that can be read: {error}"]) from error
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert is not None:
        try:
            cert.load(context)
        except ValueError as error:
            raise ConfigError([f"endpoint.cert: {error}"]) from error
    return context


def _translated(error: Exception, url: yarl.URL, proxy: str | None = None) -> AttemptError:  # noqa: C901, PLR0911  a table
    """Say what happened, by the kinds of error that a run knows; of aiohttp's, the special ones come first."""
    where = _host_and_port(url)
    through = f" through the proxy {_host_and_port(yarl.URL(proxy))}" if proxy else ""
    if alert := _ALERT.search(str(error)):
        return transport_errors.client_certificate(where, alert[1], is_missing=alert[1] == _MISSING)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            hint = "for a private CA give its bundle in `endpoint.verify`"
            return transport_errors.without_connection(f"{where}: bad TLS certificate: {why}; {hint}", retry=False)
        case aiohttp.ClientProxyConnectionError():
            named = through.replace(" through the proxy", ":")
            return transport_errors.without_connection(f"the proxy cannot be reached{named}: {transport_errors.reason(error)}")
        case aiohttp.ClientHttpProxyError():
            named = through.removeprefix(" through the proxy")
            return transport_errors.without_connection(f"{where}: the proxy{named} refuses with {error.status}")
        case aiohttp.ClientConnectorDNSError():
            return transport_errors.no_name(where, error)
        case aiohttp.ConnectionTimeoutError():
            return transport_errors.connection_timed_out(f"{where}{through}", tls=url.scheme == "https")
        case aiohttp.ClientSSLError():
            return transport_errors.without_connection(
                f"{where}: TLS handshake failed: {transport_errors.reason(error)}; is it http?"
            )
        case aiohttp.ClientConnectorError():
            return transport_errors.no_connection(where, error)
        case aiohttp.ClientPayloadError():
            return transport_errors.body_broke_off(where)
        case aiohttp.ClientResponseError():
            return transport_errors.no_http(where, error.message.partition(":")[0])  # what follows are bytes of the server's
        case aiohttp.ServerDisconnectedError():
            return transport_errors.closed_early(where)
        case _:
            return transport_errors.broke(where, error)


def _host_and_port(url: yarl.URL) -> str:
    return f"{url.host}:{url.port}"
