"""Runs in shards that know nothing of each other: a plan, parts of it in any number, and the files at the end."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import zlib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from runner.cli import main as cli
from runner.cli.shard import shard_in
from runner.cli.words import parsed
from runner.config.model import Config
from runner.datasets import open_dataset
from runner.errors import RunDirError, UsageError
from runner.pipeline.pending import Pending
from runner.scale.beat import Orders, line_of, read_orders
from runner.scale.leased import Leased
from runner.scale.shards import leases_of, read_plan
from runner.scale.shares import shares_of, with_shares, workers_of
from runner.storage.ledger import Ledger
from tests.commands import ROOT, Project, ask, asked, here, questions
from tests.crowds import OF_TIMES, Held, answer, answer_all, columns_of, has_come, soon, told_to_end
from tests.serving import Served, chat_answer

MOST = 1.0


def project_of(directory: Path, url: str, **more: Any) -> Project:
    limits = {"concurrency": 8, "fail_on_error": MOST, "max_error_rate": 1.0} | more.pop("limits", {})
    return Project(directory, url, limits=limits, **more)


def run_of(project: Project, *words: str) -> Path:
    made = here("plan", str(project.config), *words, environment={})
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


def shard(run: Path, index: int, of: int, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return here("shard", str(run), "--index", str(index), "--of", str(of), *words, environment=environment)


def merge(run: Path) -> subprocess.CompletedProcess[str]:
    return here("merge", str(run), environment={})


@pytest.mark.parametrize("more", [{}, {"shuffle": 7, "limit": 50}])
def test_the_files_of_shards_are_equal_to_those_of_one_process(tmp_path: Path, more: dict[str, Any]) -> None:
    rows = [{"id": f"r{number % 40}", "question": f"question {number}"} for number in range(90)]
    with Served(answer) as server:
        project = project_of(tmp_path, server.url, rows=rows)
        project.more = {"dataset": {"path": str(project.dataset), "id": "id"} | more}
        project.write()
        assert project.run_here().returncode == 0
        run = run_of(project)
        for index in range(3):
            done = shard(run, index, 3)
            assert done.returncode == 0, done.stderr
        merged = merge(run)
    assert merged.returncode == 0, merged.stderr
    alone, other = project.runs
    assert other == run
    for name in ("results", "errors"):
        assert columns_of(project, name, other) == columns_of(project, name, alone)
    before, now = (json.loads((one / "evaluation.json").read_bytes()) for one in (alone, other))
    assert {**now["totals"], **dict.fromkeys(OF_TIMES)} == {**before["totals"], **dict.fromkeys(OF_TIMES)}
    assert (now["status"], now["progress"]) == ("completed", before["progress"])
    assert (project.directory / "results" / "trial" / "latest").resolve() == run


@pytest.mark.long
def test_a_merge_says_what_is_missing_and_another_number_of_shards_does_it(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        run = run_of(project_of(tmp_path, server.url, rows=questions(90)))
        assert shard(run, 0, 3).returncode == 0
        assert shard(run, 2, 3).returncode == 0
        lacking = merge(run)
        assert lacking.returncode == 3
        assert "rows 30–59 lack 30 results: run those shards again" in lacking.stdout
        assert json.loads((run / "evaluation.json").read_bytes())["status"] == "running"
        for index in range(2):
            assert shard(run, index, 2).returncode == 0
        merged = merge(run)
        assert merged.returncode == 0
        assert "90 + 0 = 90" in merged.stdout
        assert set(asked(server.seen).values()) == {1}
        assert merge(run).returncode == 0
        assert len(list((run / "journal").glob("*.jsonl"))) == 1 + 4 + 1


@pytest.mark.long
def test_a_killed_shard_is_done_by_the_same_words(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        run = run_of(project_of(tmp_path, server.url, rows=questions(400)))
        words = [sys.executable, "-m", "runner", "shard", str(run), "--index", "0", "--of", "2"]
        with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as one:
            soon(lambda: has_come(server, 60))
            one.kill()
        assert shard(run, 0, 2).returncode == 0
        assert shard(run, 1, 2).returncode == 0
        assert merge(run).returncode == 0
        assert sum(asked(server.seen).values()) - 400 <= 4


@pytest.mark.long
def test_a_shard_that_is_told_to_leave_drains_and_says_so(tmp_path: Path) -> None:
    held = Held(5)
    with Served(held.answer) as server:
        run = run_of(project_of(tmp_path, server.url, rows=questions(60)))
        words = [sys.executable, "-m", "runner", "shard", str(run), "--index", "0", "--of", "1"]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
            assert held.waits.wait(30)
            told_to_end(one, signal.SIGTERM)
            held.open.set()
            assert one.wait(20) == 143
            assert one.stdout is not None
            assert "stopped early: stopped by SIGTERM" in one.stdout.read()
        assert merge(run).returncode == 3
        assert shard(run, 0, 1).returncode == 0
        assert merge(run).returncode == 0
        assert set(asked(server.seen).values()) == {1}


@pytest.mark.long
def test_two_owners_of_one_shard_ask_twice_and_each_row_has_one_result(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = project_of(tmp_path, server.url, rows=questions(200))
        run = run_of(project)
        words = [sys.executable, "-m", "runner", "shard", str(run), "--index", "0", "--of", "1"]
        owners = [subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(2)]
        assert [owner.wait(30) for owner in owners] == [0, 0]
        merged = merge(run)
    assert "200 + 0 = 200" in merged.stdout
    assert len(project.results()) == 200


def test_errors_are_asked_again_where_that_is_wanted(tmp_path: Path) -> None:
    with Served(answer) as server:
        run = run_of(project_of(tmp_path, server.url, rows=questions(20)))
        assert shard(run, 0, 1).returncode == 0
        assert shard(run, 0, 1).returncode == 0
        assert set(asked(server.seen).values()) == {1}
        assert shard(run, 0, 1, "--retry-errors").returncode == 0
        assert asked(server.seen)["question 3"] == 2
        assert merge(run).returncode == 0


@pytest.mark.long
def test_nobody_resumes_a_run_while_a_shard_works_on_it(tmp_path: Path) -> None:
    held = Held(5)
    with Served(held.answer) as server:
        project = project_of(tmp_path, server.url, rows=questions(30))
        run = run_of(project)
        words = [sys.executable, "-m", "runner", "shard", str(run), "--index", "0", "--of", "2"]
        with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as one:
            assert held.waits.wait(30)
            refused = project.run_here("--resume", str(run))
            assert refused.returncode == 2
            assert "is in use" in refused.stderr
            held.open.set()
            assert one.wait(20) == 0
        resumed = project.run_here("--resume", str(run))
        assert resumed.returncode == 0, resumed.stderr
        assert set(asked(server.seen).values()) == {1}


def test_a_secret_as_text_has_no_plan(tmp_path: Path) -> None:
    project = project_of(tmp_path, "http://127.0.0.1:1/v1")
    project.more = {"endpoint": {"base_url": project.url, "headers": {"Authorization": "Bearer sk-0123456789abcdef0123"}}}
    project.write()
    refused = here("plan", str(project.config), environment={})
    assert refused.returncode == 2
    assert "endpoint.headers.Authorization: holds a secret as text" in refused.stderr
    assert "sk-0123456789abcdef0123" not in refused.stderr
    assert not (tmp_path / "results").exists()


def test_another_endpoint_by_a_variable_is_none_of_this_run(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = project_of(tmp_path, "${BASE_URL}")
        made = here("plan", str(project.config), environment={"BASE_URL": server.url})
        run = Path(made.stdout.strip())
        refused = shard(run, 0, 1, BASE_URL="http://127.0.0.1:1/v1")
        assert refused.returncode == 2
        assert "endpoint.base_url: has changed since the plan was made" in refused.stderr
        assert shard(run, 0, 1, BASE_URL=server.url).returncode == 0


def test_another_dataset_is_none_of_this_run(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = project_of(tmp_path, server.url)
        run = run_of(project)
        with project.dataset.open("a") as file:
            file.write("{}\n")
        refused = shard(run, 0, 1)
    assert refused.returncode == 2
    assert "rows.jsonl: has changed since the plan was made" in refused.stderr


def test_rows_that_have_changed_places_are_another_dataset_and_a_file_that_was_touched_is_not(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = project_of(tmp_path, server.url)
        run = run_of(project)
        rows = project.dataset.read_bytes().splitlines(keepends=True)
        project.dataset.write_bytes(b"".join(reversed(rows)))
        refused = shard(run, 0, 2)
        assert refused.returncode == 2
        assert "rows.jsonl: has changed since the plan was made" in refused.stderr
        assert not server.seen
        project.dataset.write_bytes(b"".join(rows))
        assert shard(run, 0, 2).returncode == 0


def test_too_many_shards_for_the_concurrency_are_refused(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        run = run_of(project_of(tmp_path, server.url))
        refused = shard(run, 3, 64)
        assert refused.returncode == 2
        assert "8 are not enough for 64 shards at a time; raise it, or run fewer at a time and set --at-once" in refused.stderr
        assert shard(run, 3, 64, "--at-once", "8").returncode == 0


def test_so_are_too_many_for_the_limits_of_an_endpoint_that_is_asked(tmp_path: Path) -> None:
    project = project_of(tmp_path, "http://127.0.0.1:1")
    project.tasks = [ask(), ask("judged", endpoint="judge")]
    judge = {"base_url": "http://127.0.0.1:2", "limits": {"concurrency": 2}}
    project.more = {"endpoints": {"judge": judge, "unasked": judge}}
    project.write()
    refused = shard(run_of(project), 0, 4)
    assert refused.returncode == 2
    assert "endpoints.judge.limits.concurrency: 2 are not enough for 4 shards at a time" in refused.stderr


@pytest.mark.parametrize(("words", "said"), [((), True), (("--at-once", "1"), False)])
def test_shards_that_each_find_a_number_for_one_server_are_warned(tmp_path: Path, words: tuple[str, ...], said: bool) -> None:
    with Served(answer) as server:
        project = project_of(tmp_path, server.url, rows=questions(4), limits={"concurrency": "auto"})
        done = shard(run_of(project), 0, 2, *words)
    assert done.returncode in {0, 1}, done.stderr
    assert ("limits.concurrency is auto, and each of 2 shards finds a number of its own" in done.stderr) is said


def test_a_resume_may_ask_for_more_rows_than_were_planned_and_a_merge_leaves_them_to_it(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = project_of(tmp_path, server.url, rows=questions(20))
        run = run_of(project, "--limit", "10")
        stopped = project.run_here("--resume", str(run), "--set", "limits.max_tokens=1")
        assert stopped.returncode == 3
        assert shard(run, 0, 1).returncode == 0
        early = merge(run)
        assert early.returncode == 3
        assert f"more rows than were planned, and has not finished: continue it with --resume {run}\n" in early.stdout
        assert json.loads((run / "evaluation.json").read_bytes())["status"] != "completed"
        assert project.run_here("--resume", str(run)).returncode == 0
        merged = merge(run)
        assert merged.returncode == 0, merged.stderr
        assert "20 + 0 = 20" in merged.stdout
        assert set(asked(server.seen).values()) == {1}


def test_a_run_without_a_plan_has_no_shards(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = project_of(tmp_path, server.url)
        assert project.run_here().returncode == 0
        refused = shard(project.run_dir, 0, 1)
        assert refused.returncode == 2
        assert "has no plan; make a run that has one: python -m runner plan CONFIG.yaml" in refused.stderr


@pytest.mark.parametrize("other", [1, 7])
def test_a_plan_of_another_format_says_which_version_reads_it(tmp_path: Path, other: int) -> None:
    run = run_of(project_of(tmp_path, "http://127.0.0.1:9"))
    path = run / "plan" / "plan.jsonl"
    text = path.read_bytes()[9:-1].replace(b'"format":2', b'"format":%d' % other)
    path.write_bytes(b"%08x %b\n" % (zlib.crc32(text), text))
    says = f"has format {other}, this program reads format 2; use the version that made it, or, .*--resume {run}"
    with pytest.raises(RunDirError, match=says):
        read_plan(run)


def test_a_plan_that_is_not_as_it_was_written_is_refused_and_a_resume_needs_none(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        run = run_of(project := project_of(tmp_path, server.url, rows=[*questions(8), *questions(2)]))
        assert shard(run, 0, 2).returncode == 0
        (path,) = (run / "plan").iterdir()
        content = path.read_bytes()
        for place in range(1, len(content), 7):
            flipped = bytes(byte ^ (index == place) for index, byte in enumerate(content))
            for damaged in (flipped, content[:place], content[:place] + content[place // 2 :]):
                path.write_bytes(damaged)
                with pytest.raises(RunDirError, match=rf"{path.name}: is (damaged|of format).* --resume {run}"):
                    read_plan(run)
        assert shard(run, 1, 2).returncode == 2
        assert project.run_here("--resume", str(run)).returncode == 0
        assert set(asked(server.seen).values()) == {1}
        assert len(project.results()) + len(project.errors()) == 10


@pytest.mark.parametrize(
    ("typed", "environment", "expected"),
    [
        ((3, 64), {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "10"}, (3, 64)),
        ((None, None), {"RUNNER_SHARD_INDEX": "1", "RUNNER_SHARD_COUNT": "2", "SLURM_ARRAY_TASK_ID": "9"}, (1, 2)),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "10"}, (9, 10)),
        (
            (None, None),
            {"SLURM_ARRAY_TASK_ID": "10", "SLURM_ARRAY_TASK_COUNT": "10", "SLURM_ARRAY_TASK_MIN": "1"},
            (9, 10),
        ),
        ((None, 8), {"JOB_COMPLETION_INDEX": "7"}, (7, 8)),
        ((None, None), {"JOB_COMPLETION_INDEX": "7"}, "--of: is missing"),
        ((None, None), {}, "--index: is missing"),
        ((8, 8), {}, "the index goes from 0 to 7"),
    ],
)
def test_which_shard_is_meant(
    typed: tuple[int | None, int | None], environment: Mapping[str, str], expected: tuple[int, int] | str
) -> None:
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            shard_in(*typed, environment)
    else:
        assert shard_in(*typed, environment) == expected


_RATES = st.none() | st.integers(1, 500).map(float) | st.floats(0.1, 1e4)


@given(st.integers(1, 1000), st.none() | st.integers(1, 9), st.integers(1, 50), _RATES, _RATES)
def test_shares_of_each_endpoint_sum_up_to_the_whole(
    concurrency: int, judges: int | None, of: int, rate: float | None, judging: float | None
) -> None:
    own = {"requests_per_minute": judging} | ({} if judges is None else {"concurrency": judges})
    config = Config.model_validate(
        {
            "name": "n",
            "dataset": {"data": [{}]},
            "endpoint": {"base_url": "http://a"},
            "endpoints": {
                "judge": {"base_url": "http://b", "limits": own},
                "unasked": {"base_url": "http://c", "limits": {"concurrency": 1}},
            },
            "tasks": [ask(), ask("judged", endpoint="judge")],
            "limits": {"concurrency": concurrency, "requests_per_second": rate, "tokens_per_minute": concurrency},
        }
    )
    workers = workers_of(config, of)
    assert workers == min(of, concurrency, judges or of)
    parts = [with_shares(config, shares_of(config, number, workers)).asking for number in range(workers)]
    for name, whole in config.asking.items():
        shares = [part[name].limits for part in parts]
        for limit in ("concurrency", "tokens_per_minute", "requests_per_second", "requests_per_minute"):
            found = [getattr(share, limit) for share in shares]
            if (value := getattr(whole.limits, limit)) is None:
                assert not any(found)
            else:
                assert all(found)
                assert sum(found) == pytest.approx(value)
                if float(value).is_integer() and value >= workers:  # so that any second keeps the whole
                    assert all(float(one).is_integer() for one in found)


def test_the_parts_of_a_plan_are_all_of_it(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        run = run_of(project_of(tmp_path, server.url, rows=questions(25)), "--limit", "23")
    plan = read_plan(run)
    for of in (1, 2, 7, 30):
        rows = [index for part in range(of) for first, last in plan.part(part, of) for index in range(first, last)]
        assert rows == list(range(23))


# --- what is shipped for schedulers ---

#: The fields that KubeRay's RayJob has, by its API reference, of those that a job of ours may want.
OF_A_RAYJOB = {
    *("entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"),
    *("runtimeEnvYAML", "rayClusterSpec", "activeDeadlineSeconds", "entrypointNumCpus", "suspend"),
}


def words_of(command: list[str]) -> list[str]:
    """Return the arguments of a call of the runner."""
    return command[command.index("runner") + 1 :]


def test_the_batch_file_for_slurm_is_a_script_whose_command_is_understood() -> None:
    path = ROOT / "configs" / "scale" / "slurm.sbatch"
    text = path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert options["array"] == "0-63%16"
    first_command = next(line for line in text.splitlines() if line and not line.startswith("#"))
    assert text.index("#SBATCH --requeue") < text.index(first_command), "Slurm reads no options behind a command"
    (command,) = [shlex.split(line) for line in text.splitlines() if line.startswith("exec python")]
    arguments = parsed(words_of([word.replace("$1", "RUN_DIR") for word in command]), cli.COMMANDS)
    environment = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "64"}
    assert shard_in(arguments.index, arguments.of, environment) == (5, 64)
    assert arguments.at_once == 16


def test_the_job_for_kubernetes_is_one_and_its_command_is_understood() -> None:
    job = yaml.safe_load((ROOT / "configs" / "scale" / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"], job["spec"]["completionMode"]) == ("batch/v1", "Job", "Indexed")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    arguments = parsed(words_of(container["command"]), cli.COMMANDS)
    assert shard_in(arguments.index, arguments.of, {"JOB_COMPLETION_INDEX": "63"}) == (63, job["spec"]["completions"])
    assert arguments.at_once == job["spec"]["parallelism"]
    volumes = {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_job_for_kuberay_is_one_and_its_command_is_understood() -> None:
    job = yaml.safe_load((ROOT / "configs" / "scale" / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() <= OF_A_RAYJOB
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    (group,) = cluster["workerGroupSpecs"]
    assert group.keys() == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    shell = shlex.split(job["spec"]["entrypoint"])
    assert shell[:2] == ["sh", "-c"]
    arguments = parsed(words_of(shlex.split(shell[2])), cli.COMMANDS)
    (worker,) = group["template"]["spec"]["containers"]
    assert arguments.engine == "ray"
    assert arguments.workers == group["replicas"] * int(worker["resources"]["limits"]["cpu"])
    for pods in (cluster["headGroupSpec"], group):
        pod = pods["template"]["spec"]
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
        assert all("value" not in variable for variable in container["env"]), "a key is no part of the file"


def test_a_shard_is_told_where_its_rows_begin(tmp_path: Path) -> None:
    project = project_of(tmp_path, "http://127.0.0.1:9", rows=questions(2500))
    run = run_of(project)
    plan = read_plan(run)
    assert [mark.index for mark in plan.marks] == [1000, 2000]
    pending = Pending(dataset=open_dataset(path=[str(project.dataset)]), tasks=plan.tasks, ledger=None)
    first, second = leases_of(plan, pending, plan.part(2, 3))[0], leases_of(plan, pending, plan.part(0, 3))[0]
    assert (first.marks, second.marks) == ([plan.marks[0]], [])


def test_a_lease_has_the_places_of_results_and_not_the_results(tmp_path: Path) -> None:
    """What one worker has read of the endpoint reaches another by the journal alone."""

    async def answer_the_first(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        question = body["messages"][-1]["content"]
        if question.startswith("question"):
            return web.json_response(chat_answer(f"said of {question}"))
        return web.json_response({"error": {"message": "no"}}, status=400)

    with Served(answer_the_first) as server:
        tasks = [ask("first"), ask("second", content="{{item.first}}")]
        project = project_of(tmp_path, server.url, rows=questions(6), tasks=tasks)
        run = run_of(project)
        assert shard(run, 0, 1).returncode == 0
    plan, dataset = read_plan(run), open_dataset(path=[str(project.dataset)])
    with closing(Ledger.read(run / "journal", tasks=plan.tasks)) as ledger:
        pending = Pending(dataset=dataset, tasks=plan.tasks, ledger=ledger, retried=frozenset({"second"}))
        (lease,) = leases_of(plan, pending, [(1, 4)])
    told = line_of(Orders(leases=[lease]))
    assert b"said of" not in told
    as_is: Any = SimpleNamespace(limits=SimpleNamespace(order="as_is"))
    leased = Leased(dataset, as_is, 1, lambda: None, journal=run / "journal")
    leased.add(read_orders(told).leases[0])
    found = [leased.known(index, 0, "first") for index in range(6)]
    leased.release()
    assert [None if one is None else one.output for one in found] == [
        None,
        *(f"said of question {number}" for number in (1, 2, 3)),
        None,
        None,
    ]
    assert leased.known(1, 0, "second") is None
