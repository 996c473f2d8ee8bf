"""Rows and answers made to hold the process, among good ones: against every metric, the templates and the decoders."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.commands import Project, ask
from tests.reliability.figures import Measured
from tests.serving import Served, packed

__all__ = ["measure_hostile"]

_GOOD = 200
#: What a loop may be late where a body of 32 MiB is read in one go; and where several templates compute for a second each.
_LATE_S, _LATE_BY_TEMPLATES_S = 0.6, 8.0
#: What a hostile row may take, with all its attempts.
_LONGEST_S = 8.0
_M = 1 << 20


def _fan(levels: int, word: str, **more: Any) -> dict[str, Any]:
    """Return a schema through which lead 2 to the power of `levels` ways."""
    defs: dict[str, Any] = {f"d{n}": {word: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} | more for n in range(levels)}
    return {"$defs": defs | {f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


_TREE = {"anyOf": [{"properties": {"a": {"$ref": "#/$defs/t"}}, "required": [name]} for name in "bc"], "type": "object"}
_SCHEMAS: Sequence[tuple[Any, str]] = [
    *((_fan(40, word), '"x"') for word in ("allOf", "anyOf", "oneOf")),
    (_fan(30, "allOf", unevaluatedProperties=False), '{"a": 1}'),
    ({"$defs": {"t": _TREE}, "$ref": "#/$defs/t"}, '{"a":' * 100 + "1" + "}" * 100),
    ({"uniqueItems": True}, json.dumps([[n] for n in range(100_000)])),
    ({"enum": [{"a": n} for n in range(200_000)]}, '{"a": -1}'),
    ({"patternProperties": {f"^(a|b)*{n}$": {} for n in range(2000)}}, json.dumps({f"{'ab' * 20}{n}": 1 for n in range(5000)})),
    ({"properties": {f"p{n}": {"pattern": f"^{n}"} for n in range(100_000)}}, "{}"),
    ({"items": {"pattern": r"^(a|aa)+\1$"}}, json.dumps(["a" * 30 + "!"] * 50_000)),
    ({"pattern": "(?:(?:a{1,100}){1,100}){1,100}"}, '"aaaa"'),
    ({"type": "integer"}, "1" * 100_000),
    ({"items": {"$ref": "#"}}, "[" * 100_000),
]
_PATTERNS: Sequence[tuple[str, str]] = [
    ("(a|aa)+$", "a" * 60 + "b"),
    ("(a+)+$", "a" * 60 + "b"),
    (r"^(\w+\s?)*$", "word " * 40 + "!"),
    ("((a{1,1000}){1,1000}){1,1000}b", "a" * 2000),
    ("|".join(f"a{n}(?:b|c)" for n in range(200_000)), "b"),
    ("(?:a?){60}a{60}" * 20, "a" * 60),
    ("(" * 5000, "a"),
    ("a{99999999999}", "a"),
    ("(x+x+)+y", "x" * 5000),
    (".*.*.*=.*", "x" * 5000),
]
_NUMBERS = ["1e5e3", "6E4E0", "deadbe3e7e1f", "1e999999", "9" * 100_000, "²٣", "1e" * 200_000, "1," * 200_000, "." * _M]
_SPACES = " " * 150_000
_CHOICES = [f"answer{_SPACES}", f"answer is{_SPACES}:{_SPACES}", "answer" + "*(" * 200_000, "A " * 200_000]
_CALLS = [
    [{"name": "f", "arguments": {"a": n * (2**61 - 1)}} for n in range(20_000)],
    [{"name": "f", "arguments": json.loads("[" * 900 + "]" * 900) and {"a": json.loads("[" * 900 + "]" * 900)}}],
]
_TEMPLATES: Sequence[tuple[str, Any]] = [
    ("x | wordwrap(1)", "x" * _M),
    ("x | wordwrap(9)", "-" * _M),
    ("x | urlize", "http://a.b/" + "(" * (_M // 2) + "x" + ")" * (_M // 2)),
    ("x | striptags", "<a>" * (_M // 3)),
    ("x[0].rfind(x[1])", ["a" * _M, "a" * (_M // 4) + "b" + "a" * (_M // 4)]),
    ("x | unique | list | length", [n * (2**61 - 1) for n in range(60_000)]),
    ("dict(x) | length", [[n * (2**61 - 1), 0] for n in range(30_000)]),
    ("range(99999) | map('string') | select('in', x) | list | length", "x" * _M),
    ("x | pprint | length", json.loads("[" * 400 + json.dumps("y" * 100_000) + "]" * 400)),
    ("x | sort | length", list(range(700_000, 0, -1))),
]


def _metric(kind: str, row_has: str = "reference") -> dict[str, Any]:
    configuration = {"type": kind, "candidate": "item.answer", "reference": f"item.{row_has}"}
    return {"task_type": "metric", "alias": "score", "configuration": configuration}


def measure_hostile(directory: Path, _seconds: float) -> Measured:
    """Run each kind of task with its hostile rows among good ones."""
    found: list[str] = []
    late: dict[bool, float] = {False: 0.0, True: 0.0}
    tried, slowest = 0, 0.0
    for name, tasks, hostile, good in _trials():
        rows = [{"id": f"good-{n}", **good} for n in range(_GOOD)]
        for n, row in enumerate(hostile):
            rows.insert(n * _GOOD // len(hostile), {"id": f"bad-{n}", **row})
        tried += len(hostile)
        is_template = name == "template"
        took, lag, wrong = _try(directory / name, rows, tasks, _LATE_BY_TEMPLATES_S if is_template else _LATE_S)
        found += [f"{name}: {one}" for one in wrong]
        slowest = max(slowest, took / len(hostile))
        late[is_template] = max(late[is_template], lag)
    value = f"{len(found)} wrong of {tried} rows; at most {slowest:.1f} s each; loop late by {late[False] * 1000:.0f} ms"
    value += f", by templates {late[True]:.1f} s"
    return Measured(f"{value}; the first: {found[0]}" if found else value, met=not found and slowest <= _LONGEST_S)


def _trials() -> list[tuple[str, list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]]:
    """Return for each kind of task its name, the tasks, the hostile rows, and a good one."""

    def judged(kind: str, pairs: Sequence[tuple[Any, Any]], good: tuple[Any, Any]) -> tuple[Any, ...]:
        rows = [{"question": text, "reference": reference} for reference, text in pairs]
        return kind, [ask(), _metric(kind)], rows, {"question": good[1], "reference": good[0]}

    extract = _metric("exact_match")
    extract["configuration"] |= {"extract": "(a|aa)+$"}
    good = {"question": "a", "reference": "a"}
    content = "{% set x = item.x %}"
    for n, (text, _) in enumerate(_TEMPLATES):
        content += f"{{% if item.kind == 't{n}' %}}{{{{ {text} }}}}{{% endif %}}"
    trials: list[Any] = [
        judged("json_schema", _SCHEMAS, ({"type": "string"}, '"x"')),
        judged("regex", _PATTERNS, ("a+", "aaa")),
        judged("numeric", [(3, text) for text in _NUMBERS], (3, "3")),
        judged("choice", [("A", text) for text in _CHOICES], ("A", "A")),
        judged("tool_call_match", [(calls, json.dumps(calls)) for calls in _CALLS], ([], "none")),
        judged("contains", [("a" * 200_000 + "b" + "a" * 200_000, "a" * _M), ("b" * 90, "ab" * _M)], ("a", "a")),
        ("extract", [ask(), extract], [{"question": "a" * 60 + "b", "reference": "a"}] * 4, good),
        (
            "template",
            [ask(content=content)],
            [{"kind": f"t{n}", "x": value} for n, (_, value) in enumerate(_TEMPLATES)],
            {"kind": "none", "x": "x"},
        ),
        ("body", [ask(stream=True)], [{"question": name} for name in _bodies()], {"question": "fine"}),
    ]
    return trials


def _bodies() -> Mapping[str, tuple[str, bytes]]:
    """Return bodies that hold much and say nothing, by the question that they answer."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    return {
        "members": ("application/json", gzip.compress(b"") * 200_000),
        "comments": ("text/event-stream", gzip.compress(b":\n\n" * (12 * _M))),
        "lines": ("text/event-stream", gzip.compress(b"data: {}\n" * (4 * _M))),
        "empty events": ("text/event-stream", gzip.compress(b"data: {}\n\n" * _M)),
        "tiny events": ("text/event-stream", gzip.compress(event * 200_000)),
        "spaces": ("application/json", gzip.compress(b" " * (31 * _M))),
        "members of a byte": ("application/json", gzip.compress(b" ") * 100_000),
    }


