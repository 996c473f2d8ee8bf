"""The files of a dataset: found by a path, a glob or a URL, and checked for changes."""

from __future__ import annotations

import glob
import hashlib
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import TypeAlias

from runner.datasets.objects import Store
from runner.datasets.remote import RemoteFile, find_remote, is_remote
from runner.errors import DatasetError, DatasetReadError
from runner.logs import logger
from runner.meant import path_meant
from runner.structs import Struct

__all__ = ["Copy", "File", "FileIdentity", "Stamp", "change_of", "find_files", "identify", "size_of", "stamp_of", "written"]

_log = logger(__name__)
_CHUNK = 1 << 20
#: Names of files that this process has open. They mean nothing to another process.
_OPEN_FILES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")

#: A file that readers can read.
File: TypeAlias = Path | RemoteFile
#: Tells whether a local file has changed: device, inode, size and time of change.
Stamp: TypeAlias = tuple[int, int, int, int] | None


class FileIdentity(Struct, frozen=True):
    """The identity of a file when it was read, so that a resume can tell whether the file has changed."""

    name: str
    size: int
    #: The SHA-256 of its bytes, in hex; for an object in a store the store's own mark, such as `etag:…`.
    content: str


class Copy(Struct, frozen=True, weakref=True):
    """A temporary file with rows that are in no other file. It is deleted together with this object."""

    #: The pipe, or a name for the rows.
    of: Path

    def directory(self) -> Path:
        """Make the directory for the file."""
        made = Path(tempfile.mkdtemp(prefix="runner-"))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made


def find_files(patterns: Sequence[str], stop: Event) -> tuple[list[File], dict[Path, Copy]]:
    """Return the files of paths, globs and URLs, and those among them that are copies of pipes. Raises DatasetError."""
    files: list[File] = []
    copies, stores, names = {}, dict[str, Store](), dict[tuple[int, int], Path]()
    for pattern in patterns:
        if is_remote(pattern):
            files += find_remote(pattern, stores, stop)
            continue
        for found in _matches(pattern):
            file, known = found, found.stat()
            if not stat.S_ISREG(known.st_mode) or str(found).startswith(_OPEN_FILES):
                file, copies[file] = _copied(found)
            elif (first := names.setdefault((known.st_dev, known.st_ino), found)) is not found:
                raise DatasetError(
                    f"{pattern}: {found} is the same file as {first}, so its rows would come twice; name it once"
                )
            files.append(file)
    return files, copies


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern)
    try:
        is_there = path.exists()
    except OSError as error:
        raise DatasetError(f"{pattern}: cannot be read: {error.strerror}") from error
    if not is_there and path.is_symlink():
        raise DatasetError(f"{pattern}: is a link to {path.readlink()}, where there is no file")
    if not glob.has_magic(pattern) or is_there:
        if not is_there:
            raise DatasetError(f"{pattern}: there is no such file (the path is relative to {Path.cwd()}){path_meant(pattern)}")
        if path.is_dir():
            raise DatasetError(f"{pattern}: is a directory; name its files, such as {pattern.rstrip('/')}/*.jsonl")
        return [path]
    # pathlib's own glob takes no absolute patterns
    files = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file())  # noqa: PTH207
    if not files:
        raise DatasetError(f"{pattern}: no file matches (the path is relative to {Path.cwd()})")
    return files


def _copied(pipe: Path) -> tuple[Path, Copy]:
    """Copy a pipe into a file, because it can be read only once, and a dataset is read several times. Raises DatasetError."""
    copy = Copy(pipe)
    # A path without an ending, such as /dev/stdin, counts as JSON lines.
    path = copy.directory() / f"rows{''.join(pipe.suffixes[-2:]) or '.jsonl'}"
    try:
        with pipe.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    except OSError as error:
        raise DatasetError(f"{pipe}: cannot be read: {error.strerror}") from error
    _log.warning("%s is not a file, and a resume needs the same rows again: better write them to a file", pipe)
    return path, copy


def written(lines: Iterable[bytes]) -> tuple[Path, Copy]:
    """Write rows that are in no file into a temporary file. Raises DatasetError."""
    copy = Copy(Path("runs"))
    path = copy.directory() / "rows.jsonl"
    try:
        with path.open("wb") as target:
            target.writelines(lines)
    except OSError as error:
        raise DatasetError(f"{path}: the rows of `dataset.runs` cannot be written: {error.strerror}") from error
    return path, copy


def stamp_of(file: File) -> Stamp:
    """Return the stamp of a local file; None if it does not exist."""
    if isinstance(file, RemoteFile):
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def change_of(file: File, before: Stamp) -> str | None:
    """Return how a file has changed since it had its stamp, or None. For an object the store says so when it is read."""
    if isinstance(file, RemoteFile):
        return file.change
    if before is None or (now := stamp_of(file)) == before:
        return None
    return "is gone" if now is None else "was changed"


def size_of(file: File) -> int:
    """Return how many bytes a file has."""
    return file.found.size if isinstance(file, RemoteFile) else file.stat().st_size


def identify(file: File, stop: Event) -> tuple[FileIdentity, int] | None:
    """Return a file's identity and its number of lines, or None if it was stopped. The lines of an object are not counted."""
    if isinstance(file, RemoteFile):
        return FileIdentity(str(file), file.found.size, file.found.content), 0
    digest, size, lines, last = hashlib.sha256(), 0, 0, b"\n"
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                if stop.is_set():
                    return None
                digest.update(chunk)
                size += len(chunk)
                lines += chunk.count(b"\n")
                last = chunk[-1:]
    except OSError as error:
        raise DatasetReadError(str(file), f"cannot be read: {error.strerror}", damaged=False) from error
    return FileIdentity(str(file), size, digest.hexdigest()), lines + (last != b"\n")
