"""The fault matrix, resume: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.storage.files import FILES
from runner.storage.journal import segments_of
from runner.storage.lines import first_open
from tests.commands import CORRECT, PATIENCE_S, ROOT, Holding, Project, ask, asked, questions
from tests.records import opening, result, write_segment
from tests.serving import Credit, Served
from tests.trials import config_of, run

SAME = CORRECT | {"alias": "same"}


@contextmanager
def stopped(folder: Path, answers: int, **more: Any) -> Iterator[tuple[Project, Served]]:
    """Give a run of ten rows that stopped after so many answers, and its endpoint, which has credit again."""
    credit = Credit(answers)
    with Served(credit.answer) as served:
        project = config_of(folder, served.url, rows=questions(10), limits={"concurrency": 1}, **more)
        assert run(project).code == 3
        credit.left = 1000
        del served.seen[:]
        yield project, served


def contents(run_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(("allowed", "code"), [(2, 0), (1, 1)])
def test_fault_120_finished_run_resumed(tmp_path: Path, allowed: int, code: int) -> None:
    """Of the fourth row neither the answer nor the metric could be had."""
    with Served(Credit(wrong="question 3").answer) as served:
        limits = {"fail_on_error": allowed}
        project = config_of(tmp_path / "p", served.url, rows=questions(6), tasks=[ask(), SAME], limits=limits)
        first = run(project)
        assert first.code == code
        before = contents(project.run_dir)
        for options in ([], [project.run_dir.name], ["latest"]):
            again = run(project, "--resume", *options)
            assert (again.code, again.out) == (code, first.out)
            assert f"{project.run_dir}, " in again.said
            assert "is finished: nothing is sent; --or-new starts a new run" in again.said
        assert contents(project.run_dir) == before
        assert len(served.seen) == 6
        assert run(project, "--resume", "--or-new").code == code
    assert (len(project.runs), len(served.seen)) == (2, 12)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def overwrite(path: Path) -> None:
    """Change what is in the pages, not the footer by which a file is opened."""
    content = path.read_bytes()
    path.write_bytes(content[:8] + bytes(byte ^ 1 for byte in content[8:200]) + content[200:])


def put_a_directory(path: Path) -> None:
    path.unlink()
    (path / "mine").mkdir(parents=True)


def put_another(path: Path) -> None:
    shutil.copy(path.with_name("errors.parquet"), path)


@pytest.mark.parametrize("damage", [Path.unlink, cut, overwrite, put_a_directory, put_another])
def test_fault_121_damaged_parquet(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with Served(Credit().answer) as served:
        project = config_of(tmp_path / "p", served.url, rows=questions(3))
        assert run(project).code == 0
        before = project.results()
        damage(project.run_dir / "results.parquet")
        again = run(project, "--resume")
    assert again.code == 0, again.all_said
    assert project.results() == before
    assert len(served.seen) == 3


def test_fault_122_stale_runs(tmp_path: Path) -> None:
    """A run of another model that stopped, one that finished, and one that was never answered: in this order."""
    with stopped(tmp_path / "p", 3, tasks=[ask(configuration={"model": "old"})]) as (project, served):
        project.tasks = [ask()]
        project.write()
        assert run(project).code == 0
        project.tasks = [ask(configuration={"model": "wrong"})]
        project.write()
        credit = Credit(0)
        with Served(credit.answer) as broke:
            assert run(project, "--set", f"endpoint.base_url={broke.url}").code == 3
        project.tasks = [ask()]
        project.write()
        stale, finished, empty = project.runs
        del served.seen[:]
        again = run(project, "--resume")
        assert (again.code, served.seen) == (0, [])
        assert f"{finished}, to which `latest` points, is finished" in again.said
        assert f"passed over, because nothing was answered there: {empty}; " in again.said
        assert f"passed over, because it did not finish, and is older: {stale}; " in again.said
        named = run(project, "--resume", str(stale), "--set", "tasks.0.configuration.model=old")
        assert named.code == 0, named.all_said
    assert len(served.seen) == 7


def test_fault_123_endpoint_moved(tmp_path: Path) -> None:
    with stopped(tmp_path / "p", 3) as (project, served), Served(Credit(3).answer) as there:
        moved = ["--resume", "--set", f"endpoint.base_url={there.url}"]
        refused = run(project, *moved)
        assert refused.code == 2
        assert f"endpoint.base_url: was '{served.url}', is '{there.url}'" in refused.said
        assert "go on with --new-base-url" in refused.said
        assert run(project, *moved, "--new-base-url").code == 3
        # From now on the run is of the new place.
        refused = run(project, "--resume")
        assert refused.code == 2
        assert f"endpoint.base_url: was '{there.url}', is '{served.url}'" in refused.said
        assert run(project, "--resume", "--new-base-url").code == 0
    assert (len(there.seen), len(served.seen)) == (3 + 1, 4)
    assert Counter(row["endpoint"] for row in project.results()) == {served.url: 3 + 4, there.url: 3}


def test_fault_124_task_mended(tmp_path: Path) -> None:
    """The judge's model is wrong; then it is another one, is asked thrice as often, and has another name."""
    judge = ask("judge", "judge {{item.answer}}", configuration={"model": "wrong"})
    with Served(Credit(wrong="wrong").answer) as served:
        project = config_of(tmp_path / "p", served.url, rows=questions(4), tasks=[ask(), judge])
        assert run(project).code == 1
        assert len(project.errors()) == 4
        project.tasks = [ask(), ask("verdict", "judge {{item.question}}", samples=3)]
        project.write()
        del served.seen[:]
        mended = run(project, "--resume")
        assert mended.code == 0, mended.all_said
        assert "tasks.1.configuration.model: was 'wrong', is 'm'" in mended.said
        assert asked(served.seen) == Counter({f"judge question {n}": 3 for n in range(4)})
        assert "every unit exactly once: 16 + 0 = 16" in mended.out
        assert len(runner.load(project.run_dir).results) == 16
        assert json.loads((project.run_dir / "config.yaml").read_bytes())["tasks"] == project.tasks
        project.tasks = [ask(configuration={"model": "other"}), project.tasks[1]]
        project.write()
        assert run(project, "--resume").code == 2


