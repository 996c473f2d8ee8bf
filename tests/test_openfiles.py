"""The limit of open files is raised to what is needed; where it cannot be, there are fewer connections and no errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.storage.journal import read_segment, segments_of
from tests.commands import PATIENCE_S, ROOT, Project, questions
from tests.serving import Served

PROGRAM = "import logging, resource; logging.basicConfig(); from runner.endpoint.http.open_files import room_for; "
PROGRAM += "print(room_for(100), *resource.getrlimit(resource.RLIMIT_NOFILE))"


def limited(limits: str, *command: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-c", f'{limits}; exec "$@"', "-", *command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize(
    ("limits", "least", "most", "warned"),
    [
        ("ulimit -n 1000", 100, 100, False),
        ("ulimit -Sn 64", 100, 100, False),
        ("ulimit -Sn 32; ulimit -Hn 64", 20, 40, True),
        ("ulimit -n 20", 1, 1, True),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be(limits: str, least: int, most: int, warned: bool) -> None:
    found = limited(limits, sys.executable, "-c", PROGRAM)
    room, soft, hard = map(int, found.stdout.split())
    assert least <= room <= most
    assert soft <= hard
    assert (f"only {soft} files may be open: {room} connections instead of 100" in found.stderr) == warned


@pytest.mark.long
def test_a_run_with_too_few_files_has_no_errors(tmp_path: Path) -> None:
    with Served() as endpoint:
        project = Project(tmp_path / "p", endpoint.url, rows=questions(300), limits={"concurrency": 100, "max_attempts": 1})
        found = limited("ulimit -n 64", "env", "-u", "OPENAI_API_KEY", *project.arguments())
    assert found.returncode == 0, found.stderr
    assert (len(project.results()), project.errors()) == (300, [])
    assert found.stderr.count("files may be open") == 1
    (segment,) = segments_of(project.run_dir / "journal")
    opening = json.loads(next(read_segment(segment)).payload or b"")
    assert 20 <= opening["concurrency"] < 64


@pytest.mark.long
def test_replay_needs_no_connections(tmp_path: Path) -> None:
    with Served() as endpoint:
        recording = Project(
            tmp_path / "a", endpoint.url, more={"endpoint": {"base_url": endpoint.url, "record": str(tmp_path / "r")}}
        )
        recording.run_here()
    project = Project(tmp_path / "b", "", limits={"concurrency": 1000}, more={"endpoint": {"replay": str(tmp_path / "r")}})
    found = limited("ulimit -n 64", *project.arguments())
    assert found.returncode == 0, found.stderr
    assert "files may be open" not in found.stderr
