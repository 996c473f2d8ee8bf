"""What is not there by its name is told with what is, on the command line and in the config."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.meant import path_meant
from tests.commands import here
from tests.trials import config_of


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("data/q.json", "data/q.jsonl"),
        ("dta/q.jsonl", "data/q.jsonl"),
        ("Data\\Q.jsonl", "data/q.jsonl"),
        ("data\\q.jsonl", "data/q.jsonl"),
        ("./dat/q.json", "data/q.jsonl"),
        ("data/q.jsonl", None),
        ("data/other.csv", None),
        ("data/q.jsonl/x", None),
        ("nothing/like/it", None),
        ("a" * 5000, None),
        ("q\0", None),
    ],
)
def test_a_path_is_told_by_parts_that_look_like_it(tmp_path: Path, name: str, meant: str | None) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "q.jsonl").write_text("{}")
    assert path_meant(name, tmp_path) == (f"; did you mean {Path(meant)}?" if meant else "")
    if meant:
        assert path_meant(tmp_path / name) == f"; did you mean {tmp_path / meant}?"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", "there is no such file (the path is relative to {here}); did you mean {folder}/config.yaml?"),
        ("rows.jsonl", "row.jsonl", "row.jsonl: there is no such file (the path is relative to {here}); did you mean"),
    ],
)
def test_files_are_told_with_what_was_meant(tmp_path: Path, old: str, new: str, said: str) -> None:
    project = config_of(tmp_path / "p", "http://127.0.0.1:1", rows=[{"id": "1", "question": "a"}])
    text = project.config.read_text()
    data = next(path.name for path in project.config.parent.iterdir() if path.suffix == ".jsonl")
    if old:
        project.config.write_text(text.replace(data, f"x{data}"))
    word = str(project.config) if old else str(project.config).replace("config.yaml", "confg.yaml")
    found = here(word, "--dry-run", environment={})
    assert found.returncode == 2
    expected = said.replace("row.jsonl", f"x{data}").format(here=Path.cwd(), folder=project.config.parent)
    assert expected in found.stderr


def test_a_dataset_is_no_config(tmp_path: Path) -> None:
    found = here(str(tmp_path / "q.jsonl"), "--dry-run", environment={})
    assert (found.returncode, found.stdout) == (2, "")
    assert "q.jsonl: is a dataset, by its ending; name a config, which may hold `dataset: " in found.stderr
