"""Runs in worker processes: the same files as of one process, limits that hold for all together, and what becomes of deaths."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp import web

import runner
from runner.results import progress
from runner.scale import coordinator
from tests.commands import PATIENCE_S, ROOT, Project, ask, asked, here, metric, questions
from tests.crowds import OF_TIMES, Held, answer, answer_all, columns_of, has_come, lives, soon, told_to_end, workers_of
from tests.serving import Served, chat_answer


@pytest.fixture
def server() -> Iterator[Served]:
    with Served(answer) as served:
        yield served


MESSY = [
    *(json.dumps({"id": f"r{number % 40}", "question": f"question {number}"}) for number in range(60)),
    "{broken",
    json.dumps({"id": "no question"}),
    json.dumps({"question": "no id"}),
    *(json.dumps({"id": f"s{number}", "question": f"question {number}"}) for number in range(60)),
]


@pytest.mark.long
@pytest.mark.parametrize("more", [{}, {"shuffle": 7, "limit": 50}])
def test_the_files_of_many_workers_are_equal_to_those_of_one_process(
    tmp_path: Path, server: Served, more: dict[str, Any]
) -> None:
    project = Project(tmp_path, server.url, limits={"concurrency": 7, "max_error_rate": 1.0, "fail_on_error": 1.0})
    dataset = {"path": str(project.dataset), "id": "id"} | more
    project.more = {"dataset": dataset}
    project.tasks = [ask(samples=2)]
    project.write()
    project.dataset.write_text("\n".join(MESSY))
    alone = project.run_here()
    assert alone.returncode == 0, alone.stderr
    workers = {3: "longest_first"} if more else {2: "as_is", 7: "prefix"}
    for count, order in workers.items():
        assert project.run_here("--processes", str(count), "--set", f"limits.order={order}").returncode == 0
    first, *others = project.runs
    for other in others:
        for name in ("results", "errors"):
            assert columns_of(project, name, other) == columns_of(project, name, first)
        before, now = (json.loads((run / "evaluation.json").read_bytes()) for run in (first, other))
        assert {**now["totals"], **dict.fromkeys(OF_TIMES)} == {**before["totals"], **dict.fromkeys(OF_TIMES)}
        assert now["progress"] == before["progress"]
    first_line = (first / "journal" / "000001.jsonl").read_bytes().split(b"\n")[0]
    assert b'"worker"' not in first_line
    assert b'"engine"' not in first_line


@pytest.mark.long
def test_the_summary_says_how_many_there_were_and_nothing_was_asked_twice(tmp_path: Path, server: Served) -> None:
    project = Project(tmp_path, server.url, rows=questions(300), limits={"concurrency": 8, "fail_on_error": 1.0})
    done = project.run_here("--processes", "2")
    assert done.returncode == 0, done.stderr
    assert "  workers    2\n" in done.stdout
    assert set(asked(server.seen).values()) == {1}
    assert len(list((project.run_dir / "journal").glob("*.jsonl"))) == 3


@pytest.mark.long
def test_workers_killed_at_any_moment_lose_nothing_and_pay_twice_only_what_was_in_flight(tmp_path: Path) -> None:
    kills, concurrency = 4, 8
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(1200), limits={"concurrency": concurrency})
        with project.started("--processes", "2") as run:
            for kill in range(kills):
                soon(partial(has_come, server, (kill + 1) * 200))
                os.kill(workers_of(run.pid)[0], signal.SIGKILL)  # the oldest: of those that only start enough are no accident
            out, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
        times = asked(server.seen)
    assert len(times) == 1200
    assert len(project.results()) == 1200
    assert sum(times.values()) - 1200 <= kills * concurrency // 2
    assert f"  workers    2 · {kills} died, " in out


@pytest.mark.long
def test_all_workers_killed_at_once_and_the_run_goes_on(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(600), limits={"concurrency": 8})
        with project.started("--processes", "2") as run:
            soon(lambda: len(server.seen) > 150)
            for worker in workers_of(run.pid):
                os.kill(worker, signal.SIGKILL)
            _, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
    assert len(project.results()) == 600


@pytest.mark.long
def test_with_its_driver_all_workers_end_and_a_resume_with_another_number_completes(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(600), limits={"concurrency": 8})
        with project.started("--processes", "2") as run:
            soon(lambda: len(server.seen) > 150)
            workers = workers_of(run.pid)
            run.kill()
            run.wait()
            soon(lambda: not any(map(lives, workers)), 5)
        known = len(server.seen)
        resumed = project.run("--resume", "--processes", "3")
        assert resumed.returncode == 0, resumed.stderr
        assert "600 + 0 = 600" in resumed.stdout
        times = asked(server.seen)
        assert sum(times.values()) - 600 <= 8
        assert known > 150
        again = project.run_here("--resume")  # whatever it went on in, it is finished
        assert again.returncode == 0
        assert sum(asked(server.seen).values()) == sum(times.values())


@pytest.mark.long
def test_a_run_of_one_process_goes_on_with_workers_and_back(tmp_path: Path, server: Served) -> None:
    project = Project(tmp_path, server.url, rows=questions(90), limits={"concurrency": 4, "fail_on_error": 1.0})
    assert project.run_here("--limit", "30").returncode == 0
    assert project.run_here("--limit", "60", "--resume", "--processes", "2").returncode == 0
    done = project.run_here("--resume")
    assert done.returncode == 0
    assert "= 90" in done.stdout
    assert set(asked(server.seen).values()) == {1}
    retried = project.run_here("--resume", "--retry-errors", "--processes", "2")
    assert retried.returncode == 0
    assert len(project.errors()) == 9
    assert {count for question, count in asked(server.seen).items() if question.endswith("3")} == {2}


@pytest.mark.long
def test_a_worker_that_is_stopped_by_the_system_is_replaced_and_sends_nothing_when_it_is_let_go(tmp_path: Path) -> None:
    with Served(answer_all) as server, patch.object(coordinator, "SILENT_S", 1.5):
        project = Project(tmp_path, server.url, rows=questions(500), limits={"concurrency": 8})

        def stop_one() -> None:
            soon(lambda: len(server.seen) > 100)
            os.kill(workers_of(os.getpid())[0], signal.SIGSTOP)

        done = project.run_here_while(stop_one, "--processes", "2")
        assert done.returncode == 0, done.stderr
        assert "1 died" in done.stdout
        assert sum(asked(server.seen).values()) - 500 <= 4
    assert len(project.results()) == 500


@pytest.mark.long
def test_a_worker_that_is_told_to_leave_gives_its_rows_back(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(500), limits={"concurrency": 8})

        def dismiss() -> None:
            soon(lambda: len(server.seen) > 100)
            os.kill(workers_of(os.getpid())[0], signal.SIGTERM)

        done = project.run_here_while(dismiss, "--processes", "2")
        assert done.returncode == 0, done.stderr
        assert "was told to leave" in done.stderr
        assert set(asked(server.seen).values()) == {1}


@pytest.mark.long
def test_ctrl_c_lets_what_is_in_flight_finish_and_a_resume_asks_the_rest(tmp_path: Path) -> None:
    held = Held(20)
    with Served(held.answer) as server:
        project = Project(tmp_path, server.url, rows=questions(200), limits={"concurrency": 8})
        with project.started("--processes", "2") as run:
            assert held.waits.wait(30)
            told_to_end(run, signal.SIGINT)
            sent = len(server.seen)
            held.open.set()
            out, _ = run.communicate(timeout=30)
        assert run.returncode == 130
        assert "stopped by SIGINT" in out
        assert len(server.seen) <= sent + 8
        resumed = project.run("--resume", "--processes", "2")
        assert resumed.returncode == 0, resumed.stderr
        assert set(asked(server.seen).values()) == {1}


@pytest.mark.long
def test_ctrl_c_twice_drops_what_is_in_flight(tmp_path: Path) -> None:
    held = Held(20)
    with Served(held.answer) as server:
        project = Project(tmp_path, server.url, rows=questions(200), limits={"concurrency": 8})
        with project.started("--processes", "2") as run:
            assert held.waits.wait(30)
            told_to_end(run, signal.SIGINT)
            run.send_signal(signal.SIGINT)
            assert run.wait(timeout=20) == 130
        held.open.set()


KILLER = """
import os, signal
from runner.pipeline import attempts
journal_attempts = attempts.journal_attempts
def deadly(send, *args):
    async def send_deadly(attempt):
        if "question 17" in str(attempt.request):
            os.kill(os.getpid(), signal.SIGKILL)
        return await send(attempt)
    return journal_attempts(send_deadly, *args)
