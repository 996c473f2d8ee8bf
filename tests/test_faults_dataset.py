"""The fault matrix, datasets: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import gzip
import json
import os
import threading
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web

import runner
from tests.commands import Project, ask, questions
from tests.serving import Served, chat_answer
from tests.trials import Ran, config_of, run


def of_file(folder: Path, url: str, name: str, content: bytes | str, *, id_column: str | None = "id", **more: Any) -> Project:
    """Return a project whose dataset is a file of our own."""
    project = config_of(folder, url, **more)
    path = folder / name
    dataset = {"path": str(path)} | ({"id": id_column} if id_column else {})
    project.more = {**project.more, "dataset": dataset}
    project.write()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return project


def ran_with(folder: Path, name: str, content: bytes | str, **more: Any) -> Ran:
    with Served() as served:
        return run(of_file(folder, served.url, name, content, **more))


def lines(*rows: Any) -> bytes:
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "question": f"question {name}", **more}


def test_fault_12_dataset_missing_or_empty(tmp_path: Path) -> None:
    with Served() as served:
        project = config_of(tmp_path / "p", served.url)
        project.dataset.unlink()
        missing = run(project)
    assert (missing.code, served.seen) == (2, [])
    assert f"{project.dataset}: there is no such file" in missing.said
    for number, content in enumerate((b"", b"\n\n", b"\xef\xbb\xbf")):
        empty = ran_with(tmp_path / f"empty {number}", "rows.jsonl", content)
        assert empty.code == 0
        assert "the dataset has no rows" in empty.said
        assert (empty.results, empty.errors) == ([], [])


def test_fault_13_malformed_lines(tmp_path: Path) -> None:
    content = lines(row("a"), b'{"id": "b", \n', row("c"), b'{"id": "d", "quest')
    ran = ran_with(tmp_path / "p", "rows.jsonl", content)
    assert ran.code == 1
    assert [found["item_id"] for found in ran.results] == ["a", "c"]
    assert [(found["error_type"], found["item_id"].rsplit(":")[-1]) for found in ran.errors] == [
        ("dataset", "2"),
        ("dataset", "4"),
    ]
    assert all(":2: not JSON" in found["message"] for found in ran.errors[:1])
    cut = gzip.compress(lines(*(row(str(n), x=os.urandom(99).hex()) for n in range(500))))
    broken = ran_with(tmp_path / "gz", "rows.jsonl.gz", cut[: len(cut) // 2])
    assert len(broken.errors) == 1
    assert "cannot be read from here on" in broken.errors[0]["message"]
    assert len(broken.results) > 50
    nothing = ran_with(tmp_path / "bad", "rows.jsonl", b"{bad\n" * 20)
    assert nothing.code == 2
    assert "none of its first 10 rows can be read" in nothing.said


def test_fault_14_odd_encodings(tmp_path: Path) -> None:
    content = b"\r\n".join(
        [
            b'\xef\xbb\xbf{"id":"bom","question":"q"}',
            b'{"id":"bad","question":"\xff"}',
            b'{"id":"surrogate","question":"\\ud800"}',
            '{"id":"separator","question":"\u2028"}'.encode(),
            b'{"id":"nul","question":"\\u0000"}',
            b"\0\0\0",
            b'{"id":"crlf","question":"q"}',
            b'{"id":"numbers","question":"q","a":NaN,"b":-Infinity,"c":1e999,"d":' + b"9" * 400 + b"}",
            b'{"id":"last","question":"q"}',
        ]
    )
    ran = ran_with(tmp_path / "p", "rows.jsonl", content)
    assert [found["item_id"] for found in ran.results] == [*("bom", "surrogate", "separator", "nul", "crlf", "numbers", "last")]
    assert [found["item_id"].rsplit(":")[-1] for found in ran.errors] == ["2", "6"]
    assert runner.load(ran.project.run_dir).wide["id"].tolist()[0] == "bom"


def test_fault_15_column_missing(tmp_path: Path) -> None:
    nowhere = ran_with(tmp_path / "all", "rows.jsonl", lines({"id": "a", "text": "q"}, {"id": "b", "text": "q"}))
    assert nowhere.code == 2
    assert "`item.question` is no column of the dataset" in nowhere.said
    assert "there is: id, text" in nowhere.said
    some = ran_with(tmp_path / "one", "rows.jsonl", lines(row("a"), {"id": "b"}, {"id": "c", "question": None}, row("d")))
    assert [found["item_id"] for found in some.results] == ["a", "d"]
    assert [(found["item_id"], found["error_type"]) for found in some.errors] == [("b", "template"), ("c", "template")]


def test_a_column_that_comes_late_is_no_mistake(tmp_path: Path) -> None:
    late = [row(str(n)) for n in range(20)] + [row("late", hint="h")]
    content = lines(*late)
    ran = ran_with(tmp_path / "p", "rows.jsonl", content, tasks=[ask(content="{{item.question}} {{item.hint}}")])
    assert [found["item_id"] for found in ran.results] == ["late"]
    assert len(ran.errors) == 20


def test_fault_16_duplicate_ids(tmp_path: Path) -> None:
    ran = ran_with(tmp_path / "p", "rows.jsonl", lines(row("a"), row("b"), row("a"), {"question": "q"}))
    assert [found["item_id"] for found in ran.results] == ["a", "b"]
    path = tmp_path / "p" / "rows.jsonl"
    assert [found["message"] for found in ran.errors] == [
        f"{path}:3: the id 'a' stands already at {path}:1",
        f"{path}:4: the row has no id (column `id`)",
    ]
    unnamed = ran_with(tmp_path / "auto", "rows.jsonl", lines(row("a"), row("a")), id_column=None)
    assert len({found["item_id"] for found in unnamed.results}) == 2


def test_fault_17_enormous_rows(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.mkdir()
    with (path / "big.jsonl").open("wb") as big:
        big.write(lines(row("a")))
        for _ in range(100):
            big.write(b'{"id":"x"' + b" " * (1 << 20))
        big.write(b"}\n" + lines(row("b")))
        big.write(b'{"id":"deep","question":"q","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n")
        big.write(b'{"id":"less deep","question":"q","x":' + b"[" * 700 + b"]" * 700 + b"}\n")
        big.write(lines({"id": "wide", "question": "q", **{f"c{n}": n for n in range(20_000)}}))
    with Served() as served:
        project = config_of(path, served.url)
        project.more = {**project.more, "dataset": {"path": str(path / "big.jsonl"), "id": "id"}}
        project.write()
        tracemalloc.start()
        try:
            ran = run(project)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert [found["item_id"] for found in ran.results] == ["a", "b", "less deep", "wide"]
    assert ["longer than 16 MiB" in found["message"] or "nested too deeply" in found["message"] for found in ran.errors] == [
        *(True, True)
    ]
    assert peak < 110 << 20
    quoted = ran_with(tmp_path / "csv", "rows.csv", 'id,question\n1,"a\nb, ""c"""\n2,' + "x" * (17 << 20) + "\n3,q\n")
    assert [found["item_id"] for found in quoted.results] == ["1", "3"]
    assert "longer than 16 MiB" in quoted.errors[0]["message"]


