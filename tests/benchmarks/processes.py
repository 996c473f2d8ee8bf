"""One whole process watched from start to end: wall time, CPU at any moment, peak memory."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import struct
import subprocess
import termios
import threading
import time
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "ProcessError", "do", "on_core", "watch"]

_EVERY_S = 0.002
_ROWS_AND_COLUMNS = (40, 160)
_SHOWN_CHARACTERS = 2000


class ProcessError(Exception):
    """A process that was measured did not do its job: why in one line, and what it said."""

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(f"{reason}\n{said}" if said else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that has ended. Moments are those of `time.monotonic`."""

    started: float
    ended: float
    #: What to take from seconds since the epoch to get such a moment.
    epoch: float
    #: Seconds of CPU, user and system, of the process and what it waited for.
    cpu_s: float
    #: The largest resident memory, in MiB.
    peak_mib: float
    output: str
    #: Pairs of a moment and the seconds of CPU spent until then, every two milliseconds.
    samples: Sequence[tuple[float, float]]

    @property
    def wall_s(self) -> float:
        return self.ended - self.started

    def cpu_until(self, moment: float) -> float:
        """Return the seconds of CPU spent until a moment."""
        if moment >= self.ended:
            return self.cpu_s
        place = bisect_right(self.samples, moment, key=lambda sample: sample[0])
        return self.samples[place - 1][1] if place else 0.0


@contextmanager
def on_core(core: int | Collection[int] | None) -> Iterator[None]:
    """Let processes started in this block run on one core only, or on some; None: on those of this process."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core} if isinstance(core, int) else core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _open_files(soft_limit: int | None) -> Iterator[None]:
    """Let processes started in this block open no more files than that, unless they raise the limit themselves."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft_limit, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def watch(
    command: Sequence[str],
    *,
    core: int | Collection[int] | None,
    directory: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    open_files: int | None = None,
) -> Process:
    """Run a command to its end, its standard error on a terminal, so that it shows its progress. Raises ProcessError."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", *_ROWS_AND_COLUMNS, 0, 0))
    with on_core(core), _open_files(open_files):
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=inside
        )
    os.close(inside)
    assert process.stdout is not None
    output, errors = _Drained(process.stdout.fileno()), _Drained(outside)
    samples, usage = _sample_until_end(process, started + timeout_s)
    ended = time.monotonic()
    output.end()
    errors.end()
    process.stdout.close()
    os.close(outside)
    if process.returncode != 0:
        said = [line.rpartition("\r")[2] for line in f"{errors.text}\n{output.text}".replace("\r\n", "\n").splitlines()]
        command_line = f"{' '.join(command)}\n" + "\n".join(said)[-_SHOWN_CHARACTERS:].strip()
        raise ProcessError(f"exit code {process.returncode} after {ended - started:.1f} s", command_line)
    return Process(
        started=started,
        ended=ended,
        epoch=time.time() - time.monotonic(),
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        output=output.text,
        samples=samples,
    )


def _sample_until_end(
    process: subprocess.Popen[bytes], deadline: float
) -> tuple[list[tuple[float, float]], resource.struct_rusage]:
    """Note the CPU clock of a process until it ends; one that takes too long is killed."""
    clock = (~process.pid << 3) | 2  # what clock_getcpuclockid(3) gives for a process: all its threads, also those that ended
    samples: list[tuple[float, float]] = []
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)
            return samples, usage
        now = time.monotonic()
        samples.append((now, time.clock_gettime(clock)))
        if now > deadline:
            process.kill()
        time.sleep(_EVERY_S)


class _Drained:
    """What comes out of a file, read in a thread so that the writer never waits."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._parts: list[bytes] = []
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        with suppress(OSError):  # a terminal whose other side was closed gives an error instead of an end
            while part := os.read(self._file, 1 << 16):
                self._parts.append(part)

    def end(self) -> None:
        self._thread.join(10)

    @property
    def text(self) -> str:
        return b"".join(self._parts).decode(errors="replace")


def do(command: Sequence[str], directory: Path) -> None:
    """Run a command that is not measured. Raises ProcessError."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessError(f"{' '.join(command[:4])} …: exit code {done.returncode}", done.stderr[-500:])
