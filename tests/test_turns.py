"""A lock whose waiters have their turns in lines, one for each who sends."""

from __future__ import annotations

import asyncio
from collections import Counter

from runner.endpoint.pacing.turns import Turns


async def passing(turns: Turns, order: list[str], who: str) -> None:
    async with turns.of(who):
        order.append(who)
        await asyncio.sleep(0)


async def test_lines_have_their_turns_one_after_the_other_whatever_their_length() -> None:
    turns, order = Turns(), list[str]()
    async with asyncio.TaskGroup() as group:
        for who in "A" * 50 + "B" * 5:
            group.create_task(passing(turns, order, who))
    assert Counter(order) == {"A": 50, "B": 5}
    assert order[1:11].count("B") == 5  # the first had nobody beside it yet
    assert not turns.is_taken


async def test_within_a_line_the_first_is_the_first() -> None:
    turns, order = Turns(), list[int]()

    async def numbered(number: int) -> None:
        async with turns.of("one"):
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(numbered(number))
    assert order == list(range(20))


async def test_only_one_holds_it() -> None:
    turns, inside, most = Turns(), 0, 0

    async def one(who: int) -> None:
        nonlocal inside, most
        async with turns.of(who):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for index in range(30):
            group.create_task(one(index % 3))
    assert most == 1


async def test_who_gives_up_keeps_nobody_waiting() -> None:
    turns, order = Turns(), list[str]()
    async with turns.of("holder"):
        waiting = [asyncio.create_task(passing(turns, order, who)) for who in "ABAB"]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert sorted(order) == ["A", "B"]
    assert not turns.is_taken


async def test_who_is_cancelled_just_when_its_turn_comes_hands_it_on() -> None:
    turns, order = Turns(), list[str]()
    async with turns.of("holder"):
        first, second = (asyncio.create_task(passing(turns, order, who)) for who in "AB")
        await asyncio.sleep(0)
    first.cancel()  # the lock was handed to it, and it has not run since
    await asyncio.gather(first, second, return_exceptions=True)
    assert order == ["B"]
    assert not turns.is_taken
