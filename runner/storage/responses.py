"""A file of answers by their requests, shared by runs and their processes: an SQLite database.

A separate thread has the connection, so that the event loop does not wait for the disk. New answers are gathered and written
together, so that the file is locked only for a moment; readers never wait (WAL). An answer counts only if its checksum fits.
After a failure to read or write there is a warning, and the run goes on without the file: no row fails because of it.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from runner.logs import logger
from runner.secrets.redaction import Redactor
from runner.structs import Struct

__all__ = ["Found", "ResponseFile", "Stored", "looked_at", "prune"]

_log = logger(__name__)
#: New answers are written when there are this many, or when the first one has waited this long.
_MOST_GATHERED = 100
_LONGEST_GATHERED_S = 0.5
#: How many orders the thread takes at once; a statement may have some thousand values.
_MOST_AT_ONCE = 1000
#: How long other processes may lock the file. They need less than a tenth of a second.
_LOCKED_AT_MOST_S = 5.0
#: The application id of our SQLite files, "rrc1". Another layout would have another last letter.
_OURS = int.from_bytes(b"rrc1")
_LAYOUT = """
CREATE TABLE responses (
    key BLOB PRIMARY KEY NOT NULL, -- SHA-256 of the request
    at INTEGER NOT NULL,           -- seconds since the epoch
    run TEXT NOT NULL,             -- the run that asked
    checksum INTEGER NOT NULL,     -- CRC-32 of key and body
    body BLOB NOT NULL             -- as the server sent it; of a stream, put together
)
"""
_PUT = "INSERT OR REPLACE INTO responses VALUES"
_GET = "SELECT key, checksum, body FROM responses WHERE at >= ? AND run <> ?"
_PRUNED_AT_ONCE = 1000
_PRUNE = f"DELETE FROM responses WHERE rowid IN (SELECT rowid FROM responses WHERE at < ? LIMIT {_PRUNED_AT_ONCE})"  # noqa: S608  no value is put in
_PAGES_FREED_AT_ONCE = 1000


#: Called with all results at once: for each look-up its `asked_by`, and the answer or None.
Found: TypeAlias = Callable[[Sequence[tuple[Any, bytes | None]]], None]


class _LookUp(NamedTuple):
    key: bytes
    asked_by: Any


class _Put(NamedTuple):
    key: bytes
    at: int
    body: str


class ResponseFile:
    """The file, as one run reads and writes it.

    The thread takes all waiting look-ups at once and runs one statement for them. After each statement it has to wait for the
    interpreter lock, which the event loop holds.
    """

    def __init__(
        self, path: Path, found: Found, *, run_id: str, reads: bool, writes: bool, oldest: int, redactor: Redactor
    ) -> None:
        """Open the file in its thread; create it if `writes`. The thread calls `found`.

        Answers of this same run, and those from before `oldest` (in seconds since the epoch), are not found. `redactor` removes
        secrets from answers before they are written.
        """
        self._path, self._run_id, self._reads, self._writes, self._oldest = path, run_id, reads, writes, oldest
        self._tell, self._redactor = found, redactor
        self._connection: sqlite3.Connection | None = None
        self._gathered: list[_Put] = []
        self._due = 0.0
        self._orders: queue.SimpleQueue[_LookUp | _Put | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="response-cache", daemon=True)
        self._thread.start()

    def look_up(self, key: bytes, asked_by: object) -> None:
        """Look for an answer. `found` gets `asked_by`, and the answer or None."""
        if self._reads:
            self._orders.put(_LookUp(key, asked_by))
        else:
            self._tell([(asked_by, None)])

    def put(self, key: bytes, body: str) -> None:
        """Write an answer soon."""
        if self._writes:
            self._orders.put(_Put(key, int(time.time()), body))

    def close(self) -> None:
        """Write the remaining answers, and close the file."""
        self._orders.put(None)
        self._thread.join()

    def _work(self) -> None:
        with self._minding():
            self._connection = _opened(self._path, make=self._writes)
        orders: list[_LookUp | _Put | None] = []
        while None not in orders:
            orders = self._next()
            look_ups = [order for order in orders if isinstance(order, _LookUp)]
            if look_ups:
                found = self._found({order.key for order in look_ups})
                self._tell([(order.asked_by, found.get(order.key)) for order in look_ups])
            self._gather([order for order in orders if isinstance(order, _Put)])
        self._write()
        if self._connection is not None:
            self._connection.close()

    def _next(self) -> list[_LookUp | _Put | None]:
        """Wait for orders and return them; none if the gathered answers have waited long enough."""
        orders: list[_LookUp | _Put | None] = []
        with suppress(queue.Empty):
            orders.append(self._orders.get(timeout=max(0.0, self._due - time.monotonic()) if self._gathered else None))
            while len(orders) < _MOST_AT_ONCE:
                orders.append(self._orders.get_nowait())
        return orders

    def _gather(self, puts: Sequence[_Put]) -> None:
        if puts and not self._gathered:
            self._due = time.monotonic() + _LONGEST_GATHERED_S
        self._gathered += puts if self._connection is not None else ()
        if len(self._gathered) >= _MOST_GATHERED or time.monotonic() >= self._due:
            self._write()

    def _found(self, keys: set[bytes]) -> dict[bytes, bytes]:
        rows: list[tuple[bytes, int, Any]] = []
        if self._connection is not None:
            with self._minding():
                get = f"{_GET} AND key IN ({', '.join('?' * len(keys))})"
                rows = self._connection.execute(get, (self._oldest, self._run_id, *keys)).fetchall()
        return {key: body for key, checksum, body in rows if isinstance(body, bytes) and checksum == _checksum(key, body)}

    def _write(self) -> None:
        gathered, self._gathered = self._gathered, []
        if self._connection is not None and gathered:
            with self._minding():
                rows = [self._row(put) for put in gathered]
                put = f"{_PUT} {', '.join(['(?, ?, ?, ?, ?)'] * len(rows))}"
                self._connection.execute(put, [value for row in rows for value in row])

    def _row(self, put: _Put) -> tuple[bytes, int, str, int, bytes]:
        body = self._redactor.json(put.body.encode("utf-8", "replace"))
        return put.key, put.at, self._run_id, _checksum(put.key, body), body

    @contextmanager
    def _minding(self) -> Iterator[None]:
        """Go on without the file if it cannot be used."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, the run does not need this file
            _log.warning("%s: %s; the run goes on without the cache", self._path, _said_of(error))
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None


