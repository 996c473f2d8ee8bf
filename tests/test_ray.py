"""Runs on a Ray cluster: the same files as of one process, and what becomes of deaths. Skips without Ray."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.clusters import Cluster, cluster
from tests.commands import Project, ask, asked, questions
from tests.crowds import OF_TIMES, Held, answer, answer_all, columns_of, has_come, lives, soon, told_to_end
from tests.serving import Served
from tests.test_workers import MESSY

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("ray"),
    # Ray leaves the files of its logs to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


def on(nodes: Cluster, *options: str) -> list[str]:
    return ["--engine", "ray", "--address", nodes.address, *options]


def test_the_files_are_equal_to_those_of_one_process_and_no_worker_waits_for_room(nodes: Cluster, tmp_path: Path) -> None:
    with Served(answer) as server:
        limits = {"concurrency": 9, "max_error_rate": 1.0, "fail_on_error": 1.0}
        project = Project(tmp_path, server.url, limits=limits, tasks=[ask(samples=2)])
        project.dataset.write_text("\n".join(MESSY))
        assert project.run_here().returncode == 0
        done = project.run(*on(nodes, "--workers", "3"))  # there is room for two
        assert done.returncode == 0, done.stderr
        assert "  workers    3\n" in done.stdout
    first, other = project.runs
    for name in ("results", "errors"):
        assert columns_of(project, name, other) == columns_of(project, name, first)
    before, now = (json.loads((run / "evaluation.json").read_bytes()) for run in (first, other))
    assert {**now["totals"], **dict.fromkeys(OF_TIMES)} == {**before["totals"], **dict.fromkeys(OF_TIMES)}


def test_killed_workers_and_tasks_lose_nothing_and_pay_twice_only_what_was_in_flight(nodes: Cluster, tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(900), limits={"concurrency": 8})
        with project.started(*on(nodes)) as run:
            for kill in range(3):
                soon(partial(has_come, server, (kill + 1) * 150))
                worker = nodes.workers[0]
                # The last one is not the worker, but the task of Ray that attends to it.
                os.kill(worker if kill < 2 else parent_of(worker), signal.SIGKILL)
                soon(partial(is_gone, worker), 5)
            out, err = run.communicate(timeout=90)
        assert run.returncode == 0, err
        times = asked(server.seen)
    assert len(project.results()) == len(times) == 900
    assert sum(times.values()) - 900 <= 3 * 4
    assert " · 3 died, " in out


def test_with_its_driver_all_workers_end_and_processes_complete_the_run(nodes: Cluster, tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(600), limits={"concurrency": 8})
        with project.started(*on(nodes)) as run:
            soon(lambda: has_come(server, 150), 60)
            workers = nodes.workers
            run.kill()
            run.wait()
            soon(lambda: not any(map(lives, workers)), 5)
        resumed = project.run_here("--resume", "--processes", "2")
        assert resumed.returncode == 0, resumed.stderr
        times = asked(server.seen)
    assert len(project.results()) == 600
    assert sum(times.values()) - 600 <= 8


def test_ctrl_c_lets_what_is_in_flight_finish(nodes: Cluster, tmp_path: Path) -> None:
    held = Held(20)
    with Served(held.answer) as server:
        project = Project(tmp_path, server.url, rows=questions(200), limits={"concurrency": 8})
        with project.started(*on(nodes)) as run:
            assert held.waits.wait(60)
            told_to_end(run, signal.SIGINT)
            sent = len(server.seen)
            held.open.set()
            out, _ = run.communicate(timeout=60)
        assert run.returncode == 130
        assert "stopped by SIGINT" in out
        assert len(server.seen) <= sent + 8
        assert set(asked(server.seen).values()) == {1}


def test_a_machine_without_the_key_is_named_and_nothing_is_sent(nodes: Cluster, tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, environment={"OPENAI_API_KEY": "a-key-of-this-machine-only"})
        done = project.run(*on(nodes))
        assert done.returncode == 3
        assert server.seen == []
    said = "on 127.0.0.2: the environment variable OPENAI_API_KEY is not set or empty there"
    assert said in done.stdout
    assert "of-this-machine-only" not in done.stdout + done.stderr


def test_without_its_mailbox_the_run_stops_and_can_be_resumed(nodes: Cluster, tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(600), limits={"concurrency": 8})
        with project.started(*on(nodes)) as run:
            soon(lambda: has_come(server, 100), 60)
            (mailbox,) = [pid for pid in nodes.nodes[0].processes if "_Mailbox" in title_of(pid)]
            os.kill(mailbox, signal.SIGKILL)
            out, err = run.communicate(timeout=90)
        assert run.returncode == 3, err
        assert "the Ray cluster is lost" in out + err
        assert project.run_here("--resume").returncode == 0
        assert sum(asked(server.seen).values()) - 600 <= 8
    assert len(project.results()) == 600


def test_a_node_that_dies_is_replaced_by_one_that_joins(nodes: Cluster, tmp_path: Path) -> None:
    second = nodes.add("127.0.0.3", cpus=1)
    held = Held(200)
    with Served(held.answer) as server:
        project = Project(tmp_path, server.url, rows=questions(500), limits={"concurrency": 12})
        with project.started(*on(nodes, "--workers", "3")) as run:
            assert held.waits.wait(60)
            assert second.workers
            second.kill()
            third = nodes.add("127.0.0.4", cpus=1)
            soon(lambda: third.workers, 60)
            held.open.set()
            _, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        times = asked(server.seen)
    assert len(project.results()) == len(times) == 500
    assert sum(times.values()) - 500 <= 4


def test_no_cluster_is_wrong_usage(tmp_path: Path) -> None:
    project = Project(tmp_path, "http://127.0.0.1:9")
    done = project.run("--engine", "ray", "--address", "127.0.0.1:9")
    assert done.returncode == 2, done.stderr
    assert "engine.address: '127.0.0.1:9': " in done.stderr
    assert not (tmp_path / "results").exists()


def test_nothing_of_ray_is_loaded_where_nobody_asks_for_it(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url)
        done = project.command("-c", f"{NOTHING_OF_RAY}\nrun({str(project.config)!r})")
    assert done.returncode == 0, done.stderr


NOTHING_OF_RAY = """
import sys
from runner.cli.main import main

def run(config):
    assert main([config, "--processes", "2"]) == main([config]) == 0
    assert "ray" not in sys.modules
"""


def is_gone(pid: int) -> bool:
    return not lives(pid)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
