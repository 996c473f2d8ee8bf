"""A small pool of processes for code that cannot be interrupted. A call over its time is killed and harms only its caller.

    call ──► waits its turn ──► a free process, or a new one ──► value, or CallError

A process starts when it is first needed, and serves one call at a time. If it exceeds its time or dies, it is replaced. The
limit is CPU time, counted by the kernel, so that a busy machine changes no outcome. There is also a generous limit of wall
time, for code that sleeps. Each process is a new program, not a fork, and shares nothing with this one but two pipes. It ends
when its pipe does, however this process ends. The pipes carry JSON: a process that a hostile row has taken over can send a
wrong value, but nothing that would be executed here.

The pools of `concurrent.futures` and `multiprocessing` cannot end one call without breaking the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from runner.errors import RunnerError
from runner.processes.confinement import AS_USUAL, confined

__all__ = [
    "CHILD",
    "MEMORY_OF_OTHERS",
    "CallError",
    "Calls",
    "NoProcessError",
    "ProcessPool",
    "places",
    "raised",
]

#: The program of each process.
CHILD = Path(__file__).with_name("child.py")
_LENGTH = struct.Struct(">I")
#: How many calls run at once.
_MOST_PROCESSES = 2
_MEMORY = 1 << 30
#: For code that is not this program's own: libraries of neural nets reserve more memory than they use.
MEMORY_OF_OTHERS = 16 << 30
#: For code that a client has sent.
_MEMORY_OF_STRANGERS = 512 << 20
#: `child` sends no larger answer.
_LARGEST_ANSWER = 65 << 20
#: Seconds of wall time for each second of CPU time, on a busy machine.
_CLOCK_S = 30.0
_START_WITHIN_S = 60.0
_SIGNALLED = 128

Reason: TypeAlias = Literal["time", "memory", "died", "raised"]


class CallError(RunnerError):
    """A call gave no value. `raised` is the name of the exception, if the function raised one."""

    def __init__(self, reason: Reason, message: str, *, raised: str | None = None) -> None:
        self.reason = reason
        self.raised = raised
        super().__init__(message)


class NoProcessError(RunnerError):
    """No process can be started. No call is at fault."""


class Calls(Protocol):
    """Calls functions by their names."""

    async def call(self, function: str, *args: Any, seconds: float = 1.0, within: float | None = None) -> Any:
        """Return the value of `module:function`. Raises CallError, and NoProcessError if nothing can be called at all.

        Arguments and value are JSON values. `seconds` limits the CPU time, and `within` the wall time, which is much longer by
        default. Loading beforehand (`prepare`) does not count.
        """

    @property
    def of_others(self) -> Calls:
        """The same for code that is not this program's own: in other processes, with more memory."""

    @property
    def of_strangers(self) -> Calls:
        """The same for code that a client has sent: in other processes, started with as little as possible."""


