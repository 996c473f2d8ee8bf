"""Workers on a Ray cluster: Ray starts them, carries the messages between them and the coordinator, and reports their end.

    coordinator ──► Mailbox ──► one Ray task per worker ──► the worker, a process on the same machine
                ◄──         ◄──                         ◄──

Keys and new answers never take this route. A worker reads the dataset, and the copy of the config in the run directory, on its
own machine. It takes its keys from the environment there. It writes its segment into the run directory, which all machines
share. When the coordinator ends, for any reason, Ray ends the tasks, and the workers end with them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.errors import UsageError
from runner.logs import logger
from runner.scale.beat import Ended, Job, Orders, Report, line_of, read_job, read_orders, read_report
from runner.scale.children import ChildProcess
from runner.structs import replace

__all__ = ["RayCluster", "connected"]

_log = logger(__name__)
_LINES_KEPT = 20
#: How many calls of the mailbox may wait at once. Each worker needs two.
_AT_ONCE = 100_000
_KILLED = -9
_CONNECT_WITHIN_S = 5.0


class _Mailbox:
    """The messages that were sent and not received yet, in both directions."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[tuple[str, str, Any]] = asyncio.Queue()
        self._orders: dict[str, asyncio.Queue[bytes]] = {}

    async def tell(self, worker: str, kind: str, content: Any) -> None:
        """Take a message of a worker: a `report`, a line that it `said`, that it is `here`, or has `ended`."""
        self._told.put_nowait((worker, kind, content))

    async def told(self) -> list[tuple[str, str, Any]]:
        """Wait for a message of a worker; return all that have come."""
        return await _all_of(self._told)

    async def order(self, worker: str, line: bytes) -> None:
        """Take orders for a worker."""
        self._of(worker).put_nowait(line)

    async def orders(self, worker: str) -> list[bytes]:
        """Wait for orders for a worker; return all that have come."""
        return await _all_of(self._of(worker))

    def _of(self, worker: str) -> asyncio.Queue[bytes]:
        return self._orders.setdefault(worker, asyncio.Queue())


async def _all_of(queue: asyncio.Queue[Any]) -> list[Any]:
    found = [await queue.get()]
    while not queue.empty():
        found.append(queue.get_nowait())
    return found


# --- on the worker's machine ---


def _attend(mailbox: Any, name: str, job: bytes) -> None:
    """Run a worker to its end, and pass messages between it and the mailbox."""
    asyncio.run(_attended(mailbox, name, replace(read_job(job), machine=ray.util.get_node_ip_address())))


async def _attended(mailbox: Any, name: str, job: Job) -> None:
    await mailbox.tell.remote(name, "here", None)
    try:
        os.chdir(job.cwd)
    except OSError as error:
        ended = Ended(f"{job.worker}: {job.cwd}: {error.strerror}; all machines must share it", own=True)
        await mailbox.tell.remote(name, "report", line_of(Report(ended=ended)))
        await mailbox.tell.remote(name, "ended", (0, []))
        return
    child = await ChildProcess.start(job, lambda line: mailbox.tell.remote(name, "said", line))
    passing = asyncio.create_task(_pass_orders(mailbox, name, child))
    try:
        while (report := await child.report()) is not None:
            await mailbox.tell.remote(name, "report", line_of(report))
    finally:
        passing.cancel()
        with suppress(asyncio.CancelledError):
            await passing
    await mailbox.tell.remote(name, "ended", (await child.ended(), list(child.last_words)))


async def _pass_orders(mailbox: Any, name: str, child: ChildProcess) -> None:
    while True:
        for line in await mailbox.orders.remote(name):
            child.send(read_orders(line))


# --- here ---


