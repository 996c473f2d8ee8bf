"""Objects in remote stores: the description of an object, and the interface of a store."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol

from runner.structs import Struct

__all__ = ["GoneError", "Object", "PassingError", "Store", "StoreError", "close_with", "of_status"]

_MISSING = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_REPLACED = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_CLOSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class StoreError(Exception):
    """A store does not give an object. The message holds no secrets, and no query of a URL."""


class PassingError(StoreError):
    """The store may give it soon: a connection broke, or the store is overloaded."""


class GoneError(StoreError):
    """The store has no such object, or the object has changed."""


class Object(Struct, frozen=True):
    """An object as it was found."""

    #: Its name in the store, which may hold secrets.
    key: str
    #: Its URL, without secrets.
    url: str
    size: int
    #: The identity of its content: `etag:…`, `generation:…`, `modified:…`, or a SHA-256 in hex. Empty if there is none.
    content: str


class Store(Protocol):
    """A store of objects, for one kind of URL."""

    def find(self, url: str) -> Sequence[Object]:
        """Return the object of a URL, or all that a glob matches, by name. Raises StoreError."""

    async def read(self, found: Object, start: int, end: int, into: bytearray) -> None:
        """Append the bytes from `start` to before `end`, as far as they come. Raises StoreError, also for a changed object."""


def of_status(status: int, what: str) -> StoreError:
    """Return the error that the HTTP status of a refusal means; `what` is the server's message."""
    said = f"{status} {what}".rstrip()
    if status in _MISSING:
        return GoneError(f"there is no such object ({said})")
    if status in _REPLACED:
        return GoneError(said)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return PassingError(said)
    return StoreError(f"access is refused ({said})" if status in _CLOSED else said)


def close_with(store: object, files: Any) -> None:
    """Close the connections of a library's file system once a store is gone.

    By itself the library does so after a tenth of a second, or never.
    """
    weakref.finalize(store, _close, files)


def _close(files: Any) -> None:
    from fsspec.asyn import get_loop

    asyncio.run_coroutine_threadsafe(_leave(files), get_loop())


async def _leave(files: Any) -> None:
    creator, session = getattr(files, "_s3creator", None), getattr(files, "_session", None)
    if creator is not None:
        await creator.__aexit__(None, None, None)
    elif session is not None:
        await session.close()
