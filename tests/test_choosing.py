"""Which run a resume takes: what is named, what goes on, where `latest` leads, or what is newest by its journal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.errors import RunDirError
from runner.pipeline.choosing import choose_run
from runner.storage.records import Close
from runner.storage.rundir import RunDir, check_latest
from tests.records import failure, opening, result, write_segment

DAY = 86_400_000_000
ANSWERED, FAILED, EMPTY = [result(0)], [failure(0)], list[Any]()


@dataclass
class Runs:
    """A directory of runs."""

    directory: Path

    def add(self, name: str, *starts: tuple[int, list[Any]], status: str | None = None) -> Path:
        """Add a run that was started on these days, with what each start has written."""
        path = self.directory / name
        (path / "journal").mkdir(parents=True)
        for day, records in starts:
            write_segment(path / "journal", [opening(run_id=name, at=day * DAY), *records])
        if status is not None:
            RunDir(path).write_evaluation({"status": status})
        return path

    def link(self, target: str) -> None:
        (self.directory / "latest").unlink(missing_ok=True)
        (self.directory / "latest").symlink_to(target)


@pytest.fixture
def runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Runs:
    caplog.set_level(logging.INFO)
    (tmp_path / "trial").mkdir()
    return Runs(tmp_path / "trial")


def named(runs: Runs, run: str | None = None) -> str | None:
    chosen = choose_run(runs.directory, run)
    return None if chosen is None else chosen.run.path.name


def test_without_a_run_there_is_none(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    assert named(runs) is None
    runs.add("nothing was written")
    (runs.directory / "notes").mkdir()
    assert named(runs) is None
    assert "there is no run to resume; a new one begins" in caplog.text


def test_a_date_in_a_name_says_nothing(runs: Runs) -> None:
    """A clock was wrong once, and the run that it dated into the future is the older one."""
    runs.add("20991121T021500Z-4f2a", (1, ANSWERED))
    runs.add("20261121T021500Z-4f2a", (2, ANSWERED))
    assert named(runs) == "20261121T021500Z-4f2a"


def test_where_latest_leads_counts_more_than_any_clock(runs: Runs) -> None:
    runs.add("20991121T021500Z-4f2a", (9, ANSWERED))
    runs.add("20261121T021500Z-4f2a", (2, ANSWERED))
    runs.link("20261121T021500Z-4f2a")
    assert named(runs) == named(runs, "latest") == "20261121T021500Z-4f2a"


@pytest.mark.parametrize("leads_to", ["gone", "../elsewhere/b", "../..", "latest", "empty", "/"])
def test_a_link_that_leads_to_no_run_with_answers_is_nothing(runs: Runs, leads_to: str) -> None:
    Runs(runs.directory.parent / "elsewhere").add("b", (5, ANSWERED))
    runs.add("a", (2, ANSWERED))
    runs.add("c", (1, ANSWERED))
    runs.add("empty", (3, EMPTY))
    runs.link(leads_to)
    assert named(runs) == named(runs, "latest") == "a"


def test_the_latest_start_of_a_run_counts(runs: Runs) -> None:
    runs.add("a", (1, ANSWERED), (5, EMPTY))
    runs.add("b", (3, ANSWERED))
    assert named(runs) == "a"


def test_two_runs_of_one_moment_are_told_apart_by_their_names(runs: Runs) -> None:
    runs.add("20261121T021500Z-4f2b", (1, ANSWERED))
    runs.add("20261121T021500Z-4f2a", (1, ANSWERED))
    assert named(runs) == "20261121T021500Z-4f2b"


@pytest.mark.parametrize("nothing", [EMPTY, FAILED])
def test_what_was_never_answered_is_passed_over_and_taken_where_there_is_nothing_else(
    runs: Runs, nothing: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    runs.add("c", (3, nothing))
    runs.add("b", (2, nothing))
    assert named(runs) == "c"
    path = runs.add("a", (1, ANSWERED))
    caplog.clear()
    assert named(runs) == "a"
    others = f"{path.with_name('c')}, {path.with_name('b')}"
    assert f"passed over, because nothing was answered there: {others}; `--resume RUN` takes it" in caplog.text


def test_a_run_that_finished_with_nothing_but_errors_counts(runs: Runs) -> None:
    runs.add("a", (1, ANSWERED))
    runs.add("b", (2, [failure(0), Close(at=1, reason=None)]))
    runs.add("c", (3, [failure(0), Close(at=1, reason="stopped")]))
    assert named(runs) == "b"


def test_what_is_older_and_did_not_finish_is_named_and_what_finished_is_not(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(7):
        runs.add(f"old {number}", (number, ANSWERED), status="running" if number else "completed")
    runs.add("new", (9, ANSWERED))
    assert named(runs) == "new"
    (line,) = caplog.messages
    assert "older: " in line
    assert line.count("/old ") == 5
    assert line.endswith("/old 2 and 1 more; `--resume RUN` takes it")


def test_each_run_that_is_passed_over_is_named_once(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    for day, name in enumerate(["old", "old and empty", "chosen", "new", "new and empty"]):
        runs.add(name, (day, EMPTY if name.endswith("empty") else ANSWERED))
    runs.link("chosen")
    assert named(runs) == "chosen"
    assert [line.replace(f"{runs.directory}/", "") for line in caplog.messages] == [
        "passed over, because nothing was answered there: new and empty, old and empty; `--resume RUN` takes it",
        "passed over, because `latest` does not point there: new; `--resume RUN` takes it",
        "passed over, because it did not finish, and is older: old; `--resume RUN` takes it",
    ]


def test_five_runs_that_are_passed_over_are_all_named_and_the_chosen_is_not(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        runs.add(f"{number}", (number, EMPTY))
    assert named(runs) == "5"
    (line,) = caplog.messages
    assert line.replace(f"{runs.directory}/", "").endswith("there: 4, 3, 2, 1, 0; `--resume RUN` takes it")


@pytest.mark.parametrize("begun", [(), ((1, ANSWERED),)], ids=["nothing answered", "answered"])
def test_a_run_that_goes_on_is_not_passed_over(runs: Runs, begun: tuple[Any, ...]) -> None:
    runs.add("answered", (2, ANSWERED))
    live = RunDir(runs.add("live", *begun))
    live.lock()
    try:
        assert named(runs) == named(runs, "live") == "live"
    finally:
        live.unlock()
    assert named(runs) == "answered"


def cut_the_name(segment: Path) -> None:
    segment.write_bytes(b"noise\n" * 3)


def write_another_format(segment: Path) -> None:
    segment.unlink()
    write_segment(segment.parent, [opening(format=9)])


@pytest.mark.parametrize("damage", [cut_the_name, write_another_format])
def test_a_journal_that_cannot_be_read_may_hold_answers(runs: Runs, damage: Callable[[Path], None]) -> None:
    path = runs.add("a", (1, ANSWERED))
    damage(path / "journal" / "000001.jsonl")
    runs.add("empty", (2, EMPTY))
    runs.add("old", (1, ANSWERED))
    assert named(runs) == "a"


def test_a_run_is_named_by_its_directory_or_its_id(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    path = runs.add("a.b", (1, EMPTY))
    runs.add("c", (2, ANSWERED))
    assert named(runs, "a.b") == named(runs, str(path)) == named(runs, f"{path}/") == "a.b"
    runs.link("a.b")
    assert named(runs, str(runs.directory / "latest")) == "a.b"
    monkeypatch.chdir(path)
    assert named(runs, ".") == named(runs, "journal/..") == "a.b"
    monkeypatch.chdir(runs.directory)
    chosen = choose_run(runs.directory, "a.b")
    assert chosen is not None
    assert str(chosen.run.path) == "a.b", "it is shown as it was named"


def test_a_name_that_is_no_run_is_wrong_usage(
    runs: Runs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.add("a", (1, EMPTY))
    with pytest.raises(RunDirError, match=rf"b: there is no such run; the latest in {runs.directory}: a"):
        named(runs, "b")
    (runs.directory / "b").mkdir()
    with pytest.raises(RunDirError, match="b: is not a run directory"):
        named(runs, "b")
    runs.add("killed at once")
    assert named(runs, "killed at once") is None
    assert "killed at once: nothing was begun there; a new run begins" in caplog.text
    monkeypatch.chdir(runs.directory.parent)
    with pytest.raises(RunDirError, match="trial: is not a run directory"):
        named(runs, "trial")


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_what_is_called_latest_and_is_no_link_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    check_latest(tmp_path)
    make(tmp_path / "latest")
    with pytest.raises(RunDirError, match=r"latest: is a .*must be a link"):
        check_latest(tmp_path)