class _RemoteChild:
    """A worker on the cluster, as the coordinator sees it."""

    def __init__(self, mailbox: Any, name: str, on_line: Callable[[str], None]) -> None:
        self._mailbox, self._name, self._on_line = mailbox, name, on_line
        self._reports: asyncio.Queue[Report | None] = asyncio.Queue()
        self._code = _KILLED
        #: Set once the worker runs, or has ended.
        self.is_here = asyncio.Event()
        self.is_over = False
        #: Why Ray could not run the worker at all.
        self.refusal: str | None = None
        self.last_words: deque[str] = deque(maxlen=_LINES_KEPT)
        self.task: Any = None

    def hear(self, kind: str, content: Any) -> None:
        """Process a message of the worker."""
        if kind == "here":
            self.is_here.set()
        elif kind == "report":
            self._reports.put_nowait(read_report(content))
        elif kind == "said":
            self._on_line(content)
        else:
            self._code, words = content
            self.last_words.extend(words)
            self.end()

    def end(self) -> None:
        """Note that no more messages will come."""
        self.is_over = True
        self._reports.put_nowait(None)
        self.is_here.set()

    async def watch(self) -> None:
        """Wait until the Ray task ends. If it failed, the worker has ended too."""
        try:
            await self.task
        except RayTaskError as error:
            self.refusal = str(error).rstrip().rpartition("\n")[2]
            self.last_words.append(self.refusal)
            self.end()
        except RayError as error:
            self.last_words.append(str(error).partition("\n")[0])
            self.end()

    async def report(self) -> Report | None:
        """Wait for the next report; return None if no more will come."""
        return await self._reports.get()

    def send(self, orders: Orders) -> None:
        """Send orders. A worker that has ended does not get them."""
        self._mailbox.order.remote(self._name, line_of(orders))

    def kill(self) -> None:
        """Kill the worker."""
        if not self.is_over:
            ray.cancel(self.task, force=True)
            self.end()

    async def ended(self) -> int:
        """Return the exit code of the worker; -9 if it was killed."""
        return self._code


class RayCluster:
    """Starts workers on a Ray cluster, at most one per CPU."""

    elsewhere = True

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        mailbox = ray.remote(num_cpus=0, max_concurrency=_AT_ONCE, scheduling_strategy=here)(_Mailbox)
        self._mailbox: Any = mailbox.remote()
        self._attend: Any = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_attend)
        self._children: dict[str, _RemoteChild] = {}
        self._numbers = count()
        self._beside: list[asyncio.Task[None]] = []
        self._is_lost = False

    @property
    def room(self) -> int:
        """The number of workers if `engine.workers` is not set."""
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    async def start(self, job: Job, on_line: Callable[[str], None]) -> _RemoteChild:
        """Start a worker as soon as a CPU is free. `on_line` is called with each line of its stderr. Raises OSError."""
        if not self._beside:
            self._beside.append(asyncio.create_task(self._listen()))
        name = f"{job.slot}.{next(self._numbers)}"
        child = self._children[name] = _RemoteChild(self._mailbox, name, on_line)
        child.task = self._attend.remote(self._mailbox, name, line_of(job))
        self._beside.append(asyncio.create_task(child.watch()))
        try:
            await child.is_here.wait()
        except asyncio.CancelledError:
            child.kill()
            raise
        if self._is_lost:
            raise OSError(0, "the Ray cluster is lost")
        if child.refusal is not None:
            raise OSError(0, child.refusal)
        return child

    async def _listen(self) -> None:
        """Pass on the messages of workers. If the mailbox is lost, all workers count as dead."""
        with suppress(RayError):
            while True:
                for name, kind, content in await self._mailbox.told.remote():
                    self._children[name].hear(kind, content)
        self._is_lost = True
        _log.warning("the Ray cluster is lost")
        for child in self._children.values():
            child.kill()


@contextmanager
def connected(address: str) -> Iterator[RayCluster]:
    """Keep a connection to a cluster within the block; use the one that is there already, if any. Raises UsageError."""
    if ray.is_initialized():
        yield RayCluster()
        return
    try:
        _look_for(address)
        dashboard = False if address == "local" else None
        ray.init(address=address, log_to_driver=False, logging_level="error", include_dashboard=dashboard)
    except (OSError, RuntimeError, ValueError) as error:
        remedy = "start a cluster with `ray start --head`, or use --address local"
        raise UsageError(f"engine.address: {address!r}: {str(error).partition(chr(10))[0]} ({remedy})") from error
    try:
        yield RayCluster()
    finally:
        ray.shutdown()


def _look_for(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray would take minutes to report it."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), _CONNECT_WITHIN_S).close()
