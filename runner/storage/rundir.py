"""The run directory: its names, its lock, and evaluation.json, which is always whole."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from runner import jsontext
from runner.errors import RunDirError, StorageError
from runner.storage.files import FILES, FileSystem, replace, write_all

__all__ = ["LATEST", "RunDir", "check_latest", "latest_of", "run_at", "run_directories"]

#: The link to the latest run of an evaluation that has an answer or finished.
LATEST = "latest"

_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
#: The content of a lock file.
_OWNER = re.compile(r"pid (?P<pid>\d+) on (?P<host>.+) since (?P<since>.+)")


class RunDir:
    """One run's directory, `<output>/<name>/<run id>/`."""

    def __init__(self, path: Path, files: FileSystem = FILES) -> None:
        self.path = path
        self.run_id = path.name
        self.journal = path / "journal"
        self.config = path / "config.yaml"
        self.files = files
        self._lock: int | None = None
        #: Whether it was made for this run alone. Its neighbours are not runs of the same evaluation, so no `latest` is needed.
        self.stands_alone = False
        #: Why nothing can be written here, if `lock` was called with `or_read`.
        self.read_only: RunDirError | None = None

    @classmethod
    def create(cls, output: Path, name: str, files: FileSystem = FILES) -> RunDir:
        """Make the directory of a new run and lock it. Raises RunDirError."""
        run = cls(output / name / _new_run_id(output / name), files)
        try:
            for parent in reversed(run.path.parents):
                if not parent.exists():
                    with suppress(FileExistsError):  # another run was faster
                        _make_directory(files, parent)
            _make_directory(files, run.path)
            _make_directory(files, run.journal)
        except OSError as error:
            raise RunDirError(
                f"{run.path}: cannot be made: {error.strerror}; is `output` a directory you can write to?"
            ) from error
        run.lock()
        return run

    @classmethod
    def made(cls, path: Path, files: FileSystem = FILES) -> RunDir:
        """Take a directory that was made for a run, and lock it. Raises RunDirError."""
        run = cls(path, files)
        run.stands_alone = True
        try:
            if not run.journal.exists():
                _make_directory(files, run.journal)
        except OSError as error:
            raise RunDirError(f"{run.journal}: cannot be made: {error.strerror}") from error
        run.lock()
        return run

    def lock(self, *, or_read: bool = False) -> None:
        """Lock the directory for this process. Raises RunDirError, which names the owner, if it is locked already.

        With `or_read` a directory that is not writable is left without a lock, and `read_only` says why.

        On the same host the kernel knows if the owner still runs. For another host that cannot be known here: its lock holds
        until the owner releases it, or until a user deletes the file.
        """
        path, files = self.path / "lock", self.files
        try:
            handle = files.open(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            closed = RunDirError(f"{path}: cannot be opened: {error.strerror}")
            if or_read and error.errno in _READ_ONLY:
                self.read_only = closed
                return
            raise closed from error
        try:
            self._take(handle)
        except OSError as error:
            files.close(handle)
            raise RunDirError(f"{path}: cannot be locked: {error.strerror}") from error
        except RunDirError:
            files.close(handle)
            raise
        self._lock = handle
        for left in self.path.glob(".*.[0-9]*.tmp"):  # left by a run that was killed
            with suppress(OSError):
                files.unlink(left)

    def lock_shared(self) -> None:
        """Take a shared lock of the directory. Raises RunDirError if a process has locked it exclusively."""
        path = self.path / "lock"
        try:
            handle = self.files.open(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RunDirError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            self._hold(handle, shared=True)
            if not self._is_elsewhere(handle):
                self.files.truncate(handle, 0)  # its owner was killed
        except OSError:  # a file system without locks: each process writes its own segment, so it needs none
            self.files.close(handle)
            return
        except RunDirError:
            self.files.close(handle)
            raise
        self._lock = handle

    def _take(self, handle: int) -> None:
        files = self.files
        self._hold(handle)
        if self._is_elsewhere(handle):
            raise RunDirError(
                f"{self.path}: is in use by {self._known_owner(handle)}, and {socket.gethostname()} cannot see if that still "
                f"runs; wait for it, or make sure that it has ended and delete {self.path / 'lock'}"
            )
        files.truncate(handle, 0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_all(files, handle, f"pid {os.getpid()} on {socket.gethostname()} since {now}\n".encode())

    @property
    def is_live(self) -> bool:
        """Whether a process works on this run; True too if that cannot be known because its host is another."""
        files = self.files
        try:
            handle = files.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            owner = _OWNER.fullmatch(self._known_owner(handle))
            if owner is None:
                return False
            files.lock(handle, wait=False)
        except OSError:
            return True
        finally:
            files.close(handle)
        return owner["host"] != socket.gethostname()

    def _hold(self, handle: int, *, shared: bool = False) -> None:
        try:
            self.files.lock(handle, wait=False, shared=shared)
        except BlockingIOError as error:
            known = self._known_owner(handle) or "another process"
            raise RunDirError(f"{self.path}: is in use by {known}; wait for it, or end it") from error

    def _is_elsewhere(self, handle: int) -> bool:
        """Return whether the lock file names an owner on another host."""
        owner = _OWNER.fullmatch(self._known_owner(handle))
        return owner is not None and owner["host"] != socket.gethostname()

    def _known_owner(self, handle: int) -> str:
        return self.files.pread(handle, 1000, 0).decode(errors="replace").strip()

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            with suppress(OSError):
                self.files.truncate(self._lock, 0)
            self.files.close(self._lock)
            self._lock = None

    @contextmanager
    def making_views(self) -> Iterator[None]:
        """Wait until no other process makes the Parquet files of this run, such as `export` does. Raises StorageError.

        If the run and an `export` both make them, the later ones stay.
        """
        try:
            handle = self.files.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be opened: {error.strerror}") from error
        try:
            with suppress(OSError):  # a file system without locks; two exports at the same moment are rare
                self.files.lock(handle, wait=True)
            yield
        finally:
            self.files.close(handle)

    def write_config(self, text: str) -> None:
        """Write the config, re-runnable and without secrets. Raises StorageError."""
        self.write_file(self.config.name, text.encode())

    def write_rows(self, rows: Iterable[bytes]) -> Path:
        """Write rows of JSON that are in no other file; return the path. Raises StorageError."""
        self.write_file("data.jsonl", b"".join(row + b"\n" for row in rows))
        return self.path / "data.jsonl"

    def write_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Replace evaluation.json in one step. Raises StorageError."""
        self.write_file("evaluation.json", msgspec.json.format(jsontext.encode(evaluation), indent=2) + b"\n")

    def write_file(self, name: str, content: bytes) -> None:
        """Replace a file of the run in one step. Raises StorageError."""
        try:
            replace(self.files, self.path / name, content)
        except OSError as error:
            raise StorageError(f"{self.path / name}: cannot be written: {error.strerror}") from error

    def read_evaluation(self) -> dict[str, Any]:
        """Return the content of evaluation.json, or {} if it is missing or not readable."""
        try:
            found = jsontext.decode((self.path / "evaluation.json").read_bytes())
        except (OSError, jsontext.JsonError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def is_completed(self) -> bool:
        """Whether evaluation.json says that the run has finished."""
        return bool(self.read_evaluation().get("status") == "completed")

    def point_latest_here(self) -> None:
        """Point the link `<output>/<name>/latest` to this run. Raises StorageError."""
        if self.stands_alone:
            return
        directory = self.path.parent
        temporary = directory / f".latest.{os.getpid()}"
        try:
            self.files.unlink(temporary)
            self.files.symlink(self.path.name, temporary)
            self.files.rename(temporary, directory / LATEST)
            self.files.sync_directory(directory)
        except OSError as error:
            with suppress(OSError):
                self.files.unlink(temporary)
            raise StorageError(f"{directory / LATEST}: cannot be made: {error.strerror}") from error

    @property
    def is_latest(self) -> bool:
        """Whether `latest` points to this run."""
        return latest_of(self.path.parent) == self.path


def run_directories(directory: Path, files: FileSystem = FILES) -> list[RunDir]:
    """Return the runs of an evaluation, which share a directory, in the order of their names."""
    found = [path for path in directory.glob("*") if (path / "journal").is_dir() and not path.is_symlink()]
    return [RunDir(path, files) for path in sorted(found, key=lambda path: path.name)]


def latest_of(directory: Path) -> Path | None:
    """Return the run that `latest` points to; None if it does not point to a run of this directory."""
    try:
        found = (directory / LATEST).resolve(strict=True)
        is_one = found.parent == directory.resolve() and (found / "journal").is_dir()
    except (OSError, RuntimeError):  # a link to itself raises the one or the other
        return None
    return directory / found.name if is_one else None


def run_at(directory: Path) -> RunDir:
    """Return the run in a directory, which may be the link `latest`. Raises RunDirError if there is none."""
    if directory.name == LATEST and not directory.exists():
        there = ", ".join(run.path.name for run in run_directories(directory.parent)) or "none"
        raise RunDirError(f"{directory}: points to no run, because nothing was answered yet; name one of these: {there}")
    if not (directory / "journal").is_dir():
        raise RunDirError(
            f"{directory}: is not a run directory (it has no journal); name a run as results/NAME/RUN_ID or results/NAME/latest"
        )
    return RunDir(directory.resolve())


def check_latest(directory: Path) -> None:
    """Raise RunDirError if a file or directory has the name of the link."""
    link = directory / LATEST
    if link.exists() and not link.is_symlink():
        what = "a directory" if link.is_dir() else "a file"
        raise RunDirError(f"{link}: is {what}, and must be a link to the latest run; move or rename it")


def _make_directory(files: FileSystem, path: Path) -> None:
    """Make a directory whose name survives a power loss."""
    files.make_directory(path)
    files.sync_directory(path.parent)


def _new_run_id(directory: Path) -> str:
    """Return a name that sorts after the names of all earlier runs, even of the same second."""
    second = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    taken = [int(path.name[-4:], 16) for path in directory.glob(f"{second}-{'[0-9a-f]' * 4}")]
    number = max(taken) + 1 if taken else secrets.randbelow(0xF000)
    return f"{second}-{number:04x}"
