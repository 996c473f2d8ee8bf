"""The ledger says of every unit whether it has a result and which, whatever the order in which the results were written."""

from __future__ import annotations

import errno
import random
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RunDirError, StorageError
from runner.storage.files import FileSystem
from runner.storage.journal import Journal, read_segment, segments_of
from runner.storage.ledger import Ledger
from runner.storage.records import Close, End, EndHead, Files, Open, Start, Try, tokens_of
from runner.storage.unit_order import Plan
from tests.records import failure, opening, result, write_segment

TWO_TASKS = [("answer", 3), ("judge", 3), ("once", 1)]


@contextmanager
def ledger_of(directory: Path, *segments: Sequence[object]) -> Iterator[Ledger]:
    for records in segments:
        write_segment(directory, records)  # type: ignore[arg-type]  # all of them are structs
    with closing(Ledger.read(directory)) as ledger:
        yield ledger


def flip(path: Path, number: int) -> None:
    """Flip a bit in the middle of a line, counted from 0."""
    line = list(read_segment(path))[number]
    content = bytearray(path.read_bytes())
    content[line.offset + line.length // 2] ^= 1
    path.write_bytes(content)


# --- the plan ---


@pytest.mark.parametrize(
    ("tasks", "order"),
    [
        ([("answer", 1)], [(0, "answer")]),
        ([("answer", 3)], [(0, "answer"), (1, "answer"), (2, "answer")]),
        ([("answer", 2), ("judge", 2)], [(0, "answer"), (0, "judge"), (1, "answer"), (1, "judge")]),
        ([("answer", 2), ("once", 1)], [(0, "answer"), (0, "once"), (1, "answer")]),
        (
            [("once", 1), ("answer", 3), ("twice", 2)],
            [(0, "once"), (0, "answer"), (0, "twice"), (1, "answer"), (1, "twice"), (2, "answer")],
        ),
    ],
)
def test_units_of_an_item_go_by_sample_and_then_by_task(tasks: list[tuple[str, int]], order: list[tuple[int, str]]) -> None:
    assert Plan(tasks).offsets() == {pair: place for place, pair in enumerate(order)}
    assert Plan(tasks).width == len(order)


# --- reading ---


@given(
    tasks=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(
        lambda counts: [(f"task{n}", k) for n, k in enumerate(counts)]
    ),
    items=st.integers(0, 12),
    seed=st.integers(0, 2**32),
    segments=st.integers(1, 3),
)
def test_results_come_back_in_dataset_order_from_any_order(
    tasks: list[tuple[str, int]], items: int, seed: int, segments: int
) -> None:
    draw = random.Random(seed)
    units = [(item, sample, task) for item in range(items) for task, samples in tasks for sample in range(samples)]
    kept = [unit for unit in units if draw.random() < 0.8]
    ends = {
        (item, sample, task): draw.choice([result, failure])(item, task, sample, output=f"{item} {sample} {task}")
        for item, sample, task in kept
    }
    written = list(ends.values())
    draw.shuffle(written)
    parts = [[opening(tasks), *written[number::segments]] for number in range(segments)]
    with tempfile.TemporaryDirectory() as directory, ledger_of(Path(directory), *parts) as ledger:
        places = ledger.plan.offsets()
        expected = sorted(ends.values(), key=lambda end: (end.item_index, places[end.sample_index, end.task]))
        assert list(ledger.ends()) == expected
        assert ledger.failed == sum(end.error_type is not None for end in expected)
        assert ledger.succeeded == len(expected) - ledger.failed
        assert ledger.items_begun == max((end.item_index + 1 for end in expected), default=0)
        for unit in units:
            assert ledger.is_done(*unit) == (unit in ends)
            assert ledger.has_failed(*unit) == (unit in ends and ends[unit].error_type is not None)
            assert ledger.end(*unit) == ends.get(unit)
        assert not ledger.is_done(items + 5, 0, tasks[0][0])
        assert ledger.end(items + 5, 0, tasks[0][0]) is None


@pytest.mark.long
def test_results_far_apart_are_read_back(tmp_path: Path) -> None:
    ends = [result(index) for index in (0, 1, 100_000, 1_000_000)]
    with ledger_of(tmp_path, [opening(), *reversed(ends)]) as ledger:
        assert list(ledger.ends()) == ends
        assert ledger.succeeded == 4
        assert not ledger.is_done(999_999, 0, "answer")


@pytest.mark.parametrize("in_one_segment", [True, False])
def test_a_later_result_takes_the_place_of_an_earlier_one_but_no_error_that_of_an_answer(
    tmp_path: Path, in_one_segment: bool
) -> None:
    first = [failure(0), failure(1), result(2)]
    later = [result(0, output="at last"), failure(1, message="again"), failure(2)]
    parts = [[opening(), *first, *later]] if in_one_segment else [[opening(), *first], [opening(), *later]]
    with ledger_of(tmp_path, *parts) as ledger:
        assert list(ledger.ends()) == [*later[:2], first[2]]
        assert (ledger.succeeded, ledger.failed) == (2, 1)
        assert [ledger.has_failed(index, 0, "answer") for index in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    ("records", "in_flight"),
    [
        ([], 0),
        ([Start(item_index=0, task="answer")], 1),
        ([Start(item_index=0, task="answer"), result(0)], 0),
        ([Start(item_index=0, task="answer"), failure(0)], 0),
        ([Start(item_index=0, task="answer"), Try(item_index=0, task="answer", error_type="server", message="500")], 0),
        (
            [
                Start(item_index=0, task="answer"),
                Try(item_index=0, task="answer", error_type="server", message="500"),
                Start(item_index=0, task="answer", attempt=2),
            ],
            1,
        ),
        ([Start(item_index=0, task="answer", attempt=1), Start(item_index=0, task="answer", attempt=2)], 1),
        ([Start(item_index=0, sample_index=sample, task=task) for sample in range(3) for task in ("answer", "judge")], 6),
        ([Start(item_index=0, task="answer"), Start(item_index=1, task="answer"), result(1)], 1),
    ],
)
def test_what_was_started_and_not_ended_may_be_paid_twice(tmp_path: Path, records: list[object], in_flight: int) -> None:
    with ledger_of(tmp_path, [opening(TWO_TASKS), *records]) as ledger:
        assert ledger.in_flight == in_flight


def test_what_was_in_flight_at_a_kill_is_settled_by_a_later_start(tmp_path: Path) -> None:
    killed = [opening(), Start(item_index=0, task="answer"), Start(item_index=1, task="answer")]
    with ledger_of(tmp_path, killed, [opening(), Start(item_index=1, task="answer"), result(1)]) as ledger:
        assert ledger.in_flight == 1


def test_what_every_start_wrote_about_itself_is_kept(tmp_path: Path) -> None:
    files = [("d.jsonl", 12, "ab" * 32)]
    first = [
        opening(concurrency=2, at=1_000_000),
        Files(files=files),
        result(0, ran_us=3_000_000),
        Close(at=9, reason="quota"),
    ]
    second = [opening(concurrency=10, at=50_000_000), result(1, ran_us=1_000_000), result(2, ran_us=500_000)]
    third = [opening(concurrency=7, at=60_000_000)]
    with ledger_of(tmp_path, first, second, third) as ledger:
        assert [opened.concurrency for opened in ledger.opens] == [2, 10, 7]
        assert [closed.reason for closed in ledger.closes] == ["quota"]
        assert ledger.files == files
        assert ledger.wall_s == pytest.approx(3 + 1)
        assert ledger.slot_s == pytest.approx(3 * 2 + 1 * 10)


@pytest.mark.parametrize("jump_s", [-86_400, 0, 86_400])
def test_how_long_a_start_took_is_no_matter_of_the_clock_on_the_wall(tmp_path: Path, jump_s: int) -> None:
    last = 12_000_000 + jump_s * 10**6
    with ledger_of(tmp_path, [opening(at=10_000_000), result(0, completed_at=last, ran_us=2_000_000)]) as ledger:
        assert ledger.wall_s == 2


@pytest.mark.parametrize(("completed_at", "wall_s"), [(14_000_000, 4), (4_000_000, 0)])
def test_of_lines_without_the_time_the_clocks_difference_is_taken(tmp_path: Path, completed_at: int, wall_s: float) -> None:
    """The first versions of this program wrote such lines. A clock that went backwards takes no time away."""
    segments = [opening(at=10_000_000), result(0, completed_at=completed_at, ran_us=0)], [opening(), result(1, ran_us=500_000)]
    with ledger_of(tmp_path, *segments) as ledger:
        assert ledger.wall_s == wall_s + 0.5


def test_what_an_answer_has_used_may_be_more_than_the_total_that_the_server_said(tmp_path: Path) -> None:
    said = [
        result(0, total_tokens=5),
        result(1, used_tokens=7),
        result(2, total_tokens=1, used_tokens=9),
        result(3),
        failure(4),
    ]
    with ledger_of(tmp_path, [opening(), *said]) as ledger:
        assert ledger.tokens == 5 + 7 + 9


def test_what_was_begun_since_is_read_on(tmp_path: Path) -> None:
    with ledger_of(tmp_path, [opening(concurrency=2), result(0, total_tokens=5), failure(1)]) as ledger:
        assert (ledger.succeeded, ledger.failed, ledger.tokens) == (1, 1, 5)
        write_segment(tmp_path, [opening(concurrency=3), result(1, total_tokens=7), Close(at=9, reason=None)])
        for _ in range(2):
            ledger.read_on()
            assert list(ledger.ends()) == [result(0, total_tokens=5), result(1, total_tokens=7)]
            assert (ledger.succeeded, ledger.failed, ledger.tokens) == (2, 0, 12)
            assert [opened.concurrency for opened in ledger.opens] == [2, 3]
            assert len(ledger.closes) == 1


def test_a_segment_that_could_not_be_read_is_read_again(tmp_path: Path) -> None:
    class Failing(FileSystem):
        fails = False

        def pread(self, handle: int, length: int, offset: int) -> bytes:
            if self.fails and offset >= 1 << 15:
                raise OSError(errno.EIO, "Input/output error")
            return super().pread(handle, length, offset)

    write_segment(tmp_path, [opening(), result(0)])
    files = Failing()
    with closing(Ledger.read(tmp_path, files)) as ledger:
        second = write_segment(tmp_path, [opening(), *(result(index, response="x" * 1000) for index in range(1, 200))])
        files.fails = True
        with pytest.raises(StorageError, match=rf"{second}: cannot be read: Input/output error"):
            ledger.read_on()
        files.fails = False
        ledger.read_on()
        assert [end.item_index for end in ledger.ends()] == list(range(200))
        assert (ledger.succeeded, ledger.damaged) == (200, [])


@given(
    done=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2), st.booleans())), start=st.integers(0, 14), more=st.booleans()
)
def test_the_first_item_without_all_answers(done: list[tuple[int, int, bool]], start: int, more: bool) -> None:
    ends = [(failure if failed else result)(index, sample=sample) for index, sample, failed in done]
    whole = [result(index, sample=sample) for index in range(20, 22 if more else 20) for sample in range(3)]
    with (
        tempfile.TemporaryDirectory() as directory,
        ledger_of(Path(directory), [opening([("answer", 3)]), *ends, *whole]) as ledger,
    ):
        answered = {
            index
            for index in range(25)
            if all(
                ledger.is_done(index, sample, "answer") and not ledger.has_failed(index, sample, "answer")
                for sample in range(3)
            )
        }
        assert ledger.first_unanswered(start) == next(index for index in range(start, 30) if index not in answered)


