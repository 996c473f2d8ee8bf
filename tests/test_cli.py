"""The command says what is wrong before anything is sent, answers with the promised exit code, and runs what it ships."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.cli import main as cli
from runner.cli.main import main
from runner.cli.run import _resume
from runner.cli.words import parsed
from runner.config.model import schema
from runner.evaluation import Resume
from tests.commands import ask, metric
from tests.serving import Served
from tests.variations import some

ROOT = Path(__file__).parent.parent
RIGHT = metric(reference="item.right")
EVAL = str(ROOT / "configs" / "eval.yaml")
PATIENCE_S = 50


@dataclass
class Said:
    """What a command printed and returned."""

    code: int
    out: str
    err: str


def runner(*words: str | Path, environment: Mapping[str, str] | None = None) -> Said:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and "KEY" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "runner", *map(str, words)],
        cwd=ROOT,
        env=kept | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def within(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Return the command without a process of its own, which takes a second to start."""

    def run(*words: str | Path) -> Said:
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(str(end.code))
        return Said(code, *capsys.readouterr())

    return run


def project(folder: Path, *, rows: list[Any], url: str = "http://127.0.0.1:9", **more: Any) -> Path:
    """Write a config, which as JSON is YAML too, and a dataset; what is no object is written as it is."""
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "rows.jsonl").write_text("".join(f"{text}\n" for text in texts))
    config = {
        "name": "trial",
        "dataset": {"path": str(folder / "rows.jsonl")},
        "endpoint": {"base_url": url},
        "tasks": [ask()],
        "output": str(folder / "results"),
    } | more
    path = folder / "config.yaml"
    path.write_text(json.dumps(config, indent=1))
    return path


def test_five_mistakes_are_five_messages_and_nothing_is_sent(tmp_path: Path, within: Callable[..., Said]) -> None:
    with Served() as served:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"""\
name: a/b
dataset: {{path: rows.jsonl, idd: id}}
endpoint: {{base_url: "{served.url}", api_key_env: NO_SUCH_VARIABLE}}
tasks:
  - task_type: chat_completion
    configuration: {{model: m, messages: [{{role: user, content: "{{{{item.a"}}]}}
limits: {{concurency: 3}}
output: {tmp_path / "results"}
"""
        )
        said = within(path)
        assert served.seen == []
    assert (said.code, said.out) == (2, "")
    assert [line.removeprefix(f"{tmp_path}/").split(": ")[:2] for line in said.err.splitlines()] == [
        ["config.yaml:1", "name"],
        ["config.yaml:2", "dataset.idd"],
        ["config.yaml:3", "endpoint.api_key_env"],
        ["config.yaml:6", "tasks.0.configuration.messages.0.content"],
        ["config.yaml:7", "limits.concurency"],
    ]
    assert "did you mean `concurrency`?" in said.err
    assert not (tmp_path / "results").exists()


def test_a_key_that_no_header_may_hold_is_not_shown(
    tmp_path: Path, within: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-CANARY\nX-Evil: 1")
    said = within(
        project(tmp_path, rows=[{"question": "?"}], endpoint={"base_url": "http://127.0.0.1:9", "api_key_env": "MY_KEY"})
    )
    assert said.code == 2
    assert "the key in MY_KEY has characters that are not allowed in an HTTP header" in said.err
    assert "CANARY" not in said.out + said.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "{{item.qestion}}",
            "tasks.0.configuration.messages.0.content: `item.qestion` is not a column of the dataset, nor the",
        ),
        (
            "item.anwser",
            "`item.anwser` is not a column of the dataset, nor the alias of another task; there is: question, right",
        ),
    ],
)
def test_a_field_that_no_row_has_is_a_mistake(tmp_path: Path, content: str, message: str, within: Callable[..., Said]) -> None:
    said = within(project(tmp_path, rows=[{"question": "?", "right": 1}], tasks=[ask(content=content)]))
    assert said.code == 2
    assert message in said.err
    assert not (tmp_path / "results").exists()