class ProcessPool:
    """Calls functions in processes, in the order of the calls."""

    def __init__(self, *, processes: int = _MOST_PROCESSES, memory: int = _MEMORY, is_confined: bool = False) -> None:
        """`memory` is the limit of each process, in bytes; `is_confined` is for code of strangers. Nothing is started yet."""
        self._memory, self._is_confined = memory, is_confined
        self._room = asyncio.Semaphore(processes)
        self._idle: list[_Process] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._of_others: ProcessPool | None = None
        self._of_strangers: ProcessPool | None = None

    @property
    def of_others(self) -> ProcessPool:
        """As `Calls` says; closed together with this one."""
        if self._of_others is None:
            self._of_others = ProcessPool(memory=MEMORY_OF_OTHERS)
        return self._of_others

    @property
    def of_strangers(self) -> ProcessPool:
        """As `Calls` says; closed together with this one."""
        if self._of_strangers is None:
            self._of_strangers = ProcessPool(memory=_MEMORY_OF_STRANGERS, is_confined=True)
        return self._of_strangers

    async def call(self, function: str, *args: Any, seconds: float = 1.0, within: float | None = None) -> Any:
        """As `Calls` says. A call that dies in a process which has served others is repeated once in a new one."""
        async with self._room:
            process = self._idle.pop() if self._idle else await self._start()
            if process.is_fresh:
                return await self._call_in(process, function, args, seconds, within)
            try:
                return await self._call_in(process, function, args, seconds, within)
            except CallError as error:
                if error.reason not in {"died", "memory"}:
                    raise
            return await self._call_in(await self._start(), function, args, seconds, within)

    async def close(self) -> None:
        """End all processes. Running calls must have been cancelled."""
        for pool in (self._of_others, self._of_strangers):
            if pool is not None:
                await pool.close()
        while self._idle:
            self._end(self._idle.pop())
        while self._ending:
            await asyncio.gather(*self._ending)

    async def _start(self) -> _Process:
        process = _Process()
        try:
            await process.start(self._memory, is_confined=self._is_confined)
        except BaseException:
            self._end(process)
            raise
        return process

    async def _call_in(
        self, process: _Process, function: str, args: tuple[Any, ...], seconds: float, within: float | None
    ) -> Any:
        try:
            value = await process.call(function, args, seconds, within)
        except CallError as error:
            if error.reason == "raised":
                self._idle.append(process)
            else:
                self._end(process)
            raise
        except BaseException:  # a cancelled call goes on in its process
            self._end(process)
            raise
        self._idle.append(process)
        return value

    def _end(self, process: _Process) -> None:
        """Kill a process. A task waits for its end, so that no zombie is left."""
        process.kill()
        ending = asyncio.create_task(process.ended())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Process:
    """One process and its pipes."""

    def __init__(self) -> None:
        self.is_fresh = True
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, memory: int, *, is_confined: bool = False) -> None:
        """Start, and wait until it is ready. Raises NoProcessError."""
        how = await asyncio.to_thread(confined) if is_confined else AS_USUAL
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(*how.before, sys.executable, *how.options, str(CHILD)),  # a file, because another module could have its name
                env=how.environment,
                cwd=how.directory,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the program, which ends its processes itself
            )
            async with asyncio.timeout(_START_WITHIN_S):
                await self._ask((places() if how.modules is None else how.modules, memory))
        except (OSError, asyncio.IncompleteReadError, ValueError, TypeError) as error:  # a TimeoutError is an OSError
            what = "it ended at once" if isinstance(error, asyncio.IncompleteReadError) else str(error) or "it does not answer"
            raise NoProcessError(f"no process can be started for what a row could hold up: {what}") from error

    async def call(self, function: str, args: tuple[Any, ...], seconds: float, within: float | None) -> Any:
        """Return a function's value. Raises CallError; the process stays usable only if its reason is `raised`."""
        self.is_fresh = False
        wall_s = _CLOCK_S * seconds if within is None else within
        try:
            # The kernel limits the wall time as well; this limit also allows time to load.
            async with asyncio.timeout(wall_s if within is None else wall_s + _START_WITHIN_S):
                worked, value = await self._ask((function, args, seconds, wall_s))
        except TimeoutError as error:
            raise _over_its_time(seconds) from error
        except (OSError, asyncio.IncompleteReadError, ValueError, TypeError) as error:
            raise await self._death(seconds) from error
        if not worked:
            raise raised(*value)
        return value

    def kill(self) -> None:
        """End it now, whatever it does."""
        if self._process is not None:
            # It has its own session, so what it has started is killed with it.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            await self._process.wait()

    async def _ask(self, message: Any) -> tuple[bool, Any]:
        """Write a message and read the answer.

        Raises OSError and IncompleteReadError if the process has ended, ValueError and TypeError if the answer makes no sense.
        """
        assert self._process is not None
        calls, values = self._process.stdin, self._process.stdout
        assert calls is not None
        assert values is not None
        data = json.dumps(message).encode()
        calls.write(_LENGTH.pack(len(data)) + data)
        await calls.drain()
        size = _LENGTH.unpack(await values.readexactly(_LENGTH.size))[0]
        if size > _LARGEST_ANSWER:
            raise ValueError(f"an answer of {size} bytes")
        worked, value = json.loads(await values.readexactly(size))
        return worked, value

    async def _death(self, seconds: float) -> CallError:
        """Return the error of a call whose process has ended."""
        assert self._process is not None
        with suppress(TimeoutError):  # its pipe closes a moment before it ends
            async with asyncio.timeout(1):
                await self._process.wait()
        self.kill()
        code = await self._process.wait()
        if code - _SIGNALLED in set(signal.Signals):  # the exit code with which a sandbox reports a signal
            code = _SIGNALLED - code
        if code in {-signal.SIGPROF, -signal.SIGALRM}:
            return _over_its_time(seconds)
        how = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        return CallError("died", f"its process died ({how})")


def places() -> list[str]:
    """Return `sys.path` with absolute paths."""
    return [os.path.abspath(place) for place in sys.path]  # noqa: PTH100  an entry need not be a directory


def _over_its_time(seconds: float) -> CallError:
    return CallError("time", f"it takes more than {seconds:g} s")


def raised(name: str, message: str) -> CallError:
    """Return the error of a call, from the name and the message of the exception."""
    reason: Reason = "memory" if name == "MemoryError" else "raised"
    return CallError(reason, "it needs too much memory" if reason == "memory" else message, raised=name)
