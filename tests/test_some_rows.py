"""The plan of a run with workers, and the rows that a worker reads by itself: the same items as for whoever reads them all."""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.datasets import Dataset, Mark, SomeRows, open_dataset
from runner.datasets.files import stamp_of
from runner.errors import DatasetReadError
from runner.pipeline.pending import Pending
from runner.scale import planning
from runner.scale.beat import Lease, Orders, line_of, read_orders
from runner.scale.driving import Driving
from runner.scale.leased import Leased
from runner.scale.ranges import ranges_of
from runner.structs import replace
from runner.types import Item

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROWS = [{"id": f"r{number % 7 if number % 5 == 0 else number}", "text": f"text {number % 11}"} for number in range(60)]
ODD = ['{"text": "no id"}', "{}", "{}", '{"id": 7.5}']


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(directory: Path, kind: str, rows: Sequence[dict[str, Any]] = ROWS) -> list[str]:
    """Write rows as a dataset of some kind, with rows among them that cannot be read; return its paths."""
    if kind == "many":
        found = [write(directory, one, rows[start * 20 :][:20]) for start, one in enumerate(("jsonl", "parquet", "csv"))]
        return [path for paths in found for path in paths]
    path = directory / f"rows.{kind}"
    if kind in {"parquet", "arrow"}:
        write_table(path, rows)
    else:
        path.write_bytes(TEXTS[kind](rows))
    return [str(path)]


def messy(rows: Sequence[dict[str, Any]]) -> bytes:
    text = "\ufeff" + lines(rows[:1]) + "\r\n  \n{broken\n[]\n" + lines(rows[1:]).replace("\n", "\r\n") + "\n".join(ODD)
    return text.encode()


def quoted(rows: Sequence[dict[str, Any]]) -> str:
    cells = "".join(f'{row.get("id")},"é\n""{row.get("text")}"""\r\n' for row in rows)
    return f"id,text\r\n{cells}too,many,cells\nlast,row\n"


def tabbed(rows: Sequence[dict[str, Any]]) -> bytes:
    return ("id\ttext\n" + "".join(f"{row.get('id')}\té {row.get('text')}\n" for row in rows) + 'a\t5" wide\n').encode()


TEXTS: Mapping[str, Callable[[Sequence[dict[str, Any]]], bytes]] = {
    "jsonl": messy,
    "jsonl.gz": lambda rows: gzip.compress(messy(rows)),
    "jsonl.zst": lambda rows: zstd.compress(messy(rows)),
    "csv": lambda rows: quoted(rows).encode("utf-8-sig"),
    "utf-16.csv": lambda rows: quoted(rows).encode("utf-16"),
    "tsv": tabbed,
    "json": lambda rows: json.dumps(rows).encode(),
    "lines.json": lambda rows: lines(rows).encode(),
}
KINDS = (*TEXTS, "parquet", "arrow", "many")


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    table = table_of(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=9)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    cells = [{name: None if row.get(name) is None else str(row[name]) for name in ("id", "text")} for row in rows]
    return pa.Table.from_pylist(cells, pa.schema([("id", pa.string()), ("text", pa.string())]))


class Found(NamedTuple):
    """What a plan says of all rows."""

    rows: list[int]
    names: dict[int, str]
    bad: dict[int, str]
    marks: list[Mark]
    seen: int


def plan_of(dataset: Dataset, at_once: int = 1000) -> Found:
    """Plan a dataset, so many rows at once."""
    with patch.object(planning, "_ROWS", at_once):
        pending = Pending(dataset=dataset, tasks=[("answer", 1)], ledger=None)
        chunks = list(planning.planned(dataset, pending, nullcontext()))
    return Found(
        [index for chunk in chunks for first, last in chunk.open for index in range(first, last)],
        {index: name for chunk in chunks for index, name in chunk.names.items()},
        {index: why for chunk in chunks for index, why in chunk.bad.items()},
        [mark for chunk in chunks for mark in chunk.marks],
        chunks[-1].seen if chunks else 0,
    )


def read(dataset: Dataset, runs: Sequence[tuple[int, int]], at_once: int = 1000) -> list[Item]:
    """Read rows as a worker does, which is sent the marks that it needs."""
    plan = plan_of(dataset, at_once)
    marks = planning.marks_for(runs, plan.marks)
    return [item for item in SomeRows(dataset).items(runs, plan.names, plan.bad, marks) if item is not None]


