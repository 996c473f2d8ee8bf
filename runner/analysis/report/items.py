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
from runner.analysis.pages.characters import legal
from runner.analysis.pages.tables import MOST_LETTERS, Table, packed_table
from runner.analysis.report.gathering import Gathered
from runner.analysis.report.rows import ERROR
from runner.analysis.scoring import lower_is_better

__all__ = ["items_of"]

_MOST_ROWS = 200_000
_ROWS_IN_A_BLOCK = 100
_SLOWEST = _LONGEST = 100


def items_of(gathered: Gathered, which: str) -> Table:
    """Return the items of a run, with texts as `which` says: auto, all or none. Raises StorageError."""
    wrong_values = gathered.rows.wrong_values(lower_is_better(gathered.document))
    ranked = _ranked(gathered, wrong_values)
    shown = sorted(ranked)
    return packed_table(
        shown,
        _columns(gathered, shown, wrong_values),
        wanted={"auto": ranked, "all": shown, "none": []}[which],
        texts_of=lambda number: _texts(gathered, number),
        in_a_block=_ROWS_IN_A_BLOCK,
        most=math.inf if which == "all" else MOST_LETTERS,
    )


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


def _columns(gathered: Gathered, shown: Sequence[int], wrong_values: Mapping[str, float | None]) -> dict[str, Any]:
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
    }
