"""Several endpoints: named ones for single tasks, and servers that answer alike, of which one may be slow, limited or dead."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runner.config.loading import load_config
from runner.endpoint.pacing.balancing import Balancer, Server
from runner.endpoint.pacing.rate_limiter import RateLimiter
from runner.errors import AttemptError, ConfigError
from runner.types import Attempt, ErrorType, Failure, Response
from tests.commands import Project, ask, questions
from tests.plain_requests import request
from tests.serving import Served, chat_answer

# --- who is asked ---


class Simulated:
    """A server in simulated time: so many at once, each for so long; the others wait."""

    def __init__(self, name: str, capacity: int, service_s: float, *, weight: float = 1.0) -> None:
        self.capacity, self.service_s = capacity, service_s
        self.is_dead = False
        self.fails: Callable[[Attempt], AttemptError | None] = lambda _attempt: None
        self.answers = 0
        self.sent: list[Attempt] = []
        self._room, self._random = asyncio.Semaphore(capacity), random.Random(capacity)
        self.server = Server(name, self.send, RateLimiter(), weight)

    async def send(self, attempt: Attempt) -> Response:
        self.sent.append(attempt)
        began = asyncio.get_running_loop().time()
        if (error := self.fails(attempt)) is not None:
            raise error
        if self.is_dead:
            await asyncio.sleep(0.001)
            raise failure(ErrorType.CONNECT)
        async with self._room:
            await asyncio.sleep(self._random.uniform(0.8, 1.2) * self.service_s)
        if self.is_dead:
            raise failure(ErrorType.CONNECT)
        self.answers += 1
        attempt.wire_s = asyncio.get_running_loop().time() - began
        return Response(output="ok")


def failure(kind: ErrorType, *, stops: str | None = None) -> AttemptError:
    return AttemptError(Failure(error_type=kind, message="no"), retry=True, stops_run=stops)


def attempt(number: int = 0, content: bytes = b"{}") -> Attempt:
    return Attempt(request(number, content=content), 1)


class Ticking(asyncio.SelectorEventLoop):
    """A loop whose time stands still but where there is nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]  # as its base has it
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


async def work(balancer: Balancer, in_flight: int, seconds: float) -> tuple[int, int]:
    """Ask with so many in flight for so long; return how many were answered, and how many failed."""
    loop, answered, failed = asyncio.get_running_loop(), 0, 0
    until = loop.time() + seconds

    async def worker() -> None:
        nonlocal answered, failed
        while loop.time() < until:
            try:
                await balancer.send(attempt())
                answered += 1
            except AttemptError:
                failed += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(worker())
    return answered, failed


def simulated(scene: Callable[[Callable[..., Balancer]], Any]) -> Any:
    """Play a scene in simulated time."""
    with asyncio.Runner(loop_factory=Ticking) as runner:

        async def play() -> Any:
            clock = asyncio.get_running_loop().time
            return await scene(lambda *servers: Balancer([one.server for one in servers], clock=clock))

        return runner.run(play())


@pytest.mark.parametrize("in_flight", [5, 8, 32])
@pytest.mark.parametrize("sizes", [(1, 3), (8, 8), (2, 20)])
def test_servers_of_unlike_size_are_both_full(sizes: tuple[int, int], in_flight: int) -> None:
    async def scene(balanced: Callable[..., Balancer]) -> int:
        servers = [Simulated(str(number), size, 0.1) for number, size in enumerate(sizes)]
        balancer = balanced(*servers)
        await work(balancer, in_flight, 10)  # until they have proved what they take
        return (await work(balancer, in_flight, 30))[0]

    possible = min(sum(sizes), in_flight) * 30 / 0.1
    assert simulated(scene) >= 0.95 * possible


def test_one_that_dies_costs_no_request_and_is_back_soon_after_it_is() -> None:
    async def scene(balanced: Callable[..., Balancer]) -> None:
        first, second = Simulated("a", 8, 0.1), Simulated("b", 8, 0.1)
        balancer = balanced(first, second)
        await work(balancer, 16, 5)
        first.is_dead = True
        before = second.answers
        assert (await work(balancer, 16, 30))[1] == 0, "no row is charged with it"
        assert second.answers - before >= 0.95 * 8 * 30 / 0.1
        assert len(first.sent) - first.answers <= 16 + 20, "it is asked by one request at a time, and ever more seldom"
        first.is_dead = False
        await work(balancer, 16, 12)
        before = first.answers + second.answers
        await work(balancer, 16, 10)
        assert first.answers + second.answers - before >= 0.9 * 16 * 10 / 0.1

    simulated(scene)


