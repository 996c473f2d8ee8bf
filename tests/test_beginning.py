"""How a run begins or goes on: what is made and when, what is left as it is, what is asked again, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import runner
from runner.errors import RunDirError
from runner.evaluation import prepare
from runner.storage import journal
from runner.storage.files import FileSystem
from runner.storage.rundir import RunDir, latest_of
from tests.commands import PATIENCE_S, ROOT, Holding, Project, ask, asked, metric, questions
from tests.faulty_files import needs_a_mount
from tests.serving import Credit, Served
from tests.trials import config_of, run


@contextmanager
def endpoint(left: int = 1000) -> Iterator[tuple[Credit, Served]]:
    credit = Credit(left, wrong="wrong")
    with Served(credit.answer) as served:
        yield credit, served


def project_at(folder: Path, served: Served, **more: Any) -> Project:
    return config_of(folder, served.url, rows=questions(10), limits={"concurrency": 1}, **more)


def latest(project: Project) -> Path | None:
    return latest_of(project.directory / "results" / "trial")


# --- of a finished run ---


def test_the_limit_of_a_finished_run_may_grow(tmp_path: Path) -> None:
    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served)
        for limit, new in (("4", 4), ("7", 3), ("7", 0)):
            del served.seen[:]
            ran = run(project, "--limit", limit, "--resume")
            assert (ran.code, len(served.seen)) == (0, new), ran.all_said
            assert ("is finished: nothing is sent" in ran.said) == (new == 0)
        assert run(project, "--limit", "6", "--resume").code == 2
        del served.seen[:]
        assert run(project, "--resume", "--or-new").code == 0  # more rows are wanted: it is not finished
    assert asked(served.seen) == Counter({f"question {n}": 1 for n in range(7, 10)})
    assert len(project.results()) == 10


def test_a_finished_run_of_another_evaluation_is_refused_and_a_new_one_begins_on_demand(tmp_path: Path) -> None:
    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served)
        assert run(project).code == 0
        other = ["--resume", "--set", "tasks.0.configuration.model=other"]
        refused = run(project, *other)
        assert (refused.code, len(served.seen)) == (2, 10)
        assert "is finished, and this is another evaluation:\n  tasks.0.configuration.model: was 'm'" in refused.said
        assert "or with --resume --or-new" in refused.said
        assert run(project, *other, "--or-new").code == 0
    assert (len(project.runs), len(served.seen)) == (2, 20)


def say_running(run_dir: Path) -> None:
    """Leave what a kill leaves between the last line of the journal and evaluation.json."""
    path = run_dir / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"status": "running", "totals": {}}))


def damage_it(run_dir: Path) -> None:
    (run_dir / "evaluation.json").write_bytes(b'{"status": "compl')


def empty_it(run_dir: Path) -> None:
    (run_dir / "evaluation.json").write_bytes(b"[1]")


def remove_it(run_dir: Path) -> None:
    (run_dir / "evaluation.json").unlink()


@pytest.mark.parametrize("change", [say_running, damage_it, empty_it, remove_it])
@pytest.mark.parametrize("or_new", [False, True])
def test_whether_a_run_is_finished_is_told_by_its_journal(
    tmp_path: Path, change: Callable[[Path], None], *, or_new: bool
) -> None:
    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served)
        assert run(project).code == 0
        before = project.evaluation
        change(project.run_dir)
        ran = run(project, "--resume", *(["--or-new"] if or_new else []))
        assert ran.code == 0, ran.all_said
        if or_new:
            assert (len(project.runs), len(served.seen)) == (2, 20)
            return
    assert len(served.seen) == 10
    same = ("id", "status", "progress", "error_count", "tasks")
    assert [project.evaluation[name] for name in same] == [before[name] for name in same]


def test_a_finished_run_that_is_asked_for_its_errors_is_not_finished(tmp_path: Path) -> None:
    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served, tasks=[ask(configuration={"model": "{{item.model}}"})])
        project.rows = [row | {"model": "wrong" if row["n"] == 3 else "m"} for row in questions(10)]
        project.write()
        assert run(project).code == 1
        for options in (["--retry-errors"], ["--retry-errors", "--or-new"]):
            ran = run(project, "--resume", *options)
            assert ran.code == 1, ran.all_said
    assert (len(project.runs), len(served.seen)) == (1, 12)


READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


@pytest.mark.long
@needs_a_mount
def test_a_finished_run_may_lie_where_nothing_can_be_written(tmp_path: Path) -> None:
    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served)
        first = run(project)
        again = subprocess.run(
            ["unshare", "-Urm", "bash", "-c", READ_ONLY, "-", project.directory, *project.arguments("--resume")],
            cwd=ROOT, env=project._environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert (again.returncode, again.stdout) == (0, first.out), again.stderr
        grown = run(project, "--resume")
    assert grown.code == 0
    assert len(served.seen) == 10


# --- of a run without answers ---


def another_model(project: Project) -> None:
    project.tasks = [ask(configuration={"model": "m", "temperature": 0.5}), ask("more")]


def other_rows(project: Project) -> None:
    project.rows = questions(4)


@pytest.mark.parametrize("change", [another_model, other_rows])
@pytest.mark.parametrize("first", ["template", "none"])
def test_of_a_run_without_answers_anything_may_change(tmp_path: Path, change: Callable[[Project], None], first: str) -> None:
    """Also where a row has failed by then; what it was is no part of the new run."""
    with endpoint(0) as (credit, served):
        project = project_at(tmp_path / "p", served)
        if first == "template":
            project.rows = [{"id": "bad"}, *questions(9)]
            project.write()
        stopped = run(project)
        assert stopped.code == 3
        project.rows = questions(10)
        change(project)
        project.more = dict(project.more) | {"endpoint": {"base_url": served.url.replace("127.0.0.1", "localhost")}}
        project.write()
        credit.left = 1000
        command = next(line for line in stopped.out.splitlines() if line.startswith("  resume ")).split("runner ")[1]
        ran = run(project, *command.split()[1:])
        assert ran.code == 0, ran.all_said
        assert "was another evaluation: a new run begins" in ran.said
        assert "is finished" in run(project, "--resume").said
    assert {row["item_id"] for row in runner.load(latest(project) or Path()).results.to_dict("records")} == {
        str(row["id"]) for row in project.rows
    }


@pytest.mark.long
def test_latest_leads_to_what_was_answered(tmp_path: Path) -> None:
    holding = Holding()
    with holding.served() as served:
        project = project_at(tmp_path / "p", served)
        with project.started() as process:
            holding.wait_for(1)
            assert latest(project) is None
            assert len(runner.load(project.run_dir).results) == 0
            with pytest.raises(RunDirError, match=f"nothing was answered yet; name one of these: {project.run_dir.name}"):
                runner.load(project.run_dir.with_name("latest"))
            holding.release()
            assert process.wait(PATIENCE_S) == 0
    assert latest(project) == project.run_dir
    with endpoint(0) as (_, broke):
        stopped = run(project, "--set", f"endpoint.base_url={broke.url}")
        assert stopped.code == 3
        assert latest(project) == project.runs[0]
        assert f"--resume {project.runs[1]} " in stopped.out


def test_a_run_that_finished_with_nothing_but_errors_is_the_latest_too(tmp_path: Path) -> None:
    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served, tasks=[ask(content="{{item.question.text}}")])
        assert run(project).code == 1
        assert latest(project) == project.run_dir
        again = run(project, "--resume")
    assert (again.code, served.seen) == (1, [])
    assert "is finished: nothing is sent" in again.said


def test_where_the_link_cannot_be_made_the_run_goes_on(tmp_path: Path) -> None:
    class NoLinks(FileSystem):
        def symlink(self, target: str, path: Path) -> None:
            raise PermissionError(1, f"no links here: {target} {path.name}")

    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served)
        evaluation = prepare(project.config, environment={})
        evaluation.files = NoLinks()
        assert evaluation.run().results == 10
        assert "is finished" in run(project, "--resume").said
    assert latest(project) is None


# --- of a task without answers ---


def test_with_a_task_that_was_mended_those_that_read_it_are_asked_again_and_no_others(tmp_path: Path) -> None:
    def judge(model: str) -> list[dict[str, Any]]:
        right = metric("right", type="contains", candidate="item.judge")
        another = ask("another", content="{{item.question.text}}")
        return [ask(), ask("judge", "judge {{item.answer}}", configuration={"model": model}), right, another]

    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served, tasks=judge("wrong"))
        assert run(project).code in {1, 3}
        before = Counter(row["task"] for row in project.errors())
        assert before["judge"] == before["right"] > 0
        project.tasks = judge("m")
        project.write()
        del served.seen[:]
        ran = run(project, "--resume")
    assert ran.code == 1, ran.all_said
    assert "was 'wrong', is 'm'; nothing of this task was answered" in ran.said
    assert Counter(row["task"] for row in project.errors()) == {"another": 10}
    assert Counter(row["task"] for row in project.results()) == {"answer": 10, "judge": 10, "right": 10}
    assert len(served.seen) == 10 + 10 - before["judge"]


# --- before anything is made ---


@pytest.mark.parametrize("options", [["--resume"], ["--limit", "0"], []])
def test_what_is_refused_makes_nothing(tmp_path: Path, options: list[str]) -> None:
    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served)
        if options != ["--limit", "0"]:
            (project.directory / "results" / "trial" / "latest").mkdir(parents=True)
        before = sorted(project.directory.rglob("*"))
        ran = run(project, *options)
    assert (ran.code, served.seen) == (2, [])
    assert sorted(project.directory.rglob("*")) == before


def test_what_the_run_is_is_safe_before_anything_is_asked(tmp_path: Path) -> None:
    """Else a power loss could leave answers of a run of which nobody knows what it is."""

    class Watching(FileSystem):
        synced = False
        begun = 0

        def fdatasync(self, handle: int) -> None:
            super().fdatasync(handle)
            self.synced = True

        def write(self, handle: int, content: bytes) -> int:
            if b'"kind":"open"' in content:
                self.synced = False
            if b'"kind":"start"' in content:
                assert self.synced
                self.begun += 1
            return super().write(handle, content)

    with endpoint() as (_, served), patch.object(journal, "_SYNC_EVERY_S", 3600.0):
        evaluation = prepare(project_at(tmp_path / "p", served).config, environment={})
        evaluation.files = files = Watching()
        with patch.object(RunDir, "write_evaluation"):  # which syncs a file of its own
            assert evaluation.run().results == 10
    assert files.begun == 10


# --- a run directory that was moved or copied ---


def test_a_renamed_copy_goes_on_by_its_name_and_the_original_stays(tmp_path: Path) -> None:
    with endpoint(3) as (credit, served):
        project = project_at(tmp_path / "p", served)
        assert run(project).code == 3
        copy = tmp_path / "p" / "results" / "trial" / "v1.2 final"
        shutil.copytree(project.run_dir, copy)
        original = project.runs[0]
        credit.left = 1000
        assert run(project, "--resume", "v1.2 final").code == 0
        assert latest(project) == copy
        assert len(runner.load(original).results) == 3
        assert "is finished" in run(project, "--resume").said
    assert len(served.seen) == 4 + 7


# --- every kind of stop says what there is and how it goes on ---


class FailingOnce(FileSystem):
    """Fails the first call of one name that follows the first few requests."""

    def __init__(self, name: str, error: Exception, served: Served) -> None:
        self.left = 1
        real = getattr(self, name)

        def call(*arguments: Any) -> Any:
            if self.left and len(served.seen) > 3:
                self.left = 0
                raise error
            return real(*arguments)

        setattr(self, name, call)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("fdatasync", OSError(5, "Input/output error"), "a resume keeps those that it can read"),
        ("write", OSError(5, "Input/output error"), "cannot be written: Input/output error"),
        ("write", RuntimeError("a fault of this program"), "a fault of this program"),
    ],
)
def test_a_stop_by_trouble_says_what_is_kept_and_how_to_go_on(tmp_path: Path, name: str, error: Exception, says: str) -> None:
    def prepared(*words: Any, **more: Any) -> Any:
        evaluation = prepare(*words, **more)
        evaluation.files = FailingOnce(name, error, served)
        return evaluation

    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served)
        with patch("runner.evaluation.prepare", prepared):
            ran = run(project)
        assert ran.code == 3, ran.all_said
        kept = len(runner.load(project.run_dir).results)
        assert f"stopped early: {kept} results, 0 errors" in ran.out
        assert says in ran.out
        assert f"  resume     python -m runner {project.config} --resume\n" in ran.out
        again = run(project, "--resume")
        assert again.code == 0, again.all_said
    assert ("could not be synced to disk; those that can be read are trusted" in again.said) == (name == "fdatasync")
    assert len(project.results()) == 10


def test_a_fault_before_the_first_line_names_a_command_that_works(tmp_path: Path) -> None:
    with endpoint() as (_, served):
        project = project_at(tmp_path / "p", served)
        with patch.object(FileSystem, "fdatasync", side_effect=OSError(28, os.strerror(28))):
            ran = run(project)
        assert ran.code == 3
        assert "stopped early: 0 results, 0 errors" in ran.out
        (line,) = (line for line in ran.out.splitlines() if line.startswith("  resume "))
        assert run(project, *line.split("runner ")[1].split()[1:]).code == 0
    assert len(served.seen) == 10
    assert latest(project) == project.runs[-1]