class Stored(Struct, frozen=True):
    """The contents of a file: answers, their bytes, and when the first and the last came, in seconds since the epoch."""

    answers: int
    body_bytes: int
    first_at: int | None
    last_at: int | None


def looked_at(path: Path) -> Stored:
    """Return the contents of a file. Raises OSError if it is not a file of this kind or cannot be read."""
    with _used(path) as connection:
        columns = "count(*), coalesce(sum(length(body)), 0), min(at), max(at)"
        return Stored(*connection.execute(f"SELECT {columns} FROM responses").fetchone())  # noqa: S608  no value is put in


def prune(path: Path, *, before: int) -> int:
    """Delete the answers from before a time, in seconds since the epoch; return how many. Raises OSError.

    It deletes few at a time, so that runs can use the file meanwhile.
    """
    deleted = 0
    with _used(path) as connection:
        while count := connection.execute(_PRUNE, (before,)).rowcount:
            deleted += count
        while connection.execute("PRAGMA freelist_count").fetchone()[0]:
            connection.execute(f"PRAGMA incremental_vacuum({_PAGES_FREED_AT_ONCE})").fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return deleted


@contextmanager
def _used(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(_opened(path, make=False)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise OSError(_said_of(error)) from error


def _said_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _opened(path: Path, *, make: bool) -> sqlite3.Connection:
    """Return a connection to a file of this kind; create the file if `make`. Raises OSError and sqlite3.Error."""
    if not path.exists():
        if not make:
            raise OSError("there is no such file")
        _make(path)
    connection = _connected(path)
    try:
        _check(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != _OURS:
        raise OSError("this is not a file of cached answers")


def _connected(path: Path) -> sqlite3.Connection:
    """Return a connection on which each statement is its own transaction, unless one is begun."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_LOCKED_AT_MOST_S, isolation_level=None)


def _make(path: Path) -> None:
    """Create the file under another name and link it, so that no process sees half of it. The first of several wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    # The files that SQLite adds later get the same mode: for the owner alone.
    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with closing(_connected(made)) as connection:
            for statement in ("PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = WAL", _LAYOUT):
                connection.execute(statement).fetchall()
            connection.execute(f"PRAGMA application_id = {_OURS}")
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()


def _checksum(key: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(key))
