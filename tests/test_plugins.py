"""Plug-ins: metrics of the user's files and of installed packages, and task types of packages."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import runner
from runner.cli.main import main
from runner.config.loading import load_config
from runner.errors import ConfigError
from runner.pipeline.resume import identity_of
from runner.processes.pool import Calls, ProcessPool
from runner.tasks import plugged
from runner.tasks.plugged import PluggedConfiguration, PlugIn
from runner.types import Failure, Item, Sample, Value
from tests.calls import InThisProcess
from tests.commands import Project, ask, questions
from tests.serving import Served

#: A file as a user has it beside a config.
CHECKS = """
import json
import numbers_of_mine

def length(candidate, reference=None, *, at_most=100, words=None):
    print("looking at", candidate)
    return {"value": len(candidate) <= at_most, "output": f"{len(candidate)} {reference} {words}"}

async def later(candidate, reference, **settings):
    import asyncio
    await asyncio.sleep(0)
    return numbers_of_mine.half(len(settings))

def broken(candidate, reference):
    return json.loads("{" + candidate)

def only(candidate):
    return 1.0

CONSTANT = 5
"""
BESIDE = "def half(number):\n    return number / 2\n"
#: The module of a package with entry points.
PACKAGE = """
from typing import Any, Literal
from runner.tasks.base import TaskConfig, without_request
from runner.tasks.fields import VerbatimModel
from runner.types import Value

def vowels(candidate, reference, *, of="aeiou"):
    return sum(letter in of for letter in candidate)

class ShoutConfiguration(VerbatimModel):
    text: str

class Shout:
    task_type, model = "shout", None

    def __init__(self, alias, text):
        self.alias, self.text = alias, text

    async def run(self, sample, item):
        return without_request(sample, self.alias, self.task_type, Value(None, self.text.upper()))

class ShoutConfig(TaskConfig):
    task_type: Literal["shout"]
    configuration: ShoutConfiguration

    def build(self, execute, files, calls):
        return Shout(self.name, self.configuration.text)

class Unbuilt(TaskConfig):
    configuration: ShoutConfiguration
