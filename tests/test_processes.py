"""The pool of processes: a value or a named failure for each call, in turn, and never a process left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from runner.processes.pool import CallError, Calls, InThisProcess, NoProcessError, ProcessPool
from tests.commands import ROOT

PATIENCE_S = 30
#: Ends its process if that has run it before.
ONCE = "import os, sys\nif hasattr(sys, 'used'): os._exit(9)\nsys.used = 1"


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
        ("sys:exit", (3,), "raised", "3"),
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


@pytest.mark.parametrize("program", ["/no/such/python", "/bin/true"])
async def test_where_no_process_starts_it_is_no_call_s_fault(
    program: str, pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(NoProcessError, match="no process can be started"):
        await pool.call("os:getpid")


PARENT = """
import asyncio
from runner.processes.pool import ProcessPool

async def main():
    pool = ProcessPool()
    one, other = await asyncio.gather(*(pool.call("os:getpid") for _ in range(2)))
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
        assert len(pids) == 2
        parent.kill()
    wait_until_gone(*pids)