def test_a_dataset_that_is_not_there_is_refused(tmp_path: Path, within: Callable[..., Said]) -> None:
    said = within(project(tmp_path, rows=[], dataset="no.jsonl"), "--limit", "3")
    assert (said.code, said.out) == (2, "")
    assert said.err == f"no.jsonl: there is no such file (the path is relative to {Path.cwd()})\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["run"], "the following arguments are required: CONFIG.yaml"),
        (["no.yaml"], "no.yaml: there is no such file (the path is relative to "),
        (["run", "--resume"], "the following arguments are required: CONFIG.yaml"),
        ([EVAL, "--retry-errors"], "--retry-errors needs --resume"),
        ([EVAL, "--or-new"], "--or-new needs --resume"),
        ([EVAL, "--new-base-url"], "--new-base-url needs --resume"),
        ([EVAL, "--resume", "no-such-run"], "no-such-run: there is no such run; the latest in results/primer: "),
        ([EVAL, "--limit", "0"], "dataset.limit: 0 asks for no row; to check everything and send nothing, use --dry-run"),
        ([EVAL, "--limit", "many"], "argument --limit: should be a whole number of at least 0, got 'many'"),
        ([EVAL, "--limit", "-1"], "argument --limit: should be a whole number of at least 0, got '-1'"),
        ([EVAL, "--processes", "0"], "argument --processes: should be a whole number of at least 1, got '0'"),
        ([EVAL, "--processes", "2", "--workers", "3"], "--processes N is short for --engine processes --workers N"),
        ([EVAL, "--engine", "spark"], "argument --engine: invalid choice: 'spark'"),
        (
            ["configs/eval.yaml", "--set", "limits.concurrency=ten", "--set", "x"],
            "limits.concurrency: should be a number or `auto`",
        ),
        ([EVAL, "--zap"], "runner run: error: unknown: --zap\n"),
        ([EVAL, "--dryrun"], "runner run: error: unknown: --dryrun; did you mean `--dry-run`?"),
        (
            [EVAL, "--set", "limits.concurrency", "8"],
            "--set limits.concurrency: write --set limits.concurrency=VALUE, in one word",
        ),
        (["--set", "a.b", "8", EVAL], "runner run: error: --set a.b: write --set a.b=VALUE, in one word"),
        (["--proceses=3", EVAL], "runner run: error: unknown: --proceses=3; did you mean `--processes`?"),
        (["report", "a", "--itmes", "all"], "runner report: error: unknown: --itmes all; did you mean `--items`?"),
        (["chekc", EVAL], "there is no command and no config 'chekc'; did you mean `check`?"),
        (["exprot"], "there is no command and no config 'exprot'; did you mean `export`?"),
    ],
)
def test_wrong_usage_ends_with_2(words: list[str], message: str, within: Callable[..., Said]) -> None:
    said = within(*words)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert "Traceback" not in said.err


