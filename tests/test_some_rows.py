"""The plan of a run with workers, and the rows that a worker reads by itself: the same items as for whoever reads them all."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.datasets import Dataset, SomeRows, open_dataset
from runner.pipeline.pending import Pending
from runner.scale.planning import Chunk, planned
from runner.types import Item

ROWS = [{"id": f"r{number % 7 if number % 5 == 0 else number}", "text": f"text {number % 11}"} for number in range(60)]
ODD = ['{"text": "no id"}', "{}", "{}", '{"id": 7.5}']
MESSY = "\n".join(["\ufeff" + json.dumps(ROWS[0]), "", "{broken", "[]", *map(json.dumps, ROWS), *ODD])


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(directory: Path, kind: str) -> list[str]:
    """Write a dataset of some kind; return its paths."""
    path = directory / f"rows.{kind}"
    match kind:
        case "jsonl":
            path.write_text(MESSY, encoding="utf-8")
        case "jsonl.gz":
            path.write_bytes(gzip.compress(MESSY.encode()))
        case "csv":
            path.write_text("id,text\n" + "".join(f'{row["id"]},"a\n{row["text"]}"\n' for row in ROWS) + "too,many,cells\n")
        case "json":
            path.write_text(json.dumps(ROWS))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=9)
        case "many":
            for number in range(3):
                (directory / f"{number}.jsonl").write_text(lines(ROWS[number : number + 20]))
            return [str(directory / "*.jsonl")]
    return [str(path)]


def opened(paths: list[str] | None, **more: Any) -> Dataset:
    settings: dict[str, Any] = {"data": None, "id_column": None, "limit": None, "shuffle": None} | more
    return open_dataset(path=paths, **settings)


def plan_of(dataset: Dataset) -> tuple[list[int], dict[int, str], dict[int, str], Chunk]:
    chunks = list(planned(dataset, Pending(dataset=dataset, tasks=[("answer", 1)], ledger=None), nullcontext()))
    rows = [index for chunk in chunks for first, last in chunk.open for index in range(first, last)]
    names = {index: name for chunk in chunks for index, name in chunk.names.items()}
    bad = {index: why for chunk in chunks for index, why in chunk.bad.items()}
    return rows, names, bad, chunks[-1]


def read(dataset: Dataset, runs: Sequence[tuple[int, int]]) -> list[Item]:
    _, names, bad, _ = plan_of(dataset)
    return [item for item in SomeRows(dataset).items(runs, names, bad) if item is not None]


@pytest.mark.parametrize("limit", [None, 25])
@pytest.mark.parametrize("shuffle", [None, 3])
@pytest.mark.parametrize("id_column", [None, "id"])
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "json", "parquet", "many"])
def test_the_planned_rows_are_those_of_a_run_in_one_process(
    tmp_path: Path, kind: str, id_column: str | None, shuffle: int | None, limit: int | None
) -> None:
    dataset = opened(write(tmp_path, kind), id_column=id_column, limit=limit, shuffle=shuffle)
    expected = sorted(dataset, key=lambda item: item.index)
    rows, _, _, last = plan_of(dataset)
    assert rows == [item.index for item in expected]
    assert last.seen == len(expected)
    assert read(dataset, [(index, index + 1) for index in rows]) == expected


CELL = st.sampled_from(["a", "b", "c", "", None, 1, 1.5])


@given(
    rows=st.lists(st.fixed_dictionaries({}, optional={"id": CELL, "text": CELL}), min_size=1, max_size=30),
    id_column=st.sampled_from([None, "id"]),
    broken=st.sets(st.integers(0, 40), max_size=5),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_a_worker_reads_its_rows_in_any_order_of_its_ranges(
    rows: list[dict[str, Any]], id_column: str | None, broken: set[int], cuts: list[int], order: Any
) -> None:
    rows = [{"id": "first", "text": "x"}, *rows]
    text = "".join(("{broken\n" if number in broken else "") + json.dumps(row) + "\n" for number, row in enumerate(rows))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "rows.jsonl")
        path.write_text(text)
        dataset = opened([str(path)], id_column=id_column)
        expected = list(dataset)
        edges = sorted({0, len(expected), *(cut for cut in cuts if cut < len(expected))})
        runs = list(pairwise(edges))
        order.shuffle(runs)
        found = read(dataset, runs)
    assert found == [item for first, last in runs for item in expected[first:last]]


def test_rows_far_ahead_are_come_to_in_steps(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines([{"id": number} for number in range(9000)]))
    dataset = opened([str(path)], id_column="id")
    items = list(SomeRows(dataset).items([(8999, 9000)], {}, {}))
    assert [item and item.item_id for item in items] == [None] * (len(items) - 1) + ["8999"]
    assert len(items) > 4


def test_a_row_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(ROWS[:3]))
    with pytest.raises(IndexError, match="the dataset has 3 rows, and row 6 is wanted"):
        list(SomeRows(opened([str(path)])).items([(5, 6)], {}, {}))


def test_rows_in_the_config_are_read_too() -> None:
    dataset = opened(None, data=ROWS)
    assert read(dataset, [(40, 50), (3, 5)]) == [*list(dataset)[40:50], *list(dataset)[3:5]]