def test_a_refusal_of_the_request_is_its_own_and_one_of_the_client_is_the_servers() -> None:
    async def scene(balanced: Callable[..., Balancer]) -> None:
        first, second = Simulated("a", 8, 0.1), Simulated("b", 8, 0.1)
        balancer = balanced(first, second)
        first.fails = second.fails = lambda _attempt: failure(ErrorType.REQUEST)
        with pytest.raises(AttemptError):
            await balancer.send(attempt())
        assert len(first.sent) + len(second.sent) == 1
        first.fails, second.fails = lambda _attempt: failure(ErrorType.AUTH, stops="first"), lambda _attempt: None
        made = attempt()
        await balancer.send(made)
        assert (made.endpoint, made.resent) == ("b", 1)
        second.fails = lambda _attempt: failure(ErrorType.SERVER)
        with pytest.raises(AttemptError):
            await balancer.send(attempt())

    simulated(scene)


def test_while_one_pauses_the_other_is_asked() -> None:
    async def scene(balanced: Callable[..., Balancer]) -> None:
        first, second = Simulated("a", 8, 0.1), Simulated("b", 8, 0.1)
        balancer = balanced(first, second)
        first.server.limiter.rate_limited(first.server.limiter.clock(), 30.0)
        for number in range(10):
            await balancer.send(attempt(number))
        assert (len(first.sent), len(second.sent)) == (0, 10)

    simulated(scene)


def test_what_begins_alike_goes_to_the_same_server_as_long_as_it_is_not_far_busier() -> None:
    async def scene(balanced: Callable[..., Balancer]) -> None:
        servers = [Simulated(name, 100, 0.1) for name in "abc"]
        balancer = balanced(*servers)
        balancer.key_of = lambda one: one.request.content
        went: dict[bytes, set[str]] = {}
        for number in range(90):
            made = attempt(number, b"%d" % (number % 9))
            await balancer.send(made)
            went.setdefault(made.request.content, set()).add(str(made.endpoint))
        assert all(len(names) == 1 for names in went.values())
        assert len(set.union(*went.values())) > 1
        async with asyncio.TaskGroup() as group:
            crowd = [attempt(number, b"1") for number in range(60)]
            for one in crowd:
                group.create_task(balancer.send(one))
        shares = Counter(one.endpoint for one in crowd)
        assert min(shares.values()) >= 10, "all would be too much for one"

    simulated(scene)


def test_prefixes_are_spread_by_weight_and_stay_where_they_are_when_a_server_is_left_out() -> None:
    async def scene(balanced: Callable[..., Balancer]) -> None:
        servers = [
            Simulated(f"http://gpu{number}:8000/v1", 10_000, 0.1, weight=weight) for number, weight in enumerate((1, 1, 2))
        ]
        balancer = balanced(*servers)
        balancer.key_of = lambda one: one.request.content

        async def owners() -> dict[bytes, str]:
            made = [attempt(number, b"%d" % number) for number in range(2000)]
            for one in made:  # one by one, so that none is busier than another
                await balancer.send(one)
            return {one.request.content: str(one.endpoint) for one in made}

        before = await owners()
        shares = Counter(before.values())
        assert all(abs(shares[one.server.name] / 2000 - one.server.weight / 4) < 0.04 for one in servers)
        servers[0].server.left_out_until = float("inf")
        after = await owners()
        assert all(after[key] == name for key, name in before.items() if name != servers[0].server.name)

    simulated(scene)


# --- whole runs ---


def by_model(delay: float = 0.0) -> Callable[[web.Request, dict[str, Any]], Any]:
    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(delay)
        return web.json_response(chat_answer(f"{body['model']}: {body['messages'][-1]['content']}"))

    return answer


def test_a_judge_lives_elsewhere(tmp_path: Path) -> None:
    judge = ask("judged", "Is {{item.answer}} right?", endpoint="judge", configuration={"model": "j"})
    with Served(by_model()) as first, Served(by_model()) as second:
        named = {"judge": {"base_url": second.url, "api_key_env": "JUDGE_KEY", "limits": {"concurrency": 2}}}
        project = Project(
            tmp_path / "p",
            first.url,
            tasks=[ask(), judge],
            more={"endpoints": named},
            environment={"JUDGE_KEY": "sk-judge-12345678", "OPENAI_API_KEY": "sk-other-12345678"},
        )
        done = project.run_here()
        assert done.returncode == 0, done.stderr
        assert {seen.body["model"] for seen in first.seen} == {"m"}
        assert {seen.body["model"] for seen in second.seen} == {"j"}
        assert {seen.headers["Authorization"] for seen in second.seen} == {"Bearer sk-judge-12345678"}
        rows = {(row["task"], row["endpoint"]) for row in project.results()}
        assert rows == {("answer", first.url), ("judged", second.url)}
        kept = b"".join(path.read_bytes() for path in project.run_dir.rglob("*") if path.is_file())
        assert b"sk-judge" not in kept