@pytest.mark.long
@pytest.mark.parametrize("words", [["eval.yaml"], ["schema"], ["compare", "a", "b"]])
def test_a_working_directory_that_is_gone_is_refused(tmp_path: Path, words: list[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    leave = "import os, sys; os.rmdir(os.getcwd()); from runner.cli.main import program; program()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", leave, *words]
    said = subprocess.run(command, cwd=gone, env=environment, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "the working directory is gone; change to one that exists: cd DIRECTORY\n"


def test_what_only_prints_does_not_fail_where_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project(tmp_path, rows=[{"question": "?"}], url="http://127.0.0.1:9", tasks=[ask()])
    for words in ([str(path), "--dry-run"], ["--version"]):
        reads, writes = os.pipe()
        os.close(reads)
        with os.fdopen(writes, "w", buffering=1) as nobody:  # as a terminal's, each line at once
            monkeypatch.setattr(sys, "stdout", nobody)
            with suppress(SystemExit):
                assert main(words) == 0


@pytest.mark.parametrize(
    ("words", "run"),
    [
        ("CONFIG --resume latest", "latest"),
        ("CONFIG --resume", None),
        ("--resume CONFIG", None),
        ("run --resume CONFIG", None),
        ("--resume --limit 3 CONFIG", None),
        ("--limit 3 --resume CONFIG", None),
        ("--resume CONFIG --limit 3", None),
        ("--no-progress CONFIG --resume --retry-errors", None),
        ("CONFIG --resume RUN", "RUN"),
        ("CONFIG --resume=RUN --or-new", "RUN"),
        ("--resume RUN CONFIG", "RUN"),
        ("--resume RUN --limit 3 CONFIG", "RUN"),
        ("CONFIG --limit 3 --resume id-of.a-run", "id-of.a-run"),
        ("--resume CONFIG RUN", "RUN"),
    ],
)
def test_a_run_may_be_named_behind_resume_and_the_config_may_stand_there_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, run: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("CONFIG").touch()
    Path("RUN").mkdir()
    arguments = parsed(words.split(), cli.COMMANDS)
    resume = _resume(arguments)
    assert arguments.config == Path("CONFIG")
    assert isinstance(resume, Resume)
    assert resume.run == run


def test_no_words_are_wrong_usage_of_the_real_command_too() -> None:
    said = runner()
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("usage: runner [-h] [--version] COMMAND ...")


def test_the_version_is_said_and_help_leads_to_the_options_of_a_run(within: Callable[..., Said]) -> None:
    assert within("--version").out.startswith("runner ")
    assert "runner run --help" in within("--help").out
    assert "\nServe evaluations over HTTP" in within("serve", "--help").out


def test_a_config_in_a_file_that_is_named_like_a_command_nearly_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: Callable[..., Said]
) -> None:
    project(tmp_path, rows=[{"question": "?"}]).rename(tmp_path / "chekc")
    monkeypatch.chdir(tmp_path)
    assert within("chekc", "--dry-run").code == 0


@pytest.mark.long
def test_the_schema_is_printed(within: Callable[..., Said]) -> None:
    said = within("schema")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == schema()


def test_a_dry_run_renders_every_row_and_sends_nothing(tmp_path: Path, within: Callable[..., Said]) -> None:
    rows = [{"id": n, "question": f"What is {n} “é”?", "right": n} for n in range(4)]
    tasks = [ask(samples=3), ask("judge", "Is {{item.answer}} right?"), RIGHT]
    tasks[1]["configuration"]["temperature"] = 0.5
    with Served() as served:
        said = within(project(tmp_path, rows=rows, url=served.url, tasks=tasks), "--dry-run")
        assert served.seen == []
    assert (said.code, said.err) == (0, "")
    first, *body, last = said.out.splitlines()
    assert first == f"first request: POST {served.url}/chat/completions"
    assert json.loads("\n".join(body)) == {"model": "m", "messages": [{"role": "user", "content": "What is 0 “é”?"}]}
    assert last == "4 rows, 0 of them bad; 24 requests would be sent"
    assert not (tmp_path / "results").exists()


def test_a_dry_run_needs_no_key_and_says_that_a_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: Callable[..., Said]
) -> None:
    endpoint = {"base_url": "http://127.0.0.1:9", "api_key_env": "KEY_OF_NOBODY"}
    (tmp_path / "header").mkdir()
    of_header = {"base_url": "http://127.0.0.1:9", "headers": {"x-key": "${KEY_OF_NOBODY}"}}
    for_header = within(project(tmp_path / "header", rows=[{"question": "?"}], endpoint=of_header), "--dry-run")
    assert (for_header.code, for_header.err) == (0, "")
    assert "endpoint.headers.x-key: the environment variable KEY_OF_NOBODY is not set" in for_header.out.splitlines()[-1]
    path = project(tmp_path, rows=[{"question": "?"}], endpoint=endpoint)
    said = within(path, "--dry-run")
    lack = "endpoint.api_key_env: the environment variable KEY_OF_NOBODY is not set or empty"
    lack += "; set it with export KEY_OF_NOBODY=…"
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-1].startswith("before they can be sent: ")
    assert said.out.endswith(f"{lack}\n")
    said = within(path)
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith(f"{lack}\n")
    monkeypatch.setenv("KEY_OF_NOBODY", "a-key")
    assert "before" not in within(path, "--dry-run").out


