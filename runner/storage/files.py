"""The file system as the storage uses it: one small object makes, changes, syncs and renames all files.

A test passes in another object, which lets a call fail or records all calls.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["FILES", "FileSystem", "OutputFile", "opened", "replace", "write_all"]


class FileSystem:
    """The operating system's files. Every method but `close` may raise OSError."""

    def open(self, path: Path, flags: int) -> int:
        """Open a file and return its handle. A new file is for its owner alone."""
        return os.open(path, flags, 0o600)

    def close(self, handle: int) -> None:
        """Close a handle. Errors are ignored: content that has to be safe is synced before."""
        with suppress(OSError):
            os.close(handle)

    def write(self, handle: int, content: bytes) -> int:
        """Write as much as the system takes at once; return the number of bytes."""
        return os.write(handle, content)

    def pread(self, handle: int, length: int, offset: int) -> bytes:
        """Read up to `length` bytes of a file, from an offset."""
        return os.pread(handle, length, offset)

    def truncate(self, handle: int, length: int) -> None:
        """Cut a file to a length in bytes."""
        os.ftruncate(handle, length)

    def allocate(self, handle: int, length: int) -> None:
        """Reserve room on the disk for a file of `length` bytes."""
        os.posix_fallocate(handle, 0, length)

    def fdatasync(self, handle: int) -> None:
        """Wait until a file's content survives a power loss."""
        os.fdatasync(handle)

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in a directory survive a power loss."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def make_directory(self, path: Path) -> None:
        """Make a directory, for its owner alone. Raises FileExistsError."""
        path.mkdir(mode=0o700)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, in place of a file that has the new name."""
        old.replace(new)

    def symlink(self, target: str, path: Path) -> None:
        """Make a symbolic link."""
        path.symlink_to(target)

    def unlink(self, path: Path) -> None:
        """Delete a file if it is there."""
        path.unlink(missing_ok=True)

    def lock(self, handle: int, *, wait: bool, shared: bool = False) -> None:
        """Lock a file for this process until the handle is closed. Several processes may hold a shared lock.

        Raises BlockingIOError if the file is locked and `wait` is False.
        """
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))

    def size(self, handle: int) -> int:
        """Return the size of a file in bytes."""
        return os.fstat(handle).st_size

    def identity(self, file: Path | int) -> tuple[int, int]:
        """Return the device and inode of a file, which differ from those of all other files."""
        found = os.fstat(file) if isinstance(file, int) else file.stat()
        return found.st_dev, found.st_ino


#: The real file system.
FILES = FileSystem()


@contextmanager
def opened(files: FileSystem, path: Path, flags: int) -> Iterator[int]:
    """Open a file within a block, which gets the handle. Raises OSError."""
    handle = files.open(path, flags)
    try:
        yield handle
    finally:
        files.close(handle)


def write_all(files: FileSystem, handle: int, content: bytes) -> None:
    """Write all of the content, even if the system takes only a part at a time. Raises OSError."""
    while content:
        with suppress(InterruptedError):
            content = content[files.write(handle, content) :]


def replace(files: FileSystem, path: Path, content: bytes) -> None:
    """Write a temporary file, sync it and rename it to `path`: a reader finds either the old file or the new one, whole.

    Raises OSError; then the old file is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with opened(files, temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as handle:
            write_all(files, handle, content)
            files.fdatasync(handle)
        files.rename(temporary, path)
        files.sync_directory(path.parent)
    except OSError:
        with suppress(OSError):
            files.unlink(temporary)
        raise


class OutputFile(io.RawIOBase):
    """A file that is written from beginning to end, for a library that needs a file object."""

    def __init__(self, files: FileSystem, path: Path) -> None:
        """Make the file, empty. Raises OSError."""
        super().__init__()
        self._files = files
        self._written = 0
        self._handle: int | None = None  # the collector calls `close` too, even if the file cannot be opened
        self._handle = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, content: bytes | memoryview) -> int:  # type: ignore[override]  # Arrow passes a buffer of bytes
        """Write all of it. Raises OSError."""
        data = bytes(content)
        assert self._handle is not None, "it is closed"
        write_all(self._files, self._handle, data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._written

    def sync(self) -> None:
        """Wait until everything survives a power loss. Raises OSError."""
        assert self._handle is not None, "it is closed"
        self._files.fdatasync(self._handle)

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, None
        try:
            if handle is not None:
                self._files.close(handle)
        finally:
            super().close()