@pytest.mark.long
def test_the_servers_of_an_endpoint_share_its_rows_and_one_may_die(tmp_path: Path) -> None:
    with Served(by_model(0.005)) as first, Served(by_model(0.005)) as second:
        project = Project(
            tmp_path / "p",
            "",
            rows=questions(400),
            limits={"concurrency": 8},
            more={"endpoint": {"base_url": [first.url, second.url]}},
        )

        def kill() -> None:
            while len(first.seen) < 60:
                time.sleep(0.005)
            first.end()

        done = project.run_here_while(kill)
        assert done.returncode == 0, done.stderr
        assert "400 results, 0 errors" in done.stdout
        who = Counter(row["endpoint"] for row in project.results())
        assert set(who) == {first.url, second.url}
        assert who[second.url] > 200
        again = project.run_here("--resume")
        assert again.returncode == 0


@pytest.mark.long
def test_a_rate_is_one_of_all_servers_together(tmp_path: Path) -> None:
    with Served(by_model()) as first, Served(by_model()) as second:
        project = Project(
            tmp_path / "p",
            "",
            rows=questions(60),
            limits={"concurrency": 8, "requests_per_second": 40},
            more={"endpoint": {"servers": [{"base_url": first.url, "weight": 2}, {"base_url": second.url}]}},
        )
        began = time.monotonic()
        assert project.run_here().returncode == 0
        assert time.monotonic() - began > 1.0
        assert len(first.seen) > len(second.seen) > 0


@pytest.mark.parametrize(
    ("endpoint", "more", "said"),
    [
        ({"base_url": ["http://a/v1"]}, {}, "needs two servers or more"),
        ({"base_url": ["http://a/v1", "http://a"]}, {}, "names a server twice"),
        ({"base_url": "http://a", "servers": [{"base_url": "http://b"}, {"base_url": "http://c"}]}, {}, "not both"),
        ({"base_url": ["http://a", "nothing"]}, {}, "is not a URL"),
        ({"base_url": "http://a"}, {"tasks": [ask(endpoint="b")]}, "asks the endpoint 'b'; `endpoints` has none"),
        (
            {"base_url": "http://a"},
            {"endpoints": {"b": {"base_url": "http://b", "api_key_env": "NO_SUCH"}}},
            "NO_SUCH is not set",
        ),
        ({"base_url": "http://a"}, {"endpoints": {"b": {"base_url": "http://b", "api_key": "x"}}}, "do not write the key here"),
        (
            {"base_url": "http://a"},
            {
                "tasks": [
                    ask(),
                    {"task_type": "metric", "endpoint": "b", "configuration": {"type": "score", "candidate": "item.answer"}},
                ]
            },
            "`endpoint` is for tasks that send requests",
        ),
    ],
)
def test_mistakes(tmp_path: Path, endpoint: dict[str, Any], more: dict[str, Any], said: str) -> None:
    file = tmp_path / "c.yaml"
    config = {"name": "n", "dataset": {"data": [{"question": "x"}]}, "endpoint": endpoint, "tasks": [ask()], **more}
    file.write_text(json.dumps(config))
    with pytest.raises(ConfigError) as error:
        load_config(file, environment={})
    assert said in str(error.value)


def test_what_is_asked_is_the_same_in_any_order_of_servers(tmp_path: Path) -> None:
    with Served(by_model()) as first, Served(by_model()) as second, Served(by_model()) as third:
        project = Project(tmp_path / "p", "", rows=questions(6), more={"endpoint": {"base_url": [first.url, second.url]}})
        assert project.run_here("--limit", "3").returncode == 0
        project.more = {"endpoint": {"base_url": [second.url, first.url]}}
        project.write()
        assert project.run_here("--resume").returncode == 0
        project.more = {"endpoint": {"base_url": [second.url, third.url]}}
        project.write()
        refused = project.run_here("--resume")
        assert refused.returncode == 2
        assert "endpoint.base_url" in refused.stderr
