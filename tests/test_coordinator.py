"""The coordinator: every row is open, leased or done; what is leased twice, granted and stopped, whatever workers do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.pipeline.budget import Budget
from runner.pipeline.error_rate import Outcome
from runner.scale.beat import Ended, Orders, Report
from runner.scale.coordinator import SILENT_S, Coordinator
from runner.scale.ranges import Ranges, ranges_of
from runner.structs import replace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def coordinator_of(workers: int = 2, rows: int = 1000, **more: Any) -> tuple[Coordinator, Clock]:
    clock = Clock()
    budget = Budget(max_tokens=more.pop("max_tokens", None), max_error_rate=0.5)
    found = Coordinator(clock=clock, budget=budget, **more)
    found.add([(0, rows)])
    found.plan_ended()
    for slot in range(workers):
        found.join(slot, 4)
        found.beat(slot, Report(segments=[slot + 2]))
    return found, clock


def test_errors_of_all_workers_count_together_and_the_reason_has_the_latest_example() -> None:
    coordinator, _ = coordinator_of(workers=3)
    bad, good = Outcome("bad_request", "no such tool"), Outcome()
    outcomes = {"answer": [bad] * 20 + [good] * 13, "other": [good] * 33}
    for _ in range(2):
        for slot in range(3):
            assert coordinator.stop is None, "fewer than 200 have come"
            coordinator.beat(slot, Report(segments=[slot + 2], outcomes=outcomes))
    coordinator.beat(0, Report(segments=[2], outcomes={"answer": [bad] * 2}))
    assert coordinator.stop is not None
    share = "122 of the last 200 results of `answer` are errors (limits.max_error_rate: 0.5)"
    assert coordinator.stop.reason == f"{share}, 122 of them bad_request, for example: no such tool"
    assert coordinator.stop.within is None


def rows_of(orders: Orders) -> list[int]:
    return [index for lease in orders.leases for first, last in lease.runs for index in range(first, last)]


def test_only_one_asks_while_nothing_is_known_of_the_endpoint() -> None:
    coordinator, clock = coordinator_of()
    assert rows_of(coordinator.orders(0))
    assert not rows_of(coordinator.orders(1))
    coordinator.beat(0, Report(segments=[2], leases=1, begun=4, ahead=60, active=4, ok=1))
    assert rows_of(coordinator.orders(1))
    coordinator, clock = coordinator_of()
    coordinator.orders(0)
    clock.now += 100  # a slow start of the worker
    assert not rows_of(coordinator.orders(1))
    asking = Report(segments=[2], leases=1, active=4, ahead=60, in_flight=4)
    coordinator.beat(0, asking)
    assert not rows_of(coordinator.orders(1))
    clock.now += 2  # an endpoint that has said nothing for so long is slow, but refuses nobody
    assert rows_of(coordinator.orders(1))
    for refused in (replace(asking, retries=1), replace(asking, ended=Ended("wrong key", hurry=True))):
        coordinator, clock = coordinator_of()
        coordinator.orders(0)
        coordinator.beat(0, asking)
        clock.now += 100
        coordinator.beat(0, refused)
        assert not rows_of(coordinator.orders(1))


def test_no_other_worker_begins_while_the_endpoint_is_down_for_all_that_ask() -> None:
    coordinator, _ = coordinator_of(workers=4)
    asking = Report(segments=[2], leases=1, begun=4, ahead=60, active=4, ok=1)
    assert rows_of(coordinator.orders(0))
    coordinator.beat(0, replace(asking, down={"answer": True}))
    assert not rows_of(coordinator.orders(1))
    coordinator.beat(0, asking)
    assert rows_of(coordinator.orders(1))
    coordinator.beat(0, replace(asking, down={"answer": True}, ahead=0))
    assert rows_of(coordinator.orders(2)), "worker 1 does not find it so"
    coordinator.beat(1, replace(asking, down={"answer": False}))
    coordinator.beat(2, replace(asking, down={"answer": False}))
    assert not rows_of(coordinator.orders(3))
    assert rows_of(coordinator.orders(0)), "who has begun goes on: another task may have another endpoint"
    for slot in range(3):
        coordinator.bury(slot, died=True)
    assert rows_of(coordinator.orders(3)), "nobody else is there to find out more"


def test_a_long_pause_that_the_server_wishes_is_for_all() -> None:
    coordinator, clock = coordinator_of(workers=3)
    coordinator.beat(0, Report(segments=[2], pauses={"": 4.9}))
    assert not coordinator.orders(1).pauses, "it is over before all know"
    coordinator.beat(0, Report(segments=[2], pauses={"": 30.0}))
    clock.now += 10
    coordinator.beat(2, Report(segments=[4], pauses={"": 6.0, "judge": 8.0}))
    assert [coordinator.orders(slot).pauses for slot in range(3)] == [{"": 20.0, "judge": 8.0}] * 3
    coordinator.bury(0)
    coordinator.join(0, 4)
    assert coordinator.orders(0).pauses == {"": 20.0, "judge": 8.0}, "also for who comes later"
    clock.now += 8
    assert coordinator.orders(1).pauses == {"": 12.0}, "each endpoint has its own"
    clock.now += 12
    assert not coordinator.orders(1).pauses


def test_no_second_lease_while_the_first_is_on_its_way() -> None:
    coordinator, _ = coordinator_of()
    assert rows_of(coordinator.orders(0))
    assert not rows_of(coordinator.orders(0))


def test_a_lease_follows_the_speed_of_its_worker_and_ends_small() -> None:
    coordinator, clock = coordinator_of(workers=1, rows=100_000)
    first = rows_of(coordinator.orders(0))
    clock.now += 1
    coordinator.beat(0, Report(segments=[2], leases=1, begun=0, ahead=len(first), active=4))
    clock.now += 1
    coordinator.beat(0, Report(segments=[2], leases=1, begun=len(first), active=4, ok=60))
    assert len(rows_of(coordinator.orders(0))) == 2 * len(first)  # two seconds' work
    coordinator, _ = coordinator_of(workers=1, rows=30)
    assert len(rows_of(coordinator.orders(0))) == 10


def test_what_a_dead_worker_had_not_done_comes_first() -> None:
    coordinator, _ = coordinator_of(rows=1000)
    rows = rows_of(coordinator.orders(0))
    coordinator.bury(0, rows[5:], rows[5:8], died=True)
    coordinator.join(0, 4)
    coordinator.beat(0, Report(segments=[9]))
    assert rows_of(coordinator.orders(0))[:10] == rows[5:15]
    assert (coordinator.died, coordinator.paid_twice) == (1, 3)


def test_a_row_in_flight_at_two_deaths_is_given_alone_and_at_three_to_nobody() -> None:
    coordinator, _ = coordinator_of(workers=1, rows=2)
    for _ in range(2):
        assert rows_of(coordinator.orders(0)) == [0, 1]
        coordinator.bury(0, [0, 1], [0], died=True)
        coordinator.join(0, 4)
        coordinator.beat(0, Report(segments=[3]))
    assert rows_of(coordinator.orders(0)) == [1]
    coordinator.beat(0, Report(segments=[3], leases=1, begun=1, ok=1))
    assert rows_of(coordinator.orders(0)) == [0]
    assert not coordinator.is_done
    coordinator.bury(0, [0], [0], died=True)
    assert coordinator.poison == [0]
    assert coordinator.is_done


def test_deaths_before_anything_was_asked_end_the_run() -> None:
    coordinator, _ = coordinator_of()
    for _ in range(3):
        assert coordinator.stop is None
        coordinator.bury(0, died=True)
        coordinator.join(0, 4)
    assert coordinator.stop is not None
    assert "worker 0 died 3 times before it had asked anything" in coordinator.stop.reason


def test_deaths_without_a_result_in_between_end_the_run_and_a_result_forgives_them() -> None:
    coordinator, _ = coordinator_of(workers=5)
    for slot in range(4):
        coordinator.bury(slot, [slot], [slot], died=True)
    coordinator.beat(4, Report(segments=[6], ok=1))
    for slot in range(4):
        coordinator.join(slot, 4)
        coordinator.bury(slot, [slot], [100 + slot], died=True)
    assert coordinator.stop is None
    coordinator.bury(4, died=True)
    assert coordinator.stop is not None


def test_a_result_that_was_not_reported_forgives_deaths_too() -> None:
    coordinator, _ = coordinator_of(workers=1)
    for _ in range(9):
        coordinator.bury(0, [0], [], died=True, found=(1, 0))
        coordinator.join(0, 4)
        coordinator._deaths_at_start.clear()
    assert coordinator.stop is None
    assert coordinator.total(lambda report: report.ok) == 9


@pytest.mark.parametrize(
    ("ended", "other_answers", "goes_on"),
    [
        (Ended("the endpoint is down", hurry=True), True, True),
        (Ended("the endpoint is down", hurry=True), False, False),
        (Ended("too many errors"), True, False),
        (Ended("the disk is full", own=True), False, True),
        (Ended("stopped by SIGTERM", leaving=True), False, True),
    ],
)
def test_a_worker_that_stops_is_set_aside_or_stops_all(ended: Ended, other_answers: bool, goes_on: bool) -> None:
    coordinator, clock = coordinator_of()
    clock.now += 100
    if other_answers:
        coordinator.beat(1, Report(segments=[3], ok=1))
    assert coordinator.verdict(0, ended) is goes_on
    assert (coordinator.stop is None) is goes_on


def test_answers_of_another_endpoint_do_not_speak_for_one_that_is_down_for_all() -> None:
    coordinator, clock = coordinator_of()
    clock.now += 100
    gives_up = Ended("the endpoint is down", hurry=True)
    coordinator.beat(0, Report(segments=[2], down={"judged": True}))
    coordinator.beat(1, Report(segments=[3], ok=1, down={"judged": True}))
    assert not coordinator.verdict(0, gives_up)
    coordinator.stop = None
    coordinator.beat(1, Report(segments=[3], ok=2))
    assert coordinator.verdict(0, gives_up)


def say_down(coordinator: Coordinator, *slots: int, down: Sequence[str] = ("answer",), has_control: bool = True) -> None:
    for slot in slots:
        coordinator.beat(slot, Report(segments=[slot + 2], down=dict.fromkeys(down, has_control)))


def probing(coordinator: Coordinator, workers: int) -> list[int]:
    return [slot for slot in range(workers) if "answer" in coordinator.orders(slot).may_probe]


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (3, 1), (99, 1), (100, 2), (151, 3)])
def test_few_look_for_an_endpoint_to_be_back_and_who_finds_it_so_tells_all(workers: int, most: int) -> None:
    coordinator, _ = coordinator_of(workers=workers)
    coordinator._is_planned = False  # no other news
    assert not probing(coordinator, workers)
    say_down(coordinator, *range(workers))
    assert probing(coordinator, workers) == list(range(most))
    assert probing(coordinator, workers) == list(range(most))
    say_down(coordinator, 0, down=())
    others = range(1, workers)
    assert {slot for slot in coordinator.with_news() if coordinator.workers[slot].back} == set(others)
    orders = [coordinator.orders(slot) for slot in others]
    assert [one.back for one in orders] == [["answer"]] * (workers - 1)
    assert not any(one.may_probe for one in orders)
    assert not any(coordinator.orders(slot).back for slot in others), "it is said once"


def test_each_task_has_an_outage_of_its_own() -> None:
    coordinator, _ = coordinator_of(workers=3)
    say_down(coordinator, 1, down=["judged"])
    say_down(coordinator, 0, 2, down=["answer", "judged"])
    assert [list(coordinator.orders(slot).may_probe) for slot in range(3)] == [["answer"], ["judged"], []]
    say_down(coordinator, 1, down=[])
    assert [list(coordinator.orders(slot).back) for slot in range(3)] == [["judged"], [], ["judged"]]
    assert [list(coordinator.orders(slot).may_probe) for slot in range(3)] == [["answer"], [], []]


def test_who_looks_for_an_endpoint_is_followed_by_another_when_it_dies_or_its_turn_is_over() -> None:
    coordinator, clock = coordinator_of(workers=3)
    say_down(coordinator, 2, 0, 1)
    assert probing(coordinator, 3) == [2]
    clock.now += 31
    assert probing(coordinator, 3) == []  # 0 was told before 2 had handed it over
    assert probing(coordinator, 3) == [0]
    coordinator.bury(0, died=True)
    coordinator.join(0, 4)
    say_down(coordinator, 0, 1, 2)
    assert probing(coordinator, 3) == [1]
    say_down(coordinator, 1, 2, down=())
    say_down(coordinator, 0)
    clock.now += 1000
    assert probing(coordinator, 3) == [0], "of one alone the turn is never over"
    assert probing(coordinator, 3) == [0]


def test_a_worker_that_is_cut_off_alone_is_told_nothing_by_those_who_are_not() -> None:
    coordinator, _ = coordinator_of(workers=3)
    say_down(coordinator, 0)
    assert probing(coordinator, 3) == [0]
    for ok in range(5):
        coordinator.beat(1, Report(segments=[3], ok=ok))
        assert not coordinator.orders(0).back
    say_down(coordinator, 1)
    say_down(coordinator, 1, down=())  # by a late answer: it did not look for it
    assert not coordinator.orders(0).back


def test_the_oldest_worker_finds_how_many_in_flight_are_best_for_all() -> None:
    coordinator, _ = coordinator_of(workers=3)
    assert not any(coordinator.orders(slot).concurrency for slot in range(3))
    for slot in range(3):
        coordinator.beat(slot, Report(segments=[slot + 2], concurrency={"": [16 + slot]}))
    assert [coordinator.orders(slot).concurrency for slot in range(3)] == [{}, {"": [16]}, {"": [16]}]
    coordinator.bury(0, died=True)
    coordinator.join(0, 4)
    coordinator.beat(0, Report(segments=[9], concurrency={"": [5]}))
    assert [coordinator.orders(slot).concurrency for slot in range(3)] == [{"": [17]}, {}, {"": [17]}]


def test_the_pace_of_a_worker_without_rows_goes_to_those_that_have_some() -> None:
    coordinator, _ = coordinator_of(workers=3, rows=24)
    busy = Report(segments=[2], leases=1, begun=8, active=4, ok=4, paces={"": [8.0, 0.0]})
    done = replace(busy, active=0, ok=8, paces={"": [100.0, 20.0], "judge": [6.0]})
    for slot in range(3):
        assert len(rows_of(coordinator.orders(slot))) == 8
        coordinator.beat(slot, busy)
    assert not list(coordinator.with_news())
    for _ in range(2):
        coordinator.beat(0, done)
    assert list(coordinator.with_news()) == [1, 2]
    assert [coordinator.orders(slot).faster for slot in range(3)] == [{}, *[{"": [50.0, 10.0], "judge": [3.0]}] * 2]
    assert not any(coordinator.orders(slot).faster for slot in range(3)), "each gets it once"
    coordinator.beat(1, replace(done, paces={"": [58.0, 10.0], "judge": [3.0]}))
    assert [coordinator.orders(slot).faster for slot in range(3)] == [{}, {}, {"": [58.0, 10.0], "judge": [3.0]}]


def test_a_worker_that_gets_rows_of_a_dead_one_passes_its_pace_on_when_they_are_done() -> None:
    coordinator, _ = coordinator_of(workers=3, rows=16)
    busy = Report(segments=[2], leases=1, begun=8, active=4, ok=4)
    for slot in range(2):
        assert len(rows_of(coordinator.orders(slot))) == 8
        coordinator.beat(slot, busy)
    coordinator.beat(2, Report(segments=[4]))
    coordinator.bury(0, left=[4, 5], died=True)
    assert rows_of(coordinator.orders(2)) == [4, 5]
    coordinator.beat(2, replace(busy, begun=2, active=0, paces={"": [30.0]}))
    assert coordinator.orders(1).faster == {"": [30.0]}


def test_a_worker_that_waits_for_rows_keeps_its_pace() -> None:
    coordinator, _ = coordinator_of(rows=1000)
    coordinator.orders(0)
    coordinator.beat(0, Report(segments=[2], leases=1, begun=64, ok=64, paces={"": [100.0]}))
    coordinator.orders(1)
    assert not coordinator.orders(1).faster


def test_the_last_worker_is_never_set_aside() -> None:
    coordinator, _ = coordinator_of(workers=1)
    assert not coordinator.verdict(0, Ended("the disk is full", own=True))
    assert coordinator.stop is not None
    assert coordinator.stop.reason == "the disk is full"


def test_grants_are_never_more_than_what_is_left() -> None:
    coordinator, _ = coordinator_of(workers=4, tokens_left=1000, max_tokens=1000)
    used = [0, 0, 0, 0]
    for _ in range(30):
        for slot in range(4):
            coordinator.beat(slot, Report(segments=[slot + 2], active=1, used=used[slot]))
            if coordinator.stop is not None:
                break
            granted = coordinator.orders(slot).tokens
            assert granted is not None
            used[slot] = int(granted)
            assert sum(used) <= 1000
    assert sum(used) > 950


def test_what_was_granted_to_one_that_is_idle_others_may_use() -> None:
    coordinator, _ = coordinator_of(tokens_left=1000, max_tokens=1000)
    coordinator.beat(0, Report(segments=[2], active=1))
    assert coordinator.orders(0).tokens == 250
    coordinator.beat(0, Report(segments=[2], leases=1))
    used = 0
    for _ in range(100):
        coordinator.beat(1, Report(segments=[3], active=1, used=used))
        if coordinator.stop is not None:
            break
        used = math.ceil(coordinator.orders(1).tokens or 0)
    assert used >= 1000


def test_used_up_tokens_stop_the_run() -> None:
    coordinator, _ = coordinator_of(tokens_left=1000, max_tokens=1000)
    coordinator.beat(0, Report(segments=[2], used=600))
    coordinator.beat(1, Report(segments=[3], used=400))
    assert coordinator.stop is not None
    assert coordinator.stop.reason == "1000 tokens are used of 1000; raise limits.max_tokens to go on"
    assert coordinator.orders(0).stop is coordinator.stop


def test_who_says_nothing_for_long_is_silent_but_may_take_its_time_to_start() -> None:
    coordinator, clock = coordinator_of()
    coordinator.join(2, 4)
    clock.now += SILENT_S + 1
    coordinator.beat(1, Report(segments=[3]))
    assert coordinator.silent() == [0]
    clock.now += 60
    assert coordinator.silent() == [0, 1, 2]


def test_who_has_been_answered_before_probes_rather_than_who_has_only_rows_to_try() -> None:
    coordinator, clock = coordinator_of(workers=3)
    say_down(coordinator, 0, has_control=False)
    assert probing(coordinator, 3) == [0], "nobody else is there to do it"
    say_down(coordinator, 1, has_control=False)
    say_down(coordinator, 2)
    assert not coordinator.orders(2).may_probe, "0 is not told yet that another one probes"
    assert probing(coordinator, 3) == [2]
    say_down(coordinator, 0, 1, has_control=False)
    clock.now += 100
    assert probing(coordinator, 3) == [2], "its turn is over only for one that has a control request too"
    coordinator.bury(2, died=True)
    assert probing(coordinator, 2) == [1]
    say_down(coordinator, 1, down=())
    assert coordinator.orders(0).back == ["answer"]


def test_ranges_keep_their_order_and_count() -> None:
    ranges = Ranges()
    ranges.add([(0, 3), (3, 5), (10, 12)])
    assert ranges.take(4) == [(0, 4)]
    ranges.put_back([(0, 1), (2, 3)])
    assert ranges.count == 5
    assert ranges.take(100) == [(0, 1), (2, 3), (4, 5), (10, 12)]
    assert ranges.count == 0
    assert ranges_of([1, 2, 3, 7]) == [(1, 4), (7, 8)]


class Schedule(RuleBasedStateMachine):
    """Workers that come, take rows, finish some, die and are replaced, in any order."""

    @initialize(rows=st.integers(1, 60), workers=st.integers(1, 4))
    def begin(self, rows: int, workers: int) -> None:
        self.clock = Clock()
        self.coordinator = Coordinator(clock=self.clock, budget=Budget(max_tokens=None, max_error_rate=1.0))
        self.rows = rows
        self.coordinator.add([(0, rows)])
        self.coordinator.plan_ended()
        self.done: set[int] = set()
        self.held: dict[int, list[int]] = {}
        self.leases: dict[int, int] = {}
        self.ok: dict[int, int] = {}
        self.down: dict[int, list[str]] = {}
        self.may_probe: dict[int, Sequence[str]] = {}
        for slot in range(workers):
            self.come(slot)

    def come(self, slot: int) -> None:
        self.coordinator.join(slot, 4)
        self.held[slot], self.leases[slot], self.ok[slot] = [], 0, 0
        self.down[slot], self.may_probe[slot] = [], []
        self.report(slot)

    def report(self, slot: int) -> None:
        held = self.held[slot]
        self.coordinator.beat(
            slot,
            Report(
                segments=[slot + 2],
                leases=self.leases[slot],
                ahead=len(held),
                ok=self.ok[slot],
                begun=self.ok[slot],
                down=dict.fromkeys(self.down[slot], slot % 2 == 0),
            ),
        )

    @rule(slot=st.integers(0, 3), task=st.sampled_from(["answer", "judged"]))
    def go_down_or_come_back(self, slot: int, task: str) -> None:
        if slot in self.down:
            self.down[slot] = sorted({task}.symmetric_difference(self.down[slot]))

    @rule(slot=st.integers(0, 3), seconds=st.floats(0, 3) | st.just(40.0))
    def beat(self, slot: int, seconds: float) -> None:
        if slot in self.held:
            self.clock.now += seconds
            self.report(slot)
            orders = self.coordinator.orders(slot)
            given = rows_of(orders)
            assert not self.done & set(given)
            assert not {row for rows in self.held.values() for row in rows} & set(given), "leased twice"
            self.held[slot] += given
            self.leases[slot] += len(orders.leases)
            self.may_probe[slot] = orders.may_probe
            self.down[slot] = [task for task in self.down[slot] if task not in orders.back]
            assert not orders.closed or len(self.done) + len(self.coordinator.poison) == self.rows

    @rule(slot=st.integers(0, 3), count=st.integers(1, 50))
    def finish(self, slot: int, count: int) -> None:
        if slot in self.held:
            self.done.update(self.held[slot][:count])
            self.ok[slot] += len(self.held[slot][:count])
            del self.held[slot][:count]

    @precondition(lambda self: self.coordinator.stop is None)
    @rule(slot=st.integers(0, 3), flying=st.integers(0, 4))
    def die(self, slot: int, flying: int) -> None:
        if slot in self.held:
            left = self.held.pop(slot)
            self.coordinator.bury(slot, left, left[:flying], died=True, found=(self.ok[slot], 0))
            self.come(slot)

    @invariant()
    def one_of_fifty_looks_for_an_endpoint_of_those_for_which_it_is_down(self) -> None:
        for task in ("answer", "judged"):
            looking = [slot for slot in self.held if task in self.may_probe[slot] and task in self.down[slot]]
            assert len(looking) <= max(1, len(self.held) // 50)

    @invariant()
    def every_row_is_open_leased_done_or_poison(self) -> None:
        coordinator = self.coordinator
        held = sum(map(len, self.held.values()))
        waiting = coordinator._open.count + coordinator._last.count + len(coordinator._alone)
        assert waiting + held + len(self.done) + len(coordinator.poison) == self.rows


Schedule.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSchedule = Schedule.TestCase
