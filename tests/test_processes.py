"""The pool of processes: a value or a named failure for each call, in turn, and never a process left behind."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from runner.processes.pool import CallError, Calls, NoProcessError, ProcessPool
from tests.calls import InThisProcess
from tests.commands import ROOT

PATIENCE_S = 30
#: Ends its process if that has run it before.
ONCE = "import os, sys\nif hasattr(sys, 'used'): os._exit(9)\nsys.used = 1"
#: Keeps more than the half of what memory there is.
LEAKING = "import sys\nsys.kept = getattr(sys, 'kept', [])\nsys.kept.append(bytes(600 << 20))"
#: A thread that goes on.
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()"


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    made = ProcessPool(processes=1)
    yield made
    await made.close()


def is_there(pid: int) -> bool:
    """Whether a process goes on; one that only waits to be asked for its end does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(*pids: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while any(map(is_there, pids)):
        assert time.monotonic() < until, pids
        time.sleep(0.01)


@pytest.mark.parametrize("calls", [InThisProcess(), None], ids=["here", "apart"])
async def test_a_call_gives_a_value_or_what_was_raised(calls: Calls | None, pool: ProcessPool) -> None:
    calls = calls or pool
    assert await calls.call("builtins:sorted", [3, b"1"[0], 2.5]) == [2.5, 3, 49]
    assert await calls.call("builtins:str", "x" * 1_000_000) == "x" * 1_000_000
    for function, args, name in (
        ("builtins:int", ("x",), "ValueError"),
        ("no_such_module:f", (), "ModuleNotFoundError"),
        ("os:no_such_function", (), "AttributeError"),
    ):
        with pytest.raises(CallError) as caught:
            await calls.call(function, *args)
        assert (caught.value.reason, caught.value.raised) == ("raised", name)


@pytest.mark.parametrize(
    ("function", "args", "reason", "message"),
    [
        ("builtins:pow", (7, 10**8), "time", "it takes more than 0.01 s"),
        ("time:sleep", (60,), "time", "it takes more than 0.01 s"),
        ("builtins:bytearray", (1 << 33,), "memory", "it needs too much memory"),
        ("os:abort", (), "died", "its process died (SIGABRT)"),
        ("os:_exit", (3,), "died", "its process died (exit code 3)"),
        ("signal:raise_signal", (14,), "time", "it takes more than 0.01 s"),
        ("sys:exit", (3,), "raised", "3"),
        ("builtins:input", (), "raised", "EOF when reading a line"),
        ("builtins:open", ("/dev/null",), "raised", "its value cannot be given back"),
        ("builtins:exec", ("import os; os.write(4, b'\\0\\0\\0\\2no')",), "died", "its process died (SIGKILL)"),
        ("builtins:exec", ("import os; os.write(4, b'\\0\\0\\0\\x015')",), "died", "its process died (SIGKILL)"),
        ("builtins:exec", ("import os; os.write(4, b'\\xff\\0\\0\\0')",), "died", "its process died (SIGKILL)"),
    ],
)
async def test_what_fails_costs_its_call_only(
    pool: ProcessPool, function: str, args: tuple[object, ...], reason: str, message: str
) -> None:
    with pytest.raises(CallError) as caught:
        await pool.call(function, *args, seconds=0.01)
    assert caught.value.reason == reason
    assert message in str(caught.value)
    assert await pool.call("builtins:len", "abc") == 3


async def test_what_is_printed_goes_nowhere_and_a_long_message_is_cut(pool: ProcessPool) -> None:
    assert await pool.call("builtins:exec", "import os; [os.write(number, b'noise') for number in (1, 2)]") is None
    with pytest.raises(CallError, match=r"^x{10000}$"):
        await pool.call("builtins:exec", "raise ValueError('x' * 20_000)")


async def test_a_process_has_little_memory_leaves_nothing_and_is_the_first_to_go(pool: ProcessPool) -> None:
    assert await pool.call("resource:getrlimit", resource.RLIMIT_AS) == [1 << 30, 1 << 30]
    assert await pool.call("resource:getrlimit", resource.RLIMIT_CORE) == [0, 0]
    assert await pool.call("linecache:getline", "/proc/self/oom_score_adj", 1) == "1000\n"
    assert (await pool.call("subprocess:getoutput", "ls /proc/self/fd")).split() == ["0", "1", "2", "3"]


async def test_a_process_has_no_more_memory_than_this_one_may_have(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, tmp_path, f'ulimit -v 500000; exec {sys.executable} "$@"')
    assert await pool.call("resource:getrlimit", resource.RLIMIT_AS) == [512_000_000, 512_000_000]


@pytest.mark.long
async def test_a_value_that_is_too_large_is_not_sent(pool: ProcessPool) -> None:
    with pytest.raises(CallError, match="its value is larger than 64 MiB"):
        await pool.call("operator:mul", "x", 65 << 20, seconds=5)


async def test_computing_is_counted_by_the_kernel_whatever_the_clock_says(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.processes.pool._CLOCK_S", 1e6)
    with pytest.raises(CallError, match="it takes more than"):
        await pool.call("builtins:pow", 7, 10**9, seconds=0.01)


async def test_a_process_that_stands_still_is_replaced_too(pool: ProcessPool) -> None:
    pid = await pool.call("os:getpid")
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(CallError, match="it takes more than"):
        await pool.call("os:getpid", seconds=0.01)
    wait_until_gone(pid)
    assert await pool.call("os:getpid") != pid


async def test_a_process_that_died_while_nobody_called_is_replaced(pool: ProcessPool) -> None:
    pid = await pool.call("os:getpid")
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    assert await pool.call("os:getpid") != pid


async def test_a_process_is_kept_while_it_works_and_replaced_when_it_does_not(pool: ProcessPool) -> None:
    first = await pool.call("os:getpid")
    with pytest.raises(CallError):
        await pool.call("builtins:int", "x")
    assert await pool.call("os:getpid") == first
    with pytest.raises(CallError):
        await pool.call("time:sleep", 60, seconds=0.01)
    wait_until_gone(first)
    assert await pool.call("os:getpid") != first


async def test_what_dies_of_what_others_left_behind_is_tried_in_a_fresh_process(pool: ProcessPool) -> None:
    for _ in range(3):
        assert await pool.call("builtins:exec", ONCE) is None
        assert await pool.call("builtins:exec", LEAKING) is None


async def test_what_dies_in_a_fresh_process_is_not_tried_again(pool: ProcessPool, tmp_path: Path) -> None:
    dying = f"import os; open({str(tmp_path / 'tries')!r}, 'a').write('x'); os._exit(9)"
    for tries in (1, 2):
        with pytest.raises(CallError, match="its process died"):
            await pool.call("builtins:exec", dying)
        assert (tmp_path / "tries").read_text() == "x" * tries
    await pool.call("os:getpid")
    with pytest.raises(CallError, match="its process died"):
        await pool.call("builtins:exec", dying)
    assert (tmp_path / "tries").read_text() == "xxxx", "in the one that had served others, and in a fresh one"


async def test_those_who_wait_are_served_in_turn(pool: ProcessPool) -> None:
    served = []

    async def ask(number: int) -> None:
        await pool.call("builtins:abs", number)
        served.append(number)

    await asyncio.gather(*map(ask, range(20)))
    assert served == list(range(20))


async def test_a_call_that_is_cancelled_ends_its_process(pool: ProcessPool) -> None:
    pid = await pool.call("os:getpid")
    call = asyncio.create_task(pool.call("time:sleep", 60))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await pool.close()
    assert not is_there(pid)
    assert pool._ending == set()


async def test_signals_for_the_program_are_none_of_its_processes_business(pool: ProcessPool) -> None:
    pid = await pool.call("os:getpid")
    assert os.getpgid(pid) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert await pool.call("os:getpid") == pid


async def test_a_directory_named_like_the_program_changes_nothing(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert await pool.call("runner.foreign.patterns:find_first", ["b"], "abc", False) == "b"


def test_no_file_of_the_program_is_open_in_its_processes() -> None:
    """On uvloop, files that are inheritable would be."""
    uvloop = pytest.importorskip("uvloop")

    async def files() -> list[str]:
        pool = ProcessPool()
        try:
            return list(await pool.call("os:listdir", "/proc/self/fd"))
        finally:
            await pool.close()

    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            assert len(loop.run(files())) == 6  # three that lead nowhere, two pipes, and what is listed
    finally:
        os.close(reading)
        os.close(writing)


def stand_in(monkeypatch: pytest.MonkeyPatch, directory: Path, commands: str) -> None:
    """Let a script of the shell be the Python that runs the processes."""
    script = directory / "python"
    script.write_text(f"#!/bin/sh\n{commands}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@pytest.mark.parametrize(
    ("commands", "why"),
    [
        (None, "No such file or directory"),
        ("head -c 4 >/dev/null", "it ended at once"),
        (r"head -c 4 >/dev/null; printf '\0\0\0\0015'", "cannot unpack"),
        (r"head -c 4 >/dev/null; printf '\377\0\0\0'", "an answer of 4278190080 bytes"),
        ("exec sleep 60", "it does not answer"),
    ],
)
async def test_where_no_process_starts_it_is_no_call_s_fault(
    commands: str | None, why: str, pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if commands is None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    else:
        stand_in(monkeypatch, tmp_path, commands)
    if "sleep" in (commands or ""):
        monkeypatch.setattr("runner.processes.pool._START_WITHIN_S", 0.05)
    with pytest.raises(NoProcessError, match=f"no process can be started .*{why}"):
        await pool.call("os:getpid")
    await pool.close()


PARENT = f"""
import asyncio
from runner.processes.pool import ProcessPool

async def main():
    pool = ProcessPool()
    one, other = await asyncio.gather(*(pool.call("os:getpid") for _ in range(2)))
    await asyncio.gather(*(pool.call("builtins:exec", {THREAD!r}) for _ in range(2)))
    asyncio.ensure_future(pool.call("time:sleep", 600, seconds=0.02))
    await asyncio.sleep(0.05)
    print(one, other, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_no_process_outlives_a_program_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(set(pids)) == 2
        parent.kill()
    wait_until_gone(*pids)
