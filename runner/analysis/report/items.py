"""The table of items of a report: which rows it has, which of them with their texts, and both packed for the page.

Each row has its numbers, up to 200,000 rows. Each has its texts too, as long as there is room; if not, these rows come first:
errors, wrong answers, the slowest and the longest, then others at random, but the same ones each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from heapq import nlargest
from itertools import chain, islice
from typing import Any

from runner.analysis.pages.answers import item_fields, task_fields
from runner.analysis.pages.characters import MOST_LETTERS, blocks_of, legal, packed
from runner.analysis.report.gathering import Gathered
from runner.analysis.report.rows import ERROR
from runner.analysis.scoring import lower_is_better
from runner.structs import Struct

__all__ = ["Items", "items_of"]

_MOST_ROWS = 200_000
#: Rows in a block; the browser unpacks a block when it needs one of its rows.
_ROWS_IN_A_BLOCK = 100
_SLOWEST = _LONGEST = 100


class Items(Struct, frozen=True):
    """The data of the page's table of items."""

    #: How many rows the run has, how many of them are in the page, and how many with their texts.
    all: int
    rows: int
    with_texts: int
    #: The columns, and the texts in blocks, packed.
    columns: str
    blocks: Sequence[str]


def items_of(gathered: Gathered, which: str) -> Items:
    """Return the items of a run, with texts as `which` says: auto, all or none. Raises StorageError."""
    rows = gathered.rows
    wrong_values = rows.wrong_values(lower_is_better(gathered.document))
    ranked = _ranked(gathered, wrong_values)
    shown = sorted(ranked)
    wanted = {"auto": ranked, "all": shown, "none": []}[which]
    texts = (_texts(gathered, number) for number in wanted)
    blocks = list(blocks_of(texts, _ROWS_IN_A_BLOCK, math.inf if which == "all" else MOST_LETTERS))
    with_texts = wanted[: len(blocks) * _ROWS_IN_A_BLOCK]
    places = {number: divmod(at, _ROWS_IN_A_BLOCK) for at, number in enumerate(with_texts)}
    return Items(len(rows), len(shown), len(places), packed(_columns(gathered, shown, places, wrong_values)), blocks)


def _ranked(gathered: Gathered, wrong_values: Mapping[str, float | None]) -> list[int]:
    """Return the rows of the page, the most important first."""
    rows = gathered.rows
    numbers = range(len(rows))
    failed = (number for number in numbers if rows.flags[number] & ERROR)
    judged = [(rows.values[alias], wrong_value) for alias, wrong_value in wrong_values.items() if wrong_value is not None]
    wrong = (number for number in numbers if any(values[number] == wrong_value for values, wrong_value in judged))
    timed = (number for number in numbers if not math.isnan(rows.latencies[number]))
    in_turn = (
        rows.by_hash(failed, _MOST_ROWS),
        rows.by_hash(wrong, _MOST_ROWS),
        nlargest(_SLOWEST, timed, rows.latencies.__getitem__),
        nlargest(_LONGEST, numbers, rows.lengths.__getitem__),
        rows.by_hash(numbers, _MOST_ROWS),
    )
    return list(islice(dict.fromkeys(chain.from_iterable(in_turn)), _MOST_ROWS))


def _texts(gathered: Gathered, number: int) -> dict[str, Any]:
    rows = gathered.rows
    ends = gathered.ledger.ends_of_sample(rows.item_indices[number], rows.sample_indices[number])
    return {"item": item_fields(ends[0]) if ends else [], "tasks": [*map(task_fields, ends)]}


def _columns(
    gathered: Gathered,
    shown: Sequence[int],
    places: Mapping[int, tuple[int, int]],
    wrong_values: Mapping[str, float | None],
) -> dict[str, Any]:
    """Return the columns; `places` has the block of each row with texts, and its place there."""
    rows = gathered.rows
    names = [", ".join(columns) for columns in gathered.scoring.by]
    return {
        "id": [legal(rows.item_ids[number]) for number in shown],
        "sample": [rows.sample_indices[number] for number in shown],
        "flags": [rows.flags[number] for number in shown],
        "ms": [None if math.isnan(value := rows.latencies[number]) else round(value * 1000) for number in shown],
        "tokens": [None if (value := rows.tokens[number]) < 0 else value for number in shown],
        "values": {
            alias: [round(value, 6) if math.isfinite(value := values[number]) else None for number in shown]
            for alias, values in rows.values.items()
        },
        "wrong": wrong_values,
        "groups": [
            {"name": legal(name), "names": [legal(group) for group in groups], "codes": [codes[number] for number in shown]}
            for name, groups, codes in zip(names, rows.groups, rows.codes, strict=True)
        ],
        "block": [places.get(number, (-1, 0))[0] for number in shown],
        "place": [places.get(number, (-1, 0))[1] for number in shown],
    }
