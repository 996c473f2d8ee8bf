"""HTTP through aiohttp, for endpoints that need TLS or a proxy.

aiohttp could carry plain connections as well, but `http1` is cheaper. It also knows whether a request reached the server before
its connection broke (`delivery`). Here that is unknown, because the socket is closed before aiohttp reports the failure.
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
#: The TLS alert of a server that rejects the client's certificate, or got none.
_ALERT = re.compile(r"ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA)\b")
_MISSING = "CERTIFICATE_REQUIRED"
#: A kept connection that the server had closed fails within this time. If it breaks later, the server was working on the
#: request.
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
        """Open the session. Call it in a running loop.

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
            # We decompress ourselves in chunks of bounded size; aiohttp would decompress everything at once.
            auto_decompress=False,
            headers={"Accept-Encoding": ACCEPTED},
            # The connector times the connection; the client knows and times the phases of an attempt.
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
                    continue  # the server may not have read the request: it is sent again at once, which is no failure
                raise _translated(error, url, self._proxy) from error
            return _SessionReply(response, url)

    def make_room(self, connections: int) -> None:
        """Allow this many open connections; a lower number changes nothing."""
        self._connector.make_room(connections)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _payload(content: bytes) -> bytes | io.BytesIO | None:
    """Return a body for aiohttp. A large one, such as one with images, is written in chunks, so that other tasks can run."""
    return io.BytesIO(content) if len(content) > _LARGE_BODY else content or None


#: Whether the current request opened a new connection. aiohttp calls its connector in the task that sends.
_opened: ContextVar[bool] = ContextVar("opened", default=False)


class _Connector(aiohttp.TCPConnector):
    """Times the opening of connections, and notes which requests open one.

    aiohttp's own timeout would also fire after a stall of this program. An aiohttp trace would report new connections too, but
    it slows down all requests.
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
        """Drop a TLS connection at once: a TLS shutdown that nothing awaits would leave its socket open when the loop ends."""
        transport = protocol.transport
        super()._release(key, protocol, should_close=should_close)
        if key.is_ssl and transport is not None and transport.is_closing():
            transport.abort()


class _SessionReply(NetworkReply):
    """A reply through aiohttp."""

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

    def close(self, *, answered: bool = False) -> None:  # noqa: ARG002  aiohttp has no use for it
        # aiohttp's release() drops a connection whose body was not read to its end.
        self._response.release()


def _tls(verify: bool | str, cert: ClientCert | None) -> ssl.SSLContext | bool:
    if isinstance(verify, bool) and cert is None:
        return verify
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"endpoint.verify: {verify}: cannot be read as a CA bundle: {error}"]) from error
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert is not None:
        try:
            cert.load(context)
        except ValueError as error:
            raise ConfigError([f"endpoint.cert: {error}"]) from error
    return context


def _translated(error: Exception, url: yarl.URL, proxy: str | None = None) -> AttemptError:  # noqa: C901, PLR0911  a table
    """Return the AttemptError for an error of aiohttp. Subclasses are matched before their bases."""
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
            return transport_errors.no_http(where, error.message.partition(":")[0])  # after the colon come bytes of the server
        case aiohttp.ServerDisconnectedError():
            return transport_errors.closed_early(where)
        case _:
            return transport_errors.broke(where, error)


def _host_and_port(url: yarl.URL) -> str:
    return f"{url.host}:{url.port}"
