"""The fault matrix, datasets: each row is one test, named after it (see `matrix`)."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import threading
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web

import runner
from runner.datasets import Dataset, opening
from tests.commands import Project, ask, questions
from tests.serving import Served, chat_answer
from tests.trials import Ran, config_of, run


def of_file(
    folder: Path, url: str, name: str, content: bytes | str, *, id_column: str | None = "id", tasks: Any = None, **options: Any
) -> Project:
    """Return a project whose dataset is a file of our own; `options` are those of `dataset`."""
    project = config_of(folder, url, **({} if tasks is None else {"tasks": tasks}))
    path = folder / name
    dataset = {"path": str(path)} | ({"id": id_column} if id_column else {}) | options
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
        assert empty.code == 2
        assert "rows.jsonl: the dataset has no rows" in empty.said
        assert not (empty.project.directory / "results").exists()


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
    assert "`item.question` is not a column of the dataset" in nowhere.said
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
        f"{path}:3: the id 'a' is already used at {path}:1",
        f"{path}:4: the row has no id (column `id`)",
    ]
    unnamed = ran_with(tmp_path / "auto", "rows.jsonl", lines(row("a"), row("a")), id_column=None)
    assert len({found["item_id"] for found in unnamed.results}) == 2


@pytest.mark.long
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
        project.more = {**project.more, "dataset": {"path": str(path / "big.jsonl"), "id": "id", "media_limit": 1}}
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
    content = 'id,question\n1,"a\nb, ""c"""\n2,' + "x" * (17 << 20) + "\n3,q\n"
    quoted = ran_with(tmp_path / "csv", "rows.csv", content, media_limit=1)
    assert [found["item_id"] for found in quoted.results] == ["1", "3"]
    assert "longer than 16 MiB" in quoted.errors[0]["message"]


