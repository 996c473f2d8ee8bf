"""A mirror: copies a run from its local directory to a bucket as it grows.

Segments only grow, so the new lines of a segment are uploaded as a new object, a chunk, named by its offset. No chunk is ever
written again, and all chunks together are the segment. The bucket is enough to resume a run on any machine.

    BUCKET/NAME/RUN_ID/journal/000001/00000000000000000000.jsonl    the first chunk of the first segment
    BUCKET/NAME/RUN_ID/config.yaml, evaluation.json, results.parquet …    as in any run directory
    BUCKET/NAME/latest                                              the id of the latest run with an answer
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from runner.errors import RunDirError, StorageError
from runner.logs import logger
from runner.storage.journal import segments_of
from runner.storage.rundir import LATEST, RunDir

__all__ = ["Bucket", "Mirror"]

_log = logger(__name__)
#: How often new answers are uploaded; until then they are only on the disk of this machine.
_EVERY_S = 5.0
_TRIES_AT_END = 5
_PAUSE_S = 2.0
_LARGEST_PIECE = 1 << 22
_DIGITS = 20
_LOCK = "lock"
#: The files of a run directory that are copied in addition to its journal: during the run, and at its end.
_FILES = ("config.yaml", "data.jsonl", "evaluation.json")
_VIEWS = ("results.parquet", "errors.parquet")


class Bucket(Protocol):
    """A store of objects, by their names below one prefix. All methods raise StorageError."""

    url: str

    def names(self, below: str) -> Mapping[str, int]:
        """Return the names of all objects that begin with `below`, and their sizes."""

    def read(self, name: str) -> bytes:
        """Return the content of an object."""

    def write(self, name: str, content: bytes | Path) -> None:
        """Create an object from bytes or from a file."""

    def delete(self, name: str) -> None:
        """Delete an object."""


class Mirror:
    """The runs in a bucket, and the local directory of their copies."""

    def __init__(self, bucket: Bucket, local: Path) -> None:
        self._bucket, self._local = bucket, local
        self._wake = threading.Event()

    def fetch(self, name: str, run: str | None) -> None:
        """Copy a run to this machine so that it can be resumed; None is the latest one. Do nothing if there is none.

        Raises StorageError, and RunDirError if another machine works on the run.
        """
        found = self.latest(name) if run in {None, LATEST} else Path(str(run)).name
        if found is None or not self._bucket.names(f"{name}/{found}/journal/"):
            return
        self._check_free(f"{name}/{found}")
        bring(self._bucket, f"{name}/{found}", self._local / name / found)
        if self.latest(name) == found:
            RunDir(self._local / name / found).point_latest_here()

    def latest(self, name: str) -> str | None:
        """Return the id of the latest run with an answer; if there is none, of the newest run."""
        if self._bucket.names(f"{name}/{LATEST}"):
            return self._bucket.read(f"{name}/{LATEST}").decode()
        runs = sorted({rest.split("/")[1] for rest in self._bucket.names(f"{name}/") if "/journal/" in rest})
        return runs[-1] if runs else None

    def _check_free(self, run: str) -> None:
        lock = f"{run}/{_LOCK}"
        if not self._bucket.names(lock):
            return
        owner = self._bucket.read(lock).decode()
        if not owner.endswith(f" on {socket.gethostname()}"):
            remedy = f"wait for it, or make sure that it has ended and delete {_LOCK} there"
            raise RunDirError(f"{self._bucket.url}/{run}: is in use by {owner}; {remedy}")

    @contextmanager
    def following(self, run: RunDir) -> Iterator[None]:
        """Copy a run to the bucket as it grows within the block, and the rest at the end of the block.

        Raises StorageError before the block if the bucket cannot be written, and at the end if the rest cannot be written.
        """
        prefix = f"{run.path.parent.name}/{run.path.name}"
        place = f"{self._bucket.url}/{prefix}"
        self._bucket.write(f"{prefix}/{_LOCK}", f"pid {os.getpid()} on {socket.gethostname()}".encode())
        _log.info("%s: its local copy is %s", place, run.path)
        copy = _Copy(self._bucket, prefix, run)
        self._wake.clear()
        thread = threading.Thread(target=self._follow, args=[copy], name="mirror", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._wake.set()
            thread.join()
            self._finish(copy, place)

    def _follow(self, copy: _Copy) -> None:
        was_said = False
        while not self._wake.wait(_EVERY_S):
            try:
                copy.grow()
            except StorageError as error:
                if not was_said:
                    _log.warning("%s; new results stay on this machine until the bucket can be written", error)
                was_said = True
            else:
                was_said = False

    def _finish(self, copy: _Copy, place: str) -> None:
        pause = threading.Event()
        for last in (*[False] * (_TRIES_AT_END - 1), True):
            try:
                copy.finish()
            except StorageError as error:
                if last:
                    raise StorageError(f"{error}; the whole run is in {copy.run.path}, and --resume uploads it") from error
                pause.wait(_PAUSE_S)
            else:
                _log.info("results are in %s", place)
                return


class _Copy:
    """The copy of a run in the bucket."""

    def __init__(self, bucket: Bucket, prefix: str, run: RunDir) -> None:
        self.run = run
        self._bucket, self._prefix = bucket, prefix
        #: How many bytes of each segment are in the bucket, by the name of the segment.
        self._sent = {stem: sum(size for _, size in pieces) for stem, pieces in _pieces(bucket, prefix).items()}
        self._stamps: dict[str, tuple[int, int]] = {}

    def grow(self) -> None:
        """Upload new lines and changed files. Raises StorageError."""
        for path in segments_of(self.run.journal):
            while piece := _whole_lines(path, sent := self._sent.get(path.stem, 0)):
                self._bucket.write(f"{self._prefix}/journal/{path.stem}/{sent:0{_DIGITS}}.jsonl", piece)
                self._sent[path.stem] = sent + len(piece)
        for name in _FILES:
            self._write(name)

    def finish(self) -> None:
        """Upload the rest, and remove the lock. Raises StorageError."""
        self.grow()
        for name in _VIEWS:
            self._write(name)
        if self.run.is_latest:
            name = self._prefix.partition("/")[0]
            self._bucket.write(f"{name}/{LATEST}", self.run.path.name.encode())
        self._bucket.delete(f"{self._prefix}/{_LOCK}")

    def _write(self, name: str) -> None:
        path = self.run.path / name
        with suppress(FileNotFoundError):
            found = path.stat()
            stamp = found.st_mtime_ns, found.st_size
            if self._stamps.get(name) != stamp:
                self._bucket.write(f"{self._prefix}/{name}", path)
                self._stamps[name] = stamp


def bring(bucket: Bucket, prefix: str, directory: Path) -> None:
    """Copy a run from a bucket into a local directory, or add to the directory what it lacks. Raises StorageError.

    A local segment that is longer than the one in the bucket stays as it is: this machine wrote it, but did not upload its end.
    """
    journal = directory / "journal"
    try:
        journal.mkdir(parents=True, exist_ok=True)
        for stem, pieces in _pieces(bucket, prefix).items():
            path = journal / f"{stem}.jsonl"
            here = path.stat().st_size if path.exists() else 0
            with path.open("ab") as segment:
                for start, size in pieces:
                    if start + size > here:
                        segment.truncate(start)
                        segment.write(bucket.read(f"{prefix}/journal/{stem}/{start:0{_DIGITS}}.jsonl"))
                        here = start + size
        for name in {*_FILES, *_VIEWS} & {name.rpartition("/")[2] for name in bucket.names(f"{prefix}/")}:
            temporary = directory / f".{name}.{os.getpid()}.tmp"
            temporary.write_bytes(bucket.read(f"{prefix}/{name}"))
            temporary.replace(directory / name)
    except OSError as error:
        raise StorageError(f"{directory}: cannot be written: {error.strerror}") from error


def _pieces(bucket: Bucket, prefix: str) -> dict[str, list[tuple[int, int]]]:
    """Return the chunks of each segment as offsets and sizes, in order, up to the first gap."""
    found: dict[str, list[tuple[int, int]]] = {}
    for name, size in sorted(bucket.names(f"{prefix}/journal/").items()):
        stem, piece = name.rsplit("/", 2)[1:]
        pieces = found.setdefault(stem, [])
        start = int(piece.partition(".")[0])
        if start == (sum(pieces[-1]) if pieces else 0):
            pieces.append((start, size))
    return found


def _whole_lines(path: Path, start: int) -> bytes:
    """Return the whole lines of a segment from an offset on, some megabytes at most; nothing if there is no whole line."""
    with path.open("rb") as segment:
        segment.seek(start)
        found = segment.read(_LARGEST_PIECE)
        while found and b"\n" not in found and (more := segment.read(_LARGEST_PIECE)):
            found += more
    return found[: found.rfind(b"\n") + 1]
