"""A power loss at any moment of a run or its resume loses no result that was shown as done, and leaves nothing unreadable."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from runner.storage.files import replace
from tests.faulty_files import RecordingFiles, crash_states
from tests.reliability.power_loss import explore
from tests.scratch import in_memory
from tests.variations import CAMPAIGN

STATES = 1200 if CAMPAIGN else 400


@pytest.mark.long
@pytest.mark.timeout(120)
def test_no_state_that_a_power_loss_leaves_lacks_what_was_shown_as_done(tmp_path: Path) -> None:
    with in_memory(tmp_path) as scratch:
        found = explore(scratch / "explored", states=STATES)
    assert found.problems == []
    assert found.lost == 0
    assert found.states == STATES
    assert found.resumed > 0


def states_of(root: Path, *contents: bytes, synced: bool) -> set[bytes | None]:
    """Return what a file may hold, None for its absence, after it was written in several calls."""
    files = RecordingFiles(root)
    handle = files.open(root / "file", os.O_WRONLY | os.O_CREAT)
    for content in contents:
        files.write(handle, content)
    if synced:
        files.fdatasync(handle)
        files.sync_directory(root)
    files.close(handle)
    left = [state.tree.get("file") for state in crash_states(files.calls, random.Random(1), [len(files.calls)])]
    return {content if isinstance(content, bytes) else None for content in left}


def test_the_simulation_loses_tears_and_reorders_what_is_not_synced(tmp_path: Path) -> None:
    found = states_of(tmp_path, b"abc", b"de", synced=False)
    assert {None, b"", b"abcde", b"abc", b"ab", b"\0\0\0de", b"abc\0\0", b"a\0\0de"} <= found
    assert all(content is None or len(content) <= 5 for content in found)


def test_the_simulation_leaves_alone_what_is_synced(tmp_path: Path) -> None:
    assert states_of(tmp_path, b"abc", b"de", synced=True) == {b"abcde"}


def test_a_file_that_is_replaced_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    files = RecordingFiles(tmp_path)
    replace(files, tmp_path / "file", b"the new one")
    states = crash_states(files.calls, random.Random(1), range(4, len(files.calls) + 1))
    assert {state.tree.get("file") for state in states} == {b"old", b"the new one"}
