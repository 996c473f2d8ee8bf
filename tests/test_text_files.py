"""Text files are read whatever they are packed in, encoded as, or shaped like, and what cannot be read says what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.datasets import Cursor, Dataset, ReadingOptions, json_arrays, open_dataset
from runner.datasets.formats import format_of, read_rows
from runner.datasets.json_arrays import lists_in
from runner.datasets.opening import open_text
from runner.errors import DatasetError, DatasetReadError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROWS = [{"id": f"r{n}", "text": f"é“😀” {n}"} for n in range(40)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in ROWS)
CONTENTS = {"jsonl": JSONL, "ndjson": JSONL, "json": json.dumps(ROWS), "csv": CSV, "tsv": CSV.replace(",", "\t")}


def long_window(data: bytes) -> bytes:
    """Compress as `zstd --long=31` does."""
    parameters = {zstd.CompressionParameter.window_log: 31, zstd.CompressionParameter.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options={int(key): value for key, value in parameters.items()})
    return compressor.compress(data) + compressor.flush()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": long_window,
}


def file(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def opened(path: Path, **options: Any) -> Dataset:
    return open_dataset(path=[str(path)], options=ReadingOptions(**options))


def rows(path: Path, **options: Any) -> list[dict[str, Any]]:
    """Return all rows; none may be bad."""
    found = [row for _, row in read_rows(path, ReadingOptions(**options))]
    assert [row for row in found if not isinstance(row, dict)] == []
    return [row for row in found if isinstance(row, dict)]


def bad(path: Path, **options: Any) -> list[str]:
    return [item.failure.message.rpartition("/")[2] for item in opened(path, **options) if item.failure is not None]


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        opened(path, **options)
    return str(caught.value).replace(f"{path.parent}/", "")


# Packed files


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("ending", CONTENTS)
def test_every_packing_of_every_format(tmp_path: Path, packing: str, ending: str) -> None:
    content = PACKINGS[packing](CONTENTS[ending].encode())
    for name in (f"rows.{ending}{packing}", f"ROWS.v2.{ending}{packing}".upper()):
        assert rows(file(tmp_path, name, content)) == ROWS


@pytest.mark.parametrize("packing", [packing for packing in PACKINGS if packing])
def test_a_packed_file_is_read_to_its_last_stream_or_said_to_be_damaged(tmp_path: Path, packing: str) -> None:
    pack, lines = PACKINGS[packing], JSONL.encode().splitlines(keepends=True)
    parts = pack(b"".join(lines[:15])), pack(b""), pack(b"".join(lines[15:]))
    assert rows(file(tmp_path, f"rows.jsonl{packing}", b"".join(parts))) == ROWS
    assert rows(file(tmp_path, f"rows.jsonl{packing}", b"".join(parts) + b"\0" * 8)) == ROWS  # as tape drives pad them
    for end in (b"garbage", parts[2][:-3], parts[2][:20], b"X" + parts[2][1:]):
        path = file(tmp_path, f"rows.jsonl{packing}", b"".join(parts[:2]) + end)
        with pytest.raises(DatasetReadError) as caught:
            list(read_rows(path))
        assert caught.value.damaged


@pytest.mark.parametrize("packing", [packing for packing in PACKINGS if packing])
def test_a_packed_file_is_unpacked_piece_by_piece(tmp_path: Path, packing: str) -> None:
    path = file(tmp_path, f"rows.jsonl{packing}", PACKINGS[packing](b'{"n": 1}\n' + b" " * (1 << 23)))
    tracemalloc.start()
    try:
        with open_text(path, None).file as reading:
            assert reading.readline() == b'{"n": 1}\n'
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.xls", "rows.ods", "rows.XLSX"])
def test_a_spreadsheet_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    said = refused(file(tmp_path, name, b"PK"))
    assert said.startswith(f"{name}: a spreadsheet is not a dataset format; save it as CSV in UTF-8, or run: python -c ")
    assert f"read_excel('{name}').to_csv('{Path(name).stem}.csv', index=False)" in said


def test_formats_are_known_by_the_ending(tmp_path: Path) -> None:
    assert [format_of(Path(name)) for name in ("a.ndjson.xz", "a.b.CSV.BZ2", "a.tsv")] == ["ndjson", "csv", "tsv"]
    assert "known are: .jsonl .ndjson .json .csv .tsv .parquet .arrow, text also with .gz .bz2 .xz .zst" in refused(
        file(tmp_path, "rows.txt", b"")
    )


# Encodings


@pytest.mark.parametrize("ending", CONTENTS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, ending: str, encoding: str) -> None:
    content = CONTENTS[ending]
    assert rows(file(tmp_path, f"rows.{ending}", content.encode(encoding))) == ROWS
    assert rows(file(tmp_path, f"rows.{ending}.gz", gzip.compress(content.encode(encoding))), encoding="cp1252") == ROWS
    if encoding != "utf-8-sig":
        mark = "\ufeff".encode(f"{encoding}-be")
        assert rows(file(tmp_path, f"rows.{ending}", mark + content.encode(f"{encoding}-be"))) == ROWS


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le", "utf_16_be", "shift_jis", "gb18030", "utf8"])
def test_the_config_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    text = {"shift_jis": "日本", "gb18030": "漢字"}.get(encoding, "é £\xa0ü")
    for ending, content in (("jsonl", json.dumps({"a": text}, ensure_ascii=False)), ("csv", f"a\n{text}\n")):
        assert rows(file(tmp_path, f"rows.{ending}", content.encode(encoding)), encoding=encoding) == [{"a": text}]


def test_bytes_that_an_encoding_does_not_have_cost_their_row(tmp_path: Path) -> None:
    remedy = "; name the encoding in dataset.encoding, such as cp1252"
    assert bad(file(tmp_path, "rows.csv", b"a\nx\n\xe9\n")) == [f"rows.csv:3: not UTF-8{remedy}"]
    assert bad(file(tmp_path, "rows.jsonl", b'{"a":1}\n{"a":"\xe9"}\n')) == [
        f"rows.jsonl:2: not JSON: not UTF-8: byte 0xe9 at offset 6{remedy}"
    ]
    assert bad(file(tmp_path, "rows.csv", b"a\nx\n\x81\n"), encoding="cp1252") == ["rows.csv:3: not CP1252"]
    lone = "a\nx\n\ud800\ny\n".encode("utf-16-le", "surrogatepass")
    assert bad(file(tmp_path, "rows.csv", b"\xff\xfe" + lone)) == ["rows.csv:3: not UTF-16"]
    assert bad(file(tmp_path, "rows.tsv", b'a\tb\nx\ty\n"\xe9" z\t1\n')) == [f"rows.tsv:3: not UTF-8{remedy}"]
    assert refused(file(tmp_path, "rows.csv", b"\xe9\n1\n")) == f"rows.csv:1: the header is not UTF-8{remedy}"


def test_utf_16_without_a_mark_is_refused_with_what_to_set(tmp_path: Path) -> None:
    for order in ("le", "be"):
        path = file(tmp_path, "rows.csv", CSV.encode(f"utf-16-{order}"))
        assert refused(path) == f"rows.csv: looks like UTF-16, but has no byte-order mark; set dataset.encoding: utf-16-{order}"
    with pytest.raises(DatasetReadError, match="truncated data"):
        list(read_rows(file(tmp_path, "rows.csv", CSV.encode("utf-16")[:-1])))


@settings(max_examples=30)
@given(text=st.text(max_size=30), encoding=st.sampled_from(["utf-16", "utf-32", "utf-8"]))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str) -> None:
    content = json.dumps({"a": text}, ensure_ascii=False).encode(encoding)
    assert rows(file(tmp_path_factory.getbasetemp(), "any.jsonl", content)) == [{"a": text}]


@pytest.mark.parametrize(("encoding", "known"), [("utf-8", 40), ("utf-16", None)])
def test_lines_are_counted_only_where_bytes_tell_them(tmp_path: Path, encoding: str, known: int | None) -> None:
    for ending in ("jsonl", "ndjson"):
        survey = opened(file(tmp_path, f"rows.{ending}", JSONL.encode(encoding))).survey()
        assert survey is not None
        assert survey.total == known


# JSON in .json


def test_json_lines_in_a_json_file_are_read_as_such(tmp_path: Path) -> None:
    assert rows(file(tmp_path, "rows.json", JSONL)) == ROWS
    assert rows(file(tmp_path, "rows.json", f"\ufeff\n  \n{JSONL}")) == ROWS
    assert rows(file(tmp_path, "rows.json", '{"a": [1], "b": {}}')) == [{"a": [1], "b": {}}]
    assert bad(file(tmp_path, "rows.json", '{"a":1}\n{"a":\n{"a":3}\n'))[0].startswith("rows.json:2: not JSON")
    passed = list(read_rows(file(tmp_path, "rows.json", JSONL), None, Cursor(iter([7, 0, *[0] * 40]).__next__)))
    assert passed[0] == (7, 7)
    assert len(passed) == 34


SQUAD = {"version": 'é ["', "about": {"data": [{"no": 1}]}, "data": ROWS, "more": [], "n": 1}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_rows_of_an_object_are_in_its_field(tmp_path: Path, indent: int | None, encoding: str) -> None:
    path = file(tmp_path, "rows.json", json.dumps(SQUAD, indent=indent).encode(encoding))
    assert rows(path, field="data") == ROWS
    assert rows(path, field="more") == []
    assert refused(path).startswith(
        "rows.json: is one object, and its rows may be in a list inside: set dataset.field to one of: data, more;"
    )
    assert refused(path, field="rows") == "rows.json: dataset.field: there is no list 'rows'; lists are: data, more"
    assert refused(path, field="about") == "rows.json: dataset.field: there is no list 'about'; lists are: data, more"


def test_an_object_without_rows_and_an_array_with_a_field_are_refused(tmp_path: Path) -> None:
    assert refused(file(tmp_path, "rows.json", '{\n "q": {"0": "x"}}')).startswith(
        "rows.json: is one object without a list of rows;"
    )
    assert (
        refused(file(tmp_path, "rows.json", "[]"), field="a")
        == "rows.json: is an array and has no key 'a'; leave out dataset.field"
    )
    assert "dataset.field: data;" in refused(file(tmp_path, "rows.json", '{"data": [{"a": 1}]}'))
    with pytest.raises(DatasetReadError, match="ends in the middle"):
        list(read_rows(file(tmp_path, "rows.json", '{"data": [{"a": 1}'), ReadingOptions(field="data")))


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_lists_are_found_however_an_object_is_read(chunk: int) -> None:
    value = {'a"]': "x\\", "b": [1, "]", [2]], "c": {"b": [3], "d": "}"}, "e\\": [], "f": None, "g": [{"a": "[{"}]}
    data = io.BytesIO(json.dumps(value).encode())
    found = [(key, rest[:1]) for key, rest in lists_in(lambda size: data.read(min(size, chunk)))]
    assert found == [("b", b"["), ("e\\", b"["), ("g", b"[")]


def test_a_long_string_in_an_object_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_arrays, "_LONGEST_STRING", 1 << 16)
    path = file(tmp_path, "rows.json", b'{"text": "' + b'x\\"[' * 2_000_000 + b'", "data": [{"n": 1}]}')
    tracemalloc.start()
    try:
        assert rows(path, field="data") == [{"n": 1}]
        assert tracemalloc.get_traced_memory()[1] < 5 << 20  # of 8 MB; what other threads take is in it
    finally:
        tracemalloc.stop()


# What is no number, what is a map, what a spreadsheet writes


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    content = '{"a":NaN,"b":[1e400,{"c":-Infinity}],"d":1.5,"e":1e308,"f":-1e999}'
    expected = {"a": None, "b": [None, {"c": None}], "d": 1.5, "e": 1e308, "f": None}
    assert rows(file(tmp_path, "rows.jsonl", content)) == [expected]
    assert rows(file(tmp_path, "rows.json", f"[{content}]")) == [expected]
    data = [{"a": float("nan"), "b": [float("inf"), 1.0]}]
    inline = open_dataset(data=data)
    assert [dict(item.row) for item in inline] == [{"a": None, "b": [None, 1.0]}]
    assert inline.first_rows == [{"a": None, "b": [None, 1.0]}]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_columns_of_numbers_and_maps(tmp_path: Path, name: str) -> None:
    nan, inf = float("nan"), float("inf")
    maps = pa.map_(pa.string(), pa.int64())
    table = pa.table(
        {
            "n": pa.array([nan, 1.5]),
            "half": pa.array([inf, 2.0], pa.float32()),
            "list": pa.array([[nan, 1.0], [-inf]]),
            "deep": pa.array([{"x": [{"y": nan}]}, {"x": [{"y": 2.0}]}]),
            "map": pa.array([[("k", 1), ("l", None)], []], maps),
            "maps": pa.array([[[("k", 1)]], None], pa.list_(maps)),
            "keys": pa.array([[(7, {"m": [("a", 2)]})], None], pa.map_(pa.int32(), pa.struct({"m": maps}))),
        }
    )
    path = tmp_path / name
    if name == "rows.parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    assert rows(path) == [
        {
            "n": None, "half": None, "list": [None, 1.0], "deep": {"x": [{"y": None}]},
            "map": {"k": 1, "l": None}, "maps": [{"k": 1}], "keys": {"7": {"m": {"a": 2}}},
        },
        {"n": 1.5, "half": 2.0, "list": [None], "deep": {"x": [{"y": 2.0}]}, "map": {}, "maps": None, "keys": None},
    ]  # fmt: skip


def test_a_map_with_a_key_twice_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(
        pa.table({"n": [1, 2], "map": pa.array([[("k", 1), ("k", 2)], [("k", 1)]], pa.map_(pa.string(), pa.int64()))}), path
    )
    (message,) = bad(path)
    assert message.startswith("rows.parquet:1: column `map` (map<string, int64")
    assert [row for _, row in read_rows(path)][1] == {"n": 2, "map": {"k": 1}}


@pytest.mark.parametrize(
    ("content", "good", "failed"),
    [
        ("id,a,,\n1,x,,\n,,,\n2,y,,\n", [("1", "x"), ("2", "y")], []),
        (",,\nid,a,\n1,x,\n", [("1", "x")], []),
        ("id,a\n1,x,,\n2,y\n3,,\n", [("1", "x"), ("2", "y"), ("3", "")], []),
        (
            "id,a,\n1,x,\n2,y,z\n3\n",
            [("1", "x")],
            ["rows.csv:3: has 3 cells, the header has 2", "rows.csv:4: has 1 cells, the"],
        ),
        ('id,a\n1,x\n"",""\n', [("1", "x"), ("", "")], []),
    ],
)
def test_empty_columns_and_rows_of_spreadsheets(
    tmp_path: Path, content: str, good: list[tuple[str, str]], failed: list[str]
) -> None:
    path = file(tmp_path, "rows.csv", content)
    assert [tuple(row.values()) for _, row in read_rows(path) if isinstance(row, dict)] == good
    assert [message[: len(start)] for message, start in zip(bad(path), failed, strict=True)] == failed


@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        (
            "rows.csv",
            "id;a",
            "rows.csv:1: the header is one column, 'id;a'; set dataset.delimiter: ';' if that separates columns",
        ),
        ("rows.csv", "id|a", "set dataset.delimiter: '|' if that separates columns, ',' if it is one"),
        ("rows.csv", "id\ta", "set dataset.delimiter: '\\t' if that separates columns"),
        ("rows.tsv", "id,a", "set dataset.delimiter: ',' if that separates columns, '\\t' if it is one"),
        ("rows.csv", "a,,b,,c", "rows.csv:1: the header names a column twice: (an empty name)"),
    ],
)
def test_a_header_that_seems_to_be_divided_otherwise_is_refused(tmp_path: Path, name: str, header: str, message: str) -> None:
    path = file(tmp_path, name, f"{header}\n1\n")
    assert message in refused(path)
    if ";" in header:
        assert rows(path, delimiter=",") == [{header: "1"}]
        assert rows(file(tmp_path, name, "id;a\n1;2,5\n"), delimiter=";") == [{"id": "1", "a": "2,5"}]


# Names


def test_an_id_may_stand_inside_an_object(tmp_path: Path) -> None:
    content = '{"meta":{"id":"a"}}\n{"meta":{"id":7.0}}\n{"meta":null}\n{"x":1}\n{"meta":{"id":"a"}}\n{"meta.id":"b"}\n'
    path = file(tmp_path, "rows.jsonl", content)
    items = list(open_dataset(path=[str(path)], id_column="meta.id"))
    assert [item.item_id for item in items if item.failure is None] == ["a", "7", "b"]
    assert [item.failure.message.rpartition("/")[2] for item in items if item.failure is not None] == [
        "rows.jsonl:3: the row has no id (column `meta.id`)",
        "rows.jsonl:4: the row has no id (column `meta.id`)",
        "rows.jsonl:1",
    ]
    with pytest.raises(DatasetError, match=r"no row has the id column `meta\.key`"):
        open_dataset(path=[str(path)], id_column="meta.key")
