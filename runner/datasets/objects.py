"""Objects in stores elsewhere: what is known of one, and what a store of them has to do."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from runner.structs import Struct

__all__ = ["GoneError", "Object", "PassingError", "Store", "StoreError", "close_with", "of_status"]

_MISSING = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_REPLACED = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_CLOSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class StoreError(Exception):
    """A store gives no object, and why; the words hold no secrets and no query of a URL."""


class PassingError(StoreError):
    """It may give it soon: a connection broke, or it has too much to do."""


class GoneError(StoreError):
    """It has no such object, or not as it was."""


class Object(Struct, frozen=True):
    """An object as it was found."""

    #: What its store calls it; it may hold secrets.
    key: str
    #: Its URL, without secrets.
    url: str
    size: int
    #: What its content is known by: `etag:…`, `generation:…` or `modified:…`, or a SHA-256 in hex. Empty where nothing is.
    content: str


class Store(Protocol):
    """Where objects of one kind of URL are."""

    def find(self, url: str) -> Sequence[Object]:
        """Return the object of a URL, or all that a glob matches, by name. Raises StoreError."""

    async def read(self, found: Object, start: int, end: int, into: bytearray) -> None:
        """Append the bytes from `start` to before `end`, as far as they come, if it still is as it was. Raises StoreError."""


def of_status(status: int, what: str) -> StoreError:
    """Return what the HTTP status of a refusal means; `what` are the server's words."""
    said = f"{status} {what}".rstrip()
    if status in _MISSING:
        return GoneError(f"there is no such object ({said})")
    if status in _REPLACED:
        return GoneError(said)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return PassingError(said)
    return StoreError(f"access is refused ({said})" if status in _CLOSED else said)


def close_with(store: object, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let a library's connections be closed once a store is gone: by itself it does so in a tenth of a second, or never."""
    weakref.finalize(store, _close, close)


def _close(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    from fsspec.asyn import get_loop

    asyncio.run_coroutine_threadsafe(close(), get_loop())