def _try(
    folder: Path, rows: list[dict[str, Any]], tasks: list[dict[str, Any]], late_s: float
) -> tuple[float, float, list[str]]:
    """Return how long a run took, how late its event loop was, and what is wrong with its files."""
    bodies = _bodies() if tasks[0].get("stream") else {}

    with Served(packed(bodies)) as server:
        limits = {"concurrency": 16, "fail_on_error": 1.0, "max_error_rate": 1.0}
        project = Project(folder, server.url, rows=rows, tasks=tasks, limits=limits)
        began = time.monotonic()
        ran = project.run("--no-progress")
        took = time.monotonic() - began
    if ran.returncode != 0:
        return took, 0, [f"exit code {ran.returncode}: {ran.stderr[-300:]}"]
    wrong = ["a traceback"] if "Traceback" in ran.stderr else []
    kept = {(row["item_id"], row["task"]) for row in project.results()}
    failed = {(row["item_id"], row["task"]) for row in project.errors()}
    names = [task["alias"] for task in tasks]
    wrong += [f"{row['id']} has no {name}" for row in rows for name in names if (row["id"], name) not in kept | failed]
    wrong += [f"{item} failed" for item, _ in failed if item.startswith("good-")]
    lag = float(project.evaluation["totals"]["loop_lag_s"] or 0)
    return took, lag, [*wrong, *([f"the loop was late by {lag:.2f} s"] if lag > late_s else [])]
