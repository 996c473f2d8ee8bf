"""Whichever call to the file system fails, and how: the run ends in order, keeps what it has, and goes on when all is well."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import runner
from runner.errors import RunDirError, StorageError
from runner.storage.journal import Journal, read_segment
from runner.storage.rundir import RunDir
from tests.commands import PATIENCE_S, ROOT, Holding, Project, asked, here, questions
from tests.faulty_files import FAULTS, FaultyFiles, needs_a_mount
from tests.records import ends_in, opening, result, write_segment
from tests.reliability.storage_faults import fail_in_turn
from tests.scratch import in_memory
from tests.serving import Served, at_length
from tests.variations import CAMPAIGN

#: Each how manyth call is tried, of about two hundred; in turn with each fault others.
STEP = 11 if CAMPAIGN else 41


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("resumed", [False, True], ids=["new run", "resume"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_any_call_ends_the_run_in_order_and_loses_nothing(
    tmp_path: Path, fault: str, resumed: bool, lasting: bool
) -> None:
    if lasting and fault in {"EINTR", "short write"}:
        pytest.skip("a signal that never ends is none, and a write that is always short is still finished")
    first = 1 + 10 * (FAULTS.index(fault) + 4 * resumed + 8 * lasting) % STEP
    with in_memory(tmp_path) as scratch:
        *_, found = fail_in_turn(scratch, fault, resumed=resumed, lasting=lasting, first=first, step=STEP)
    assert found.problems == []
    assert found.lost == 0
    assert "write" in found.failed
    assert found.runs > 3


# --- a full disk, for real ---

#: Runs a command on a disk of 6 MB that only it can see, makes room, and runs it again to go on.
FULL_AND_THEN_NOT = """
disk=$1; shift
mount -t tmpfs -o size=6m tmpfs "$disk" || exit 99
"$@"; first=$?
mount -o remount,size=64m "$disk" || exit 99
"$@" --resume; second=$?
cp -r "$disk/trial" "$disk/../copy"
echo "exit codes: $first $second"
"""


@pytest.mark.long
@needs_a_mount
def test_after_a_full_disk_and_more_room_nothing_is_lost_and_nothing_asked_twice(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()

    with Served(at_length) as served:
        project = Project(tmp_path / "project", served.url, rows=questions(300), limits={"concurrency": 8})
        found = subprocess.run(
            ["unshare", "-Urm", "bash", "-c", FULL_AND_THEN_NOT, "-", disk, *project.arguments("--output", str(disk))],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert found.stdout.splitlines()[-1] == "exit codes: 3 0", found.stderr
    assert "No space left on device" in found.stderr
    assert asked(served.seen) == Counter({f"question {n}": 1 for n in range(300)})
    assert not list((tmp_path / "copy").rglob(".reserve*"))


# --- what happens under a run's feet ---


def remove(run: Path) -> None:
    shutil.rmtree(run)


def move(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))


def replace_the_journal(run: Path) -> None:
    (segment,) = (run / "journal").glob("*.jsonl")
    shutil.copy(segment, run / "copy")
    (run / "copy").rename(segment)


def remove_the_journal(run: Path) -> None:
    shutil.rmtree(run / "journal")


@pytest.mark.parametrize("change", [remove, move, replace_the_journal, remove_the_journal])
def test_a_run_whose_files_are_taken_away_ends_at_once(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """It notices also while no answer comes, and does not wait for those that are on their way: nobody could keep them."""
    holding = Holding(at_once=3)
    with holding.served() as served:
        project = Project(tmp_path, served.url)

        def take_away() -> None:
            holding.wait_for(4)
            change(project.run_dir)

        ran = project.run_here_while(take_away)
    assert ran.returncode == 3, ran.stderr
    assert "was removed, moved or replaced while the run was writing to it" in ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout


def test_what_may_be_lost_after_a_failed_sync_is_named_and_no_sync_follows(tmp_path: Path) -> None:
    class Broken(FaultyFiles):
        syncs = 0

        def fail_sync(self, handle: int) -> None:
            self.syncs += 1
            raise OSError(5, "Input/output error")

    files = Broken("EIO", at=-1)
    journal = Journal(tmp_path, files=files)
    files.fdatasync = files.fail_sync  # type: ignore[method-assign]
    for index in range(25):
        journal.append(result(index))
    with pytest.raises(StorageError, match=r"results since the last sync may be lost: 25 rows: row-0, .*row-19 and 5 more"):
        journal.close()
    assert files.syncs == 1
    with pytest.raises(StorageError, match="cannot be synced"):
        journal.append(result(26))


# --- one run at a time ---


def test_a_lock_of_this_host_holds_as_long_as_its_process(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "trial")
    with pytest.raises(RunDirError, match=rf"is in use by pid {os.getpid()} on {socket.gethostname()} since 20.*wait for it"):
        RunDir(run.path).lock()
    run.unlock()
    second = RunDir(run.path)
    second.lock()
    second.unlock()


def test_a_killed_run_of_this_host_stands_in_nobodys_way(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "trial")
    run.unlock()
    (run.path / "lock").write_text(f"pid 1 on {socket.gethostname()} since 2026-11-21T02:15:00+00:00\n")
    run.lock()
    run.unlock()


def test_a_killed_run_is_not_named_where_shards_have_the_directory(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "trial")
    run.unlock()
    (run.path / "lock").write_text(f"pid 1 on {socket.gethostname()} since 2026-11-21T02:15:00+00:00\n")
    shards = [RunDir(run.path), RunDir(run.path)]
    for shard in shards:
        shard.lock_shared()
    with pytest.raises(RunDirError, match="is in use by another process; wait for it, or end it"):
        run.lock()
    for shard in shards:
        shard.unlock()
    run.lock()
    run.unlock()


@pytest.mark.parametrize("content", ["", "pid 12 on", "\0" * 60])
def test_a_lock_file_without_an_owner_stands_in_nobodys_way(tmp_path: Path, content: str) -> None:
    run = RunDir.create(tmp_path, "trial")
    run.unlock()
    (run.path / "lock").write_text(content)
    run.lock()
    run.unlock()


def test_a_run_of_another_host_is_left_alone_until_somebody_says_that_it_has_ended(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert project.run_here("--set", "limits.concurrency=1", "--limit", "3").returncode == 0
        project.delete_views()
        lock = project.run_dir / "lock"
        assert lock.read_text() == "", "an end in order gives the lock free"
        lock.write_text("pid 12 on another-host since 2026-11-21T02:15:00+00:00\n")
        asked_before = len(served.seen)
        found = project.run_here("--resume")
        assert found.returncode == 2
        assert "is in use by pid 12 on another-host since 2026-11-21T02:15:00+00:00" in found.stderr
        assert f"delete {lock}" in found.stderr
        assert len(served.seen) == asked_before
        lock.unlink()
        assert project.run_here("--resume").returncode == 0


# --- before anything is sent ---


def test_a_journal_of_a_newer_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        run = RunDir.create(tmp_path / "results", "trial")
        run.unlock()
        write_segment(run.journal, [opening(format=7), result(0)])
        found = project.run_here("--resume")
    assert found.returncode == 2
    assert "has format 7, this program reads format 1" in found.stderr
    assert served.seen == []


#: Runs a command whose output directory is on a disk that cannot be written.
READ_ONLY = 'mount -t tmpfs -o ro tmpfs "$1" && shift && exec "$@"'


@pytest.mark.long
@needs_a_mount
def test_a_disk_that_cannot_be_written_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with Served() as served:
        project = Project(tmp_path / "project", served.url)
        found = subprocess.run(
            ["unshare", "-Urm", "bash", "-c", READ_ONLY, "-", disk, *project.arguments("--output", str(disk))],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert found.returncode == 2
    assert "Read-only file system; is `output` a directory you can write to?" in found.stderr
    assert served.seen == []


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_everything_that_is_made_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    with Served() as served:
        project = Project(tmp_path / "project", served.url)
        before = os.umask(umask)
        try:
            assert project.run_here().returncode == 0
        finally:
            os.umask(before)
    made = [project.directory / "results", *(project.directory / "results").rglob("*")]
    modes = {(path.is_dir(), oct(path.stat().st_mode & 0o777)) for path in made if not path.is_symlink()}
    assert modes == {(True, "0o700"), (False, "0o600")}
    assert len(made) > 8


# --- what an earlier start left ---


def test_a_torn_tail_is_cut_off_with_a_message_and_its_row_is_asked_again(tmp_path: Path) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert project.run_here("--limit", "4").returncode == 0
        (segment,) = (project.run_dir / "journal").glob("*.jsonl")
        whole = segment.read_bytes()
        project.delete_views()
        segment.write_bytes(whole + b'0123abcd {"kind":"end","item_in')
        found = project.run_here("--resume")
    assert found.returncode == 0, found.stderr
    assert f"{segment}: a torn last line of 31 bytes is cut off at offset {len(whole)}" in found.stderr
    assert segment.read_bytes() == whole
    assert asked(served.seen) == Counter({f"question {n}": 1 for n in range(10)})
    assert len(ends_in(segment.parent)) == 10


def test_a_damaged_line_is_named_wherever_the_journal_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Served() as served:
        project = Project(tmp_path, served.url)
        assert project.run_here("--limit", "4").returncode == 0
        (segment,) = (project.run_dir / "journal").glob("*.jsonl")
        line = next(line for line in read_segment(segment) if line.payload and b'"item_id":"row-2"' in line.payload)
        content = bytearray(segment.read_bytes())
        content[line.offset + line.length // 2] ^= 1
        segment.write_bytes(content)
        place = f"{segment}: offset {line.offset}"
        exported = here("export", str(project.run_dir), environment=os.environ)
        runner.load(project.run_dir)
        project.delete_views()
        found = project.run_here("--resume", "--limit", "4")
    assert f"1 damaged lines are left out: {place}" in exported.stdout
    assert place in caplog.text
    assert place in found.stderr
    assert asked(served.seen) == Counter({"question 0": 1, "question 1": 1, "question 2": 2, "question 3": 1})
