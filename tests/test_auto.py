"""The limit that finds itself: near the best fixed number on servers of all kinds, and still where nothing can be learnt."""

from __future__ import annotations

import random
from itertools import pairwise
from statistics import median

import pytest

from runner.endpoint.pacing.auto import AutoLimit
from tests.simulated_servers import Fixed, Server, drive

MOST = 1024
SERVERS = {
    "slots and a queue": (Server(kind="queue", slots=40, steps=0.8, spread=0.2), 41),
    "many slots": (Server(kind="queue", slots=120, steps=2.0, spread=0.2), 121),
    "few slots": (Server(kind="queue", slots=4, steps=0.3, spread=0.7), 5),
    "one slot": (Server(kind="queue", slots=1, steps=0.05, spread=0.2), 2),
    "a batch that slows down": (Server(kind="batch", slots=48, steps=100, step_s=0.004, more_s=0.0002, spread=0.5), 50),
    "a bounded queue, 429": (Server(kind="bounded", slots=30, room=40, steps=0.6, spread=0.5), 31),
    "a bounded queue, 503": (Server(kind="bounded", slots=30, room=40, steps=0.6, spread=0.5, says_503=True), 31),
    "one that fails at any load": (Server(kind="flaky", slots=30, steps=0.6, spread=0.5, fails=0.2, says_503=True), 31),
    "half of it after a restart": (
        Server(kind="restart", slots=40, steps=0.6, spread=0.2, down_at=60, changes=[(60.1, 0.5, 1)]),
        41,
    ),
}


@pytest.mark.parametrize("name", SERVERS)
def test_it_comes_near_to_the_best_fixed_number_of_a_server(name: str) -> None:
    server, best = SERVERS[name]
    fixed, found = drive(server, Fixed(best)), drive(server, AutoLimit(MOST, now=0.0))
    assert found.answers_per_s >= 0.9 * fixed.answers_per_s
    assert found.p99_s <= 2 * fixed.p99_s
    assert found.refused_share <= 0.02 or server.fails


@pytest.mark.parametrize(("spread", "seed"), [(None, 0), (0.7, 1)])
def test_a_full_server_that_refuses_at_once_is_not_asked_again_and_again(spread: float | None, seed: int) -> None:
    """One more in flight than it has room for is refused three times in the time of an answer, for as long as it is sent."""
    server = Server(kind="overloaded", slots=8, room=9, steps=0.16, spread=spread, way_s=0.05, says_503=True, seed=seed)
    assert drive(server, AutoLimit(MOST, now=0.0)).refused_share <= 0.1


def rounds(limit: AutoLimit, count: int, *, capacity: float, in_flight: int | None = None, now: float = 0.0) -> float:
    """Let a server with so many slots of a second each answer some thousand times; return the time."""
    for _ in range(count):
        flying = limit.limit if in_flight is None else in_flight
        now += 1 / min(flying, capacity)
        limit.answered(now, flying / min(flying, capacity))
    return now


def answer(limit: AutoLimit, count: int, *, per_s: float, latency_s: float, now: float) -> float:
    """Let so many answers come, at an even pace; return the time."""
    for _ in range(count):
        now += 1 / per_s
        limit.answered(now, latency_s)
    return now


def test_few_answers_that_were_counted_by_chance_do_not_end_the_search_where_latency_says_that_it_pays() -> None:
    limit = AutoLimit(MOST, now=0.0)
    now = answer(limit, 8 + 16, per_s=8, latency_s=1.0, now=0.0)
    assert limit.target == 16
    answer(limit, 8 + 16, per_s=10.8, latency_s=1.0, now=now)
    assert limit.target == 32


def test_halving_ends_where_it_loses_answers() -> None:
    limit = AutoLimit(MOST, now=0.0)
    now = answer(limit, 8 + 16, per_s=8, latency_s=1.0, now=0.0)
    now = answer(limit, 8 + 16, per_s=8, latency_s=2.0, now=now)
    assert limit.target == 4
    answer(limit, 16 + 16, per_s=6.4, latency_s=4 / 6.4, now=now)
    assert 4 <= limit.target <= 6