def test_fault_18_file_cut_or_changed(tmp_path: Path) -> None:
    table = pa.table({"id": [str(n) for n in range(500)], "question": ["q"] * 500})
    whole = tmp_path / "whole.parquet"
    pq.write_table(table, whole)
    cut = ran_with(tmp_path / "cut", "rows.parquet", whole.read_bytes()[:-100])
    assert cut.code == 2
    assert "rows.parquet" in cut.said

    path = tmp_path / "p" / "rows.jsonl"
    content = lines(*questions(400))
    changed = threading.Event()

    async def answer(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not changed.is_set():
            changed.set()
            path.write_bytes(content[: len(content) // 2])
        return web.json_response(chat_answer(str(body["messages"][-1]["content"])))

    with Served(answer) as served:
        project = of_file(tmp_path / "p", served.url, "rows.jsonl", content)
        ran = run(project)
        assert ran.code == 3, ran.all_said
        assert "was changed while it was read" in ran.out
        assert run(project, "--resume").code == 2
        path.write_bytes(content)
        asked = len(served.seen)
        resumed = run(project, "--resume")
    assert resumed.code == 0, resumed.all_said
    assert len(resumed.results) == 400
    assert len(served.seen) == 400 >= asked


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "no_ending"])
def test_fault_19_dataset_is_a_pipe(tmp_path: Path, name: str) -> None:
    (tmp_path / "p").mkdir()
    pipe = tmp_path / "p" / "pipe" / name
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    rows = questions(30)
    content = lines(*rows)
    if name.endswith("csv"):
        content = ("id,question\n" + "".join(f"{one['id']},{one['question']}\n" for one in rows)).encode()
    writer = threading.Thread(target=lambda: pipe.write_bytes(content), daemon=True)
    writer.start()
    with Served() as served:
        project = config_of(tmp_path / "p", served.url)
        project.more = {**project.more, "dataset": {"path": str(pipe), "id": "id"}}
        project.write()
        ran = run(project)
    writer.join(10)
    assert ran.code == 0, ran.all_said
    assert len(ran.results) == 30
    assert f"{pipe} is no file" in ran.said
    assert "resume" in ran.said


def test_every_type_of_arrow_can_be_a_column(tmp_path: Path) -> None:
    """And columns named like ours stand beside them."""
    now = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    columns: dict[str, Any] = {
        "id": pa.array(["a"]),
        "question": pa.array(["q"], pa.large_string()),
        "null": pa.nulls(1),
        "bool": pa.array([True]),
        "half": pa.array([1.5], pa.float16()),
        "uint64": pa.array([2**64 - 1], pa.uint64()),
        "decimal": pa.array([Decimal("1.50")], pa.decimal128(10, 2)),
        "decimal256": pa.array([Decimal(10) ** 60], pa.decimal256(70, 0)),
        "date32": pa.array([now.date()], pa.date32()),
        "date64": pa.array([now.date()], pa.date64()),
        "time": pa.array([1], pa.time64("ns")),
        "nanoseconds": pa.array([1], pa.timestamp("ns", "Europe/Berlin")),
        "duration": pa.array([5], pa.duration("s")),
        "binary": pa.array([b"\xff"], pa.large_binary()),
        "fixed": pa.array([b"ab"], pa.binary(2)),
        "list": pa.array([[1, None]], pa.large_list(pa.int8())),
        "fixed_list": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
        "struct": pa.array([{"a": {"b": [now]}}]),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "dictionary": pa.array(["x"]).dictionary_encode(),
        **{name: pa.array(["mine"]) for name in ("item_id", "output", "item", "task", "sample_index", "run_id", "answer_")},
    }
    for name in ("rows.parquet", "rows.arrow"):
        table = pa.table(columns)
        sink = pa.BufferOutputStream()
        if name.endswith("parquet"):
            pq.write_table(table.drop(["half"]) if pa.__version__ < "15" else table, sink)
        else:
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        ran = ran_with(tmp_path / name.partition(".")[2], name, sink.getvalue().to_pybytes())
        assert ran.code == 0, ran.all_said
        wide = runner.load(ran.project.run_dir).wide
        assert wide["item.item_id"].tolist() == ["mine"]
        assert wide["answer"].tolist() == ["q"]
        kept = json.loads(ran.results[0]["item"])
        assert kept["uint64"] == 2**64 - 1
        assert kept["decimal"] == "1.50"
