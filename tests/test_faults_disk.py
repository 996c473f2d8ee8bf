"""The fault matrix, disk: each row is one test, named after it (see `matrix`).

They are short: every call of the storage is failed in turn in `test_storage_faults`, every state that a power loss leaves is
looked at in `test_power_loss`, and kills are in `test_kill`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.storage.journal import segments_of
from runner.storage.records import FORMAT
from tests.commands import Holding, questions
from tests.misbehaving import Misbehaving
from tests.records import opening, write_segment
from tests.reliability.storage_faults import fail_in_turn
from tests.serving import Served
from tests.trials import config_of, run, trial


def failed_in_some_calls(folder: Path, fault: str, *, lasting: bool) -> None:
    *_, found = fail_in_turn(folder, fault, lasting=lasting, first=17, step=82)
    assert (found.problems, found.lost) == ([], 0)
    assert found.runs > 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("lasting", [False, True])
def test_fault_76_disk_full(tmp_path: Path, lasting: bool) -> None:
    failed_in_some_calls(tmp_path, "ENOSPC", lasting=lasting)


@pytest.mark.timeout(120)
def test_fault_77_disk_broken(tmp_path: Path) -> None:
    failed_in_some_calls(tmp_path, "EIO", lasting=True)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["short write", "EINTR"])
def test_fault_78_short_write(tmp_path: Path, fault: str) -> None:
    failed_in_some_calls(tmp_path, fault, lasting=False)


@pytest.mark.parametrize("damage", ["torn", "hole", "flip"])
def test_fault_79_damaged_journal(tmp_path: Path, damage: str) -> None:
    with Misbehaving() as endpoint:
        project = config_of(tmp_path / "p", endpoint.at("fine"), rows=questions(12), limits={"concurrency": 1})
        assert run(project).code == 0
        project.delete_views()
        (segment,) = segments_of(project.run_dir / "journal")
        content = segment.read_bytes()
        middle = content.index(b'"kind":"end"', len(content) // 2)
        segment.write_bytes(
            {
                "torn": content[:middle],
                "hole": content[:middle] + b"\0" * 40 + content[middle + 40 :],
                "flip": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
            }[damage]
        )
        ran = run(project, "--resume")
    assert ran.code == 0, ran.all_said
    assert [row["item_id"] for row in ran.results] == [f"row-{n}" for n in range(12)]
    again = len(endpoint.seen) - 12
    assert again == 1 if damage != "torn" else 1 <= again <= 7


def test_fault_80_output_removed(tmp_path: Path) -> None:
    holding = Holding()
    with holding.served() as served:
        project = config_of(tmp_path / "p", served.url)

        def remove() -> None:
            holding.wait_for(1)
            shutil.rmtree(project.run_dir)

        ran = project.run_here_while(remove)
    assert ran.returncode == 3, ran.stderr
    assert "was removed" in ran.stderr


def test_fault_81_newer_journal(tmp_path: Path) -> None:
    with Served() as served:
        project = config_of(tmp_path / "p", served.url)
        assert run(project).code == 0
        project.delete_views()
        journal = project.run_dir / "journal"
        for segment in segments_of(journal):
            segment.unlink()
        write_segment(journal, [opening(format=FORMAT + 1)])
        asked = len(served.seen)
        ran = run(project, "--resume")
        assert (ran.code, len(served.seen)) == (2, asked)
    assert f"format {FORMAT + 1}" in ran.said


def test_fault_82_killed_while_finishing(tmp_path: Path) -> None:
    """What a kill in the middle of the last writing leaves: no Parquet file, or a piece of one under another name."""
    with Misbehaving() as endpoint:
        ran = trial(tmp_path / "p", endpoint.at("fine"))
        project = ran.project
        whole = project.results()
        project.delete_views()
        (project.run_dir / ".results.parquet.1.tmp").write_bytes(b"PAR1 half a file")
        resumed = run(project, "--resume")
        assert len(endpoint.seen) == 4
    assert resumed.code == 0, resumed.all_said
    assert project.results() == whole
