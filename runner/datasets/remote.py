"""Remote files: objects of stores, read in ranges, so that no connection stays open while rows wait to be asked.

A range that breaks off is continued where it broke, a few times; then the file is unreadable. A library is loaded only when a
path needs it.
"""

from __future__ import annotations

import concurrent.futures
import io
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import PurePosixPath
from threading import Event
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from runner.datasets.objects import GoneError, Object, PassingError, Store, StoreError
from runner.errors import DatasetError
from runner.logs import logger

__all__ = ["RemoteFile", "RemoteReader", "find_remote", "is_remote", "known_by", "what_is_wrong", "without_query"]

_T = TypeVar("_T")

_log = logger(__name__)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "s3": ("fsspec", "s3fs"),
    "gs": ("fsspec", "gcsfs"),
    "hf": ("fsspec", "huggingface_hub"),
    "http": ("fsspec",),
    "https": ("fsspec",),
}
#: The size of the first range of a file. It doubles up to the largest as long as the file is read in order.
_FIRST_RANGE = 1 << 17
_LARGEST_RANGE = 1 << 22
#: The pauses after each time in a row that a range breaks off without a byte. Their number is the number of retries.
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
#: How often a thread that waits for a range checks whether the range is still needed.
_LOOK_EVERY_S = 0.1


def is_remote(path: str) -> bool:
    """Return whether a path is a URL."""
    return _URL.match(path) is not None


def without_query(path: str) -> str:
    """Return a path without the query of a URL, which may hold a signature."""
    return path.partition("?")[0] if path.startswith(("http://", "https://")) else path


def what_is_wrong(path: str) -> str | None:
    """Return why no file can be read from a path, or None. Nothing is sent."""
    if not is_remote(path):
        return None
    scheme, _, rest = path.partition("://")
    shown = without_query(path)
    if scheme != "hf" and "@" in rest.partition("/")[0]:
        return "must not hold a user or password; credentials come from the environment"
    if scheme not in _NEEDED:
        return f"{shown!r}: there is no reader of {scheme}://; known are {', '.join(f'{name}://' for name in _NEEDED)}"
    if absent := [package for package in _NEEDED[scheme] if find_spec(package) is None]:
        return f"{shown!r} needs {' and '.join(absent)}, which is not installed: pip install 'batch-eval-runner[remote]'"
    return None


def _store_of(scheme: str) -> Store:
    if scheme in {"s3", "gs"}:
        from runner.datasets.buckets import GoogleBuckets, S3Buckets

        return S3Buckets() if scheme == "s3" else GoogleBuckets()
    from runner.datasets.websites import Hub, Website

    return Hub() if scheme == "hf" else Website()


def find_remote(url: str, stores: dict[str, Store], stop: Event) -> Sequence[RemoteFile]:
    """Return the file of a URL, or all files that its glob matches. Raises DatasetError.

    `stores` holds the stores that were used before, by the schemes of their URLs. Once `stop` is set, reading no longer waits.
    """
    if what := what_is_wrong(url):
        raise DatasetError(what)
    scheme = url.partition("://")[0]
    if (store := stores.get(scheme)) is None:
        store = stores[scheme] = _store_of(scheme)
    try:
        objects = _again_and_again(partial(store.find, url), stop)
    except StoreError as error:
        raise DatasetError(f"{without_query(url)}: {error}") from error
    if not objects:
        raise DatasetError(f"{without_query(url)}: no object matches")
    for found in objects:
        if not found.content:
            _log.warning("%s: its server sends neither ETag nor Last-Modified, so a resume compares only its size", found.url)
    return [RemoteFile(found, store, url, stop) for found in objects]