attempts.journal_attempts = deadly
"""


def with_start(directory: Path, code: str) -> dict[str, str]:
    """Return an environment in which each worker runs some code at its start."""
    directory.mkdir()
    condition = "import sys\nif 'work' in sys.argv or 'work' in sys.orig_argv:\n"
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    (directory / "sitecustomize.py").write_text(condition + body)
    return {"PYTHONPATH": str(directory)}


@pytest.mark.long
def test_a_row_that_ends_its_worker_is_named_and_all_others_are_done(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path / "p", server.url, rows=questions(120), limits={"concurrency": 4})
        project.environment = with_start(tmp_path / "site", KILLER)
        done = project.run("--processes", "2")
    assert done.returncode == 3, done.stderr
    assert "1 row kills its worker: item 17 (row-17, " in done.stdout
    assert len(project.results()) == 119
    assert "3 died" in done.stdout


#: The first worker that starts may write no file of more than 100 kB, as on a disk that is full.
FULL = """
import os, resource, signal
try:
    os.close(os.open(os.environ["FULL_ONCE"], os.O_CREAT | os.O_EXCL))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
except FileExistsError:
    pass
"""


@pytest.mark.long
def test_a_worker_whose_disk_is_full_is_set_aside_and_the_others_go_on(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path / "p", server.url, rows=questions(600), limits={"concurrency": 8})
        project.environment = with_start(tmp_path / "site", FULL) | {"FULL_ONCE": str(tmp_path / "once")}
        done = project.run("--processes", "2")
        assert done.returncode == 0, done.stderr
        times = asked(server.seen)
    assert re.search(r"worker \d is set aside, and the other workers go on: .*File too large", done.stderr)
    assert len(project.results()) == len(times) == 600
    assert sum(times.values()) - 600 <= 4  # what was in flight could not be written down


@pytest.mark.long
def test_workers_that_die_at_their_start_end_the_run_and_their_last_words_are_shown(tmp_path: Path, server: Served) -> None:
    project = Project(tmp_path / "p", server.url, rows=questions(20))
    project.environment = with_start(tmp_path / "site", "import os\nos.write(2, b'no such library\\n')\nos._exit(1)")
    done = project.run("--processes", "2")
    assert done.returncode == 3
    assert "no such library" in done.stdout
    assert not server.seen


@pytest.mark.long
def test_a_worker_that_finds_another_config_is_none_of_this_run(tmp_path: Path, server: Served) -> None:
    project = Project(tmp_path / "p", server.url, rows=questions(20))
    text = project.config.read_text().replace("{{item.question}}", "${PROMPT} {{item.question}}")
    project.config.write_text(text)
    changing = "import os\nos.environ['PROMPT'] = 'another'"
    project.environment = with_start(tmp_path / "site", changing) | {"PROMPT": "one"}
    done = project.run("--processes", "2")
    assert done.returncode == 3
    assert "has changed since the run began" in done.stdout
    assert not server.seen


@pytest.mark.long
def test_an_endpoint_that_refuses_is_asked_no_more_for_there_being_many(tmp_path: Path) -> None:
    async def refuse(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "wrong key"}}, status=401)

    # However slow this machine is, the first answer comes before the others may ask without one.
    with Served(refuse) as server, patch.object(coordinator, "_CAUTION_S", 60.0):
        project = Project(tmp_path, server.url, rows=questions(400), limits={"concurrency": 64})
        done = project.run_here("--processes", "3")
        assert done.returncode == 3
        assert "wrong key" in done.stdout
    starts = [path.read_bytes().count(b'{"kind":"start"') for path in (project.run_dir / "journal").glob("*.jsonl")]
    assert sum(map(bool, starts)) == 1, "only one worker has asked"


@pytest.mark.long
@pytest.mark.parametrize("endpoint", [None, "named"])
def test_a_pause_that_the_server_wishes_of_one_is_kept_by_all(tmp_path: Path, endpoint: str | None) -> None:
    refused: list[float] = []
    sent: list[float] = []

    async def limited(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        sent.append(time.monotonic())
        if len(sent) == 300:  # to one of the three; the other two find out by nothing else
            refused.append(sent[-1])
            return web.json_response({"error": {"message": "enough"}}, status=429, headers={"Retry-After": "8"})
        await asyncio.sleep(0.02)
        return web.json_response(chat_answer(f"re: {body['messages'][-1]['content']}"))

    with Served(limited) as server:
        tasks = [ask() if endpoint is None else ask(endpoint=endpoint)]
        project = Project(tmp_path, server.url, rows=questions(900), limits={"concurrency": 6}, tasks=tasks)
        project.more = {"endpoints": {"named": {"base_url": server.url}}}
        project.write()
        done = project.run_here("--processes", "3")
    assert done.returncode == 0, done.stderr
    told_s, over_s = 2.5, 7.9
    assert not [moment for moment in sent if told_s < moment - refused[0] < over_s]
    assert [moment for moment in sent if moment - refused[0] > over_s]


@pytest.mark.long
def test_rows_that_fail_end_the_run_as_soon_as_all_together_have_too_many(tmp_path: Path) -> None:
    with Served(answer) as server:  # three of these four rows end as errors
        rows = [{"id": f"r{number}", "question": f"question {'3' if number % 4 else '1'}"} for number in range(4000)]
        project = Project(tmp_path, server.url, rows=rows, limits={"concurrency": 8})
        done = project.run_here("--processes", "3")
    assert done.returncode == 3
    assert "of the last 200 results of `answer` are errors (limits.max_error_rate: 0.5)" in done.stdout
    assert len(project.errors()) + len(project.results()) < 2000


@pytest.mark.long
def test_tokens_are_used_up_by_all_together(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        limits = {"concurrency": 8, "max_tokens": 1000}
        project = Project(tmp_path, server.url, rows=questions(600), limits=limits)
        done = project.run_here("--processes", "2")
    assert done.returncode == 3
    assert "raise limits.max_tokens to go on" in done.stdout
    used = sum(row["prompt_tokens"] + row["completion_tokens"] for row in project.results())
    assert 1000 <= used <= 1000 + 8 * 5


@pytest.mark.long
def test_a_rate_holds_for_all_together(tmp_path: Path) -> None:
    """By when each was sent: on its way to the server one may catch up with another."""
    limits = {"concurrency": 8, "requests_per_second": 100}
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(150), limits=limits)
        assert project.run_here("--processes", "2").returncode == 0
    times = sorted(row["started_at"] for row in project.results() if row["task"] == "answer")
    assert max(sum(start <= at < start + timedelta(seconds=1) for at in times) for start in times) <= 102
    assert times[-1] - times[0] >= timedelta(seconds=1.3)


class Judge:
    """Another endpoint, which keeps when each request has come, and how many were there at most."""

    def __init__(self) -> None:
        self.came: list[float] = []
        self.there = self.most = 0

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.came.append(time.monotonic())
        self.there += 1
        self.most = max(self.most, self.there)
        try:
            return await answer_all(request, body)
        finally:
            self.there -= 1

    def most_in_a_second(self) -> int:
        times = sorted(self.came)
        return max(sum(start <= at < start + 1 for at in times) for start in times)


def judged(directory: Path, answering: Served, judging: Served, rows: int, **limits: Any) -> Project:
    """Return a project whose answers are judged elsewhere."""
    return Project(
        directory,
        answering.url,
        rows=questions(rows),
        tasks=[ask(), ask("judged", "Is {{item.answer}} right?", endpoint="judge")],
        limits={"concurrency": 16},
        more={"endpoints": {"judge": {"base_url": judging.url, "limits": limits}}},
    )


@pytest.mark.long
def test_each_endpoint_has_limits_of_its_own_for_all_together(tmp_path: Path) -> None:
    judge = Judge()
    with Served(answer_all) as answering, Served(judge.answer) as judging:
        done = judged(tmp_path, answering, judging, 40, concurrency=2).run_here("--processes", "3")
    assert done.returncode == 0, done.stderr
    assert "2 workers, not 3: the limits leave nothing to do for more" in done.stderr
    assert "80 + 0 = 80" in done.stdout
    assert judge.most == 2


@pytest.mark.long
def test_the_rate_of_an_endpoint_holds_for_all_together_while_workers_are_killed(tmp_path: Path) -> None:
    judge, per_second, rows, kills = Judge(), 40, 200, 2
    with Served(answer_all) as answering, Served(judge.answer) as judging:
        project = judged(tmp_path, answering, judging, rows, requests_per_second=per_second)
        with project.started("--processes", "2") as run:
            for kill in range(kills):
                soon(partial(has_come, judging, (kill + 1) * 60))
                os.kill(workers_of(run.pid)[0], signal.SIGKILL)
            out, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
    assert f"{2 * rows} + 0 = {2 * rows}" in out
    assert judge.most_in_a_second() <= per_second + 2  # on its way one may catch up with another
    assert len(asked(judging.seen)) == rows
    assert rows <= len(judging.seen) <= rows + kills * 8
    assert len(asked(answering.seen)) == rows


@pytest.mark.long
def test_rows_and_secrets_never_reach_the_words_or_the_journal_of_a_worker(tmp_path: Path, server: Served) -> None:
    key = "sk-canary-0123456789abcdef"
    project = Project(tmp_path, server.url, rows=questions(20), environment={"OPENAI_API_KEY": key})
    done = project.run("--processes", "2")
    assert done.returncode in {0, 1}
    assert server.seen[0].headers["Authorization"] == f"Bearer {key}"
    everything = b"".join(path.read_bytes() for path in project.run_dir.rglob("*") if path.is_file())
    assert key.encode() not in everything
    assert key not in done.stdout + done.stderr


def test_what_many_cannot_have_is_refused_before_anything_is_made(tmp_path: Path, server: Served) -> None:
    project = Project(tmp_path, server.url)
    recorded = {"base_url": server.url, "record": str(tmp_path / "all.jsonl")}
    for more, place in (({"endpoint": recorded}, "endpoint"), ({"endpoints": {"judge": recorded}}, "endpoints.judge")):
        project.more = more
        project.write()
        done = project.run_here("--processes", "2")
        assert done.returncode == 2
        assert f"{place}.record: " in done.stderr
        assert "is one file, and workers would write it at the same time; name a directory" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.long
def test_more_workers_than_requests_in_flight_are_not_started(tmp_path: Path, server: Served) -> None:
    project = Project(tmp_path, server.url, rows=questions(10), limits={"concurrency": 2, "fail_on_error": 1.0})
    done = project.run_here("--processes", "9")
    assert done.returncode == 0
    assert "2 workers, not 9" in done.stderr


@pytest.mark.long
def test_from_python_with_given_rows(tmp_path: Path, server: Served) -> None:
    config = {
        "name": "given",
        "dataset": {"id": "id"},
        "endpoint": {"base_url": server.url},
        "tasks": [ask()],
        "limits": {"concurrency": 4},
        "output": str(tmp_path),
    }
    run = runner.evaluate(config, data=questions(30), processes=2, progress=False)
    assert (len(run.results), len(run.errors)) == (27, 3)
    assert len(runner.load(run.path).results) == 27


@pytest.mark.long
def test_a_run_in_one_process_loads_nothing_of_it(tmp_path: Path, server: Served) -> None:
    project = Project(tmp_path, server.url, rows=questions(2))
    code = "import sys; from runner.cli.main import main; main(sys.argv[1:]); print([m for m in sys.modules if 'r.scale' in m])"
    found = project.command("-c", code, str(project.config))
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.long
def test_what_there_is_can_be_read_while_it_goes_on(tmp_path: Path) -> None:
    held = Held(40)
    with Served(held.answer) as server:
        project = Project(tmp_path, server.url, rows=questions(100), limits={"concurrency": 8})
        with project.started("--processes", "2") as run:
            assert held.waits.wait(30)
            soon(lambda: len(runner.load(project.run_dir).results) == 40)
            exported = here("export", str(project.run_dir), environment={})
            assert exported.stdout.startswith("so far: 40 results, 0 errors")
            held.open.set()
            assert run.wait(30) == 0
    assert len(project.results()) == 100


@pytest.mark.long
def test_the_line_of_progress_says_how_many_workers_there_are_and_what_all_of_them_have_found(tmp_path: Path) -> None:
    tasks = [ask(), metric("right", type="contains")]
    with Served(answer_all) as server, patch.object(progress, "_LOG_EVERY_S", 0.0):
        project = Project(tmp_path, server.url, rows=questions(300), tasks=tasks, limits={"concurrency": 4})
        done = project.run_here("--processes", "2")
    (*_, last) = re.findall(r"\d+/600 \d+% · errors 0 · .* · right (\S+) · n (\d+) · .* · workers 2/2", done.stderr)
    assert last[0] == "1.000"
    assert 0 < int(last[1]) <= 300


@pytest.mark.long
@pytest.mark.parametrize("before", [1, 100])
def test_an_outage_costs_no_row_and_one_of_all_workers_looks_for_its_end(tmp_path: Path, before: int) -> None:
    """Also if only one worker was answered `before` it: the others try rows quickly, as long as they have no better probe."""
    came, down_s, settled_s = list[float](), 8.0, 4.0

    async def answer_or_not(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        came.append(time.monotonic())
        if len(came) > before and came[-1] < came[before] + down_s:
            return web.json_response({"error": {"message": "overloaded"}}, status=503)
        return await answer_all(request, body)

    with Served(answer_or_not) as server:
        project = Project(tmp_path, server.url, rows=questions(400), limits={"concurrency": 12})
        done = project.run_here("--processes", "4")
    assert done.returncode == 0, done.stderr
    assert "400 + 0 = 400" in done.stdout
    answered = sum(moment < came[before] or moment >= came[before] + down_s for moment in came)
    assert answered <= 400 + 1, "whoever was told did not ask once more"
    assert 1 <= sum(settled_s <= moment - came[before] < down_s for moment in came) <= 2


@pytest.mark.long
def test_of_a_segment_that_is_taken_away_the_rows_are_asked_again_at_the_latest_by_a_resume(tmp_path: Path) -> None:
    with Served(answer_all) as server:
        project = Project(tmp_path, server.url, rows=questions(500), limits={"concurrency": 8})

        def take_away() -> None:
            soon(lambda: len(server.seen) > 150)
            (project.run_dir / "journal" / "000002.jsonl").unlink()

        done = project.run_here_while(take_away, "--processes", "2")
        assert "was removed, moved or replaced" in done.stderr
        if done.returncode:  # what its worker had finished and told of was there too
            assert "results were due" in done.stderr
            done = project.run_here("--resume", "--processes", "2")
        assert done.returncode == 0, done.stderr
        assert "500 + 0 = 500" in done.stdout


@pytest.mark.long
def test_a_dataset_that_changes_stops_the_run(tmp_path: Path) -> None:
    held = Held(80)
    with Served(held.answer) as server:
        project = Project(tmp_path, server.url, rows=questions(2000), limits={"concurrency": 8})

        def change() -> None:
            assert held.waits.wait(30)
            with project.dataset.open("a") as file:
                file.write("\n")
            held.open.set()

        done = project.run_here_while(change, "--processes", "2")
    assert done.returncode == 3
    assert "was changed while" in done.stdout


@pytest.mark.long
def test_a_worker_that_starts_when_the_dataset_has_changed_stops_the_run(tmp_path: Path) -> None:
    held = Held(80)
    with Served(held.answer) as server:
        project = Project(tmp_path, server.url, rows=questions(400), limits={"concurrency": 8})

        def change() -> None:
            assert held.waits.wait(30)
            os.utime(project.dataset)
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)
            soon(lambda: held.open.is_set() or len(workers_of(os.getpid())) < 2)
            held.open.set()

        done = project.run_here_while(change, "--processes", "2")
    assert done.returncode == 3
    assert "was changed while" in done.stdout


@pytest.mark.long
def test_time_is_up_for_all_together(tmp_path: Path) -> None:
    held = Held(10)
    with Served(held.answer) as server:
        limits = {"concurrency": 8, "max_wall_time": 2, "drain": 0}
        project = Project(tmp_path, server.url, rows=questions(100), limits=limits)
        done = project.run_here("--processes", "2")
        held.open.set()
    assert done.returncode == 3
    assert "2 s of this start have passed" in done.stdout


@pytest.mark.long
def test_such_a_run_is_compared_and_reported_as_any_other(tmp_path: Path, server: Served) -> None:
    project = Project(tmp_path, server.url, rows=questions(40), limits={"concurrency": 4, "fail_on_error": 1.0})
    assert project.run_here("--processes", "2").returncode == 0
    assert project.run_here().returncode == 0
    many, alone = map(str, project.runs)
    compared = here("compare", alone, many, environment={})
    assert "items      40 of 40 compared" in compared.stdout
    page = tmp_path / "report.md"
    assert here("report", many, "-o", str(page), environment={}).returncode == 0
    assert "36 results and 4 errors" in page.read_text()


def test_a_worker_whose_program_is_gone_before_it_begins_does_nothing() -> None:
    program, worker = socket.socketpair()
    program.sendall(b"no job\n")
    program.close()
    with worker:
        words = [sys.executable, "-m", "runner", "work", str(worker.fileno())]
        done = subprocess.run(words, cwd=ROOT, pass_fds=[worker.fileno()], capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
