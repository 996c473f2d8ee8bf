"""With its index a journal says what it says without: whatever was written, and whatever became of either file since."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StorageError
from runner.fingerprint import fingerprint_of
from runner.storage.files import FILES, FileSystem
from runner.storage.index import ANSWERED, FAILED, FLYING, TRIED, sound_blocks
from runner.storage.journal import Journal, Line, read_segment
from runner.storage.ledger import Ledger
from runner.storage.records import Close, End, Start, Try
from runner.storage.unit_order import Plan
from tests.records import failure, opening, result, short_stretches
from tests.scratch import in_memory

TASKS = [("answer", 2), ("once", 1)]

UNIT = st.tuples(st.integers(0, 6), st.sampled_from([(0, "answer"), (1, "answer"), (0, "once")]))
RECORD = st.one_of(
    st.builds(lambda unit: Start(item_index=unit[0], sample_index=unit[1][0], task=unit[1][1]), UNIT),
    st.builds(
        lambda unit: Try(
            item_index=unit[0], sample_index=unit[1][0], task=unit[1][1], error_type="server", message="503 from the server"
        ),
        UNIT,
    ),
    st.builds(
        lambda unit, tokens, used, name: result(
            unit[0], unit[1][1], unit[1][0], total_tokens=tokens, used_tokens=used, ran_us=1 + tokens % 10, item_id=name
        ),
        UNIT,
        st.integers(0, 9) | st.just(2**63 - 1),
        st.none() | st.integers(0, 9),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
    ),
    st.builds(lambda unit: failure(unit[0], unit[1][1], unit[1][0], total_tokens=3), UNIT),
    st.builds(lambda at: Close(at=at, reason=None), st.integers(0, 9)),
    st.just(result(0, "a task of another run")),
)


def written(directory: Path, *segments: Sequence[msgspec.Struct], files: FileSystem = FILES) -> list[Path]:
    """Write a journal with an index of short stretches; return its segments."""
    paths = []
    with short_stretches():
        for records in segments:
            journal = Journal(directory, files=files)
            paths.append(journal.path)
            try:
                for record in (opening(TASKS), opening(TASKS), *records):
                    journal.append(record)
            finally:
                journal.close()
    return paths


def said(directory: Path) -> dict[str, Any]:
    """Return all that a ledger says."""
    with closing(Ledger.read(directory)) as ledger:
        units = [(item, sample, task) for item in range(9) for task, samples in TASKS for sample in range(samples)]
        return {
            "ends": list(ledger.ends()),
            "counts": (ledger.succeeded, ledger.failed, ledger.in_flight, ledger.items_begun, ledger.tokens),
            "spans": (ledger.wall_s, ledger.slot_s),
            "opens": ledger.opens,
            "closes": ledger.closes,
            "damaged": ledger.damaged,
            "units": [(ledger.is_done(*unit), ledger.has_failed(*unit), ledger.end(*unit)) for unit in units],
            "unanswered": [ledger.first_unanswered(item) for item in range(9)],
            "fingerprints": [list(ledger.fingerprints(item, 9)) for item in range(9)],
        }


def said_without(directory: Path) -> dict[str, Any]:
    """Return all that a ledger says where there is no index."""
    for path in directory.glob("*.index"):
        path.unlink()
    return said(directory)


def blocks_in(segment: Path) -> int:
    return sum(1 for _ in sound_blocks(segment, Plan(TASKS), FILES))


@given(st.lists(st.lists(RECORD, max_size=60), min_size=1, max_size=3))
def test_it_says_what_the_lines_say(segments: list[list[msgspec.Struct]]) -> None:
    with in_memory() as directory:
        written(directory, *segments)
        assert said(directory) == said_without(directory)


@given(st.lists(RECORD, min_size=15, max_size=40), st.sampled_from([".jsonl", ".index"]), st.floats(0, 1), st.integers(0, 8))
def test_no_flipped_bit_and_no_cut_changes_what_the_lines_say(
    records: list[msgspec.Struct], which: str, where: float, bit: int
) -> None:
    with in_memory() as directory:
        (segment,) = written(directory, records)
        damaged = segment.with_suffix(which)
        content = bytearray(damaged.read_bytes()) if damaged.exists() else bytearray()
        place = min(len(content) - 1, int(where * len(content)))
        if content and bit < 8:
            content[place] ^= 1 << bit
        damaged.write_bytes(content if bit < 8 else content[:place])
        with_index = _said_or_error(directory)
        segment.with_suffix(".index").unlink(missing_ok=True)
        assert with_index == _said_or_error(directory)


@given(st.lists(RECORD, min_size=15, max_size=40), st.floats(0, 1), st.binary(max_size=200))
def test_no_noise_in_an_index_changes_what_the_lines_say(records: list[msgspec.Struct], where: float, noise: bytes) -> None:
    with in_memory() as directory:
        (segment,) = written(directory, records)
        path = segment.with_suffix(".index")
        content = path.read_bytes() if path.exists() else b""
        path.write_bytes(content[: int(where * len(content))] + noise)
        assert said(directory) == said_without(directory)


@pytest.mark.parametrize("noise", [b"\xff" * 200, b"\x00" * 200, b"\x7f" * 200])
def test_no_number_in_an_index_is_believed_before_its_checksum(tmp_path: Path, noise: bytes) -> None:
    (segment,) = written(tmp_path, [result(number) for number in range(30)])
    segment.with_suffix(".index").write_bytes(noise)
    assert not blocks_in(segment)


def test_an_id_with_a_secret_in_it_is_read_again(tmp_path: Path) -> None:
    """In the line it stands in other words, so that nobody can tell its fingerprint."""
    journal = Journal(tmp_path, secrets=["sk-marked-0123456789"])
    for record in (opening(), result(0, item_id="a"), result(1, item_id="b sk-marked-0123456789"), result(2, item_id="c")):
        journal.append(record)
    journal.close()
    with closing(Ledger.read(tmp_path)) as ledger:
        assert [len(ledger.fingerprints(first, 3)) for first in range(3)] == [1, 0, 1]


def _said_or_error(directory: Path) -> object:
    try:
        return said(directory)
    except Exception as error:  # noqa: BLE001  where the first line is cut, whatever it is, it is the same
        return str(error)


def test_what_it_covers_is_not_read_line_by_line(tmp_path: Path) -> None:
    (segment,) = written(tmp_path, [result(number, "once") for number in range(100)])
    assert blocks_in(segment) >= 20
    lines = []

    def counting(*arguments: Any) -> Iterator[Line]:
        for line in read_segment(*arguments):
            lines.append(line)
            yield line

    with patch("runner.storage.ledger.read_segment", counting), closing(Ledger.read(tmp_path)) as ledger:
        assert ledger.succeeded == 100
    assert len(lines) < 10


def test_an_index_of_another_plan_counts_for_nothing(tmp_path: Path) -> None:
    (segment,) = written(tmp_path, [result(number) for number in range(30)])
    assert blocks_in(segment)
    assert not list(sound_blocks(segment, Plan([("answer", 1), ("once", 1)]), FILES))


def test_an_index_of_another_version_counts_for_nothing(tmp_path: Path) -> None:
    (segment,) = written(tmp_path, [result(number) for number in range(30)])
    with patch("runner.storage.index._VERSION", 1):
        assert not blocks_in(segment)


def test_what_a_version_means_stays_the_same() -> None:
    """Whoever changes one of these gives `index._VERSION` another number."""
    assert fingerprint_of("a") == 3_405_396_810_240_292_928
    assert (ANSWERED, FAILED, FLYING, TRIED) == (1, 2, 4, 8)


def test_a_stretch_has_few_units(tmp_path: Path) -> None:
    with patch("runner.storage.index._MOST_UNITS", 5):
        journal = Journal(tmp_path)
        for record in (opening(TASKS), *(result(number) for number in range(50))):
            journal.append(record)
        journal.close()
    assert blocks_in(journal.path) == 10


def test_blocks_that_stand_twice_count_once(tmp_path: Path) -> None:
    (segment,) = written(tmp_path, [result(number, total_tokens=1) for number in range(7)])
    path = segment.with_suffix(".index")
    path.write_bytes(path.read_bytes() * 2)
    assert said(tmp_path) == said_without(tmp_path)


class Full(FileSystem):
    """A disk that has no room for any index."""

    def __init__(self, *, opens: bool) -> None:
        self.opens = opens
        self.indexes: set[int] = set()
        self.tried = 0

    def open(self, path: Path, flags: int) -> int:
        if path.suffix == ".index":
            self.tried += 1
            if not self.opens:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        handle = super().open(path, flags)
        if path.suffix == ".index":
            self.indexes.add(handle)
        return handle

    def write(self, handle: int, content: bytes) -> int:
        if handle in self.indexes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(handle, content)


@pytest.mark.parametrize("opens", [True, False])
def test_where_it_cannot_be_written_the_run_goes_on_without_it(tmp_path: Path, opens: bool) -> None:
    files = Full(opens=opens)
    (segment,) = written(tmp_path, [result(number) for number in range(30)], files=files)
    assert files.tried == 1
    assert not blocks_in(segment)
    assert said(tmp_path)["counts"][0] == 30


class Filling(FileSystem):
    """A disk that is full when the n-th line is written, until the reserve is given back."""

    def __init__(self, line: int) -> None:
        self.left = line
        self.names: dict[int, str] = {}
        #: What was written to since.
        self.since: list[str] = []

    def open(self, path: Path, flags: int) -> int:
        handle = super().open(path, flags)
        self.names[handle] = path.suffix
        return handle

    def write(self, handle: int, content: bytes) -> int:
        if self.names[handle] == ".jsonl":
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.left < 0:
            self.since.append(self.names[handle])
        return super().write(handle, content)


def test_of_the_reserve_nothing_is_taken_for_it(tmp_path: Path) -> None:
    files = Filling(20)
    (segment,) = written(tmp_path, [result(number) for number in range(40)], files=files)
    assert blocks_in(segment)
    assert set(files.since) == {".jsonl"}
    assert said(tmp_path)["counts"][0] == 40


class Unreadable(FileSystem):
    """A disk that cannot read files of a kind."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self.handles: set[int] = set()

    def open(self, path: Path, flags: int) -> int:
        handle = super().open(path, flags)
        if path.suffix == self.suffix:
            self.handles.add(handle)
        else:
            self.handles.discard(handle)
        return handle

    def pread(self, handle: int, length: int, offset: int) -> bytes:
        if handle in self.handles:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().pread(handle, length, offset)


def test_an_index_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    written(tmp_path, [result(number) for number in range(30)])
    with closing(Ledger.read(tmp_path, Unreadable(".index"))) as ledger:
        assert ledger.succeeded == 30


def test_a_segment_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (segment,) = written(tmp_path, [result(number) for number in range(30)])
    with pytest.raises(StorageError, match=rf"{segment}: cannot be read: Input/output error"):
        list(sound_blocks(segment, Plan(TASKS), Unreadable(".jsonl")))


def test_a_short_run_needs_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for record in (opening(), *(result(number) for number in range(100))):
        journal.append(record)
    journal.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]


def test_the_fingerprint_of_an_answer_is_that_of_its_item(tmp_path: Path) -> None:
    names = ['a "quoted" one', "back\\slash", "café", "line\nbreak", "\u2028", '","item_id":"b', "7"]
    ends: list[End] = [result(number, "once", item_id=name) for number, name in enumerate(names)]
    written(tmp_path, ends)
    for path in tmp_path.glob("*.index"):
        path.unlink()
    with closing(Ledger.read(tmp_path)) as ledger:
        places = ledger._places
        assert list(places.fingerprints(1, 1 + 3 * len(names), 3)) == [fingerprint_of(name) for name in names]
