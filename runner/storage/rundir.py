"""The run directory: its names, its lock, and evaluation.json, which is always whole."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from runner import jsontext
from runner.errors import RunDirError, StorageError

__all__ = ["RunDir", "run_directories"]


class RunDir:
    """One run's directory, `<output>/<name>/<run id>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self.journal = path / "journal"
        self.config = path / "config.yaml"
        self._lock: int | None = None

    @classmethod
    def create(cls, output: Path, name: str) -> RunDir:
        """Make the directory of a new run and lock it. Raises RunDirError."""
        run = cls(output / name / _new_run_id(output / name))
        try:
            run.path.mkdir(parents=True, mode=0o700)
            run.journal.mkdir(mode=0o700)
        except OSError as error:
            raise RunDirError(
                f"{run.path}: cannot be made: {error.strerror}; is `output` a directory you can write to?"
            ) from error
        run.lock()
        return run

    def lock(self) -> None:
        """Take the directory for this process, until it ends. Raises RunDirError naming the owner where it is taken."""
        path = self.path / "lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise RunDirError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 1000, 0).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise RunDirError(f"{self.path}: is in use by {owner}; wait for it, or end it") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()} since {_iso(time.time())}\n".encode(), 0)
        self._lock = handle

    def unlock(self) -> None:
        """Give the directory free."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def making_views(self) -> Iterator[None]:
        """Wait for whoever else makes this run's Parquet files: of a run's own end and an `export`, the later one counts."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def write_config(self, text: str) -> None:
        """Keep the config, re-runnable and without secrets."""
        _replace(self.config, text.encode())

    def write_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Replace evaluation.json at once as a whole. Raises StorageError."""
        _replace(self.path / "evaluation.json", msgspec.json.format(jsontext.encode(evaluation), indent=2) + b"\n")

    def read_evaluation(self) -> dict[str, Any]:
        """Return evaluation.json, or {} where it was never written."""
        try:
            found = jsontext.decode((self.path / "evaluation.json").read_bytes())
        except (OSError, jsontext.JsonError):
            return {}
        return found if isinstance(found, dict) else {}

    def has_views(self) -> bool:
        """Whether both Parquet files are there."""
        return all((self.path / name).exists() for name in ("results.parquet", "errors.parquet"))

    def point_latest_here(self) -> None:
        """Make `<output>/<name>/latest` lead to this run."""
        temporary = self.path.parent / f".latest.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.run_id)
        temporary.replace(self.path.parent / "latest")


def run_directories(output: Path, name: str) -> Iterator[RunDir]:
    """Yield the runs of an evaluation, the newest first."""
    found = [path for path in (output / name).glob("*") if (path / "journal").is_dir() and not path.is_symlink()]
    for path in sorted(found, key=lambda path: path.name, reverse=True):
        yield RunDir(path)


def _new_run_id(directory: Path) -> str:
    """Return a name that sorts behind those of all earlier runs, also of the same second."""
    second = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    taken = [int(path.name[-4:], 16) for path in directory.glob(f"{second}-{'[0-9a-f]' * 4}")]
    number = max(taken) + 1 if taken else secrets.randbelow(0xF000)
    return f"{second}-{number:04x}"


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside, sync it and put it in its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
