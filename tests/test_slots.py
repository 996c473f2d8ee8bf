"""Slots: too much takes a share away at once, answers give it back, and an outage makes the room begin small."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.endpoint.pacing.slots import Slots


def taken(most: int, count: int) -> Slots:
    slots = Slots(most)
    for _ in range(count):
        slots.take()
    return slots


@pytest.mark.parametrize(
    ("most", "on_the_wire", "limit"),
    [
        (32, 32, 22),
        # What was on the wire was too much, not what might have been.
        (100_000, 10, 7),
        (32, 2, 1),
        # One at a time is always allowed.
        (32, 1, 1),
        (1, 1, 1),
    ],
)
def test_too_much_takes_three_of_ten_away(most: int, on_the_wire: int, limit: int) -> None:
    slots = taken(most, on_the_wire)
    slots.shrink()
    assert slots.limit == limit


def test_after_too_much_each_round_of_answers_gives_one_back() -> None:
    slots = taken(100, 20)
    slots.shrink()
    assert slots.limit == 14
    for _ in range(15):
        slots.grow()
    assert slots.limit == 15
    for _ in range(100_000):
        slots.grow()
    assert slots.limit == 100


def test_after_an_outage_the_room_doubles_with_each_round_until_it_is_where_it_was() -> None:
    slots = Slots(64)
    slots.restart()
    rounds = []
    while slots.limit < 64:
        rounds.append(slots.limit)
        for _ in range(slots.limit):
            slots.grow()
    assert rounds == [8, 16, 32]


def test_a_second_outage_before_the_room_is_back_does_not_make_it_smaller_for_good() -> None:
    slots = Slots(64)
    for _ in range(3):
        slots.restart()
        slots.grow()
    for _ in range(55):
        slots.grow()
    assert slots.limit == 64


def test_an_outage_forgets_nothing_about_what_was_too_much() -> None:
    slots = taken(100, 40)
    slots.shrink()
    assert slots.limit == 28
    slots.restart()
    for _ in range(20):
        slots.grow()
    assert slots.limit == 28
    for _ in range(10):
        slots.grow()
    assert slots.limit == 28, "above it the room grows slowly"


def test_few_slots_are_not_made_more_by_an_outage() -> None:
    slots = Slots(3)
    slots.restart()
    assert slots.limit == 3


@given(
    st.integers(1, 200),
    st.lists(st.sampled_from(["take", "give_back", "grow", "shrink", "restart"]), max_size=300),
)
def test_the_limit_is_never_below_one_nor_above_the_most(most: int, steps: list[str]) -> None:
    slots, on_the_wire = Slots(most), 0
    for step in steps:
        if step == "take" and not slots.free:
            continue
        if step == "give_back" and not on_the_wire:
            continue
        getattr(slots, step)()
        on_the_wire += {"take": 1, "give_back": -1}.get(step, 0)
        assert 1 <= slots.limit <= most
        assert slots.free == (on_the_wire < slots.limit)


@pytest.mark.parametrize("step", ["give_back", "grow"])
async def test_who_waits_for_room_goes_on_when_there_is_some(step: str) -> None:
    slots = taken(10, 10)
    slots.shrink()
    for _ in range(3):
        slots.give_back()
    assert not slots.free
    waiting = asyncio.create_task(slots.room())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    for _ in range(8):
        getattr(slots, step)()
    await asyncio.wait_for(waiting, 20)
    assert slots.free


async def test_a_slot_that_is_given_back_is_no_room_while_the_limit_is_lower() -> None:
    slots = taken(10, 10)
    slots.shrink()
    waiting = asyncio.create_task(slots.room())
    for count in (9, 8, 7):
        slots.give_back()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done(), count
    slots.give_back()
    await asyncio.wait_for(waiting, 20)