@pytest.mark.parametrize(("capacity", "apart"), [(20, 1.4), (400, 1.15)])
def test_the_more_are_in_flight_the_nearer_by_it_tests(capacity: int, apart: float) -> None:
    limit = AutoLimit(MOST, now=0.0)
    now = rounds(limit, 50 * capacity, capacity=capacity)
    targets = [limit.target]
    for _ in range(20 * capacity):
        now = rounds(limit, 1, capacity=capacity, now=now)
        if limit.target != targets[-1]:
            targets.append(limit.target)
    ratios = [max(a, b) / min(a, b) for a, b in pairwise(targets)]
    assert 1 < median(ratios) <= apart


def test_where_the_limit_is_not_reached_nothing_is_learnt() -> None:
    limit = AutoLimit(MOST, now=0.0)
    rounds(limit, 2000, capacity=1000, in_flight=3)
    assert limit.limit == 8
    assert limit.found is None
    assert limit.latest is None


def test_it_never_exceeds_its_bound() -> None:
    limit = AutoLimit(50, now=0.0)
    seen, now = set(), 0.0
    for _ in range(3000):
        now = rounds(limit, 1, capacity=1e6, now=now)
        seen.add(limit.limit)
    assert max(seen) == 50
    limit.widen(100)
    for _ in range(5000):
        now = rounds(limit, 1, capacity=1e6, now=now)
        seen.add(limit.limit)
    assert max(seen) == 100


@pytest.mark.parametrize("bound", [1, 2, 7, 16])
def test_a_small_bound_is_used(bound: int) -> None:
    limit = AutoLimit(bound, now=0.0)
    rounds(limit, 2000, capacity=1e6)
    assert limit.found is not None
    assert limit.found.limit >= 0.8 * bound


def test_too_much_takes_a_share_away_at_once_and_it_comes_back() -> None:
    limit = AutoLimit(64, now=0.0)
    now = rounds(limit, 4000, capacity=1e6)
    limit.refused(64, 0.0)
    assert limit.limit == 55
    rounds(limit, 8000, capacity=1e6, now=now)
    assert limit.limit == 64


def fail_and_answer(limit: AutoLimit, count: int, *, share: float, now: float, at_least: int = 0, seed: int = 1) -> float:
    """Let a server without a plateau fail at random, where at least so many are in flight; return the time."""
    draw = random.Random(seed)
    for _ in range(count):
        if limit.limit >= at_least and draw.random() < share:
            limit.failed(limit.limit)
        else:
            now = rounds(limit, 1, capacity=1e6, now=now)
    return now


def test_what_begins_to_fail_at_any_load_is_no_sign_of_too_much() -> None:
    limit = AutoLimit(64, now=0.0)
    now = rounds(limit, 4000, capacity=1e6)
    before = limit.limit
    fail_and_answer(limit, 8000, share=0.3, now=now)
    assert limit.limit >= 0.8 * before


def test_failures_that_come_long_before_the_first_answers_are_no_sign_of_too_much() -> None:
    limit = AutoLimit(MOST, now=0.0)
    for _ in range(3):
        limit.failed(8)
    assert limit.limit == 4
    now = 0.0
    for _ in range(16):
        now = rounds(limit, 10, capacity=1e6, now=now)
        limit.failed(limit.limit)
    assert limit.limit > 8


@pytest.mark.parametrize("first", [8, 64])
def test_what_only_fails_with_more_in_flight_is_too_much(first: int) -> None:
    limit = AutoLimit(1024, now=0.0, first=first)
    now = fail_and_answer(limit, 4000, share=0.9, now=0.0, at_least=30)
    seen = []
    for seed in range(4000):
        now = fail_and_answer(limit, 1, share=0.9, now=now, at_least=30, seed=seed)
        seen.append(limit.limit)
    assert median(seen) >= 20
    assert sum(one >= 30 for one in seen) <= 0.01 * len(seen)