# --- segments of workers ---


def worker(number: int, at: int, **more: Any) -> Open:
    return msgspec.structs.replace(opening(), worker=number, engine="processes", at=at, **more)


@pytest.mark.long
@given(
    ends=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.booleans()), max_size=20),
    order=st.permutations([1, 2, 3, 4]),
)
def test_which_result_counts_does_not_depend_on_the_order_in_which_segments_are_read(
    ends: list[tuple[int, int, bool]], order: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole, grown = Path(name, "whole"), Path(name, "grown")
        for directory in (whole, grown):
            directory.mkdir()
            write_segment(directory, [opening()])
        for segment in range(1, 5):
            said = f"in segment {segment}"
            lines = [
                failure(index, message=said) if failed else result(index, output=said)
                for index, where, failed in ends
                if where == segment
            ]
            write_segment(whole, [opening(), *lines])
        with closing(Ledger.read(whole)) as together, closing(Ledger.read(grown)) as one_by_one:
            for number in order:
                shutil.copy(segments_of(whole)[number], grown)
                one_by_one.read_on()
            assert list(one_by_one.ends()) == list(together.ends())
            assert (one_by_one.succeeded, one_by_one.failed) == (together.succeeded, together.failed)


def test_what_was_added_to_a_segment_is_read_and_no_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(opening())
    journal.append(result(0))
    with closing(Ledger.read(tmp_path)) as ledger:
        journal.append(result(1))
        journal.append(failure(2))
        ledger.read_on()
        ledger.read_on()
        assert (ledger.succeeded, ledger.failed, len(ledger.opens)) == (2, 1, 1)
        assert ledger.tokens == 2 * tokens_of(result(0))
    journal.close()


def test_a_start_does_not_make_open_what_is_answered(tmp_path: Path) -> None:
    with ledger_of(tmp_path, [opening(), result(0)], [opening(), Start(item_index=0, task="answer")]) as ledger:
        assert (ledger.first_unanswered(0), ledger.in_flight) == (1, 0)


def test_the_time_of_workers_side_by_side_counts_once(tmp_path: Path) -> None:
    driver = msgspec.structs.replace(opening(), engine="processes", at=1_000_000)
    one = [worker(0, 2_000_000, concurrency=4), result(0, ran_us=10_000_000)]
    other = [worker(1, 7_000_000, concurrency=2), result(1, ran_us=10_000_000)]
    later = [worker(0, 60_000_000, concurrency=1), result(2, ran_us=5_000_000)]
    with ledger_of(tmp_path, [driver], one, other, later) as ledger:
        assert ledger.wall_s == 15 + 5
        assert ledger.slot_s == 10 * 4 + 10 * 2 + 5
        assert ledger.starts == [(2_000_000, 15.0), (60_000_000, 5.0)]


def test_the_end_of_a_worker_is_not_the_end_of_the_run(tmp_path: Path) -> None:
    driver = msgspec.structs.replace(opening(), engine="processes")
    with ledger_of(tmp_path, [driver], [worker(0, 1), result(0), Close(at=3, reason=None)]) as ledger:
        assert not ledger.is_finished


def test_a_run_is_finished_by_whoever_gave_the_rows_though_workers_began_later(tmp_path: Path) -> None:
    driver = msgspec.structs.replace(opening(), engine="processes")
    with ledger_of(tmp_path, [driver, Close(at=9, reason=None)], [worker(0, 1), result(0)]) as ledger:
        assert ledger.is_finished


# --- the order of an `end` line's fields ---


def test_what_a_scan_needs_stands_first() -> None:
    """A scan reads an `end` line up to `item_id` only, so nothing that it needs may stand behind."""
    head = End.__struct_fields__[: End.__struct_fields__.index("item_id")]
    assert set(head) == {*EndHead.__struct_fields__}


def test_lines_of_the_first_versions_with_the_item_id_in_front_are_read(tmp_path: Path) -> None:
    ends = [result(0, total_tokens=3, item_id='a ","item_id":"b'), failure(1, total_tokens=4), result(2, "nobody")]
    lines = [msgspec.json.encode(opening())]
    for end in ends:
        record = {"kind": "end", "item_id": end.item_id} | msgspec.to_builtins(end)
        lines.append(msgspec.json.encode(record))
    (tmp_path / "000001.jsonl").write_bytes(b"".join(b"%08x %b\n" % (zlib.crc32(line), line) for line in lines))
    with ledger_of(tmp_path) as ledger:
        assert list(ledger.ends()) == ends[:2]
        assert (ledger.succeeded, ledger.failed, ledger.tokens, len(ledger.damaged)) == (1, 1, 7, 1)


@pytest.mark.parametrize("text", [',"item_id":', '","item_id":"', '\\","item_id":0,"', "}", '"'])
def test_no_text_can_pass_for_the_end_of_what_a_scan_needs(tmp_path: Path, text: str) -> None:
    tasks = [(text, 1)]
    with ledger_of(
        tmp_path, [opening(tasks), failure(0, text, item_id=text, message=text), result(1, text, output=text)]
    ) as ledger:
        assert (ledger.succeeded, ledger.failed, ledger.damaged) == (1, 1, [])


# --- damage ---


def test_damaged_lines_are_listed_and_their_units_are_open_again(tmp_path: Path) -> None:
    first = write_segment(tmp_path, [opening(), result(0), result(1), result(2)])
    second = write_segment(tmp_path, [opening(), result(3), result(4)])
    flip(first, 2)
    flip(second, 1)
    offsets = [list(read_segment(first))[2].offset, list(read_segment(second))[1].offset]
    with ledger_of(tmp_path) as ledger:
        assert ledger.damaged == [f"{first}: offset {offsets[0]}", f"{second}: offset {offsets[1]}"]
        assert [end.item_index for end in ledger.ends()] == [0, 2, 4]
        assert [ledger.is_done(index, 0, "answer") for index in range(5)] == [True, False, True, False, True]
        assert ledger.succeeded == 3


def test_a_damaged_result_leaves_the_earlier_one_in_its_place(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [opening(), failure(0), result(0)])
    flip(path, 2)
    with ledger_of(tmp_path) as ledger:
        assert list(ledger.ends()) == [failure(0)]


def test_a_damaged_first_line_costs_nothing_where_another_start_wrote_one(tmp_path: Path) -> None:
    first = write_segment(tmp_path, [opening(), result(0)])
    write_segment(tmp_path, [opening(), result(1)])
    flip(first, 0)
    with ledger_of(tmp_path) as ledger:
        assert list(ledger.ends()) == [result(0), result(1)]
        assert len(ledger.damaged) == 1


@pytest.mark.parametrize("damaged", [0, 1])
def test_the_first_line_stands_twice_and_counts_once(tmp_path: Path, damaged: int) -> None:
    path = write_segment(tmp_path, [opening(), opening(), result(0)])
    with ledger_of(tmp_path) as ledger:
        assert len(ledger.opens) == 1
    flip(path, damaged)
    with ledger_of(tmp_path) as ledger:
        assert len(ledger.opens) == 1
        assert list(ledger.ends()) == [result(0)]


def test_a_torn_tail_is_no_damage(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [opening(), result(0), result(1)])
    path.write_bytes(path.read_bytes()[:-5])
    with ledger_of(tmp_path) as ledger:
        assert list(ledger.ends()) == [result(0)]
        assert ledger.damaged == []


def test_lines_of_a_kind_nobody_knows_are_damage_and_not_the_end(tmp_path: Path) -> None:
    class Strange(Close, frozen=True, tag="strange"):
        pass

    with ledger_of(tmp_path, [opening(), result(0), Strange(at=1, reason=None), result(1)]) as ledger:
        assert [end.item_index for end in ledger.ends()] == [0, 1]
        assert len(ledger.damaged) == 1


def test_a_unit_that_is_not_in_the_plan_is_damage_and_not_the_end(tmp_path: Path) -> None:
    with ledger_of(tmp_path, [opening(), result(0), result(0, "nobody"), result(0, sample=7), result(1)]) as ledger:
        assert [end.item_index for end in ledger.ends()] == [0, 1]
        assert len(ledger.damaged) == 2


@pytest.mark.parametrize("position", [-1, -3, -(10**15), 1 << 30, 10**15, 2**70])
def test_a_position_that_no_run_has_is_damage_and_takes_no_memory(tmp_path: Path, position: int) -> None:
    absurd = [one(item_index=position, task="answer") for one in (Start, _try)]
    with ledger_of(tmp_path, [opening(), result(0), *absurd, result(position), result(1)]) as ledger:
        assert [end.item_index for end in ledger.ends()] == [0, 1]
        assert (ledger.succeeded, ledger.in_flight, len(ledger.damaged)) == (2, 0, 3)


def _try(**more: Any) -> Try:
    return Try(**more, error_type="server", message="500")


def test_a_line_that_is_no_result_behind_its_head_is_named(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [opening(), result(0)])
    content = path.read_bytes().replace(b'"output":"answer 0"', b'"output":{"a": [0]}')
    lines = [line[9:] for line in content.splitlines()]
    path.write_bytes(b"".join(b"%08x %b\n" % (zlib.crc32(line), line) for line in lines))
    with ledger_of(tmp_path) as ledger, pytest.raises(StorageError, match=r"000001\.jsonl: offset \d+: .*it is not a result"):
        list(ledger.ends())


# --- segments of others ---


@pytest.mark.parametrize(
    ("second", "what"),
    [
        (
            {"run_id": "20261121T021500Z-ffff"},
            "belongs to another run, 20261121T021500Z-ffff, and this is 20261121T021500Z-4f2a",
        ),
        ({"identity": {"name": "y"}}, r"belongs to a run that asked something else \(name\)"),
        ({"identity": {}}, r"belongs to a run that asked something else \(name\)"),
        ({"identity": {"name": "x", "z": "z"}}, r"belongs to a run that asked something else \(z\)"),
    ],
)
def test_a_segment_of_another_run_is_refused_by_name(tmp_path: Path, second: dict[str, Any], what: str) -> None:
    same: dict[str, Any] = {"identity": {"name": "x"}}
    write_segment(tmp_path, [opening(**same), result(0)])
    path = write_segment(tmp_path, [opening(**(same | second)), result(1)])
    write_segment(tmp_path, [opening(**same)])
    with pytest.raises(RunDirError, match=f"{path}: {what}; move it out of the journal"):
        Ledger.read(tmp_path)


def test_it_is_the_directory_that_tells_whose_segments_these_are(tmp_path: Path) -> None:
    journal = tmp_path / "mine" / "journal"
    journal.parent.mkdir()
    path = write_segment(journal, [opening(run_id="theirs"), result(0)])
    write_segment(journal, [opening(run_id="mine"), result(1)])
    with pytest.raises(RunDirError, match=f"{path}: belongs to another run, theirs, and this is mine"):
        Ledger.read(journal)


def test_what_may_have_changed_is_no_other_run(tmp_path: Path) -> None:
    first, second = opening(identity={"a": "1", "b": "1"}), opening(identity={"a": "2", "c": "2"}, changed=["a", "b", "c"])
    with ledger_of(tmp_path, [first, result(0)], [second, result(1)], [opening(identity=second.identity)]) as ledger:
        assert ledger.succeeded == 2


def test_a_task_that_is_no_more_is_left_out_and_is_no_damage(tmp_path: Path) -> None:
    tasks = [("answer", 1), ("judge", 2)]
    first = [opening(tasks), result(0), failure(0, "judge"), failure(0, "judge", 1)]
    second = [opening([("answer", 1), ("verdict", 1)], changed=["tasks.1.alias"]), result(0, "verdict")]
    with ledger_of(tmp_path, first, second) as ledger:
        assert [end.task for end in ledger.ends()] == ["answer", "verdict"]
        assert (ledger.succeeded, ledger.failed, ledger.damaged) == (2, 0, [])
    with closing(Ledger.read(tmp_path, tasks=tasks)) as ledger:
        assert (ledger.answers_of("judge"), ledger.errors_of("judge"), ledger.answers_of("answer")) == (0, 2, 1)


@pytest.mark.parametrize(
    ("segments", "is_finished"),
    [
        ([[opening(), result(0)]], False),
        ([[opening(), Close(at=1, reason=None)]], True),
        ([[opening(), Close(at=1, reason="quota")]], False),
        ([[opening(), Close(at=1, reason=None)], [opening()]], False),
        ([[opening(), Close(at=1, reason=None)], []], True),
        ([[opening(), Close(at=1, reason="quota")], [opening(), Close(at=1, reason=None)]], True),
        ([[opening(), Close(at=1, reason=None)], [opening(), Close(at=1, reason="quota")]], False),
    ],
)
def test_a_run_is_finished_where_its_latest_start_came_to_its_end(
    tmp_path: Path, segments: list[list[object]], is_finished: bool
) -> None:
    with ledger_of(tmp_path, *segments) as ledger:
        assert ledger.is_finished == is_finished


# --- journals that cannot be read ---


def test_a_segment_of_which_no_line_can_be_read_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    write_segment(tmp_path, [opening(), result(0)])
    path = write_segment(tmp_path, [opening(), result(1)])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    write_segment(tmp_path, [opening(), result(2)])
    with pytest.raises(RunDirError, match=rf"{path}: is damaged: none of its 2 lines \({path.stat().st_size} bytes\)"):
        Ledger.read(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"torn"])
