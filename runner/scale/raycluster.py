"""Workers on a Ray cluster: Ray starts them, carries what they and this program tell each other, and says when one is gone.

    this program ──► Mailbox ──► a task of Ray for each worker ──► the worker, a process beside it
                 ◄──         ◄──                               ◄──

Rows, answers and keys never go this way: a worker reads the dataset and the run's copy of the config where it is, has its keys
from the environment there, and writes its segment into the run's directory, which all machines share. When this program ends,
however it does, Ray ends the tasks, and the workers end with them.
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
#: So many calls of the mailbox may wait at once: two for each worker.
_AT_ONCE = 100_000
_KILLED = -9
_CONNECT_WITHIN_S = 5.0


class _Mailbox:
    """What workers have told and this program has not heard yet, and the other way round."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[tuple[str, str, Any]] = asyncio.Queue()
        self._orders: dict[str, asyncio.Queue[bytes]] = {}

    async def tell(self, worker: str, kind: str, content: Any) -> None:
        """Take something that a worker has to tell: a `report`, a line that it `said`, that it is `here`, or has `ended`."""
        self._told.put_nowait((worker, kind, content))

    async def told(self) -> list[tuple[str, str, Any]]:
        """Wait until something was told, and return all of it."""
        return await _all_of(self._told)

    async def order(self, worker: str, line: bytes) -> None:
        """Take orders for a worker."""
        self._of(worker).put_nowait(line)

    async def orders(self, worker: str) -> list[bytes]:
        """Wait until there are orders for a worker, and return all of them."""
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
    """Run a worker to its end, and pass on what it and the mailbox have for each other."""
    asyncio.run(_attended(mailbox, name, replace(read_job(job), machine=ray.util.get_node_ip_address())))


async def _attended(mailbox: Any, name: str, job: Job) -> None:
    await mailbox.tell.remote(name, "here", None)
    try:
        os.chdir(job.cwd)
    except OSError as error:
        ended = Ended(f"{job.worker}: {job.cwd}: {error.strerror}; all machines have to share it", own=True)
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
    """A worker on the cluster."""

    def __init__(self, mailbox: Any, name: str, on_line: Callable[[str], None]) -> None:
        self._mailbox, self._name, self._on_line = mailbox, name, on_line
        self._reports: asyncio.Queue[Report | None] = asyncio.Queue()
        self._code = _KILLED
        #: Set once it runs.
        self.is_here = asyncio.Event()
        self.is_over = False
        #: Why Ray could not run it at all.
        self.refusal: str | None = None
        self.last_words: deque[str] = deque(maxlen=_LINES_KEPT)
        self.task: Any = None

    def hear(self, kind: str, content: Any) -> None:
        """Take what it has told."""
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
        """Note that nothing more will come of it."""
        self.is_over = True
        self._reports.put_nowait(None)
        self.is_here.set()

    async def watch(self) -> None:
        """Wait until Ray says that it has ended otherwise than by itself."""
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
        """Wait for the next report; None where there will be none."""
        return await self._reports.get()

    def send(self, orders: Orders) -> None:
        """Send orders; whoever is gone does not get them."""
        self._mailbox.order.remote(self._name, line_of(orders))

    def kill(self) -> None:
        """End it at once."""
        if not self.is_over:
            ray.cancel(self.task, force=True)
            self.end()

    async def ended(self) -> int:
        """Return its exit code, or that it was killed."""
        return self._code


class RayCluster:
    """Starts workers on a Ray cluster, one for each CPU at most."""

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
        """How many workers there are where nobody says how many."""
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    async def start(self, job: Job, on_line: Callable[[str], None]) -> _RemoteChild:
        """Start one, as soon as there is room. `on_line` gets each line that it writes to stderr. Raises OSError."""
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
        """Hand out what workers tell; where the mailbox is gone, so are all of them."""
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
    """Be connected to a cluster within the block, as somebody may be already. Raises UsageError."""
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
    """Raise OSError where nobody listens at HOST:PORT: Ray would take minutes to say so."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), _CONNECT_WITHIN_S).close()
