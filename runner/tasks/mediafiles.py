"""Local media: where a `file:` may lead, how it is read, and how long it is kept in memory.

A `file:` is relative to `dataset.media_root`, else to the directory of the dataset's file, else (rows in the config) to that
of the config. If a row gives any part of it, it may lead only below that directory. If it is written in the config itself, it
comes from the author and may lead anywhere.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import stat
import threading
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from runner.structs import Struct, replace
from runner.tasks.mediatype import media_type_of

__all__ = ["DEFAULT_LIMIT", "MediaError", "MediaFiles", "Medium", "encoded", "is_file_url", "medium_of"]

#: 20 MiB: most endpoints accept no more.
DEFAULT_LIMIT = 20 * 1024 * 1024
#: A multiple of 3, so that encoded chunks can be joined, and small, so that no chunk holds the GIL for long.
_PIECE = 3 * (1 << 16)
_KEPT_BYTES = 64 * 1024 * 1024


class MediaError(Exception):
    """A medium that cannot be sent; the message says which and why."""


class Medium(Struct, frozen=True, kw_only=True):
    """A picture, sound, video or document, ready to be sent."""

    media_type: str
    #: The number of its bytes, before encoding.
    size: int
    sha256: str
    base64: bytes
    #: The name of its file, if it has one.
    name: str | None = None


def medium_of(data: bytes, limit: int) -> Medium:
    """Return bytes as a medium. Raises MediaError."""
    if not data:
        raise MediaError("is empty")
    if len(data) > limit:
        raise MediaError(_too_large(len(data), limit))
    media_type = media_type_of(data)
    if media_type is None:
        raise MediaError(f"is not a picture, sound, video or PDF of a known format; it begins with {data[:8]!r}")
    return Medium(media_type=media_type, size=len(data), sha256=hashlib.sha256(data).hexdigest(), base64=encoded(data))


def encoded(data: bytes) -> bytes:
    """Return bytes as base64, made in chunks, so that other threads, such as the event loop's, run in between."""
    pieces = range(0, len(data), _PIECE)
    return b"".join(binascii.b2a_base64(data[start : start + _PIECE], newline=False) for start in pieces)


def is_file_url(value: str) -> bool:
    """Return whether a value names a local file."""
    return value[:5].lower() == "file:"


class MediaFiles:
    """Reads the local files that requests name. A file that many rows name is read once. Safe in several threads."""

    def __init__(
        self,
        *,
        root: Path | None = None,
        directory: Path = Path(),
        limit: int = DEFAULT_LIMIT,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        """Take `dataset.media_root`, the directory for rows that come from no file, and the largest size in bytes.

        `kept_bytes` bounds the base64 that is kept for other rows.
        """
        self.limit = limit
        self._root, self._directory, self._most_bytes = root, directory, kept_bytes
        self._kept: OrderedDict[tuple[str, int, int, int], Medium] = OrderedDict()
        #: How much base64 is kept.
        self.bytes_kept = 0
        self._lock = threading.Lock()

    def check_urls(self, messages: object) -> None:
        """Raise RowError for a URL that must not be sent on. Here every URL may; the service overrides this."""

    def base(self, dataset_file: Path | None) -> Path:
        """Return the directory to which a row's files are relative, and below which they must be."""
        if self._root is not None:
            return self._root
        return self._directory if dataset_file is None else dataset_file.parent

    @property
    def has_root(self) -> bool:
        """Whether `dataset.media_root` is set."""
        return self._root is not None

    def read(self, url: str, base: Path, *, anywhere: bool) -> Medium:
        """Read a `file:` relative to a directory; `anywhere` allows files outside of the directory. Raises MediaError.

        It blocks for as long as the disk does, but never on a pipe or device.
        """
        try:
            path = _resolved(url, base, anywhere=anywhere)
            with self._open(path) as file:
                status = os.fstat(file.fileno())
                key = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
                if (kept := self._find(key)) is not None:
                    return kept
                data = file.read(status.st_size + 1)
        except FileNotFoundError as error:
            raise MediaError(f"there is no such file (the path is relative to {base.resolve()})") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise MediaError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if len(data) != status.st_size:
            raise MediaError("changed while it was read")
        medium = replace(medium_of(data, self.limit), name=path.name)
        self._keep(key, medium)
        return medium

    def _open(self, path: Path) -> BinaryIO:
        # O_NONBLOCK: a pipe opens at once and is refused. Without it, opening a pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._check(os.fstat(descriptor))
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def _check(self, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise MediaError("is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError("is a pipe, socket or device, not a file")
        if status.st_size > self.limit:
            raise MediaError(_too_large(status.st_size, self.limit))

    def _find(self, key: tuple[str, int, int, int]) -> Medium | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: tuple[str, int, int, int], medium: Medium) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = medium
            self.bytes_kept += len(medium.base64)
            while self.bytes_kept > self._most_bytes:
                _, oldest = self._kept.popitem(last=False)
                self.bytes_kept -= len(oldest.base64)


def _too_large(size: int, limit: int) -> str:
    return f"has {size} bytes; dataset.media_limit allows {limit}"


def _resolved(url: str, base: Path, *, anywhere: bool) -> Path:
    """Return the real path of a file, with all links followed. Raises MediaError if it may not be there."""
    path = (base / _path_of(url)).resolve()
    # Checked before anything is opened: an error must not reveal which files exist elsewhere.
    if not anywhere and not path.is_relative_to(base.resolve()):
        raise MediaError(f"leads out of {base.resolve()}, and a row may name only files below it; see `dataset.media_root`")
    return path


def _path_of(url: str) -> str:
    """Return the path of a `file:`: as it is, or percent-decoded if it is a whole URL with `//`."""
    path = url[5:]
    if not path.startswith("//"):
        return path
    host, slash, rest = path[2:].partition("/")
    if not slash or host not in {"", "localhost"}:
        raise MediaError(f"names the host {host!r}; write file:PATH, or file:///PATH for an absolute one")
    return unquote(f"/{rest}")
