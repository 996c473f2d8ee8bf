"""The journal keeps every line that was written, gives back no line that was not, and says so when it can keep no more.

Damage is done to real files, byte by byte; a full disk is /dev/full or a limit on the size of files, both the kernel's own.
"""

from __future__ import annotations

import os
import signal
import stat
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StorageError
from runner.storage.files import FileSystem
from runner.storage.journal import Journal, read_segment, segments_of
from runner.storage.records import Close, End, Start
from tests.faulty_files import files_no_larger_than
from tests.records import END, TEXT, ends_in, failure, opening, result, write_segment

SMALL = [opening(), Start(item_index=0, task="answer"), result(0, output="äß\n日本"), failure(1), Close(at=3, reason=None)]


def payloads(path: Path) -> list[bytes | None]:
    return [line.payload for line in read_segment(path)]


def good(path: Path) -> list[bytes]:
    return [payload for payload in payloads(path) if payload is not None]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_segment(tmp_path / "journal", SMALL)


@contextmanager
def overwritten(path: Path, offset: int, data: bytes) -> Iterator[bytes]:
    """Put something in place of what a file holds for the length of a block; give its content then."""
    content = path.read_bytes()
    with path.open("r+b", buffering=0) as file:  # a file that is written anew each time costs many times as much
        os.pwrite(file.fileno(), data, offset)
        try:
            yield content[:offset] + data + content[offset + len(data) :]
        finally:
            os.pwrite(file.fileno(), content[offset : offset + len(data)], offset)