"""


def package(directory: Path, name: str, version: str, *, metrics: str = "", tasks: str = "", source: str = PACKAGE) -> None:
    """Install a package: what an installer leaves of it."""
    about = directory / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[runner.metrics]\n{metrics}\n[runner.tasks]\n{tasks}\n")
    (directory / f"{name}.py").write_text(source)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = tmp_path / "site"
    metrics = "vowels = acme:vowels\ngone = acme_gone:f\nnone = acme:nothing"
    tasks = "shout = acme:ShoutConfig\nwrong = acme:vowels\nunbuilt = acme:Unbuilt\nabsent = acme_gone:C"
    package(directory, "acme", "1.2", metrics=metrics, tasks=tasks)
    monkeypatch.syspath_prepend(str(directory))
    yield directory
    sys.modules.pop("acme", None)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served() as served:
        yield served


def metric(kind: str, alias: str = "", **settings: Any) -> dict[str, Any]:
    found = {"task_type": "metric", "configuration": {"type": kind, "candidate": "item.answer", **settings}}
    return found | ({"alias": alias} if alias else {})


def project(tmp_path: Path, url: str, *tasks: dict[str, Any], rows: int = 3) -> Project:
    made = Project(tmp_path / "p", url, rows=questions(rows), tasks=[ask(), *tasks], limits={"fail_on_error": 1.0})
    (made.directory / "checks.py").write_text(CHECKS)
    (made.directory / "numbers_of_mine.py").write_text(BESIDE)
    return made


def values(rows: list[dict[str, Any]], task: str) -> list[tuple[float | None, str | None]]:
    return [(row["value"], row["output"]) for row in rows if row["task"] == task]


# --- a run ---


@pytest.mark.long
def test_functions_of_files_and_packages_judge(tmp_path: Path, server: Served, installed: Path) -> None:
    tasks = [
        metric("checks.py:length", reference="item.n", at_most=10, words=["item.n", "{{ item.id }}"]),
        metric("checks.py:later", "two", a=1, b="item.question", c=None),
        metric("vowels", of="aou"),
        metric("checks.py:broken"),
        {"task_type": "shout", "configuration": {"text": "hey"}},
    ]
    made = project(tmp_path, server.url, *tasks)
    done = made.run_here()
    assert done.returncode == 0, done.stderr
    results, errors = made.results(), made.errors()
    assert values(results, "length") == [(1.0, f"10 {n} [{n}, 'row-{n}']") for n in range(3)]
    assert values(results, "two") == [(1.5, f"question {n}") for n in range(3)]
    assert values(results, "vowels") == [(2.0, f"question {n}") for n in range(3)]
    assert values(results, "shout") == [(None, "HEY")] * 3
    line = CHECKS.split("\n").index('    return json.loads("{" + candidate)') + 1
    for error in errors:
        assert error["task"] == "broken"
        assert error["error_type"] == "template"
        assert f"(checks.py:{line}, in json/decoder.py:" in error["message"]
        assert error["message"].startswith("checks.py:broken: JSONDecodeError: ")
    assert len(errors) == 3
    files = {
        name: hashlib.sha256((made.directory / name).read_bytes()).hexdigest() for name in ("checks.py", "numbers_of_mine.py")
    }
    about = made.evaluation["plug_ins"]
    assert about["checks.py:length"] == files
    assert about["vowels"] == about["shout"] == {"package": "acme", "version": "1.2"}


@pytest.mark.long
def test_with_workers_and_judged_again(
    tmp_path: Path, server: Served, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project(tmp_path, server.url, metric("vowels"), metric("checks.py:length"), rows=12)
    done = made.run_here("--processes", "2")
    assert done.returncode == 0, done.stderr
    assert values(made.results(), "length") == [(1.0, f"{len(f'question {n}')} None None") for n in range(12)]
    assert len(values(made.results(), "vowels")) == 12
    asked = len(server.seen)
    run = made.run_dir
    (made.directory / "checks.py").write_text("def length(candidate, reference):\n    return 7")
    rescored: Any = runner.rescore(run, made.config, progress=False)
    assert rescored.totals["metrics"]["length"]["mean"] == 7.0
    # The copy in a run's directory names the file wherever it is read.
    monkeypatch.chdir(tmp_path)
    config, _ = load_config(run / "config.yaml", (), {})
    assert identity_of(config) == identity_of(load_config(made.config, (), {})[0])
    assert set(config.plug_ins) == {"vowels", f"{made.directory / 'checks.py'}:length"}
    assert len(server.seen) == asked


@pytest.mark.long
def test_a_resume_with_other_code_is_refused_by_its_name(tmp_path: Path, server: Served, installed: Path) -> None:
    made = project(tmp_path, server.url, metric("checks.py:later"), metric("vowels"))
    assert made.run_here("--limit", "1").returncode == 0
    same = made.run_here("--limit", "2", "--resume")
    assert same.returncode == 0, same.stderr
    (made.directory / "numbers_of_mine.py").write_text(BESIDE + "\n")
    refused = made.run_here("--resume")
    assert refused.returncode == 2
    assert "tasks.1: numbers_of_mine.py has changed since the run began" in refused.stderr
    (made.directory / "numbers_of_mine.py").write_text(BESIDE)
    (installed / "acme-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.3\n")
    refused = made.run_here("--resume")
    assert "tasks.2: acme has changed since the run began" in refused.stderr
    assert "tasks.1" not in refused.stderr


@pytest.mark.long
def test_from_python_a_file_is_found_from_where_one_stands(
    tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project(tmp_path, server.url, metric("checks.py:length"))
    monkeypatch.chdir(made.directory)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run: Any = runner.evaluate(json.loads(made.config.read_text()), progress=False)
    assert run.totals["metrics"]["length"]["mean"] == 1.0


# --- what is refused before anything is sent ---


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            metric("checks.py:length", words=1, colour=2),
            "configuration.colour: {}/checks.py: length takes no such setting; known are: at_most, words",
        ),
        (metric("checks.py:broken", x=1), "configuration.x: {}/checks.py: broken takes no such setting; it takes none"),
        (
            metric("checks.py:only"),
            "configuration.type: {}/checks.py: only takes (candidate); it is called as (candidate, reference",
        ),
        (metric("checks.py:none"), "configuration.type: {}/checks.py: none cannot be loaded: there is no 'none' in it"),
        (metric("checks.py:CONSTANT"), "configuration.type: {}/checks.py: CONSTANT is not a function"),
        (metric("sub/checks.py:f"), "configuration.type: 'sub/checks.py:f': there is no file {}/sub/checks.py"),
        (metric("checks.py:"), "configuration.type: 'checks.py:' should name a function, such as checks.py:score"),
        (
            metric("bad.py:f"),
            "configuration.type: {}/bad.py: f cannot be loaded: ZeroDivisionError: division by zero (bad.py:2)",
        ),
        (
            metric("syntax.py:f"),
            "configuration.type: {}/syntax.py: f cannot be loaded: SyntaxError: invalid syntax (syntax.py:1)",
        ),
        (metric("needs.py:f"), "configuration.colour: is missing; {}/needs.py: f needs it"),
        (metric("exits.py:f"), "configuration.type: {}/exits.py: f cannot be loaded: its process died (exit code 7)"),
        (
            metric("gone"),
            "configuration.type: gone of acme 1.2 cannot be loaded: ModuleNotFoundError: No module named 'acme_gone'",
        ),
        (metric("none"), "configuration.type: none of acme 1.2 cannot be loaded: there is no 'nothing' in it"),
        (metric("twice"), "configuration.type: 'twice' is offered by acme_one 1.0 and by acme_two 2.0; uninstall all but one"),
        (metric("vowel"), "configuration.type: should be 'exact_match', "),
        ({"task_type": "wrong", "configuration": {}}, "task_type: 'wrong' of acme 1.2: acme:vowels is not a subclass of"),
        (
            {"task_type": "unbuilt", "configuration": {}},
            "task_type: 'unbuilt' of acme 1.2: acme:Unbuilt has no method build(self, execute",
        ),
        (
            {"task_type": "absent", "configuration": {}},
            "task_type: 'absent' of acme 1.2: acme_gone:C cannot be loaded: ModuleNotFoundError",
        ),
        ({"task_type": "shout", "configuration": {}}, "configuration.text: is missing"),
        ({"task_type": "whisper", "configuration": {}}, "task_type: 'whisper' is not a task type"),
    ],
    ids=lambda value: str(value.get("configuration", {}).get("type") or value["task_type"]) if isinstance(value, dict) else "",
)
def test_what_cannot_be_used_is_said_before_anything_is_sent(
    tmp_path: Path, installed: Path, task: dict[str, Any], said: str
) -> None:
    package(installed, "acme_one", "1.0", metrics="twice = acme:vowels")
    package(installed, "acme_two", "2.0", metrics="twice = acme:vowels")
    made = project(tmp_path, "http://127.0.0.1:9/v1", task)
    for name, source in (
        ("bad", "\n1 / 0"),
        ("syntax", "def f(:"),
        ("needs", "def f(a, b, colour): ..."),
        ("exits", "import os; os._exit(7)"),
    ):
        (made.directory / f"{name}.py").write_text(source)
    with pytest.raises(ConfigError) as refused:
        load_config(made.config, (), {})
    (mistake,) = refused.value.mistakes
    assert f": tasks.1.{said.format(made.directory)}" in mistake


@pytest.mark.long
def test_what_is_built_in_has_no_other_meaning(tmp_path: Path, installed: Path) -> None:
    package(installed, "acme_same", "3.0", metrics="exact_match = acme:vowels")
    made = project(tmp_path, "http://127.0.0.1:9/v1", metric("vowels"), metric("exact_match", reference="x"))
    with pytest.raises(ConfigError, match=r"'exact_match' is built in, and acme_same 3\.0 offers it too"):
        load_config(made.config, (), {})


def test_a_row_names_no_function(tmp_path: Path, server: Served) -> None:
    made = project(tmp_path, server.url, metric("item.id", reference="x"))
    made.rows = [{"id": "checks.py:length", "question": "q"}]
    made.write()
    assert made.run_here().returncode == 0
    (error,) = made.errors()
    assert error["message"].startswith("configuration.type: 'checks.py:length' is not one of exact_match, ")


@pytest.mark.long
def test_the_schema_has_what_is_installed(tmp_path: Path, installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(
        project(
            tmp_path, "http://x/v1", metric("vowels"), {"task_type": "shout", "configuration": {"text": "x"}}
        ).config.read_text()
    )
    for name in ("wrong", "unbuilt", "absent"):
        text = (installed / "acme-1.2.dist-info" / "entry_points.txt").read_text()
        (installed / "acme-1.2.dist-info" / "entry_points.txt").write_text(
            "\n".join(one for one in text.split("\n") if not one.startswith(name))
        )
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schema)
    document["tasks"][2]["configuration"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
    bare = json.loads((Path(__file__).parents[1] / "configs" / "schema.json").read_text())
    assert "vowels" not in json.dumps(bare)


# --- a call ---

RETURNS: list[tuple[str, Value | str]] = [
    ("True", Value(1.0, "hi")),
    ("0", Value(0.0, "hi")),
    ("{'value': 0.5, 'output': None}", Value(0.5, None)),
    ("{'value': 1, 'output': [1]}", Value(1.0, "[1]")),
    ("{'value': 1}", Value(1.0, "hi")),
    ("__import__('numpy').float32(0.5)", Value(0.5, "hi")),
    ("None", "no_verdict: no verdict: c.py:f returned None"),
    ("{'output': 'x'}", "no_verdict: no verdict: c.py:f returned None"),
    ("'1'", "template: c.py:f returned '1', and not a number, true, false or None"),
    ("[1]", "template: c.py:f returned [1], and not a number"),
    ("{'score': 1}", "template: c.py:f returned the keys 'score', and may return `value` and `output`"),
    ("float('nan')", "template: c.py:f returned nan; a value is a number up to 1e+100"),
    ("10 ** 400", "template: c.py:f returned a number; a value is a number up to 1e+100"),
    ("-1e101", "template: c.py:f returned -1e+101; a value is a number up to 1e+100"),
    ("-1e100", Value(-1e100, "hi")),
    ("object()", "template: c.py:f: its value cannot be given back"),
    ("1 / 0", "template: c.py:f: ZeroDivisionError: division by zero (c.py:2)"),
    ("exit(3)", "template: c.py:f: SystemExit: 3 (c.py:2)"),
    ("__import__('os').abort()", "template: c.py:f: its process died (SIGABRT)"),
    ("__import__('time').sleep(60)", "template: c.py:f: it takes more than 1.5 s"),
    ("sum(iter(int, 1))", "template: c.py:f: it takes more than 1.5 s"),
    ("__import__('os').write(1, b'noise') and 1", Value(1.0, "hi")),
    ("__import__('mmap').mmap(-1, 2 << 30) and 1", Value(1.0, "hi")),
    ("bytearray(1 << 36)", "template: c.py:f: it needs too much memory"),
]


@pytest.mark.long
async def test_what_a_function_does_costs_its_row_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugged, "_SECONDS", 1.5)
    pool = ProcessPool()
    try:
        for number, (expression, expected) in enumerate(RETURNS):
            path = tmp_path / str(number) / "c.py"
            path.parent.mkdir()
            path.write_text(f"def f(candidate, reference):\n    return {expression}\n")
            answer = await judged(path, pool)
            if isinstance(expected, Value):
                assert answer == expected, expression
            else:
                assert isinstance(answer, Failure), expression
                assert f"{answer.error_type}: {answer.message}".startswith(expected)
    finally:
        await pool.close()


async def judged(path: Path, pool: Calls, **files: str) -> Any:
    settings = PluggedConfiguration.model_validate({"type": "c.py:f", "candidate": "item.c"})
    settings.found_as(PlugIn(name="c.py:f", place={"file": str(path), "name": "f", "files": files}, code={}))
    task = settings.task("f", pool)
    item = Item(item_id="1", index=0, row={"c": "hi"}, place="")
    return (await task.run(Sample(item, 0), item.row)).outcome.answer


async def test_a_call_has_ten_seconds_of_the_clock() -> None:
    class Noting(InThisProcess):
        async def call(self, function: str, *args: Any, seconds: float = 1.0, within: float | None = None) -> Any:
            assert (seconds, within) == (10, 10)
            return 1

    assert await judged(Path("c.py"), Noting()) == Value(1.0, "hi")


async def test_a_file_that_is_changed_meanwhile_stops_the_run(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_text("def f(a, b): return 1")
    pool = ProcessPool()
    try:
        with pytest.raises(runner.errors.RunStopped, match="has changed since the run began"):
            await judged(path, pool, **{str(path): "another"})
    finally:
        await pool.close()


async def test_loading_is_no_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugged, "_SECONDS", 1.5)
    path = tmp_path / "c.py"
    path.write_text("import time\ntime.sleep(0.5)\ndef f(a, b): return 1")
    pool = ProcessPool()
    try:
        assert await judged(path, pool) == Value(1.0, "hi")
    finally:
        await pool.close()
