"""Runs that are kept in a bucket: nothing is lost with the machine but the last seconds, and any machine goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.errors import RunDirError, StorageError
from runner.storage import buckets, mirror
from runner.storage.mirror import Mirror
from runner.storage.rundir import RunDir
from tests.commands import Project, asked, questions
from tests.crowds import answer_all, has_come, soon
from tests.serving import Served
from tests.test_remote import AWS, S3, s3

__all__ = ["s3"]  # the fixture

pytest.importorskip("s3fs")
BUCKET = "bucket"


@pytest.fixture
def machine(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Return a machine with an endpoint, a bucket, and a cache of its own."""
    found = {**AWS, "AWS_ENDPOINT_URL": s3.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mirror, "_EVERY_S", 0.05)
    prefix = tmp_path.name
    with Served(answer_all) as server:
        yield Machine(s3, server, prefix, tmp_path)


class Machine:
    def __init__(self, s3: S3, server: Served, prefix: str, directory: Path) -> None:
        self.s3, self.server, self.prefix, self.directory = s3, server, prefix, directory
        self.output = f"s3://{BUCKET}/{prefix}"
        self.cache = directory / "cache"

    def project(self, rows: int, **more: Any) -> Project:
        output = {"output": self.output}
        return Project(
            self.directory / "p", self.server.url, rows=questions(rows), more=output | more, limits={"concurrency": 8}
        )

    def names(self) -> list[str]:
        found = self.s3.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return [one["Key"].removeprefix(f"{self.prefix}/") for one in found.get("Contents", [])]

    def is_lost(self) -> None:
        """Let everything of this machine be gone."""
        shutil.rmtree(self.cache)


@pytest.mark.long
def test_a_run_is_in_the_bucket_and_can_be_read_from_another_machine(machine: Machine) -> None:
    done = machine.project(40).run_here()
    assert done.returncode == 0, done.stderr
    names = {name.split("/", 2)[-1] for name in machine.names()}
    assert {"config.yaml", "evaluation.json", "results.parquet", "errors.parquet"} <= names
    assert "lock" not in names
    assert f"results are in {machine.output}/trial/" in done.stderr
    machine.is_lost()
    run = runner.load(f"{machine.output}/trial/latest")
    assert (len(run.results), run.status) == (40, "completed")
    assert runner.compare(f"{machine.output}/trial/latest", f"{machine.output}/trial/{run.id}").table is not None
    again = machine.project(40).run_here("--resume")
    assert again.returncode == 0
    assert len(machine.server.seen) == 40


@pytest.mark.long
def test_after_a_kill_and_without_its_disk_a_run_goes_on_elsewhere(machine: Machine) -> None:
    project = machine.project(600)
    project.environment = {"PYTHONPATH": str(_impatient(machine.directory))}
    with project.started() as run:
        soon(partial(has_come, machine.server, 300))
        soon(lambda: sum("/journal/" in name for name in machine.names()) >= 2)
        run.kill()
        run.wait()
    machine.is_lost()
    done = project.run_here("--resume")
    assert done.returncode == 0, done.stderr
    times = asked(machine.server.seen)
    assert len(runner.load(f"{machine.output}/trial/latest").results) == len(times) == 600
    assert sum(times.values()) < 1000, "what was in the bucket is not asked again"


def _impatient(directory: Path) -> Path:
    """Return a directory on whose account a program of its own mirrors ten times a second."""
    site = directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("from runner.storage import mirror\nmirror._EVERY_S = 0.1\n")
    return site