@pytest.mark.parametrize("alike", [True, False], ids=["another run", "another evaluation under this run's name"])
def test_fault_125_foreign_segment(tmp_path: Path, alike: bool) -> None:
    with stopped(tmp_path / "p", 3) as (project, served):
        own = first_open(segments_of(project.run_dir / "journal")[0], FILES)
        assert own is not None
        identity = own.identity if alike else own.identity | {"tasks.0.configuration.model": "another"}
        foreign = opening(run_id="20261121T021500Z-4f2a" if alike else own.run_id, identity=identity)
        segment = write_segment(project.run_dir / "journal", [foreign, *map(result, range(10))])
        for ran in (run(project, "--resume"), run(project, "--resume", "--or-new")):
            assert (ran.code, served.seen) == (2, [])
            assert f"{segment}: belongs to " in ran.said
            assert "move it out of the journal" in ran.said
        segment.rename(tmp_path / "elsewhere")
        assert run(project, "--resume").code == 0
    assert len(served.seen) == 7


def with_line_ends_of_an_editor(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


def noise(content: bytes) -> bytes:
    return bytes(byte ^ 85 for byte in content) + b"\nand a torn tail"


def without_its_first_lines(content: bytes) -> bytes:
    """Damage both copies of the line that says what the run is, and leave a torn tail, which is not to be cut."""
    return content.replace(b'"kind":"open"', b'"kind":"0pen"') + b"torn"


@pytest.mark.parametrize("damage", [with_line_ends_of_an_editor, noise, without_its_first_lines])
def test_fault_126_unreadable_segment(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with stopped(tmp_path / "p", 3) as (project, served):
        (segment,) = segments_of(project.run_dir / "journal")
        whole = segment.read_bytes()
        segment.write_bytes(damage(whole))
        before = contents(project.run_dir)
        ran = run(project, "--resume")
        assert (ran.code, served.seen) == (2, [])
        assert f"{segment}: is damaged: " in ran.said
        assert f"{len(damage(whole))} bytes" in ran.said
        assert "put it back from a copy, or move it out of the journal" in ran.said
        assert contents(project.run_dir) == before
        segment.write_bytes(whole)
        assert run(project, "--resume").code == 0
    assert len(served.seen) == 7


@pytest.mark.parametrize("position", [10**15, -1, -(10**15), 2**70])
def test_fault_127_absurd_position(tmp_path: Path, position: int) -> None:
    with stopped(tmp_path / "p", 3) as (project, served):
        (segment,) = segments_of(project.run_dir / "journal")
        line = segment.read_bytes().splitlines()[-2]
        json_text = json.dumps({"kind": "end", "item_index": position, "task": "answer", "item_id": "x", "task_type": "y"})
        forged = json_text.encode().replace(b": ", b":").replace(b", ", b",")
        segment.write_bytes(segment.read_bytes() + b"%08x %b\n" % (zlib.crc32(forged), forged))
        assert line
        ran = run(project, "--resume")
    assert ran.code == 0, ran.all_said
    assert "a damaged line of the journal is left out" in ran.said
    assert [row["item_id"] for row in ran.results] == [f"row-{n}" for n in range(10)]
    assert len(served.seen) == 7


@pytest.mark.long
def test_fault_128_file_may_not_grow(tmp_path: Path) -> None:
    """What is on its way when a file has become as large as it may is written to another one."""
    with Served(Credit().answer) as served:
        project = config_of(tmp_path / "p", served.url, rows=questions(200))
        found = subprocess.run(
            ["bash", "-c", 'ulimit -f 60; exec "$@"', "-", *project.arguments()],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert found.returncode == 3, found.stderr
        kept = runner.load(project.run_dir).results["output"].tolist()
        assert 20 < len(kept) < 200
        assert Counter(kept) == asked(served.seen)
        assert "000001.jsonl: cannot be written: File too large" in found.stderr
        assert f"stopped early: {len(kept)} results, 0 errors" in found.stdout
        assert f"resume     python -m runner {project.config} --resume\n" in found.stdout
        assert "File too large" in project.evaluation["status_reason"]
        assert run(project, "--resume").code == 0
    assert asked(served.seen) == Counter({f"question {n}": 1 for n in range(200)})


@pytest.mark.long
@pytest.mark.parametrize("signals", [1, 2])
def test_fault_129_answered_while_draining(tmp_path: Path, signals: int) -> None:
    """After one signal what is on its way is answered, and judged; after two of them what was answered by then has been."""
    holding = Holding(at_once=5)
    with holding.served() as served:
        task = SAME | {"configuration": {"type": "contains", "candidate": "item.answer", "reference": "item.question"}}
        project = config_of(tmp_path / "p", served.url, rows=questions(50), tasks=[ask(), task])
        with project.started("--no-progress") as process:
            holding.wait_for(4)
            assert process.stderr is not None
            for _ in range(signals):
                process.send_signal(signal.SIGTERM)
                while "SIGTERM" not in process.stderr.readline():
                    pass
            holding.release()
            out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143, said
    assert "--resume" in out
    answered = 9 if signals == 1 else 5
    tasks = Counter(row["task"] for row in project.results())
    assert tasks == {"answer": answered, "same": answered}