@pytest.mark.parametrize("limit", [None, 25])
@pytest.mark.parametrize("shuffle", [None, 3])
@pytest.mark.parametrize("id_column", [None, "id"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_planned_rows_are_those_of_a_run_in_one_process(
    tmp_path: Path, kind: str, id_column: str | None, shuffle: int | None, limit: int | None
) -> None:
    dataset = open_dataset(path=write(tmp_path, kind), id_column=id_column, limit=limit, shuffle=shuffle)
    expected = sorted(dataset, key=lambda item: item.index)
    plan = plan_of(dataset)
    assert plan.rows == [item.index for item in expected]
    assert plan.seen == len(expected)
    assert read(dataset, [(index, index + 1) for index in plan.rows], 7) == expected
    assert read(dataset, [(index, index + 1) for index in plan.rows[::-9]], 7) == expected[::-9]


CELL = st.sampled_from(["a", "b", "c", "", None, 1, 1.5])


@pytest.mark.long
@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.lists(st.fixed_dictionaries({}, optional={"id": CELL, "text": CELL}), max_size=40),
    id_column=st.sampled_from([None, "id"]),
    limit=st.none() | st.integers(0, 45),
    shuffle=st.none() | st.integers(0, 3),
    at_once=st.integers(1, 30),
    cuts=st.lists(st.integers(0, 45), max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_a_worker_reads_its_rows_in_any_order_of_its_ranges(  # noqa: PLR0917  a table
    kind: str,
    rows: list[dict[str, Any]],
    id_column: str | None,
    limit: int | None,
    shuffle: int | None,
    at_once: int,
    cuts: list[int],
    order: Any,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        paths = write(Path(name), kind, [{"id": "first", "text": "x"}, *rows])
        dataset = open_dataset(path=paths, id_column=id_column, limit=limit, shuffle=shuffle)
        expected = {item.index: item for item in dataset}
        assert plan_of(dataset, at_once).rows == sorted(expected)
        most = max(expected, default=-1) + 1
        runs = list(pairwise(sorted({0, most, *(cut for cut in cuts if cut < most)})))
        order.shuffle(runs)
        asked = [part for run in runs for part in ranges_of(index for index in range(*run) if index in expected)]
        found = read(dataset, asked, at_once)
    assert found == [expected[index] for run in asked for index in range(*run)]


@pytest.mark.parametrize(("kind", "spoilt"), [("jsonl", 0), ("csv", 15), ("tsv", 8), ("many", 0), ("parquet", 4)])
def test_nothing_before_a_mark_is_read(tmp_path: Path, kind: str, spoilt: int) -> None:
    """What stands there is another thing now, and nobody sees it."""
    paths = write(tmp_path, kind)
    dataset = open_dataset(path=paths)
    expected, plan = list(dataset), plan_of(dataset, 10)
    last = [mark for mark in plan.marks if mark.index < len(expected)][-1]
    path = Path(paths[0])
    content = path.read_bytes()
    _, offset, _ = last.place
    if kind == "parquet":
        offset = pq.read_metadata(path).row_group(last.index // 9).column(0).dictionary_page_offset
    end = len(content) if last.file else offset - 1
    path.write_bytes(content[:spoilt] + b"#" * (end - spoilt) + content[end:])
    again = replace(dataset, stamps={file: stamp_of(file) for file in dataset.files})
    rows = [(last.index, last.index + 1)]
    assert [*SomeRows(again).items(rows, plan.names, plan.bad, plan.marks)] == [expected[last.index]]


def test_a_lease_tells_its_worker_where_the_rows_begin(tmp_path: Path) -> None:
    paths = write(tmp_path, "lines.json")
    dataset = open_dataset(path=paths)
    expected = list(dataset)
    given: Any = SimpleNamespace(pending=SimpleNamespace(ledger=None))
    nobody: Any = None
    driving = Driving(config=nobody, keeper=given, dataset=dataset, coordinator=nobody, launcher=nobody, jobs=[], bar=None)
    driving._marks = plan_of(dataset, 10).marks
    lease = driving._dressed(Lease([(25, 27), (43, 44)]))
    assert [mark.index for mark in lease.marks] == [20, 40]
    (told,) = read_orders(line_of(Orders(leases=[lease]))).leases
    path = Path(paths[0])
    path.write_bytes(
        json.dumps(ROWS[0]).encode().ljust(lease.marks[0].place[1] - 1) + path.read_bytes()[told.marks[0].place[1] - 1 :]
    )
    as_is: Any = SimpleNamespace(limits=SimpleNamespace(order="as_is"))
    leased = Leased(open_dataset(path=paths), as_is, 1, lambda: None, journal=tmp_path)
    leased.add(told)
    leased.close()
    assert [sample.item for sample in leased if sample is not None] == [expected[index] for index in (25, 26, 43)]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_mark_at_which_no_line_begins_is_no_row(tmp_path: Path, kind: str) -> None:
    """It is of a file that was another one."""
    paths = write(tmp_path, kind)
    dataset = open_dataset(path=paths)
    mark = plan_of(dataset, 10).marks[1]
    number, offset, shown = mark.place
    with pytest.raises(DatasetReadError, match=f"no line begins at byte {offset - 2}, but one did when the run was planned"):
        list(
            SomeRows(dataset).items([(mark.index, mark.index + 1)], {}, {}, [replace(mark, place=(number, offset - 2, shown))])
        )


def test_what_a_file_has_shown_of_its_quotes_goes_with_a_mark(tmp_path: Path) -> None:
    """Only its first rows tell that quotes hold cells together; by itself the last one would be refused."""
    path = tmp_path / "rows.tsv"
    path.write_text("id\ttext\n" + f'a\t"say ""{"this" * 1000}"""\n' * 300 + 'b\t"so be it"\n' * 20)
    dataset = open_dataset(path=[str(path)])
    marks = [mark for mark in plan_of(dataset, 7).marks if mark.index > 290]
    assert marks
    rows = [item.row for item in SomeRows(dataset).items([(319, 320)], {}, {}, marks) if item is not None]
    assert rows == [{"id": "b", "text": "so be it"}]


def test_rows_far_ahead_are_come_to_in_steps(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines([{"id": number} for number in range(9000)]))
    dataset = open_dataset(path=[str(path)], id_column="id")
    items = list(SomeRows(dataset).items([(8999, 9000)], {}, {}))
    assert [item and item.item_id for item in items] == [None] * (len(items) - 1) + ["8999"]
    assert len(items) > 4


def test_a_row_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(ROWS[:3]))
    with pytest.raises(IndexError, match="the dataset has 3 rows, and row 6 is wanted"):
        list(SomeRows(open_dataset(path=[str(path)])).items([(5, 6)], {}, {}))


def test_rows_in_the_config_are_read_too() -> None:
    dataset = open_dataset(data=ROWS)
    assert read(dataset, [(40, 50), (3, 5)]) == [*list(dataset)[40:50], *list(dataset)[3:5]]