def test_without_a_first_line_there_is_no_journal(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "000001.jsonl").write_bytes(content)
    with pytest.raises(RunDirError, match="there is no journal to read"):
        Ledger.read(tmp_path)


@pytest.mark.parametrize("newer", [0, 1])
def test_a_newer_format_is_refused_in_whichever_segment_it_stands(tmp_path: Path, newer: int) -> None:
    for number in range(2):
        write_segment(tmp_path, [opening(format=99 if number == newer else 1), result(number)])
    with pytest.raises(RunDirError, match=rf"00000{newer + 1}\.jsonl: has format 99, this program reads format 1"):
        Ledger.read(tmp_path)


def test_a_journal_that_is_being_written_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [opening(), result(0)])
    whole = path.read_bytes()
    with ledger_of(tmp_path) as ledger:
        with path.open("ab") as file:
            file.write(whole.splitlines(keepends=True)[1])
        assert [end.item_index for end in ledger.ends()] == [0]


def test_what_was_read_last_is_read_again_where_more_was_written(tmp_path: Path) -> None:
    write_segment(tmp_path, [opening(), failure(0)])
    with closing(Ledger.read(tmp_path)) as ledger:
        before = ledger.end(0, 0, "answer")
        assert before is not None
        assert before is ledger.end(0, 0, "answer")
        write_segment(tmp_path, [opening(), result(0)])
        ledger.read_on()
        after = ledger.end(0, 0, "answer")
    assert (before.error_type, after and after.output) == ("server", "answer 0")
