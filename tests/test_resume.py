"""What a resume passes over of the dataset changes nothing of what it still asks: neither rows, names, order nor errors."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.datasets import Dataset, open_dataset
from runner.resume import Remaining
from runner.storage.ledger import Ledger
from runner.storage.records import Start
from tests.records import failure, opening, result, write_segment

ROW = st.one_of(
    st.builds(lambda name, text: json.dumps({"id": name, "text": text}), st.integers(0, 9) | st.sampled_from("abc"), st.text()),
    st.sampled_from(['{"text": "no id"}', '{"id": null}', "no JSON", "", "   ", "[1]", '{"id": "a", "n": NaN}', '{"id": 1.0}']),
)


def opened(path: Path, *, id_column: str | None = "id", limit: int | None = None, shuffle: int | None = None) -> Dataset:
    return open_dataset(path=[str(path)], data=None, id_column=id_column, limit=limit, shuffle=shuffle)


def rows(directory: Path, count: int) -> Path:
    path = directory / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": f"row-{n}", "question": f"question {n}"}) + "\n" for n in range(count)))
    return path


def first_not_in(known: Collection[int]) -> Callable[[int], int]:
    def first_open(index: int) -> int:
        while index in known:
            index += 1
        return index

    return first_open


# --- the dataset ---


@settings(deadline=None, max_examples=150)
@given(
    lines=st.lists(ROW, max_size=30),
    draw=st.randoms(use_true_random=False),
    limit=st.none() | st.integers(0, 30),
    shuffle=st.none() | st.integers(0, 5),
)
def test_what_is_not_passed_over_is_what_it_would_be_else(
    lines: list[str], draw: Any, limit: int | None, shuffle: int | None
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rows.jsonl"
        path.write_text("\n".join(['{"id": "first"}', *lines]) + "\n")
        dataset = opened(path, limit=limit, shuffle=shuffle)
        items = list(dataset)
        known = {item.index for item in items if item.failure is None and draw.random() < 0.7}
        skimmed = list(dataset.skimmed(first_not_in(known)))
    assert len(skimmed) == len(items)
    for one, item in zip(skimmed, items, strict=True):
        assert one == item or (one is None and item.index in known)


def test_a_doubled_id_is_found_though_the_first_one_was_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a"}\n{"id": 7}\n{"id": "b"}\n{"id": "7"}\n')
    *passed_over, last = opened(path).skimmed(first_not_in({0, 1, 2}))
    assert passed_over == [None, None, None]
    assert last is not None
    assert last.failure is not None
    assert last.failure.message == f"{path}:4: the id '7' stands already at {path}:2"


@pytest.mark.parametrize("column", ['a "quoted" one', "two\nlines"])
def test_with_an_odd_id_column_nothing_is_passed_over_and_all_is_read(tmp_path: Path, column: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({column: n}) + "\n" for n in range(3)))
    items = list(opened(path, id_column=column).skimmed(first_not_in({0, 1})))
    assert [item and item.item_id for item in items] == ["0", "1", "2"]


def test_rows_that_name_themselves_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' * 3)
    dataset = opened(path, id_column=None)
    assert list(dataset.skimmed(first_not_in({0, 1}))) == list(dataset)


def test_other_formats_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,n\na,1\nb,2\n")
    assert list(opened(path).skimmed(first_not_in({0}))) == list(opened(path))


def test_a_file_is_surveyed_once_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    path = rows(tmp_path, 3)
    dataset = opened(path)
    before, stat = dataset.survey(), path.stat()
    changed = path.read_bytes().replace(b"question", b"Question")
    path.write_bytes(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert dataset.survey() == before  # its bytes are not read again
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = dataset.survey()
    assert after is not None
    assert before is not None
    assert after.identities[0].sha256 != before.identities[0].sha256


# --- what remains ---


@pytest.mark.parametrize("retry_errors", [False, True])
def test_open_units_are_asked_and_no_others(tmp_path: Path, retry_errors: bool) -> None:
    tasks = [("answer", 2), ("judge", 1)]
    units = [("answer", 0), ("answer", 1), ("judge", 0)]
    complete = [result(index, task, sample) for index in (0, 1, 3) for task, sample in units]
    partly = [result(4), failure(4, sample=1), result(5), Start(item_index=5, sample_index=1, task="answer")]
    failed = [failure(6, task, sample) for task, sample in units]
    write_segment(tmp_path / "journal", [opening(tasks), *complete, *partly, *failed])
    dataset = opened(rows(tmp_path, 8))
    with closing(Ledger.read(tmp_path / "journal")) as ledger:
        remaining = Remaining(dataset=dataset, tasks=tasks, ledger=ledger, retry_errors=retry_errors)
        found = [(sample.item.item_id, sample.index) for sample in remaining if sample is not None]
    retried = [("row-4", 1), ("row-6", 0), ("row-6", 1)] if retry_errors else []
    never_asked = [("row-2", 0), ("row-2", 1), ("row-4", 0), ("row-5", 0), ("row-5", 1), ("row-7", 0), ("row-7", 1)]
    assert found == sorted({*never_asked, *retried})
    assert remaining.items == 8
    assert remaining.exhausted


def test_on_a_long_way_through_what_is_done_others_have_their_turn(tmp_path: Path) -> None:
    write_segment(tmp_path / "journal", [opening(), *(result(index) for index in range(3000))])
    dataset = opened(rows(tmp_path, 3001))
    with closing(Ledger.read(tmp_path / "journal")) as ledger:
        found = list(Remaining(dataset=dataset, tasks=[("answer", 1)], ledger=ledger, retry_errors=False))
    assert [sample.item.index for sample in found if sample is not None] == [3000]
    assert found.count(None) >= 3