@pytest.mark.long
def test_what_could_not_go_up_before_a_kill_goes_up_with_the_resume(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_EVERY_S", 1e6)
    project = machine.project(60)
    assert project.run_here("--limit", "30").returncode == 0
    (local,) = (machine.cache / "runner").rglob("journal")
    segment = next(local.glob("*.jsonl"))
    before = segment.stat().st_size
    _forget_the_end(machine)
    assert project.run_here("--resume").returncode == 0
    assert len(machine.server.seen) == 60
    machine.is_lost()
    assert len(runner.load(f"{machine.output}/trial/latest").results) == 60
    assert segment.stat().st_size == before


def _forget_the_end(machine: Machine) -> None:
    """Replace the first piece of the journal by its first half."""
    (name,) = [name for name in machine.names() if "/journal/" in name]
    key = f"{machine.prefix}/{name}"
    lines = machine.s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read().splitlines(keepends=True)
    machine.s3.client.put_object(Bucket=BUCKET, Key=key, Body=b"".join(lines[: len(lines) // 2]))


@pytest.mark.long
def test_workers_write_one_run_into_the_bucket(machine: Machine) -> None:
    done = machine.project(80).run_here("--processes", "2")
    assert done.returncode == 0, done.stderr
    machine.is_lost()
    assert len(runner.load(f"{machine.output}/trial/latest").results) == 80


@pytest.mark.long
def test_a_run_that_another_machine_has_is_refused_by_name(machine: Machine) -> None:
    project = machine.project(10)
    assert project.run_here("--limit", "5").returncode == 0
    run = next(name.rpartition("/")[0] for name in machine.names() if name.endswith("/config.yaml"))
    lock = f"{machine.prefix}/{run}/lock"
    machine.s3.client.put_object(Bucket=BUCKET, Key=lock, Body=b"pid 7 on another-machine")
    machine.is_lost()
    done = project.run_here("--resume")
    assert done.returncode == 2
    assert f"{machine.output}/{run}: is in use by pid 7 on another-machine; wait for it, or make sure" in done.stderr
    machine.s3.client.delete_object(Bucket=BUCKET, Key=lock)
    assert project.run_here("--resume").returncode == 0


@pytest.mark.long
def test_a_bucket_that_there_is_not_is_said_before_anything_is_sent(machine: Machine) -> None:
    project = machine.project(5, output="s3://no-such-bucket/here")
    done = project.run_here()
    assert done.returncode == 3
    assert "s3://no-such-bucket/here/trial/" in done.stderr + done.stdout
    assert machine.server.seen == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("ftp://host/x", "results cannot be kept in ftp://; use s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
        ("s3://", "results cannot be kept in s3://"),
        ("s3://user:pass@bucket/x", "must not hold a user or password; credentials come from the environment"),
    ],
)
def test_places_that_are_none_are_mistakes(machine: Machine, output: str, said: str) -> None:
    done = machine.project(5, output=output).run_here()
    assert done.returncode == 2
    assert f"output: {said}" in done.stderr
    assert "pass@" not in done.stderr


@pytest.mark.long
def test_other_machines_cannot_share_a_bucket(machine: Machine) -> None:
    project = machine.project(5)
    done = project.command("-m", "runner", "plan", str(project.config))
    assert done.returncode == 2
    assert "output: shards write into a directory that all machines share" in done.stderr


class Broken:
    """A bucket that cannot be written any more after so many objects."""

    url = "s3://bucket"

    def __init__(self, writes: int) -> None:
        self.writes, self.objects = writes, dict[str, bytes]()

    def names(self, below: str) -> dict[str, int]:
        return {name: len(content) for name, content in self.objects.items() if name.startswith(below)}

    def read(self, name: str) -> bytes:
        return self.objects[name]

    def write(self, name: str, content: bytes | Path) -> None:
        if not self.writes:
            raise StorageError(f"{self.url}/{name}: out of order")
        self.writes -= 1
        self.objects[name] = content.read_bytes() if isinstance(content, Path) else content

    def delete(self, name: str) -> None:
        del self.objects[name]


def test_what_cannot_be_written_any_more_is_said_with_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_PAUSE_S", 0.0)
    run = RunDir(tmp_path / "trial" / "run")
    run.journal.mkdir(parents=True)
    (run.journal / "000001.jsonl").write_bytes(b"line\n")
    bucket = Broken(1)
    with (
        pytest.raises(StorageError, match=f"out of order; the whole run is in {run.path}, and --resume uploads it"),
        Mirror(bucket, tmp_path).following(run),
    ):
        pass
    bucket.writes = 100
    with Mirror(bucket, tmp_path).following(run):
        (run.journal / "000001.jsonl").write_bytes(b"line\nand another\nand half of o")
    assert bucket.objects == {"trial/run/journal/000001/00000000000000000000.jsonl": b"line\nand another\n"}


def test_pieces_are_put_together_as_far_as_they_follow_each_other(tmp_path: Path) -> None:
    bucket = Broken(0)
    pieces = {0: b"a\n", 2: b"bc\n", 9: b"lost between\n"}
    bucket.objects = {f"t/r/journal/000001/{start:020}.jsonl": piece for start, piece in pieces.items()}
    mirror.bring(bucket, "t/r", tmp_path / "r")
    assert (tmp_path / "r/journal/000001.jsonl").read_bytes() == b"a\nbc\n"
    longer = tmp_path / "r/journal/000001.jsonl"
    longer.write_bytes(b"a\nbc\nnot sent yet\n")
    mirror.bring(bucket, "t/r", tmp_path / "r")
    assert longer.read_bytes() == b"a\nbc\nnot sent yet\n"


@pytest.mark.long
def test_what_is_no_run_in_a_bucket_is_said(machine: Machine) -> None:
    with pytest.raises(RunDirError, match="is not a run"):
        runner.load(f"{machine.output}/nothing/latest")
    assert os.environ["XDG_CACHE_HOME"] == str(machine.cache)
    assert buckets.is_bucket(machine.output)
