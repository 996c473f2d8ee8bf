"""The plan of a run with workers: which rows are to be asked, and which names depend on other rows.

It is made by reading the dataset once, ahead of the workers, which then read only their own rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice

from runner.datasets import Dataset
from runner.pipeline.pending import Pending
from runner.scale.ranges import ranges_of
from runner.structs import Struct, field
from runner.types import Item

__all__ = ["Chunk", "planned"]

_ROWS = 1000


class Chunk(Struct, frozen=True):
    """What is known of some rows: those that are to be asked, and those of them that have failed in an earlier start."""

    #: How many items were seen so far, and how many of them count.
    seen: int
    open: list[tuple[int, int]] = field(default_factory=list)
    tried: list[tuple[int, int]] = field(default_factory=list)
    names: Mapping[int, str] = field(default_factory=dict)
    bad: Mapping[int, str] = field(default_factory=dict)


def planned(dataset: Dataset, pending: Pending, reading: AbstractContextManager[object]) -> Iterator[Chunk]:
    """Yield the plan in pieces, in the order of the files; `reading` is held while what is known of the run is looked at.

    Where the rows that count are drawn from all of them, they all come at the end. Raises DatasetReadError, RunStopped.
    """
    whole: list[Chunk] = []
    is_drawn = dataset.shuffle is not None and dataset.limit is not None
    for chunk in _chunks(dataset, pending, reading):
        if is_drawn:
            whole.append(chunk)
        else:
            yield chunk
    if is_drawn:
        chosen = dataset.chosen(whole[-1].seen if whole else 0)
        yield _only(set(chosen), whole)


def _only(chosen: set[int], whole: list[Chunk]) -> Chunk:
    """Return the chosen rows of all."""

    def some(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
        return ranges_of(index for first, last in ranges for index in range(first, last) if index in chosen)

    return Chunk(
        len(chosen),
        some(run for chunk in whole for run in chunk.open),
        some(run for chunk in whole for run in chunk.tried),
        {index: name for chunk in whole for index, name in chunk.names.items()},
        {index: why for chunk in whole for index, why in chunk.bad.items()},
    )


def _chunks(dataset: Dataset, pending: Pending, reading: AbstractContextManager[object]) -> Iterator[Chunk]:
    namer = dataset.namer()
    items = dataset.in_file_order(pending.ledger, namer)
    repeats = range(max(samples for _, samples in pending.tasks))
    seen = 0
    while True:
        open_, tried, names, bad = list[int](), list[int](), dict[int, str](), dict[int, str]()
        before = seen
        with reading:
            for item in islice(items, _ROWS):
                if isinstance(item, int):
                    seen += item
                    continue
                seen += 1
                if not namer.is_own and (item.row or item.failure is None):  # a row that cannot be read has no name
                    _note_name(item, names, bad)
                if any(pending.was_tried(item.index, index) for index in repeats):
                    tried.append(item.index)
                elif any(pending.is_open(item.index, index) for index in repeats):
                    open_.append(item.index)
        if seen == before:
            return
        yield Chunk(seen, ranges_of(open_), ranges_of(tried), names, bad)


def _note_name(item: Item, names: dict[int, str], bad: dict[int, str]) -> None:
    if item.failure is None:
        names[item.index] = item.item_id
    else:
        bad[item.index] = item.failure.message.removeprefix(f"{item.place}: ")