@pytest.mark.long
def test_a_terminal_without_a_character_gets_a_question_mark(tmp_path: Path) -> None:
    said = runner(EVAL, "--limit", "3", "--output", tmp_path, environment={"PYTHONIOENCODING": "ascii"})
    assert said.code == 0
    assert "3 answered in 3 attempts" in said.out


@pytest.mark.parametrize(("allowed", "code"), [(3, 0), (2, 1), (0.5, 0), (0.49, 1)])
def test_a_dry_run_names_bad_rows_and_counts_them(
    tmp_path: Path, allowed: float, code: int, within: Callable[..., Said]
) -> None:
    rows = [
        {"id": "a", "question": "?", "right": "x"},
        {"id": "b", "right": "x"},
        "{bad",
        {"id": "c", "question": "?", "right": "x"},
        {"id": "d", "question": "?"},
        {"id": "e", "question": "?", "right": "x"},
    ]
    path = project(
        tmp_path,
        rows=rows,
        tasks=[ask(), RIGHT],
        dataset={"path": str(tmp_path / "rows.jsonl"), "id": "id"},
        limits={"fail_on_error": allowed},
    )
    said = within(path, "--dry-run")
    assert said.code == code
    place = f"bad row: {tmp_path}/rows.jsonl"
    bad = [line for line in said.out.splitlines() if line.startswith("bad row: ")]
    assert [line.partition("; ")[0] for line in bad] == [
        f"{place}:2 (b): configuration.messages.0.content: `item` has no attribute 'question'",
        f"{place}:3: not JSON: Expecting property name enclosed in double quotes at character 1",
        f"{place}:5 (d): configuration.reference: `item.right` is not there",
    ]
    assert said.out.splitlines()[-1] == "6 rows, 3 of them bad; 4 requests would be sent"


def test_a_dry_run_shows_fifty_bad_rows_and_five_of_a_kind(tmp_path: Path, within: Callable[..., Said]) -> None:
    others = [{"question": "?", "id": "a" * n} for n in range(1, 60)]
    rows = [{"question": "?", "id": "x", "right": "x"}, *["bad"] * 60, *others]
    where = {"path": str(tmp_path / "rows.jsonl"), "id": "id"}
    said = within(project(tmp_path, rows=rows, tasks=[ask(), RIGHT], dataset=where), "--dry-run")
    lines = said.out.splitlines()
    shown = [line for line in lines if line.startswith("bad row: ")]
    assert ["not JSON" in line for line in shown[:6]] == [True] * 5 + [False]
    assert len(shown) == 51
    assert "bad row: … and 69 more" in lines
    assert lines[-1] == "120 rows, 119 of them bad; 60 requests would be sent"


def test_a_dry_run_does_not_judge_by_what_only_stands_in(tmp_path: Path, within: Callable[..., Said]) -> None:
    tasks = [
        ask(),
        ask("key"),
        metric(type="numeric", reference="item.key"),
        ask("next", "{% if item.correct > 0.5 %}{{item.correct + 1}}{% endif %}"),
    ]
    said = within(project(tmp_path, rows=[{"question": "?"}], tasks=tasks), "--dry-run")
    assert said.out.splitlines()[-1] == "1 rows, 0 of them bad; 3 requests would be sent"
    assert said.code == 0


def test_the_shipped_evaluation_runs_without_network(tmp_path: Path) -> None:
    said = runner("configs/eval.yaml", "--output", tmp_path)
    assert said.code == 0, said.err
    assert "480 results, 0 errors" in said.out
    assert "every unit exactly once: 480 + 0 = 480" in said.out
    (accuracy,) = [line for line in said.out.splitlines() if line.split()[0] == "correct"]
    assert "n = 240" in accuracy
    run = (tmp_path / "primer" / "latest").resolve()
    assert str(run) in said.out
    results = pq.read_table(run / "results.parquet")
    assert results.num_rows == 480
    assert pq.read_metadata(run / "errors.parquet").num_rows == 0
    correct = [one["value"] for one in results.to_pylist() if one["task"] == "correct"]
    assert float(accuracy.split()[1]) == pytest.approx(sum(correct) / 240, abs=1e-4)


