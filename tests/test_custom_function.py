"""The task type `custom_function`: what a client's function may do, and that whatever it does costs its own row only."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.evaluation import prepare
from runner.processes import confinement
from tests.service import Running, chat, running_service

ENABLED = "custom_function: true"
RATIO = 'def ratio(a, b="Hello wrold"):\n    import difflib\n    return difflib.SequenceMatcher(None, a, b).ratio()'
#: Gets around what functions find by name: what stops it then is the kernel.
AROUND = 'import collections\n    os = collections._sys.modules["os"]\n    '
HOSTILE = {
    "file": ("open('/etc/passwd')", "NameError"),
    "import": ("__import__('os').getpid()", "imports 'os'"),
    "late": ("__import__('json.tool', fromlist=['main'])", "imports 'json.tool'"),
    "file_around": (AROUND + "return len(os.listdir('/'))", "Too many open files"),
    "fork": (AROUND + "return os.fork()", "Resource temporarily unavailable"),
    "kill": (AROUND + "os.kill(os.getppid(), 9)", "Operation not permitted"),
    "environment": (AROUND + "return str(os.environ)", "returned a str"),
    "died": (AROUND + "os._exit(0)", "its process died"),
    "memory": ("return [0] * 10**11", "it needs too much memory"),
    "base": ("class End(BaseException): pass\n    raise End", "its process died"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "raised": ("return {}[x]", "KeyError: 'row' (line 2)"),
    "bool": ("return True", "returned a bool, and not an int or a float"),
    "none": ("pass", "returned a NoneType"),
    "text": ("return x * 10**6", "returned a str"),
    "nan": ("return float('nan')", "returned nan, which no column can hold"),
    "huge": ("return 10**5000", "which no column can hold"),
    "huger": ("return 10**400", "which no column can hold"),
    "own_name": ("eval('1')", "NameError"),
}


def function(source: str, alias: str | None = None, **more: Any) -> dict[str, Any]:
    task = {"task_type": "custom_function", "configuration": {"function_source": source, **more}}
    return task if alias is None else {**task, "alias": alias}


running = running_service(more=f"{ENABLED}\nlimits: {{tasks: 60}}")


def dry(running: Running, source: str, *rows: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    body = {"task_type": "custom_function", "configuration": {"function_source": source, **more}, "sample_data": rows}
    status, found = running.ask("POST", "/v5/evaluations/tasks/dry-run", body)
    assert status == 200, found
    return list(found["results"])


@pytest.mark.long
def test_a_function_reads_columns_answers_and_constants(running: Running) -> None:
    rows: list[dict[str, Any]] = [{"a": "Hello world", "n": 1}, {"a": "Hello world", "n": None}]
    mapped = function("def near(text, n, scale):\n    return len(text) * scale + n", arg_mapping={"text": "item.r"})
    mapped["configuration"]["config_args"] = {"scale": 2}
    templated = function('def tag(text):\n    return float(text == f"{{<{1}>}} {{%")', "t", arg_mapping={"text": "{{item.n}}!"})
    made = running.create(rows, chat("item.a"), function("# as documented\n\n" + RATIO), mapped, templated)
    ended = running.ended(made["id"])
    assert [task["alias"] for task in ended["tasks"]] == ["r", "ratio", "near", "t"]
    first, second = running.items(made["id"])
    assert first["data"] == {**rows[0], "r": "Hello world", "ratio": pytest.approx(0.90909, abs=1e-5), "near": 23, "t": 0}
    assert second["task_errors"]["near"]["message"].startswith("near: TypeError")
    run = runner.load(running.path / "out" / made["id"])
    assert run.results.query("task == 'ratio'")["value"].mean() == pytest.approx(0.90909, abs=1e-5)
    assert "near" in {task.name for task in prepare(running.path / "out" / made["id"] / "config.yaml").config.tasks}


def test_what_outputs_name_are_columns(running: Running) -> None:
    source = "def parts(a):\n    return {'n': len(a), 'deep': {'all': [a]}} if a != 'x' else 1"
    outputs = [{"path": "deep.all.0"}, {"path": "n", "alias": "size"}]
    made = running.create([{"a": "abc"}, {"a": "x"}], function(source, outputs=outputs))
    running.ended(made["id"])
    first, second = running.items(made["id"])
    whole = {"n": 3, "deep": {"all": ["abc"]}}
    assert first["data"] == {"a": "abc", "parts": whole, "deep_all_0": "abc", "size": 3}
    assert second["task_errors"]["parts"]["message"] == "parts returned 1, and `outputs` need a dict"
    _, schema = running.ask("GET", f"/v5/evaluations/{made['id']}/schema")
    assert {one["field_name"] for one in schema["fields"] if one["source"] == "data"} == {"a"}
    assert dry(running, source, {"a": "y"}, outputs=outputs) == [{"result": {"n": 1, "deep": {"all": ["y"]}}}]
    missing = dry(running, "def f(): return {}", {}, outputs=outputs)[0]["error"]["message"]
    assert missing.startswith("f returned a dict without `deep.all.0`")


@pytest.mark.long
def test_outputs_are_read_by_later_tasks_as_any_others(running: Running) -> None:
    source = "def parts(a):\n    return {'n': len(a), 'deep': {'all': [a, {'x': None}]}} if a else 1"
    outputs = [{"path": "deep.all.0"}, {"path": "n", "alias": "size"}, {"path": "deep.all.1", "alias": "object"}]
    tasks = [
        chat("{{item.size}} {{ item.deep_all_0 }} {{item.parts.n}} {{item.object}}", "told"),
        function("def more(size, object):\n    return size + len(object)"),
        function("def whole(f):\n    return f['n']", arg_mapping={"f": "item.parts"}),
        {
            "task_type": "metric",
            "alias": "same",
            "configuration": {"type": "numeric", "candidate": "item.size", "reference": 3},
        },
    ]
    made = running.create([{"a": "abc"}, {"a": ""}], *tasks, function(source, outputs=outputs))
    running.ended(made["id"])
    first, second = running.items(made["id"])
    assert [first["data"][name] for name in ("told", "more", "whole", "same")] == ['3 abc 3 {"x":null}', 4, 3, 1]
    assert {error["type"] for name, error in second["task_errors"].items() if name != "parts"} == {"dependency"}
    added = chat("again {{item.size}}", "again")  # read back from the journal
    assert running.ask("POST", f"/v5/evaluations/{made['id']}/tasks", {"task": added})[0] == 200
    running.ended(made["id"])
    assert running.items(made["id"])[0]["data"]["again"] == "again 3"
    status, page = running.ask("GET", f"/e/{made['id']}/i/0")
    assert (status, "3 abc 3" in page) == (200, True)
    run = prepare(running.path / "out" / made["id"] / "config.yaml")
    assert [task.name for task in run.config.tasks if "size" in task.columns] == ["parts"]


@pytest.mark.long
def test_outputs_are_read_from_the_command_line_too(tmp_path: Path) -> None:
    configuration = {"type": "custom_function", "function_source": "def f(a): return {'n': len(a)}", "outputs": [{"path": "n"}]}
    twice = {"type": "numeric", "candidate": "item.n", "reference": "item.f.n"}
    tasks = [{"task_type": "metric", "alias": "same", "configuration": twice}]
    tasks += [{"task_type": "metric", "alias": "f", "configuration": configuration}]
    config = {"name": "x", "dataset": {"data": [{"a": "abc"}]}, "tasks": tasks, "output": str(tmp_path / "out")}
    config["endpoint"] = {"base_url": "http://127.0.0.1:9/v1"}
    run = runner.evaluate(config)
    assert run.wide["same"].tolist() == [1.0]
    for named, said in (("a", "`a` is also a column of the dataset"), ("same", "another result is named `same` already")):
        configuration["outputs"] = [{"path": "n", "alias": named}]
        twice["candidate"] = "item.f.n"
        with pytest.raises(runner.UsageError, match=said):
            runner.evaluate(config)


@pytest.mark.long
def test_whatever_a_function_does_costs_its_own_rows_only(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERY_SECRET", "s3cret")
    tasks = [function(f"def f(x):\n    {body}", name) for name, (body, _) in HOSTILE.items()]
    good = function("def good(x):\n    print(x)\n    return len(x)")
    made = running.create([{"x": "row"}], *tasks, good)
    assert running.ended(made["id"])["status"] == "completed"
    (item,) = running.items(made["id"])
    assert item["data"] == {"x": "row", "good": 3}
    said = {name: error["message"] for name, error in item["task_errors"].items()}
    assert {name: message for name, message in said.items() if HOSTILE[name][1] not in message} == {}
    assert {error["type"] for error in item["task_errors"].values()} == {"template"}


def test_what_hangs_is_ended_and_nothing_of_the_environment_is_there(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERY_SECRET", "s3cret")
    monkeypatch.setattr("runner.tasks.function._SECONDS", 0.5)
    leak = f"def f(x):\n    {AROUND}raise ValueError(sorted(os.environ))"
    results = dry(running, leak, {"x": 1}) + dry(running, "def f(x):\n    while x: pass\n    return 1", {"x": 1}, {"x": 0})
    leaked = set(results[0]["error"]["message"].partition("[")[2].partition("]")[0].replace("'", "").split(", "))
    assert leaked <= {"LC_CTYPE", "OPENBLAS_NUM_THREADS", "PWD"}  # what Python, the pool and a sandbox set
    assert results[1]["error"]["message"] == "f: it takes more than 0.5 s"
    assert results[2] == {"result": 1}


def test_no_name_outlives_a_call(running: Running) -> None:
    source = "def f(x):\n    global seen\n    try:\n        seen += 1\n    except NameError:\n        seen = 1\n    return seen"
    assert dry(running, source, {"x": 1}, {"x": 2}, {"x": 3}) == [{"result": 1}] * 3


@pytest.mark.parametrize(
    ("configuration", "place", "said"),
    [
        ({}, ["function_source"], "Field required"),
        ({"function_source": "x = 1"}, ["function_source"], "should be one `def`"),
        ({"function_source": "def f(): return 1\nimport os"}, ["function_source"], "should be one `def`"),
        ({"function_source": "@x\ndef f(): return 1"}, ["function_source"], "should be one `def`"),
        ({"function_source": "def f(: pass"}, ["function_source"], "SyntaxError"),
        ({"function_source": "def f():\n    import os"}, ["function_source"], "imports 'os' (line 2); it may import math"),
        ({"function_source": "def f():\n    from . import x"}, ["function_source"], "imports '.'"),
        ({"function_source": "def f():\n    nonlocal x"}, ["function_source"], "SyntaxError"),
        ({"function_source": "def f(*a): return 1"}, ["function_source"], "named parameters only"),
        ({"function_source": f"def f(): return {'-' * 40_000}1"}, ["function_source"], ""),
        ({"function_source": RATIO, "arg_mapping": {"c": "item.x"}}, [], "no parameters 'c'; it has a, b"),
        ({"function_source": RATIO, "arg_mapping": {"a": "{% x %}"}}, ["arg_mapping", "a"], "may only hold"),
        ({"function_source": RATIO, "arg_mapping": {"a": "item.q"}, "config_args": {"a": 1}}, [], "'a' is in both"),
        ({"function_source": RATIO, "config_args": {"a": "x" * 10_000}}, ["config_args"], "10000 are allowed"),
        ({"function_source": RATIO, "outputs": [{"path": "a..b"}]}, ["outputs", 0, "path"], "is not a path"),
    ],
)
def test_what_is_no_such_function_is_refused(
    running: Running, configuration: dict[str, Any], place: list[Any], said: str
) -> None:
    body = {"task_type": "custom_function", "configuration": configuration, "sample_data": [{"a": "x"}]}
    status, found = running.ask("POST", "/v5/evaluations/tasks/dry-run", body)
    assert status == 422, found
    assert [one["loc"] for one in found["detail"]] == [["body", "configuration", *place]]
    assert said in found["detail"][0]["msg"]


def test_columns_are_not_named_twice_and_are_there(running: Running) -> None:
    source = "def f(a): return {'a': 1}"
    for task, place in (
        (function(source, outputs=[{"path": "a"}]), ["configuration", "outputs"]),
        (function(source, outputs=[{"path": "n"}, {"path": "n"}]), ["configuration", "outputs"]),
        (function("def f(nope): return 1"), ["configuration", "arg_mapping", "nope"]),
    ):
        status, found = running.ask("POST", "/v5/evaluations", {"name": "n", "data": [{"a": "x"}], "tasks": [task]})
        assert (status, found["detail"][0]["loc"]) == (422, ["body", "tasks", 0, *place])


def test_it_is_refused_where_it_is_not_enabled(tmp_path: Path) -> None:
    with Running(tmp_path / "s") as service:
        status, said = service.ask("POST", "/v5/evaluations", {"name": "n", "data": [{"a": "x"}], "tasks": [function(RATIO)]})
        assert (status, said["detail"][0]["loc"]) == (422, ["body", "tasks", 0])
        assert "is not enabled here" in said["detail"][0]["msg"]
        body = {"task_type": "custom_function", "configuration": {"function_source": RATIO}, "sample_data": [{"a": "x"}]}
        assert service.ask("POST", "/v5/evaluations/tasks/dry-run", body)[0] == 422
        assert service.ask("POST", "/v5/evaluations/tasks/dry-run", {**body, "task_type": "metric"})[0] == 422
        assert service.ask("POST", "/v5/evaluations/tasks/dry-run", {**body, "sample_data": [{}] * 101})[0] == 422


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="there is no bubblewrap here")
def test_in_a_sandbox_there_is_nothing_to_see(running: Running) -> None:
    confinement.confined.cache_clear()
    if not confinement.confined().before:
        pytest.skip("bubblewrap does not work here")
    assert dry(running, f"def f():\n    {AROUND}return os.getpid()", {})[0]["result"] < 9


def test_a_sandbox_that_does_not_work_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho no namespaces >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    confinement.confined.cache_clear()
    try:
        assert confinement.confined().before == ()
        assert "no namespaces" in caplog.text
    finally:
        confinement.confined.cache_clear()