def fill_disk(journal: Journal) -> None:
    """Put /dev/full, which has room for nothing, in the place of the journal's file."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file)
    os.close(full)


# --- what is written is read back ---


@given(st.lists(END, max_size=8))
def test_what_is_appended_is_read_back(records: list[End]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write_segment(Path(directory), records)
        assert [msgspec.json.decode(payload, type=End) for payload in good(path)] == records
        assert ends_in(Path(directory)) == records


@given(st.lists(END, max_size=5))
def test_offsets_and_lengths_lead_to_the_lines(records: list[End]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write_segment(Path(directory), records)
        content = path.read_bytes()
        for line in read_segment(path):
            assert line.payload is not None
            assert content[line.offset : line.offset + line.length] == b"%08x %b\n" % (zlib.crc32(line.payload), line.payload)


def test_lines_longer_than_a_read_are_read_back(tmp_path: Path) -> None:
    records = [result(0, response="x" * 3_000_000), result(1, response="é" * 700_000), result(2)]
    path = write_segment(tmp_path, records)
    assert [msgspec.json.decode(payload, type=End) for payload in good(path)] == records


def test_lines_are_numbered_from_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert [journal.append(result(index)) for index in range(3)] == [1, 2, 3]
    journal.close()


def test_a_line_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for index in range(3):
        journal.append(result(index))
        assert len(ends_in(tmp_path)) == index + 1
    journal.close()


def test_a_lone_surrogate_is_replaced_and_costs_nothing(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [result(0, output="a\ud800b", item_id="\udfff"), result(1)])
    first, second = (msgspec.json.decode(payload, type=End) for payload in good(path))
    assert (first.output, first.item_id) == ("a\ufffdb", "\ufffd")
    assert second == result(1)


# --- damage costs what it touches and nothing else ---


def test_a_tail_torn_at_any_byte_costs_only_the_torn_line(small: Path, tmp_path: Path) -> None:
    content = small.read_bytes()
    whole = good(small)
    torn = tmp_path / "torn"
    torn.write_bytes(content)
    for length in range(len(content), -1, -1):
        os.truncate(torn, length)
        complete = content[:length].count(b"\n")
        assert payloads(torn) == whole[:complete], f"torn after {length} bytes"


@pytest.mark.parametrize(
    "change",
    [lambda byte: byte ^ 1, lambda byte: byte ^ 0x80, lambda byte: byte ^ 0xFF, lambda _: 0, lambda _: 10],
    ids=["lowest bit", "highest bit", "all bits", "NUL", "newline"],
)
def test_a_changed_byte_costs_at_most_its_line(small: Path, change: Callable[[int], int]) -> None:
    content = small.read_bytes()
    lines = list(read_segment(small))
    survived = 0
    for place, byte in enumerate(content):
        changed = change(byte)
        if changed == byte:
            continue
        with overwritten(small, place, bytes([changed])) as damaged:
            found = list(read_segment(small))
        others = [line.payload for line in lines if not line.offset <= place < line.offset + line.length]
        kept = [line.payload for line in found if line.payload is not None]
        if kept == [line.payload for line in lines]:
            survived += 1  # a blank in place of a leading zero of the checksum, or of the blank behind it
            continue
        assert kept == others, f"byte {place} changed to {changed}"
        newline_of_the_last = place == len(content) - 1
        assert newline_of_the_last or any(line.payload is None for line in found), f"byte {place}: the damage is not counted"
        for line in found:
            if line.payload is not None:
                at = damaged[line.offset : line.offset + line.length]
                assert line.payload in at, f"byte {place}: a line is not where it is said to be"
    assert survived <= 3 * len(lines)


def test_a_hole_of_nuls_costs_only_the_lines_that_it_touches(small: Path) -> None:
    content = small.read_bytes()
    lines = list(read_segment(small))
    for start in range(0, len(content), 7):
        for size in (1, 40, 500):
            end = min(start + size, len(content))
            untouched = [line.payload for line in lines if line.offset >= end or line.offset + line.length <= start]
            with overwritten(small, start, bytes(end - start)):
                assert good(small) == untouched, f"hole from {start} to {end}"


def test_a_hole_at_the_end_is_no_line(small: Path) -> None:
    whole = payloads(small)
    with small.open("ab") as file:
        file.write(bytes(5000))
    assert payloads(small) == whole


@given(st.lists(TEXT, min_size=1, max_size=4), st.data())
def test_text_that_looks_like_a_line_is_never_taken_for_one(texts: list[str], data: st.DataObject) -> None:
    """An answer may hold a whole journal line as text; with the line around it damaged, it must not come to life."""
    forged = msgspec.json.encode(result(99))
    forgery = f"{zlib.crc32(forged):08x} {forged.decode()}"
    records = [result(index, output=f"{text}{forgery}", response=forgery) for index, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as directory:
        path = write_segment(Path(directory), records)
        content = path.read_bytes()
        place = data.draw(st.integers(0, len(content) - 1))
        path.write_bytes(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
        assert all(end.item_index != 99 for end in ends_in(Path(directory)))


# --- segments ---


def test_each_start_writes_a_segment_of_its_own_and_touches_no_other(tmp_path: Path) -> None:
    first = write_segment(tmp_path, [result(0)])
    with first.open("ab") as file:
        file.write(b"torn tai")
    before, modified = first.read_bytes(), first.stat().st_mtime_ns
    second = write_segment(tmp_path, [result(1)])
    third = write_segment(tmp_path, [result(2)])
    assert [path.name for path in segments_of(tmp_path)] == ["000001.jsonl", "000002.jsonl", "000003.jsonl"]
    assert (first.read_bytes(), first.stat().st_mtime_ns) == (before, modified)
    assert [path for path in (second, third) if good(path)] == [second, third]
    assert [end.item_index for end in ends_in(tmp_path)] == [0, 1, 2]


def test_a_lost_segment_does_not_stand_in_the_way_of_the_next(tmp_path: Path) -> None:
    first, second = write_segment(tmp_path, [result(0)]), write_segment(tmp_path, [result(1)])
    first.unlink()
    third = write_segment(tmp_path, [result(2)])
    assert segments_of(tmp_path) == [second, third]


def test_whatever_a_segment_is_numbered_it_counts(tmp_path: Path) -> None:
    for number, name in enumerate(["999999.jsonl", "1000000.jsonl", "12.jsonl", "98765432109876543210.jsonl"]):
        write_segment(tmp_path / "other", [result(number)]).rename(tmp_path / name)
    path = write_segment(tmp_path, [result(4)])
    assert path.name == "98765432109876543211.jsonl"
    assert [end.item_index for end in ends_in(tmp_path)] == [2, 0, 1, 3, 4]


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_a_segment_that_is_no_file_is_an_error_and_nothing_waits_for_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "000001.jsonl")
    with pytest.raises(StorageError, match=r"000001\.jsonl: cannot be read: "):
        list(read_segment(tmp_path / "000001.jsonl"))


def test_files_of_other_names_are_no_segments(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("mine\n")
    (tmp_path / "000001.jsonl.bak").write_text("mine\n")
    path = write_segment(tmp_path, [result(0)])
    assert segments_of(tmp_path) == [path]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_segment_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = write_segment(tmp_path, [])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_of_two_who_begin_at_the_same_time_each_has_a_segment_of_its_own(tmp_path: Path) -> None:
    class Slow(FileSystem):
        """Somebody else makes the file between the look and the making."""

        def open(self, path: Path, flags: int) -> int:
            if flags & os.O_EXCL and path.name == "000001.jsonl":
                path.write_text("another's\n")
            return super().open(path, flags)

    journal = Journal(tmp_path, files=Slow())
    journal.append(result(0))
    journal.close()
    assert journal.path.name == "000002.jsonl"
    assert (tmp_path / "000001.jsonl").read_text() == "another's\n"


def test_a_directory_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone: no segment can be created there: No such file"):
        Journal(tmp_path / "gone")


# --- what is synced ---


def test_on_synced_names_every_line_in_the_end_and_none_before_it_is_written(tmp_path: Path) -> None:
    written = 0
    seen: list[tuple[int, int]] = []
    journal = Journal(tmp_path, on_synced=lambda lines: seen.append((lines, written)))
    for index in range(300):
        written += 1  # before the line, for the thread may sync between the two
        journal.append(result(index))
    journal.close()
    numbers = [lines for lines, _ in seen]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 300
    assert all(lines <= at_most for lines, at_most in seen)


def test_lines_are_synced_while_nothing_more_is_written(tmp_path: Path) -> None:
    synced = threading.Event()
    journal = Journal(tmp_path, on_synced=lambda lines: synced.set() if lines == 1 else None)
    journal.append(result(0))
    assert synced.wait(30)
    journal.close()


def test_close_syncs_what_was_written_while_a_sync_was_going_on(tmp_path: Path) -> None:
    syncing, go_on = threading.Event(), threading.Event()
    numbers: list[int] = []

    def on_synced(lines: int) -> None:
        numbers.append(lines)
        syncing.set()
        assert go_on.wait(30)

    journal = Journal(tmp_path, on_synced=on_synced)
    journal.append(result(0))
    assert syncing.wait(30)
    journal.append(result(1))
    closing = threading.Thread(target=journal.close)
    closing.start()
    while not journal._closing.is_set():
        pass
    go_on.set()
    closing.join(30)
    assert numbers[-1] == 2


# --- when nothing can be kept any more ---


def test_a_full_disk_is_a_storage_error_and_stays_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(result(0))
    real = os.dup(journal._file)
    fill_disk(journal)
    with pytest.raises(StorageError, match=r"000001\.jsonl: cannot be written: No space left on device"):
        journal.append(result(1))
    os.dup2(real, journal._file)  # there is room again, but a line is missing
    os.close(real)
    with pytest.raises(StorageError, match="No space left"):
        journal.append(result(2))
    with pytest.raises(StorageError, match="No space left"):
        journal.close()
    assert [end.item_index for end in ends_in(tmp_path)] == [0]


def test_a_line_that_found_only_half_its_room_is_written_to_another_segment(tmp_path: Path) -> None:
    """Where a file may not grow, what is paid goes on elsewhere, as often as it must; nothing else is begun."""
    journal = Journal(tmp_path)
    journal.append(result(0))
    with files_no_larger_than(journal.path.stat().st_size + 50):
        for index in range(1, 4):
            journal.append(result(index))
        with pytest.raises(StorageError, match=r"000001\.jsonl: cannot be written: File too large"):
            journal.append(Start(item_index=4, task="answer"))
    journal.append(Close(at=0, reason="full"))
    journal.close()
    assert [path.name for path in segments_of(tmp_path)] == ["000001.jsonl", "000002.jsonl", "000003.jsonl", "000004.jsonl"]
    assert [end.item_index for end in ends_in(tmp_path)] == [0, 1, 2, 3]


def test_a_line_that_no_file_has_room_for_ends_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(result(0))
    with files_no_larger_than(journal.path.stat().st_size + 50):
        for _ in range(2):
            with pytest.raises(StorageError, match="File too large"):
                journal.append(result(1, output="x" * 2000))
    with pytest.raises(StorageError, match="File too large"):
        journal.close()
    assert [end.item_index for end in ends_in(tmp_path)] == [0]


def test_a_failed_sync_is_never_tried_again(tmp_path: Path) -> None:
    numbers: list[int] = []
    journal = Journal(tmp_path, on_synced=numbers.append)
    real = os.dup(journal._file)
    reading, writing = os.pipe()  # takes bytes, but cannot be synced
    os.dup2(writing, journal._file)
    journal.append(result(0))
    while journal.failure is None:
        pass
    os.dup2(real, journal._file)
    with pytest.raises(StorageError, match="cannot be synced to disk"):
        journal.append(result(1))
    with pytest.raises(StorageError, match="cannot be synced to disk"):
        journal.close()
    assert numbers == []
    for handle in (real, reading, writing):
        os.close(handle)


def test_a_write_that_is_cut_short_is_finished(tmp_path: Path) -> None:
    """A signal makes the kernel end a write to a full pipe early: it says how much it took, and the rest must follow."""
    journal = Journal(tmp_path)
    reading, writing = os.pipe()
    os.dup2(writing, journal._file)
    os.close(writing)
    received = bytearray()
    writer = threading.get_ident()

    def read() -> None:
        while chunk := os.read(reading, 4096):
            received.extend(chunk)
            signal.pthread_kill(writer, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        journal.append(result(0, response="x" * 500_000))
        with pytest.raises(StorageError, match="cannot be synced"):  # nor can a pipe
            journal.close()
        reader.join(30)
    finally:
        signal.signal(signal.SIGUSR1, before)
    os.close(reading)
    path = tmp_path / "received"
    path.write_bytes(received)
    assert [msgspec.json.decode(payload, type=End) for payload in good(path)] == [result(0, response="x" * 500_000)]


# --- secrets ---


@pytest.mark.parametrize("secret", ["sk-CANARY-0123456789", 'sk-"quoted"-012', "sk-back\\slash-012", "sk-ümlaut-0123"])
def test_a_secret_never_reaches_the_file(tmp_path: Path, secret: str) -> None:
    journal = Journal(tmp_path, secrets=["sk-another-secret", secret])
    journal.append(failure(0, message=f"401: wrong key {secret}!", response_body=f"Bearer {secret} {secret}"))
    journal.append(result(1, output="nothing secret"))
    journal.close()
    content = journal.path.read_bytes()
    assert secret.encode() not in content
    assert msgspec.json.encode(secret)[1:-1] not in content
    first, second = ends_in(tmp_path)
    assert first.message == "401: wrong key [redacted]!"
    assert first.response_body == "Bearer [redacted] [redacted]"
    assert second.output == "nothing secret"


def test_a_secret_in_json_in_json_never_reaches_the_file(tmp_path: Path) -> None:
    """Bodies are kept as JSON text inside a JSON line: what is escaped once there is escaped twice here."""
    secret = 'sk-"quoted"-0123'
    journal = Journal(tmp_path, secrets=[secret])
    journal.append(result(0, response=msgspec.json.encode({"echo": secret}).decode()))
    journal.close()
    (end,) = ends_in(tmp_path)
    assert end.response is not None
    assert msgspec.json.decode(end.response) == {"echo": "[redacted]"}


@pytest.mark.parametrize("placeholder", ["x", "1", "end", "none", "EMPTY", "task"])
def test_a_placeholder_for_a_key_is_no_secret(tmp_path: Path, placeholder: str) -> None:
    """Local servers take any key; `x` must not be cut out of every answer, let alone out of the line's own words."""
    journal = Journal(tmp_path, secrets=[placeholder])
    journal.append(result(1, output=f"the answer is {placeholder}"))
    journal.close()
    assert ends_in(tmp_path) == [result(1, output=f"the answer is {placeholder}")]
