"""The lanes of a worker: what it tells of the pace at each server, and how it takes the paces of another worker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.endpoint.pacing.rate_limiter import RateLimiter
from runner.lanes import Lane, Lanes
from tests.histories import in_virtual_time
from tests.test_pace import Limiter, ask

UNUSED: Any = None


def lanes_to(**limiters: list[RateLimiter]) -> Lanes:
    lanes = Lanes(
        config=UNUSED, environment={}, keeper=UNUSED, budget=UNUSED, in_flight=UNUSED, pipeline=UNUSED, has_fresh=UNUSED
    )
    lanes._by_endpoint.update({name: Lane(UNUSED, UNUSED, UNUSED, servers) for name, servers in limiters.items()})
    return lanes


def test_each_server_has_a_pace_of_its_own_and_gets_that_of_another_worker() -> None:
    async def run() -> None:
        now = asyncio.get_running_loop().time
        slow, quick = await ask(Limiter("bucket", 5, rate=20.0), 200), await ask(Limiter("bucket", 5, rate=80.0), 400)
        lanes = lanes_to(model=[slow, RateLimiter(clock=now), quick], judge=[RateLimiter(clock=now)])
        before = lanes.paces()
        assert list(before) == ["model"], "the judge has said no 429"
        assert before["model"] == [slow.learnt_per_second, 0, quick.learnt_per_second]
        assert 0 < before["model"][0] < before["model"][2]
        lanes.rise({"model": [10.0, 20.0, 30.0], "judge": [40.0], "other": [50.0]})
        assert list(lanes.paces()) == ["model"]
        more = [new - old for new, old in zip(lanes.paces()["model"], before["model"], strict=True)]
        assert more == pytest.approx([10, 0, 30], rel=0.06), "near the end the pace is a twentieth lower"

    in_virtual_time(run())
