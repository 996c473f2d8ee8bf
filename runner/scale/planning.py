"""The plan of a run with workers: which rows are to be asked, and which names depend on other rows.

The coordinator makes it: it reads the dataset once, ahead of the workers. The workers then read only their own rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice

from runner.datasets import Cursor, Dataset, Mark, mark_before
from runner.pipeline.pending import Pending
from runner.scale.ranges import ranges_of
from runner.structs import Struct, field
from runner.types import Item

__all__ = ["Chunk", "marks_for", "planned"]

_ROWS = 1000


class Chunk(Struct, frozen=True):
    """A chunk of the plan: the rows that are to be asked (`open`), and the rows that failed in an earlier start (`tried`)."""

    #: How many items were seen so far.
    seen: int
    open: list[tuple[int, int]] = field(default_factory=list)
    tried: list[tuple[int, int]] = field(default_factory=list)
    names: Mapping[int, str] = field(default_factory=dict)
    bad: Mapping[int, str] = field(default_factory=dict)
    #: Positions in the files from which the rows can be read without the rows before them.
    marks: Sequence[Mark] = ()


def marks_for(runs: Iterable[tuple[int, int]], marks: Sequence[Mark]) -> list[Mark]:
    """Return the marks of the plan from which some ranges of rows are read, in order."""
    nearest = {mark.index: mark for first, _ in runs if (mark := mark_before(marks, first)) is not None}
    return [nearest[index] for index in sorted(nearest)]


def planned(dataset: Dataset, pending: Pending, reading: AbstractContextManager[object]) -> Iterator[Chunk]:
    """Yield the plan in chunks, in the order of the files. `reading` is held while the results of the run are read.

    If `limit` and `shuffle` choose rows from the whole dataset, one chunk holds them all. Raises DatasetReadError, RunStopped.
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
    """Return one chunk with the chosen rows of all chunks."""

    def some(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
        return ranges_of(index for first, last in ranges for index in range(first, last) if index in chosen)

    return Chunk(
        len(chosen),
        some(run for chunk in whole for run in chunk.open),
        some(run for chunk in whole for run in chunk.tried),
        {index: name for chunk in whole for index, name in chunk.names.items()},
        {index: why for chunk in whole for index, why in chunk.bad.items()},
        [mark for chunk in whole for mark in chunk.marks],
    )


def _chunks(dataset: Dataset, pending: Pending, reading: AbstractContextManager[object]) -> Iterator[Chunk]:
    namer, cursor = dataset.namer(), Cursor()
    items = dataset.in_file_order(pending.ledger, namer, cursor)
    seen = 0
    while True:
        rows, names, bad = list[int](), dict[int, str](), dict[int, str]()
        before, mark = seen, cursor.mark(seen)
        with reading:
            for item in islice(items, _ROWS):
                if isinstance(item, int):
                    seen += item
                    continue
                seen += 1
                rows.append(item.index)
                if not namer.is_own and (item.row or item.failure is None):  # a row that cannot be read has no name
                    _note_name(item, names, bad)
            open_, tried = pending.open_of(rows)
        if seen == before:
            return
        yield Chunk(seen, ranges_of(open_), ranges_of(tried), names, bad, [] if mark is None else [mark])


def _note_name(item: Item, names: dict[int, str], bad: dict[int, str]) -> None:
    if item.failure is None:
        names[item.index] = item.item_id
    else:
        bad[item.index] = item.failure.message.removeprefix(f"{item.place}: ")
