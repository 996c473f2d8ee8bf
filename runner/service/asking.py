"""The middleware around all handlers, which identifies the caller; and the helpers that handlers share."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from aiohttp import web

from runner import jsontext
from runner.logs import logger
from runner.secrets.redaction import Redactor
from runner.service.datasets import Datasets
from runner.service.questions import Questions
from runner.service.refusals import Refusal, going_down
from runner.service.settings import LOOPBACK, Client, ServiceConfig, client_of
from runner.service.standing import Standings
from runner.service.store import Record, Store
from runner.service.supervisor import Supervisor
from runner.service.watch import Watch
from runner.structs import Struct

__all__ = [
    "SERVICE",
    "Caller",
    "Service",
    "answer",
    "body_of",
    "caller",
    "enter",
    "is_retry",
    "middleware",
    "record_of",
    "with_headers",
]

_log = logger(__name__)
#: Paths for programs. All others are pages for people, who identify themselves with a cookie.
_API = ("/v5/", "/runner/")
#: Paths that need no key.
_OPEN = ("/v5/exports/", "/runner/health")
_WRITTEN_AT_ONCE = 1 << 18
_PORT = re.compile(r":\d*$")
#: The status that nginx logs when a client closes the connection.
_CLIENT_GONE = 499
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Service(Struct):
    """The state that all handlers share."""

    settings: ServiceConfig
    keys: Mapping[str, Client]
    store: Store
    datasets: Datasets
    questions: Questions
    standings: Standings
    supervisor: Supervisor
    watch: Watch
    #: Signs the URLs of exports.
    secret: bytes
    redactor: Redactor


class Caller(Struct, frozen=True):
    """The client and the account of a request."""

    name: str
    account: str


SERVICE: web.AppKey[Service] = web.AppKey("service", Service)
#: The caller of the current request. It is not stored in aiohttp's request: no key for it works in all versions of aiohttp.
_CALLER: ContextVar[Caller] = ContextVar("caller")


def caller(request: web.Request) -> Caller:  # noqa: ARG001  it must be called within a handler
    """Return the caller of the request that is handled now."""
    return _CALLER.get()


def is_retry(request: web.Request) -> bool:
    """Return whether the client marks the request as a retry."""
    count = request.headers.get("x-stainless-retry-count", "0")
    return count.isascii() and count.isdecimal() and int(count[:4]) > 0


def record_of(request: web.Request, named: str | None = None, *, archived: bool = False) -> Record:
    """Return an evaluation of the caller's account, by default the one in the path of the request. Raises Refusal."""
    evaluation_id = request.match_info["id"] if named is None else named
    return request.app[SERVICE].store.get(caller(request).account, evaluation_id, archived=archived)


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response with a value as JSON."""
    body = jsontext.encode(value)
    # A long body is written in chunks, so that other requests are answered in between.
    pieces = body if len(body) <= _WRITTEN_AT_ONCE else io.BytesIO(body)
    return web.Response(body=pieces, status=status, content_type="application/json", headers=headers)


async def body_of(request: web.Request) -> tuple[bytearray, str]:
    """Read a body up to the limit; return it and its SHA-256. Raises Refusal."""
    most, body, digest = request.app[SERVICE].settings.limits.body, bytearray(), hashlib.sha256()
    too_long = Refusal(413, f"the body of a request may have at most {most} bytes", {"Connection": "close"})
    if (request.content_length or 0) > most:
        raise too_long
    try:
        async for piece in request.content.iter_any():
            if len(body) + len(piece) > most:
                raise too_long
            body += piece
            digest.update(piece)
    except web.RequestPayloadError as error:
        what = "the body does not match its Content-Encoding or Transfer-Encoding header; send it without encoding"
        raise Refusal(400, what, {"Connection": "close"}) from error
    return body, digest.hexdigest()


@web.middleware
async def middleware(request: web.Request, handler: Any) -> web.StreamResponse:
    """Identify the caller, and turn errors into answers of the API. Of a bug the answer says nothing but that it happened."""
    service = request.app[SERVICE]
    try:
        _check_host(request, service.settings)
        if request.path.startswith(_API) and not request.path.startswith(_OPEN):
            given = request.headers.get("x-api-key") or request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            enter(service, given, request.headers.get("x-selected-account-id") or "default")
        found: web.StreamResponse = await handler(request)
    except Refusal as refusal:
        found = answer({"detail": refusal.detail}, refusal.status, refusal.headers)
    except web.HTTPException as error:
        allowed = {name: value for name, value in error.headers.items() if name == "Allow"}
        found = answer({"detail": error.reason}, error.status, allowed)
    except ConnectionResetError:
        found = web.Response(status=_CLIENT_GONE)  # nobody reads it
    except OSError as error:
        _log.exception("%s %s failed", request.method, request.path)
        found = answer({"detail": f"the service cannot read or write its files: {error.strerror}"}, 500)
    except Exception:  # noqa: BLE001  a bug fails one request, and only the log has its text
        _log.exception("%s %s failed", request.method, request.path)
        found = answer({"detail": "Internal Server Error"}, 500)
    return found


async def with_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to every response, including streams."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _check_host(request: web.Request, settings: ServiceConfig) -> None:
    """Refuse foreign host names on loopback: a web page elsewhere may have pointed its name here (DNS rebinding)."""
    host = _PORT.sub("", request.host)
    if settings.address[0] in LOOPBACK and host.strip("[]") not in LOOPBACK:
        raise Refusal(403, f"the host {host!r:.80} is not a name of this service")


def enter(service: Service, given: str, account: str) -> None:
    """Set the caller of the current request from its key and account. Raises Refusal."""
    given, account = jsontext.clean(given), jsontext.clean(account)  # a header may not be text, and files hold only text
    if service.supervisor.draining:
        raise going_down()
    client = client_of(service.keys, given) if service.keys else Client("local") if given else None
    if client is None:
        raise Refusal(401, "the key in x-api-key is missing or unknown")
    if client.accounts and account not in client.accounts:
        raise Refusal(403, f"the key is not valid for the account {account!r:.80}")
    _CALLER.set(Caller(client.name, account))