@pytest.mark.long
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
            os.truncate(path, len(content) // 2)  # at once: a file that is empty for a moment is another fault
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


def packed(name: str, rows: list[dict[str, Any]]) -> bytes:
    """Return a dataset file by its name."""
    if name.endswith(".parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=100, compression="none", use_dictionary=False)
        return bytes(sink.getvalue())
    if name.endswith(".json"):
        return json.dumps(rows).encode()
    return gzip.compress(lines(*rows), mtime=0) if name.endswith(".gz") else pa.compress(lines(*rows), "zstd", asbytes=True)


def damaged(name: str, content: bytes) -> bytes:
    """Return a file that can be read only in part."""
    if not name.endswith(".parquet"):
        return content[: len(content) // 2]
    column = pq.ParquetFile(pa.BufferReader(content)).metadata.row_group(3).column(0)
    return content[: column.data_page_offset] + b"\xff" * 40 + content[column.data_page_offset + 40 :]


@pytest.mark.long
@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst", "rows.json", "rows.parquet"])
def test_a_damaged_file_stops_the_run_until_it_is_mended(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": str(n), "question": f"q {n}", "x": os.urandom(1000).hex()} for n in range(400)]
    whole = packed(name, rows)
    with Served() as served:
        project = of_file(tmp_path / "p", served.url, name, damaged(name, whole))
        path = tmp_path / "p" / name
        broken = run(project)
        kept = len(broken.results)
        assert broken.code == 3, broken.all_said
        assert 100 < kept < 400
        assert (len(served.seen), broken.errors) == (kept, [])  # every row before the place was asked
        assert f"{path}:{kept + 1}: cannot be read from here on: " in broken.out
        assert project.evaluation["status"] == "failed"

        again = run(project, "--resume")
        assert (again.code, len(served.seen)) == (3, kept)
        assert f"{path}:{kept + 1}: cannot be read" in again.out

        rows[3]["x"] = "another row"
        path.write_bytes(packed(name, rows))
        other = run(project, "--resume")
        assert (other.code, len(served.seen)) == (2, kept), other.all_said
        assert f"{path}:4: " in other.said

        path.write_bytes(whole)
        with monkeypatch.context() as hurried:  # a start that ends before it has read the mended file
            hurried.setattr(Dataset, "survey", lambda _dataset, _stop=None: None)
            assert run(project, "--resume", "--set", "limits.max_tokens=1").code == 3
        mended = run(project, "--resume")
    assert mended.code == 0, mended.all_said
    assert (len(mended.results), len(served.seen)) == (400, 400)


def test_a_disk_that_cannot_be_read_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = lines(*(row(str(n)) for n in range(100)))

    class FailingFile(io.BytesIO):
        """A file of which no more than 50 lines can be read."""

        def readinto(self, buffer: Any) -> int:
            left = content.index(b'{"id": "50"') - self.tell()
            if not left:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().readinto(memoryview(buffer)[:left])

    with Served() as served:
        project = of_file(tmp_path / "p", served.url, "rows.jsonl", content)
        with monkeypatch.context() as patched:
            patched.setattr(opening, "_unpacked", lambda path: io.BufferedReader(FailingFile(path.read_bytes())))
            broken = run(project)
        assert broken.code == 3, broken.all_said
        assert (len(broken.results), broken.errors, len(served.seen)) == (50, [], 50)
        place = f"{tmp_path / 'p' / 'rows.jsonl'}:51"
        assert f"{place}: cannot be read: Input/output error; see to its disk, then go on with --resume" in broken.out
        again = run(project, "--resume")
    assert again.code == 0, again.all_said
    assert (len(again.results), len(served.seen)) == (100, 100)


def test_a_dry_run_finds_a_damaged_file(tmp_path: Path) -> None:
    with Served() as served:
        content = packed("rows.json", [row(str(n)) for n in range(50)])
        project = of_file(tmp_path / "p", served.url, "rows.json", content[:-9])
        ran = run(project, "--dry-run")
    assert (ran.code, served.seen) == (2, [])
    assert "rows.json:50: cannot be read from here on: a JSON array ends in the middle" in ran.said


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
    assert f"{pipe} is not a file" in ran.said
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


def test_fault_160_stray_quote_in_csv(tmp_path: Path) -> None:
    content = "id,question\n" + "".join(f"{n},question {n}\n" for n in range(1, 101))
    content = content.replace(",question 41", ',"question 41')
    with Served() as served:
        project = of_file(tmp_path / "p", served.url, "rows.csv", content)
        broken = run(project)
        assert (broken.code, len(broken.results), broken.errors, len(served.seen)) == (3, 40, [], 40), broken.all_said
        assert "rows.csv:42: cannot be read from here on: the quote that opens here is never closed, and 59 lines" in broken.out
        other = run(project, "--resume", "--set", "dataset.quoting=false", "--set", "dataset.types={id: int}")
        assert (other.code, len(served.seen)) == (2, 40)
        assert "rows.csv:2: this row has changed since it was asked" in other.said
        told = run(project, "--resume", "--set", "dataset.quoting=false")
    assert (told.code, len(told.results), len(served.seen)) == (0, 100, 100), told.all_said
    assert "dataset.quoting: was not there, is False; a file could not be read to its end" in told.said
    assert told.results[40]["output"] == '"question 41'

    doubted = ran_with(tmp_path / "pair", "rows.csv", 'id,question\n1,"Hello, he said\n2,world\n3,the end"\n4,bar\n')
    assert doubted.code == 2
    assert (
        "rows.csv:2: the quoted cell that opens here ends in line 4, and may contain rows; set dataset.quoting" in doubted.said
    )


def test_fault_161_stray_quote_between_tabs(tmp_path: Path) -> None:
    texts = {2: '"Hello, he said', 5: '"Hello" he said', 7: 'the end"', 9: '"'}
    content = "id\tquestion\n" + "".join(f"{n}\t{texts.get(n, f'word{n}')}\n" for n in range(1, 41))
    ran = ran_with(tmp_path / "p", "rows.tsv", content)
    assert (ran.code, ran.errors) == (0, []), ran.all_said
    assert [found["output"] for found in ran.results] == [texts.get(n, f"word{n}") for n in range(1, 41)]


def test_fault_162_no_number_in_data(tmp_path: Path) -> None:
    sent = ask(content="{{item.a}} {{item.b.c}}", configuration={"temperature": "item.t"})
    content = b'{"id":"good","a":1.5,"b":{"c":2},"t":0.5}\n{"id":"nan","a":NaN,"b":{"c":1},"t":0}\n'
    content += b'{"id":"inf","a":1,"b":{"c":-Infinity},"t":0}\n{"id":"huge","a":1,"b":{"c":2},"t":1e400}\n'
    with Served() as served:
        ran = run(of_file(tmp_path / "p", served.url, "rows.jsonl", content, tasks=[sent]))
    assert [(found["item_id"], found["error_type"]) for found in ran.errors] == [("nan", "template"), ("inf", "template")]
    assert all("a null cannot be printed" in found["message"] for found in ran.errors)
    assert sorted((seen.body["messages"][-1]["content"], str(seen.body.get("temperature"))) for seen in served.seen) == [
        ("1 2", "None"),
        ("1.5 2", "0.5"),
    ]
    assert json.loads(ran.results[1]["item"]) == {"id": "huge", "a": 1, "b": {"c": 2}, "t": None}


def test_fault_163_cell_of_another_type(tmp_path: Path) -> None:
    content = "id,question,temp,mt\n1,q,0.7,16\n2,q,hot,16\n3,q,0.7,1.5\n4,q,1,2.0\n"
    with Served() as served:
        tasks = [ask(configuration={"temperature": "item.temp", "max_tokens": "item.mt"})]
        types = {"temp": "float", "mt": "int"}
        project = of_file(tmp_path / "p", served.url, "rows.csv", content, tasks=tasks, types=types)
        ran = run(project)
        asked = [(seen.body["temperature"], seen.body["max_tokens"]) for seen in served.seen]
        unknown = run(project, "--set", "dataset.types={tmp: float}")
    assert sorted(asked) == [(0.7, 16), (1.0, 2)]
    assert [(found["error_type"], found["message"].rpartition("/")[2]) for found in ran.errors] == [
        ("dataset", "rows.csv:3: column `temp`: 'hot' is not a number (dataset.types: float)"),
        ("dataset", "rows.csv:4: column `mt`: '1.5' is not a whole number (dataset.types: int)"),
    ]
    assert unknown.code == 2
    assert (
        "rows.csv:1: dataset.types: there is no column `tmp`; there is: id, question, temp, mt; did you mean `temp`?"
        in unknown.said
    )


def test_fault_164_read_in_another_way(tmp_path: Path) -> None:
    with Served() as served:
        project = of_file(tmp_path / "p", served.url, "rows.csv", "id;question;n\n" + "1;q;2\n" + "2;q;3\n", delimiter=";")
        assert run(project, "--limit", "1").code == 0
        for option in ("encoding=cp1252", "types={n: int}", "quoting=false", "delimiter=null", "types={n: int, id: int}"):
            changed = run(project, "--resume", "--limit", "2", "--set", f"dataset.{option}")
            assert changed.code == 2, option
            assert f"dataset.{option.partition('=')[0]}" in changed.said
        assert len(served.seen) == 1
        same = run(project, "--resume", "--limit", "2", "--set", "dataset.types={}")
    assert (same.code, len(served.seen)) == (0, 2), same.all_said


@pytest.mark.parametrize(
    ("name", "packed", "encoding", "options"),
    [
        ("rows.tsv", bytes, "utf-8", {}),
        ("rows.csv.bz2", bz2.compress, "utf-8", {"types": {"n": "int"}}),
        ("rows.ndjson.xz", lzma.compress, "utf-16", {}),
        ("rows.jsonl", bytes, "cp1252", {"encoding": "cp1252"}),
        ("rows.json", bytes, "utf-8", {}),
        ("rows.json.gz", gzip.compress, "utf-32", {"field": "data"}),
    ],
)
def test_fault_165_resumed_in_any_form(
    tmp_path: Path, name: str, packed: Callable[[bytes], bytes], encoding: str, options: dict[str, Any]
) -> None:
    rows = [{"id": f"r{n}", "question": f"é {n}", "n": n} for n in range(12)]
    delimiter = {"csv": ",", "tsv": "\t"}.get(name.split(".")[1])
    if delimiter:
        content = "".join(delimiter.join(map(str, values)) + "\n" for values in [rows[0], *(one.values() for one in rows)])
    elif options.get("field"):
        content = json.dumps({"version": 1, "data": rows, "end": []})
    else:
        content = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
    with Served() as served:
        project = of_file(tmp_path / "p", served.url, name, packed(content.encode(encoding)), **options)
        assert run(project, "--limit", "5").code == 0
        ran = run(project, "--resume")
    assert (ran.code, len(served.seen)) == (0, 12), ran.all_said
    assert [(found["item_id"], found["output"]) for found in ran.results] == [(one["id"], one["question"]) for one in rows]
    assert {type(json.loads(found["item"])["n"]) for found in ran.results} == {int if name != "rows.tsv" else str}


def test_fault_166_rows_in_an_object(tmp_path: Path) -> None:
    content = json.dumps({"version": "2", "data": [row("a"), row("b")], "topics": []}, indent=1)
    with Served() as served:
        project = of_file(tmp_path / "p", served.url, "rows.json", content)
        refused = run(project)
        assert (refused.code, served.seen) == (2, [])
        ran = run(project, "--set", "dataset.field=data")
    assert "its rows may be in a list inside: set dataset.field to one of: data, topics" in refused.said
    assert [found["item_id"] for found in ran.results] == ["a", "b"]


@pytest.mark.long
def test_fault_167_row_with_a_large_medium(tmp_path: Path) -> None:
    picture = "A" * (18 << 20)
    content = lines(row("a", picture=picture), row("b"))
    ran = ran_with(tmp_path / "p", "rows.jsonl", content)
    assert [found["item_id"] for found in ran.results] == ["a", "b"]
    small = ran_with(tmp_path / "small", "rows.jsonl", content, media_limit=1000)
    assert [found["message"].rpartition("/")[2] for found in small.errors] == ["rows.jsonl:1: longer than 16 MiB"]
