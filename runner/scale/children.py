"""Workers as processes of this machine: how one is started, how it reports, and how it is ended.

Each worker is a new process in a session of its own, so that Ctrl-C in a terminal reaches only the coordinator. The two share a
pair of sockets: when the coordinator ends, for any reason, its socket closes, and the worker ends too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runner.scale.beat import Job, Orders, Report, line_of, read_report

__all__ = ["ChildProcess", "ChildProcesses"]

_LONGEST_LINE = 1 << 26
_LINES_KEPT = 20
_END_WITHIN_S = 5.0
_PACKAGE = Path(__file__).parents[2]


class ChildProcess:
    """The process of a worker."""

    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        #: The last lines that the process wrote to stderr.
        self.last_words: deque[str] = deque(maxlen=_LINES_KEPT)
        self._listening: threading.Thread | None = None

    @classmethod
    async def start(cls, job: Job, on_line: Callable[[str], None]) -> ChildProcess:
        """Start a worker. `on_line` is called with each line that it writes to stderr. Raises OSError."""
        here, there = socket.socketpair()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603  it does not block, and all arguments are this program's own
                [sys.executable, "-m", "runner", "work", str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=_with_these_modules(),
            )
        except OSError:
            here.close()
            raise
        finally:
            there.close()
        try:
            reader, writer = await asyncio.open_unix_connection(sock=here, limit=_LONGEST_LINE)
        except asyncio.CancelledError:  # the worker is not needed any more
            process.kill()
            raise
        child = cls(process, reader, writer)
        child._listening = threading.Thread(target=child._listen, args=(asyncio.get_running_loop(), on_line), daemon=True)
        child._listening.start()
        child._write(line_of(job))
        return child

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def _listen(self, loop: asyncio.AbstractEventLoop, on_line: Callable[[str], None]) -> None:
        """Read the stderr of the process, in a thread of its own."""
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                self.last_words.append(text)
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(on_line, text)

    async def report(self) -> Report | None:
        """Wait for the next report; return None if no more will come."""
        try:
            line = await self._reader.readline()
            return read_report(line) if line.endswith(b"\n") else None
        except (ValueError, ConnectionError):  # a worker that is alive writes whole reports
            return None

    def send(self, orders: Orders) -> None:
        """Send orders. A worker that has ended does not get them."""
        self._write(line_of(orders))

    def _write(self, line: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(line)

    def kill(self) -> None:
        """Kill the process."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Wait for the process to end, and kill it if it does not; return its exit code."""
        self._writer.close()
        try:
            code = await asyncio.to_thread(self._process.wait, _END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = await asyncio.to_thread(self._process.wait)
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        if self._listening is not None:
            await asyncio.to_thread(self._listening.join, 1.0)  # a process that the worker has started may still hold the pipe
        return code


def _with_these_modules() -> dict[str, str]:
    """Return the environment, with a PYTHONPATH that finds the same modules as here: this package, and plug-ins."""
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    paths = dict.fromkeys([str(_PACKAGE), *given, *(os.path.abspath(place) for place in sys.path)])  # noqa: PTH100  unresolved
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


class ChildProcesses:
    """Starts workers in processes of this machine."""

    #: Workers have the working directory, environment and files of this process.
    elsewhere = False
    start = staticmethod(ChildProcess.start)

    @property
    def room(self) -> int:
        """The number of workers if `engine.workers` is not set."""
        return os.cpu_count() or 1