def test_limit_set_and_output_say_what_is_asked(
    tmp_path: Path, within: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": f"question {n}"} for n in range(10)]
    output = tmp_path / "é 😀"
    with Served() as served:
        path = project(tmp_path, rows=rows, url=served.url, dataset=str(tmp_path / "rows.jsonl"))
        words = ["--set", "tasks.0.configuration.temperature=${HEAT:-1e-1}", "--set", "tasks.0.configuration.model='7'"]
        monkeypatch.setenv("HEAT", "0.5")
        said = within(path, "--limit", "3", *words, "--output", output)
        assert said.code == 0, said.err
        assert sorted(one.body["messages"][0]["content"] for one in served.seen) == [f"question {n}" for n in range(3)]
        assert {(one.body["model"], one.body["temperature"]) for one in served.seen} == {("7", 0.5)}
        (run,) = (output / "trial").glob("2*")
        # re-running the copy asks the same, with the variable put in anew
        monkeypatch.setenv("HEAT", "0.25")
        again = within(run / "config.yaml")
        assert again.code == 0, again.err
        assert [(one.body["model"], one.body["temperature"]) for one in served.seen[3:]] == [("7", 0.25)] * 3


@pytest.mark.long
def test_a_signal_that_comes_when_all_is_done_does_not_change_the_exit_code() -> None:
    numbers = [int(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    late = f"import atexit, os, runpy; atexit.register(lambda: [os.kill(os.getpid(), number) for number in {numbers}]); "
    words = "import sys; sys.argv = ['runner', 'schema']; "
    program = [sys.executable, "-c", f"{late}{words}runpy.run_module('runner', run_name='__main__')"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- what a command loads ---


LOUD = {"PYTHONPROFILEIMPORTTIME": "1"}


def loaded(said: Said) -> set[str]:
    """Return the modules that a command with `LOUD` has imported."""
    lines = (line for line in said.err.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.long
def test_neither_a_run_nor_an_export_of_text_loads_numpy(tmp_path: Path) -> None:
    """pyarrow would load it where it is, in the middle of the run, for twice the time of its own."""
    with Served() as served:
        config = project(tmp_path, rows=[{"question": "q"}], url=served.url)
        said = runner(config, environment=LOUD)
    assert said.code == 0, said.err
    export = runner("export", tmp_path / "results" / "trial" / "latest", environment=LOUD)
    assert export.code == 0, export.err
    for modules in (loaded(said), loaded(export)):
        assert "pyarrow.parquet" in modules
        assert not {"numpy", "pandas"} & modules


@pytest.mark.long
@pytest.mark.parametrize("others", some([1, 0], 1))
def test_nanoseconds_in_a_file_that_pyarrow_reads_need_numpy_and_have_it(tmp_path: Path, others: int) -> None:
    path = project(tmp_path, rows=[{"question": "q"}])
    table = pa.table({"question": ["q"], "at": pa.array([1], pa.timestamp("ns"))})
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    config = json.loads(path.read_text())
    # Also behind another file its first rows are read when the dataset is opened.
    config["dataset"]["path"] = [str(tmp_path / "rows.jsonl")] * others + [str(tmp_path / "rows.arrow")]
    with Served() as served:
        config["endpoint"]["base_url"] = served.url
        path.write_text(json.dumps(config))
        said = runner(path)
    assert said.code == 0, said.err
    results = pq.read_table(tmp_path / "results" / "trial" / "latest" / "results.parquet")
    assert [json.loads(item).get("at") for item in results["item"].to_pylist()][others:] == ["1970-01-01T00:00:00.000000001"]


@pytest.mark.long
def test_the_collector_looks_seldom_in_the_program_and_as_before_elsewhere(within: Callable[..., Said]) -> None:
    code = "import gc, atexit; atexit.register(lambda: print(gc.get_threshold()[:2], gc.isenabled())); import runner.__main__"
    words = [sys.executable, "-c", code, "schema"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout.endswith("\n(50000, 50) True\n")
    before = gc.get_threshold()
    within("schema")
    assert gc.get_threshold() == before