class RemoteFile:
    """An object of a store, with the methods of a file that readers use. Its text is its URL without secrets."""

    def __init__(self, found: Object, store: Store, pattern: str, stop: Event) -> None:
        """Take the object, its store, and the pattern that found it."""
        self.found = found
        self._store, self._pattern, self._stop = store, pattern, stop
        is_web = found.url.startswith(("http://", "https://"))  # in other stores % and # are part of a name
        path = PurePosixPath(unquote(urlsplit(found.url).path) if is_web else found.url)
        self.name, self.suffix, self.suffixes = path.name, path.suffix, path.suffixes
        #: How it has changed, once a change was seen.
        self.change: str | None = None

    def __str__(self) -> str:
        return self.found.url

    def open(self, mode: Literal["rb"] = "rb", buffering: Literal[0] = 0) -> RemoteReader:  # noqa: ARG002  as a path has
        """Return its bytes as an unbuffered file."""
        return RemoteReader(self)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`. Raises OSError."""
        data = bytearray()

        def read_more() -> None:
            had = len(data)
            try:
                self._wait(self._store.read(self.found, start + had, end, data))
            except PassingError:
                if len(data) == had:
                    raise
            if len(data) == had:
                raise PassingError("the connection ended early")

        try:
            while len(data) < end - start:
                _again_and_again(read_more, self._stop)
        except GoneError as error:
            self.change = self._changed()
            raise _UnreadableError(self.change) from error
        except StoreError as error:
            raise _UnreadableError(str(error)) from error
        return bytes(data)

    def _changed(self) -> str:
        try:
            now = next((one for one in self._store.find(self._pattern) if one.url == self.found.url), None)
        except GoneError:
            now = None
        except StoreError:
            return "was changed"
        if now is None:
            return "is gone"
        return f"was changed: was {known_by(self.found.size, self.found.content)}, is {known_by(now.size, now.content)}"

    def _wait(self, reading: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of a coroutine, which runs on the event loop of the library's own thread."""
        import asyncio

        from fsspec.asyn import get_loop

        future = asyncio.run_coroutine_threadsafe(reading, get_loop())
        try:
            while not concurrent.futures.wait([future], _LOOK_EVERY_S).done and not self._stop.is_set():
                pass
            if future.done():
                return future.result()
        finally:
            future.cancel()
        raise StoreError("it is no longer needed")


class _UnreadableError(OSError):
    """A file that cannot be read, or not to its end, although its content is not damaged."""

    def __init__(self, what: str) -> None:
        super().__init__(5, what)  # with a number: see `read_rows`


def known_by(size: int, content: str) -> str:
    """Return a description of a file's size and content, for messages."""
    kind, mark, value = content.partition(":")
    if mark:
        return f"{size} bytes ({'ETag' if kind == 'etag' else kind} {value})"
    return f"{size} bytes (sha256 {content[:12]}…)" if content else f"{size} bytes"


class RemoteReader(io.RawIOBase):
    """A remote file that is read in ranges. They grow as long as it is read in order, and only one is held."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._size = file, file.found.size
        self._at = self._start = 0
        self._range = b""
        self._next_length = _FIRST_RANGE

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another offset, without reading."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, unless the file ends before. Raises OSError."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._at < self._size:
            inside = self._at - self._start
            if not 0 <= inside < len(self._range):
                self._read_range(len(view) - filled)
                inside = 0
            piece = memoryview(self._range)[inside : inside + len(view) - filled]
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
            self._at += len(piece)
        return filled

    def _read_range(self, wanted: int) -> None:
        is_next = self._at == self._start + len(self._range)
        self._next_length = min(self._next_length * 2, _LARGEST_RANGE) if is_next and self._range else _FIRST_RANGE
        self._range = b""  # else it would be held together with the next one
        self._range = self._file.read(self._at, min(self._at + max(wanted, self._next_length), self._size))
        self._start = self._at


def _again_and_again(act: Callable[[], _T], stop: Event) -> _T:
    """Return the result of an action that may fail for a while, after some retries. Raises StoreError."""
    for pause in _PAUSES_S:
        try:
            return act()
        except PassingError as error:
            _log.info("a store does not answer; it is asked again in %g s: %s", pause, error)
            if stop.wait(pause):
                raise
    return act()
