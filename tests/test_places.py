"""A place is found under the slot that it was put under, in whatever order slots come, and the latest one counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.storage.offsets import Place, Places

#: Slots of the first pages, at their edges, and far away.
SLOT = st.integers(0, 3) | st.integers(4090, 4100) | st.integers(8190, 8200) | st.integers(0, 3 * 4096) | st.just(20_000)


@contextmanager
def places() -> Iterator[Places]:
    with closing(Places()) as found:
        yield found


@given(st.lists(st.tuples(SLOT, st.booleans()), max_size=60))
def test_it_is_a_mapping(slots: list[tuple[int, bool]]) -> None:
    known: dict[int, Place] = {}
    with places() as found:
        for number, (slot, look) in enumerate(slots, 1):
            if look:
                assert found.get(slot) == known.get(slot)
            known[slot] = Place(number * 2**32, number, 2**32 - number, 2**64 - number)
            found.put(slot, *known[slot])
        assert list(found) == [place for _, place in sorted(known.items())]
        assert all(found.get(slot) == place for slot, place in known.items())


@pytest.mark.parametrize("slot", [0, 1, 4095, 4096, 10**9])
def test_where_nothing_was_put_there_is_nothing(slot: int) -> None:
    with places() as found:
        assert found.get(slot) is None
        assert list(found) == []


def test_rows_that_go_back_and_forth_over_the_edge_of_a_page_are_all_kept() -> None:
    order = [slot for pair in zip(range(4000, 4096), range(4096, 4192), strict=True) for slot in pair]
    with places() as found:
        for slot in order:
            found.put(slot, slot, 1, 1, 1)
        assert [place.offset for place in found] == sorted(order)


@given(
    st.dictionaries(st.integers(0, 30), st.integers(0, 3), max_size=30),
    st.integers(0, 30),
    st.integers(0, 12),
    st.integers(1, 3),
)
def test_fingerprints_are_those_of_every_so_many_slots_up_to_the_first_unknown_one(
    known: dict[int, int], first: int, count: int, step: int
) -> None:
    with places() as found:
        for slot, fingerprint in known.items():
            found.put(slot, slot, 1, 1, fingerprint)
        wanted = [known.get(slot, 0) for slot in range(first, first + count * step, step)]
        expected = wanted[: wanted.index(0)] if 0 in wanted else wanted
        assert list(found.fingerprints(first, first + count * step, step)) == expected
