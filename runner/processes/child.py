"""The program of a process of the pool: it reads calls from a pipe and writes back values and failures, until the pipe ends.

It is started as a single file and imports next to nothing, so that a process starts in some hundredths of a second. A message
is a length in four bytes, and JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import struct
import sys
from contextlib import suppress
from typing import Any, BinaryIO

__all__ = ["main"]

_LENGTH = struct.Struct(">I")
#: The file descriptors of the pipes.
_CALLS, _VALUES = 3, 4
_MOST_FILES = 1 << 16
#: Reading a larger value would block the process that waits for it.
_LARGEST_VALUE = 64 << 20
#: Signals for the whole program, which ends its processes itself by closing their pipes.
_NOT_MINE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: When memory runs out, the kernel kills the process with the highest score first.
_END_ME_FIRST = "1000"


def main() -> None:
    """Answer calls."""
    for number in _NOT_MINE:
        signal.signal(number, signal.SIG_IGN)
    calls, values = _pipes()
    first = _read(calls)
    if first is None:
        return
    sys.path[:], memory = json.loads(first)
    _bound(memory)
    _write(values, True, None)
    while (message := _read(calls)) is not None:
        _write(values, *_answered(*json.loads(message)))


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes. All other files are closed, and whatever is printed from now on is dropped."""
    for standard, own in ((0, _CALLS), (1, _VALUES)):
        os.dup2(standard, own, inheritable=False)
    os.closerange(_VALUES + 1, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _MOST_FILES))
    calls, values = os.fdopen(_CALLS, "rb"), os.fdopen(_VALUES, "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    return calls, values


def _bound(memory: int) -> None:
    """Limit the memory of the process, in bytes, and leave no core file if it crashes."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else NumPy takes memory for a thread of each processor
    for kind, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # some systems have no limit of this kind
            resource.setrlimit(kind, (most, most))
    with (
        suppress(OSError),  # not every system has it
        open("/proc/self/oom_score_adj", "w", encoding="ascii") as score,  # noqa: PTH123  pathlib is slow to import
    ):
        score.write(_END_ME_FIRST)


def _answered(function: str, args: tuple[Any, ...], cpu_s: float, wall_s: float) -> tuple[bool, Any]:
    """Return True and a function's value, or False with the name and message of the exception.

    When the time is over, the kernel ends the process, whatever code it runs, even if nobody waits for it any more. If the
    function has an attribute `prepare`, that is called first, with the same arguments and outside that time.
    """
    try:
        module, _, name = function.partition(":")
        called = getattr(importlib.import_module(module), name)
        if (prepare := getattr(called, "prepare", None)) is not None:
            prepare(*args)
        signal.setitimer(signal.ITIMER_REAL, wall_s)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        return True, called(*args)
    except (Exception, SystemExit) as error:  # noqa: BLE001  the caller decides about it
        return False, (type(error).__name__, str(error)[:10_000])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _read(pipe: BinaryIO) -> bytes | None:
    """Return the next message, or None at the end. A message that breaks off is an error, which ends the process."""
    length = pipe.read(_LENGTH.size)
    return pipe.read(_LENGTH.unpack(length)[0]) if length else None


def _write(pipe: BinaryIO, worked: bool, value: Any) -> None:
    try:
        data = json.dumps((worked, value)).encode()
    except Exception as error:  # noqa: BLE001  a value that JSON cannot express
        data = json.dumps((False, (type(error).__name__, f"its value cannot be given back: {error}"[:1000]))).encode()
    if len(data) > _LARGEST_VALUE:
        data = json.dumps((False, ("ValueError", f"its value is larger than {_LARGEST_VALUE >> 20} MiB"))).encode()
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the program that asked is gone
        main()
    os._exit(0)