def test_what_was_sent_before_the_limit_fell_says_nothing_of_it() -> None:
    limit = AutoLimit(64, now=0.0)
    rounds(limit, 4000, capacity=1e6)
    limit.refused(64, 0.0)
    after = limit.limit
    for flying in range(64, after, -1):
        limit.failed(flying)
    assert limit.limit == after


def test_the_longer_a_pause_the_later_it_is_risked_again() -> None:
    def answers_until_back(pause_s: float) -> int:
        limit = AutoLimit(64, now=0.0)
        now = rounds(limit, 4000, capacity=1e6)
        limit.refused(64, pause_s)
        count = 0
        while limit.limit < 64:
            now, count = rounds(limit, 1, capacity=1e6, now=now), count + 1
        return count

    short, long = answers_until_back(0.0), answers_until_back(1.0)
    assert 200 <= short <= 600
    assert long >= 50 * short


def test_after_an_outage_it_searches_again_from_a_quarter() -> None:
    limit = AutoLimit(MOST, now=0.0)
    now = rounds(limit, 20_000, capacity=200)
    assert limit.limit > 150
    assert limit.found is not None
    best = limit.found.limit
    limit.restart()
    assert limit.limit == best // 4
    rounds(limit, 5000, capacity=50, now=now)
    assert limit.limit < 80


def test_who_keeps_to_anothers_limit_sends_fewer_for_a_while_and_never_more() -> None:
    limit = AutoLimit(MOST, now=0.0)
    limit.keep_to(4)
    now, seen = 1000.0, []
    for seed in range(2000):
        now = fail_and_answer(limit, 1, share=0.4, now=now, seed=seed)
        seen.append(limit.limit)
    assert max(seen) <= 4
    limit.keep_to(40)
    now = rounds(limit, 2000, capacity=40, now=now)
    limit.refused(40, 0.0)
    assert limit.limit < 40
    seen.clear()
    for _ in range(3000):
        now = rounds(limit, 1, capacity=40, now=now)
        seen.append(limit.limit)
    assert (seen[-1], max(seen)) == (40, 40)


def test_what_was_found_is_told_with_the_latest_round() -> None:
    limit = AutoLimit(MOST, now=100.0)
    rounds(limit, 20_000, capacity=50, now=100.0)
    assert limit.found is not None
    assert 40 <= limit.found.limit <= 75
    assert 45 <= limit.found.answers_per_s <= 51
    assert limit.latest is not None
    assert limit.latest.answers_per_s <= 51
    assert limit.latest.p50_s >= 0.9


def test_of_many_workers_one_finds_it_and_the_others_keep_to_it() -> None:
    """A server with 40 slots of a second; what one has found the others are told within two seconds. The first one dies."""
    draw, capacity, now, at = random.Random(7), 40, 0.0, 0.0
    workers = [AutoLimit(MOST // 4, now=0.0) for _ in range(4)]
    told = workers[0].target
    sums = list[int]()
    for count in range(30_000):
        flying = sum(worker.limit for worker in workers)
        now += 1 / min(flying, capacity)
        (worker,) = draw.choices(workers, [worker.limit for worker in workers])
        worker.answered(now, flying / min(flying, capacity))
        if now - at >= 1:
            for one in workers[1:]:
                one.keep_to(told)
            workers[0].keep_to(None)
            told, at = workers[0].target, now
            sums.append(flying)
        if count == 15_000:
            workers = [*workers[1:], AutoLimit(MOST // 4, now=now)]
    # Four who find it for themselves have 15 times the capacity in flight, and in the end all that they may.
    assert capacity / 2 <= median(sums[100:]) <= 2.5 * capacity
    assert max(sums[100:]) <= 6 * capacity
    found = [worker.found for worker in workers]
    assert sum(one.answers_per_s for one in found if one is not None) == pytest.approx(capacity, rel=0.2)
