"""What a resume passes over of the dataset changes nothing of what it still asks: neither rows, names, order nor errors."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.datasets import Dataset, open_dataset
from runner.datasets.row_ids import Namer
from runner.datasets.seen_ids import SeenIds
from runner.errors import DatasetReadError
from runner.fingerprint import fingerprint_of
from runner.pipeline.pending import Pending
from runner.storage.ledger import Ledger
from runner.storage.records import Start
from runner.types import Item, Sample
from tests.records import failure, opening, result, write_segment

ROW = st.one_of(
    st.builds(lambda name, text: json.dumps({"id": name, "text": text}), st.integers(0, 9) | st.sampled_from("abc"), st.text()),
    st.sampled_from(['{"text": "no id"}', '{"id": null}', "no JSON", "", "   ", "[1]", '{"id": "a", "n": NaN}', '{"id": 1.0}']),
)


def opened(path: Path, **options: Any) -> Dataset:
    return open_dataset(path=[str(path)], **{"id_column": "id"} | options)


def rows(directory: Path, count: int) -> Path:
    path = directory / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": f"row-{n}", "question": f"question {n}"}) + "\n" for n in range(count)))
    return path


class PriorResult:
    """What is finished: some items, by their indexes, with the names that they got."""

    def __init__(self, items: Iterable[Item], *, nameless: Collection[int] = ()) -> None:
        self._names = {item.index: 0 if item.index in nameless else fingerprint_of(item.item_id) for item in items}

    def first_unanswered(self, item_index: int) -> int:
        return next(index for index in count(item_index) if index not in self._names)

    def fingerprints(self, first: int, last: int) -> Sequence[int]:
        return list(takewhile(bool, (self._names.get(index, 0) for index in range(first, last))))


def told(dataset: Dataset, known: PriorResult) -> list[Item | None]:
    """Return the items; None in place of each that is passed over."""
    found: list[Item | None] = []
    for item in dataset.passing_over(known):
        found += [None] * item if isinstance(item, int) else [item]
    return found


# --- the dataset ---


@given(
    lines=st.lists(ROW, max_size=30),
    draw=st.randoms(use_true_random=False),
    files=st.integers(1, 3),
    options=st.fixed_dictionaries(
        {
            "id_column": st.sampled_from(["id", None]),
            "limit": st.none() | st.integers(0, 30),
            "shuffle": st.none() | st.integers(0, 5),
        }
    ),
)
def test_what_is_not_passed_over_is_what_it_would_be_else(
    lines: list[str], draw: Any, files: int, options: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for number in range(files):
            rows_of_it = ['{"id": "first"}', *lines[number::files]]
            (Path(directory) / f"{number}.jsonl").write_text("\n".join(rows_of_it) + "\n")
        dataset = opened(Path(directory) / "*.jsonl", **options)
        items = list(dataset)
        done = [item for item in items if item.failure is None and draw.random() < 0.7]
        nameless = {item.index for item in done if draw.random() < 0.1}
        found = told(dataset, PriorResult(done, nameless=nameless))
    passed = {item.index for item in done} - nameless
    assert found == [None if item.index in passed else item for item in items]


def test_a_doubled_id_is_found_though_the_first_one_was_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a"}\n{"id": 7}\n{"id": "b"}\n{"id": "7"}\n')
    *passed_over, last = told(opened(path), PriorResult(list(opened(path))[:3]))
    assert passed_over == [None, None, None]
    assert last is not None
    assert last.failure is not None
    assert last.failure.message == f"{path}:4: the id '7' is already used at {path}:2"


def test_where_a_file_breaks_off_its_last_good_row_is_named_as_if_all_were_read(tmp_path: Path) -> None:
    whole = gzip.compress(rows(tmp_path, 5000).read_bytes())
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetReadError) as caught:
        list(opened(path))
    read: list[Item | int] = []
    with pytest.raises(DatasetReadError) as again:
        read.extend(opened(path).passing_over(PriorResult(_items(rows(tmp_path, 5000)))))
    assert str(again.value) == str(caught.value)
    assert 500 < sum(passed for passed in read if isinstance(passed, int)) < 4999


def _items(path: Path) -> list[Item]:
    return list(opened(path))


def test_equal_rows_go_on_counting_where_most_were_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' * 3000 + '{"b": 1}\n' * 2)
    items = list(opened(path, id_column=None))
    known = PriorResult([item for item in items if item.index not in {0, 700, 2998, 2999, 3001}])
    asked = [item for item in told(opened(path, id_column=None), known) if item is not None]
    assert asked == [items[index] for index in (0, 700, 2998, 2999, 3001)]


def test_a_row_that_has_been_seen_often_is_counted_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    seen = SeenIds()

    def is_in(_seen: SeenIds, name: str) -> bool:
        looked.append(name)
        return _number(name) <= 100_000

    monkeypatch.setattr(SeenIds, "__contains__", is_in)
    monkeypatch.setattr(seen, "add", lambda _name: False)
    namer = Namer(None, lambda _name: None)
    namer._seen = seen
    assert namer.name({"a": 1}) == f"{looked[0].rpartition('-')[0]}-100001"
    assert len(looked) < 50
    looked.clear()
    assert str(namer.name({"a": 1})).endswith("-100002")
    assert len(looked) == 1


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def test_many_are_passed_over_in_one_go_but_not_all(tmp_path: Path) -> None:
    dataset = opened(rows(tmp_path, 2001))
    *passed, last = dataset.passing_over(PriorResult(list(dataset)[:2000]))
    assert sum(passing for passing in passed if isinstance(passing, int)) == 2000
    assert 3 <= len(passed) <= 20
    assert isinstance(last, Item)


def test_other_formats_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,n\na,1\nb,2\n")
    items = list(opened(path))
    assert told(opened(path), PriorResult(items[:1])) == items


def test_a_file_is_surveyed_once_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    path = rows(tmp_path, 3)
    dataset = opened(path)
    before, stat = dataset.survey(), path.stat()
    changed = path.read_bytes().replace(b"question", b"Question")
    path.write_bytes(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert dataset.survey() == before  # its bytes are not read again
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert dataset.survey() is None  # it is another one than was opened
    after = opened(path).survey()
    assert after is not None
    assert before is not None
    assert after.identities[0].content != before.identities[0].content


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
        remaining = Pending(
            dataset=dataset, tasks=tasks, ledger=ledger, retried=frozenset(["answer", "judge"] if retry_errors else [])
        )
        found = [(sample.item.item_id, sample.index) for sample in remaining if isinstance(sample, Sample)]
    retried = [("row-4", 1), ("row-6", 0), ("row-6", 1)] if retry_errors else []
    never_asked = [("row-2", 0), ("row-2", 1), ("row-4", 0), ("row-5", 0), ("row-5", 1), ("row-7", 0), ("row-7", 1)]
    assert found == sorted({*never_asked, *retried})
    assert remaining.items == 8
    assert remaining.exhausted


@pytest.mark.parametrize("shuffle", [None, 7])
def test_on_a_long_way_through_what_is_done_others_have_their_turn(tmp_path: Path, shuffle: int | None) -> None:
    write_segment(tmp_path / "journal", [opening(), *(result(index) for index in range(3000))])
    dataset = opened(rows(tmp_path, 3001), shuffle=shuffle)
    with closing(Ledger.read(tmp_path / "journal")) as ledger:
        found = list(Pending(dataset=dataset, tasks=[("answer", 1)], ledger=ledger))
    assert [sample.item.index for sample in found if isinstance(sample, Sample)] == [3000]
    assert 3 <= found.count(None) <= 20
